"""How long an attempt at a trial may take: whose time is over, and a watch over the process that trains by itself."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

from nas import fencing
from nas.jobs import Job
from nas.retries import Cause, limit_text

GRACE_SECONDS = 30.0  # that a watch has for its own last words, before the process ends without them


class Deadlines:
    """When each running attempt must be done: `seconds` (None: never) behind its beginning."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._begun: dict[str, float] = {}

    def begin(self, key: str, now: float | None = None) -> None:
        self._begun[key] = time.monotonic() if now is None else now

    def end(self, key: str) -> None:
        self._begun.pop(key, None)

    def overdue(self, now: float | None = None) -> list[str]:
        """Attempts whose time is over, each told once."""
        if self.seconds is None:
            return []
        limit = (time.monotonic() if now is None else now) - self.seconds
        found = [key for key, begun in self._begun.items() if begun < limit]
        for key in found:
            del self._begun[key]
        return found


class Watch:
    """Ends this process if the trial in it takes longer than `seconds` (None: never): what hangs in here can't be ended alone.

    again: the command that goes on, for the last words.
    A context manager around one attempt. The attempt is counted in the trial's folder, so that the next driver tries the trial
    once more and then gives it up. A thread does that, which PyTorch lets run; where code in C holds the interpreter, a timer of
    the system ends the process `GRACE_SECONDS` later, with a traceback.
    """

    def __init__(self, job: Job, seconds: float | None, again: str) -> None:
        self._job, self._seconds, self._again = job, seconds, again
        self._done = threading.Event()

    def __enter__(self) -> Self:
        if self._seconds is not None:
            threading.Thread(target=self._wait, name="trial-timeout", daemon=True).start()
            if _has_descriptor():
                faulthandler.dump_traceback_later(self._seconds + GRACE_SECONDS, exit=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()

    def _wait(self) -> None:
        assert self._seconds is not None
        if self._done.wait(self._seconds):
            return
        fencing.count(self._job, Cause.TIMEOUT)
        shown = "\033[?25h" if sys.stderr.isatty() else ""  # the cursor, which a live display has hidden
        print(
            f"{shown}error: trial {self._job.key}: {limit_text(self._seconds)}. What hangs in this process can't be ended alone, so "
            f"that the process ends; `{self._again}` goes on, and gives a trial up that hangs again. --executor ray ends the trial "
            "alone.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def _has_descriptor() -> bool:
    """Whether standard error is a file of the system's, which the timer writes to."""
    try:
        return sys.stderr.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
