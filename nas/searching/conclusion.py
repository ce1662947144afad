"""After a search: the run is read, its report and the configs of its front are written."""

from __future__ import annotations

import dataclasses

from nas.execution.job_queue import JobQueue
from nas.runs.run import Run, load_run


def concluded(desk: JobQueue, storage: str | None) -> Run:
    """The run, with its report and its front written anew.

    Under the desk's lock, which others would write into the folder without; what is written says how the run is behind it.
    """
    desk.check_mine()
    run = dataclasses.replace(load_run(desk.folder, storage), active=False, confirming=None)
    leave(run)
    return run


def leave(run: Run) -> None:
    """The report and the front's configs, in the run folder."""
    from nas import report
    from nas.interop.export import EXPORTERS, export_trials

    report.write(run)
    folder = run.path / "front"
    for stale in (*folder.glob("[0-9][0-9]*-*.yaml"), *folder.glob("index.*")):
        stale.unlink()  # of a shorter search: what was on its front, in places that others have now
    export_trials(run, run.front(), folder, EXPORTERS["yaml"], force=True)
