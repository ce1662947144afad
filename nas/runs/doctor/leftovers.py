"""What lies around a run: leftovers of writes that died, locks, time accounting, room on the disk, permissions."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from nas.runs.doctor._base import Finding
from nas.runs.layout import JOURNAL, LOCK, SESSIONS
from nas.runs.lock import Holder
from nas.runs.run import locked
from nas.runs.trial_reader import read_sessions
from nas.utils.files import TEMPORARY, free_space, read_json, write_json, write_with

STILL_SECONDS = 600  # a temporary file that is younger may be in writing, by a worker whose driver is gone
LEAST_FREE = 200_000_000  # bytes
NAMED = 3  # files that are named of one complaint


def check(folder: Path, repair: bool) -> list[Finding]:
    active = not repair and locked(folder)
    findings = _lock(folder, active)
    if not active:
        findings += _leftovers(folder, repair) + _sessions(folder, repair)
    return [*findings, *_room(folder), *_permissions(folder)]


def _lock(folder: Path, active: bool) -> list[Finding]:
    holder = Holder.of(folder / LOCK)
    if active:
        name = holder.named if holder else "a process that did not say who it is"
        return [Finding("note", LOCK, f"a driver is at work: {name}", "repairs wait until it has ended")]
    if holder is not None and holder != Holder.me():
        where = "" if holder.here else "; if it is still at work there, its signs of life don't reach this machine"
        return [Finding("note", LOCK, f"the last driver, {holder.named}, ended without giving it back{where}")]
    return []


def _leftovers(folder: Path, repair: bool) -> list[Finding]:
    findings = []
    stale = sorted(folder.glob(f"{JOURNAL}.lock*"))
    old = [path for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name) and _age(path) > STILL_SECONDS]
    for paths, what in ((stale, "lock of the journal that nobody holds"), (old, "file of a write that died")):
        if not paths:
            continue
        names = ", ".join(str(path.relative_to(folder)) for path in paths[:NAMED])
        if repair:
            for path in paths:
                path.unlink(missing_ok=True)
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        text = f"{names}{more}: {what}{', removed' if repair else ''}"
        findings.append(Finding("repaired" if repair else "repairable", "leftovers", text))
    return findings


def _sessions(folder: Path, repair: bool) -> list[Finding]:
    path = folder / SESSIONS
    if not path.exists() or read_json(path) == (good := read_sessions(folder)):
        return []
    text = f"can't be read; {len(good)} entries of its time accounting can" if good else "can't be read"
    if not repair:
        return [Finding("repairable", SESSIONS, text, "only the time accounting of earlier sessions is lost")]
    data = path.read_bytes()
    backup = path.with_name(f"{SESSIONS}.broken-{time.time_ns()}")
    write_with(backup, lambda file: file.write(data))
    write_json(path, good)
    return [Finding("repaired", SESSIONS, f"{text}: started again; the old file is {backup.name}")]


def _room(folder: Path) -> list[Finding]:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return []
    if free >= LEAST_FREE:
        return []
    return [Finding("warning", "disk", f"nearly full: {free_space(folder)}", "free space before you resume the run")]


def _permissions(folder: Path) -> list[Finding]:
    findings = []
    about = folder.stat()
    if about.st_mode & stat.S_IWOTH and not about.st_mode & stat.S_ISVTX:
        advice = f"chmod o-w {folder}"
        findings.append(
            Finding("warning", "permissions", "everybody on this machine may write into the run's folder", advice)
        )
    foreign, shared = [], []
    for path in folder.rglob("*"):
        try:
            other = path.lstat()
        except OSError:
            continue
        foreign += [path] if other.st_uid != about.st_uid else []
        shared += [path] if other.st_mode & stat.S_IWOTH and not stat.S_ISLNK(other.st_mode) else []
    for paths, what in ((foreign, "belongs to another user than the folder"), (shared, "may be written by everybody")):
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            findings.append(Finding("warning", "permissions", f"{paths[0].relative_to(folder)}{more}: {what}"))
    if not os.access(folder, os.W_OK):
        findings.append(Finding("note", "permissions", "can't be written to from here: it can be read, not resumed"))
    return findings


def _age(path: Path) -> float:
    """Seconds since a file was last written, as far as the clocks can be believed."""
    try:
        return abs(time.time() - path.lstat().st_mtime)
    except OSError:
        return 0.0
