"""The folder of a run before there is a run: where it goes, and that only one search begins in it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from datetime import datetime
from pathlib import Path

from nas.errors import UsageError
from nas.runs.layout import LOCK
from nas.runs.settings import FILE, Settings
from nas.utils.files import make_folder, unwritable
from nas.utils.text import shown


def chosen_folder(out: str | Path | None, space: str, dataset: str) -> Path:
    """Where a run goes: to `out`, or to a new folder under results/. UsageError if it can't be written there."""
    if out is not None:
        folder = Path(out).absolute()
        if (folder / FILE).exists():
            raise UsageError(
                f"{folder}: holds a run already; continue it with `nas resume {shown(folder)}`, or name another --out"
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: exists and is not an empty folder; name another --out")
    else:
        stem = re.sub(r"[^\w-]+", "-", f"{Path(space).stem}-{dataset.split(':')[0]}")
        base = Path("results").absolute() / f"{stem}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
        folder, k = base, 2
        while folder.exists():
            folder, k = base.with_name(f"{base.name}-{k}"), k + 1
    parent = folder
    while not parent.exists():
        parent = parent.parent
    try:
        probe = parent / f".nas-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{folder}: can't be written: {error.strerror}; name another place with --out") from None
    return folder


def begin(folder: Path, settings: Settings, *, chosen: bool) -> tuple[Path, Settings]:
    """Make the run's folder, or if another search has it by now the next of its name, unless the user has `chosen` it.

    If that can't be done, nothing is left of it.
    """
    base, k = folder, 2
    while True:
        new, mine = not folder.exists(), False
        try:
            make_folder(folder)
            (folder / LOCK).touch(exist_ok=False)
            mine = True
            settings.save(folder)
            return folder, settings
        except FileExistsError:
            if chosen:
                raise UsageError(f"{folder}: another search has begun there; name another --out") from None
            folder, k = base.with_name(f"{base.name}-{k}"), k + 1
            settings = dataclasses.replace(settings, name=folder.name)
        except BaseException as error:  # a full disk, settings that no file can hold, Ctrl-C
            with contextlib.suppress(OSError):
                if mine:
                    (folder / LOCK).unlink()
                if new:
                    folder.rmdir()
            if isinstance(error, OSError):
                raise unwritable(folder, error) from error
            raise
