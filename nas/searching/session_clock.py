"""The clock of a search with a time budget (`--hours`). It counts the seconds of all sessions of the run."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from nas.errors import WriteError
from nas.execution.clock import Clock
from nas.runs.layout import ELAPSED
from nas.runs.settings import Settings
from nas.runs.trial_reader import read_elapsed
from nas.utils.files import write_json


def session_clock(folder: Path, settings: Settings) -> Clock | None:
    """The run's clock, which continues from the seconds of earlier sessions; None if the run has no time budget.

    The elapsed seconds are saved in the run folder from time to time, so that they survive the driver.
    """
    if not settings.plan:
        return None

    def save(seconds: float) -> None:
        with contextlib.suppress(WriteError):  # a full disk is reported by the writes that must not fail
            write_json(folder / ELAPSED, {"seconds": seconds})

    return Clock(settings.plan, time.monotonic, read_elapsed(folder), save)
