"""Fencing tokens, so that only one worker writes into a trial's folder (Kleppmann, "How to do distributed locking", 2016).

Each time a driver hands out a trial, it writes a new token into the trial's `attempt.json`. A worker writes only while the file
holds the token that the worker was given. A worker that its driver has lost (on another machine, suspended, or cut off from the
network) finds another token, or none after the trial's end; it writes nothing and stops. The token is compared after a file is
filled, immediately before it is renamed. A late write is possible only between this check and the rename: milliseconds on a local
disk; on NFS, whose clients may use a cached folder entry, up to its attribute cache (`acdirmax`, 60 s by default). Such a late write
is whole, and equal to what the other worker writes for the same epoch.

The same file counts the attempts that ended without a result, also over several drivers.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from nas.errors import NasError, WriteError
from nas.execution.job import ATTEMPT, Job
from nas.runs.attempts import Attempts, Cause
from nas.training.records import EPOCHS
from nas.utils.files import read_json, write_json


class Fenced(NasError):
    """The trial was handed out again or has ended, so this worker may no longer write."""


def hand_out(job: Job, attempts: Attempts, *, alone: bool = False) -> Job:
    """Write a new token for the job, which stops earlier workers of the trial from writing, and return the job with it.

    alone: this process trains the job itself; the file then lets a later driver detect that the process died in this trial.
    """
    job = dataclasses.replace(job, token=secrets.token_hex(8), ended=dict(attempts.ended))
    begun_at = {"alone_at": epochs_saved(job)} if alone else {}
    write_json(job.folder / ATTEMPT, {"token": job.token, "ended": job.ended, **begun_at})
    return job


def check(job: Job) -> None:
    """Fenced if the job's worker may no longer write."""
    if job.token and _read(job.folder).get("token") != job.token:
        raise Fenced(f"{job.key}: the trial was handed out to another worker, or has ended")


def guarded(job: Job, write: Callable[[BinaryIO], object]) -> Callable[[BinaryIO], None]:
    """`write` for `nas.utils.files.write_with`, followed by `check`: Fenced keeps the file from being renamed into its place."""

    def checked(file: BinaryIO) -> None:
        write(file)
        check(job)

    return checked


def count(job: Job, cause: Cause) -> None:
    """Record in the trial's folder, for the next driver, that the attempt ends now for this cause."""
    write_json(job.folder / ATTEMPT, {"token": "", "ended": Attempts(job.ended).after(cause).ended})


def put_back(job: Job) -> None:
    """End the attempt without counting it: its worker may no longer write. Does nothing if another driver has the job."""
    if _read(job.folder).get("token") != job.token:
        return
    try:
        write_json(job.folder / ATTEMPT, {"token": "", "ended": dict(job.ended)})
    except WriteError:
        (job.folder / ATTEMPT).unlink(missing_ok=True)  # possible even on a full disk


def recovered(job: Job) -> Attempts:
    """The attempts that ended under earlier drivers. A process that died while it trained the job counts.

    If that process had saved an epoch, the deaths of such processes no longer count.
    """
    entry = _read(job.folder)
    ended = entry.get("ended")
    attempts = Attempts(ended if isinstance(ended, dict) else {})
    if "alone_at" not in entry:
        return attempts
    if entry["alone_at"] == epochs_saved(job):
        return attempts.after(Cause.PROCESS)
    return Attempts({cause: times for cause, times in attempts.ended.items() if cause != Cause.PROCESS})


def end(job: Job) -> None:
    """After a trial's end: delete its token, so that no worker may write, and the files for resuming it."""
    (job.folder / ATTEMPT).unlink(missing_ok=True)
    for path in (job.folder / EPOCHS, *job.folder.glob("checkpoint*.pt")):
        path.unlink(missing_ok=True)


def epochs_saved(job: Job) -> int:
    """The number of epochs after which the trial would resume."""
    records = read_json(job.folder / EPOCHS)
    return len(records) if isinstance(records, list) else 0


def _read(folder: Path) -> Mapping[str, object]:
    entry = read_json(folder / ATTEMPT)
    return entry if isinstance(entry, dict) else {}
