"""Atomic writes: a file is written under another name, flushed to the disk, then renamed. Locks and JSON."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from nas.errors import NasError, UsageError, WriteError
from nas.utils import limits
from nas.utils.text import format_bytes

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota exceeded, file too large
TEMPORARY = re.compile(r"\.(.+)\.\d+-[0-9a-f]{8}")  # names of `write_with`'s temporary files


def write_with(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """Let `write` fill a temporary file next to `path`, fsync it and rename it; WriteError if the disk refuses.

    A file that is replaced passes on its permissions; a new one has those of the process's umask. keep: where to move the old file.
    """
    # The process number is not enough: threads write too, and containers that share a folder have equal process numbers.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except NasError:
        raise
    except Exception as error:
        cause = _disk_error(error)
        if cause is None:
            raise
        raise unwritable(path, cause) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> WriteError:
    """The error of a failed write: which file, why, and the free space if there was too little."""
    room = f" ({free_space(path)})" if error.errno in FULL else ""
    return WriteError(f"{path}: can't be written: {error.strerror or error}{room}")


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing; WriteError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def free_space(path: Path) -> str:
    """The free and total space of the disk that holds a path, in words."""
    try:
        usage = shutil.disk_usage(existing(path))
    except OSError:
        return "free space unknown"
    return f"{format_bytes(usage.free)} of {format_bytes(usage.total)} free"


def existing(path: Path) -> Path:
    """The path itself if it exists, else the nearest parent folder that does."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that processes left which died while writing. Nobody else may be writing into the folder."""
    for path in folder.glob(".*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _disk_error(error: BaseException | None) -> OSError | None:
    """The operating system's error that caused this one: torch.save raises another while it closes its archive."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def write_text(path: Path, text: str) -> None:
    write_with(path, lambda file: file.write(text.encode()))


def write_json(path: Path, data: object) -> None:
    write_text(path, json.dumps(data, separators=(",", ":")) + "\n")


def read_json(path: Path, most: int = limits.RECORD_BYTES) -> Any:
    """The JSON in a file; None if it is missing, incomplete or nested too deeply; UsageError if it has more than `most` bytes."""
    try:
        return json.loads(limits.read_bytes(path, most, "a record"))
    except (OSError, ValueError, RecursionError):
        return None


def take_lock(path: Path, held: str) -> BinaryIO:
    """An exclusive lock on a file, until the file is closed or the process ends; UsageError `held` if another process has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UsageError(held) from None
    return file


class UnderLock(ABC):
    """Work in a folder that one process does at a time: a context manager that holds what `_enter` takes until its end.

    If `_enter` fails, `__exit__` runs all the same, so that nothing stays locked, and what `_take` made is removed.
    """

    _held: contextlib.ExitStack
    _made: list[Path]  # the lock and folders, from the innermost

    def __enter__(self) -> Self:
        self._held, self._made = contextlib.ExitStack(), []
        try:
            self._enter()
        except BaseException as error:
            for path in self._made:  # a folder that holds anything stays
                with contextlib.suppress(OSError):
                    if path.is_dir():
                        path.rmdir()
                    else:
                        path.unlink()
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def _take(self, folder: Path, lock: str, held: str) -> None:
        """Make the folder if it is missing, and take its lock; UsageError `held` if another process has it."""
        new = [path for path in (folder / lock, folder, *folder.parents) if not path.exists()]
        make_folder(folder)
        self._held.enter_context(take_lock(folder / lock, held))
        self._made = new

    @abstractmethod
    def _enter(self) -> None:
        """Take the lock, add its release to `_held`, and read the state of the folder."""


def holds(path: Path, content: bytes) -> bool:
    """Whether a file exists and has exactly this content."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False
