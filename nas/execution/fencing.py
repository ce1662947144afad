"""Whose turn it is to write into a trial's folder: fencing by tokens (Kleppmann, "How to do distributed locking", 2016).

Each time a driver hands a trial out it writes a new token into the trial's `attempt.json`; a worker writes only while the token is
the one that it was given. A worker that its driver has lost sight of (on another machine, stopped, behind a cut network) finds
another token, or none once the trial has ended, writes nothing and stops. The token is compared as the last thing before a file
is renamed into its place, behind the long work of filling it. What is left is the time between that and the rename, milliseconds
on a local disk; on NFS, whose clients may believe an old entry of a folder, up to its attribute cache (`acdirmax`, 60 s unless
mounted otherwise). A write that slips through there is whole, and equal to what the other worker writes for the same epoch.

The same file keeps the attempts that ended without a result, so that they are counted over drivers too.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from nas.errors import NasError, WriteError
from nas.execution.job import ATTEMPT, Job
from nas.runs.attempts import Attempts, Cause
from nas.training.records import EPOCHS
from nas.utils.files import read_json, write_json


class Fenced(NasError):
    """The trial was handed out anew, or has ended: this worker's turn is over."""


def hand_out(job: Job, attempts: Attempts, *, alone: bool = False) -> Job:
    """The job with a new token, which from now on keeps every earlier worker of the trial from writing.

    alone: the worker is this process itself, so that a later driver may tell from the file that it died with this trial.
    """
    job = dataclasses.replace(job, token=secrets.token_hex(8), ended=dict(attempts.ended))
    begun_at = {"alone_at": epochs_saved(job)} if alone else {}
    write_json(job.folder / ATTEMPT, {"token": job.token, "ended": job.ended, **begun_at})
    return job


def check(job: Job) -> None:
    """Fenced if the job's turn to write is over."""
    if job.token and _read(job.folder).get("token") != job.token:
        raise Fenced(f"{job.key}: the trial was handed out to another worker, or has ended")


def guarded(job: Job, write: Callable[[BinaryIO], object]) -> Callable[[BinaryIO], None]:
    """`write` for `nas.utils.files.write_with`, which gives the file up if the job's turn has ended meanwhile."""

    def checked(file: BinaryIO) -> None:
        write(file)
        check(job)

    return checked


def count(job: Job, cause: Cause) -> None:
    """Note, for the next driver, that this process's attempt at the job ends now for this cause."""
    write_json(job.folder / ATTEMPT, {"token": "", "ended": Attempts(job.ended).after(cause).ended})


def put_back(job: Job) -> None:
    """The attempt ends for no cause of its own: nobody may write, and nothing is counted."""
    if _read(job.folder).get("token") != job.token:
        return
    try:
        write_json(job.folder / ATTEMPT, {"token": "", "ended": dict(job.ended)})
    except WriteError:
        (job.folder / ATTEMPT).unlink(
            missing_ok=True
        )  # a full disk takes nothing new, and still lets go of what is there


def recovered(job: Job) -> Attempts:
    """The attempts that ended under earlier drivers; a process that died alone with the trial, without saving an epoch, was one."""
    found = _read(job.folder)
    ended = found.get("ended")
    attempts = Attempts(ended if isinstance(ended, dict) else {})
    if "alone_at" not in found:
        return attempts
    if found["alone_at"] == epochs_saved(job):
        return attempts.after(Cause.PROCESS)
    return Attempts({cause: times for cause, times in attempts.ended.items() if cause != Cause.PROCESS})


def end(job: Job) -> None:
    """Nobody writes into the folder of a trial that has ended, and what a next attempt would need goes."""
    (job.folder / ATTEMPT).unlink(missing_ok=True)
    for path in (job.folder / EPOCHS, *job.folder.glob("checkpoint*.pt")):
        path.unlink(missing_ok=True)


def epochs_saved(job: Job) -> int:
    """Epochs behind which the trial would go on."""
    records = read_json(job.folder / EPOCHS)
    return len(records) if isinstance(records, list) else 0


def _read(folder: Path) -> dict[str, Any]:
    found = read_json(folder / ATTEMPT)
    return found if isinstance(found, dict) else {}
