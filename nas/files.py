"""Files that are whole or not there: written under another name, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from nas import limits
from nas.errors import NasError, UsageError


def write_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, fsync it and rename it; NasError if the disk won't take it."""
    # Not the process alone: threads write too, and containers that share a folder have equal process numbers.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise NasError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_with(path, lambda file: file.write(text.encode()))


def write_json(path: Path, data: object) -> None:
    write_text(path, json.dumps(data, separators=(",", ":")) + "\n")


def read_json(path: Path, most: int = limits.RECORD_BYTES) -> Any:
    """The JSON in a file, or None if it is missing, torn or nested too deeply; UsageError if it has more than `most` bytes."""
    try:
        return json.loads(limits.read_bytes(path, most, "a record"))
    except (OSError, ValueError, RecursionError):
        return None


def take_lock(path: Path, held: str) -> BinaryIO:
    """An exclusive lock by a file, which ends when the file is closed or the process ends; UsageError `held` if another has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UsageError(held) from None
    return file
