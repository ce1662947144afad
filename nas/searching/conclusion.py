"""The end of a search or a confirmation: writes the report and the configs of the front."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nas.errors import Interrupted, WriteError
from nas.execution.job_queue import JobQueue
from nas.runs.run import Run, load_run


def finished_run(drive: Callable[[], Run | None], again: str) -> Run:
    """The run that `drive` returns. Interrupted if the user stopped it, where `drive` returns None.

    again: the command that continues; messages name it.
    """
    try:
        run = drive()
    except WriteError as error:
        raise WriteError(
            f"{error}; everything that was saved is kept. When it can be written again, continue with: {again}"
        ) from error
    except KeyboardInterrupt:  # a second one, or one while the report was written
        run = None
    if run is None:
        raise Interrupted(f"stopped; everything so far is kept. Continue with: {again}")
    return run


def concluded(queue: JobQueue, storage: str | None) -> Run:
    """The run, with a new report and new configs of its front.

    Call it while the queue holds the run's lock, so that no other process writes into the folder. The report describes the run as
    inactive, as it will be after the lock is released.
    """
    queue.check_mine()
    run = dataclasses.replace(load_run(queue.folder, storage), active=False, confirming=None)
    leave(run)
    return run


def leave(run: Run) -> None:
    """Write the report and the configs of the front into the run folder."""
    from nas import report
    from nas.interop.export import EXPORTERS, export_trials

    report.write(run)
    folder = run.path / "front"
    for stale in (*folder.glob("[0-9][0-9]*-*.yaml"), *folder.glob("index.*")):
        stale.unlink()  # written when the run had fewer trials, for a front that has changed since
    export_trials(run, run.front(), folder, EXPORTERS["yaml"], force=True)
