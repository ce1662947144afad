"""The time budget of a run: the time used, and whether trials may begin or continue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nas.profiling.time_plan import CUT

LATE = 0.15  # fraction of the budget by which a trial may be expected to end late when it begins
SAVE_SECONDS = 5.0  # between two records of the time used


class Clock:
    """Decides whether there is time for one more trial, and whether a running one must stop: a run ends within 1 + `CUT` budgets.

    promise: `seconds` of the budget, counted from when the command was given; `trial_seconds` that a trial is expected to take;
    `closing` seconds for the work after the last trial; `spent` seconds before this clock was made. before: seconds that earlier
    drivers took. keep: called every `SAVE_SECONDS` or later with the seconds that earlier drivers and this one took, so that the
    time is not lost if this driver is killed.
    """

    def __init__(
        self,
        promise: Mapping[str, Any],
        now: Callable[[], float],
        before: float = 0.0,
        keep: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.seconds = float(promise["seconds"])
        self._expected = float(promise["trial_seconds"])
        self._closing = float(promise.get("closing", 0.0))
        self._now, self._zero = now, now() - float(promise.get("spent", 0.0)) - before
        self._started, self._before = now(), before
        self._keep, self._kept = keep, now()
        self._begun: dict[str, float] = {}
        self._took: list[float] = []

    def begins(self, key: str) -> None:
        """Record that a trial is handed out."""
        self._begun[key] = self._now()
        self._tick()

    def ended(self, key: str, trained: float) -> None:
        """Record the end of a trial that trained for `trained` seconds; the time it held its slot counts, process start included."""
        held = self._now() - self._begun.pop(key, self._now())
        self._took.append(max(held, trained))
        self._tick()

    @property
    def expected(self) -> float:
        """Expected seconds of the next trial: the mean of the trials so far, in which the plan's estimate counts as two trials."""
        return (2 * self._expected + sum(self._took)) / (2 + len(self._took))

    @property
    def _left(self) -> float:
        return self.seconds - self._closing - (self._now() - self._zero)

    def room(self) -> bool:
        """Whether a trial that begins now should end in time, or late by at most half its time and at most `LATE` of the budget."""
        return self._left >= self.expected - min(self.expected / 2, LATE * self.seconds)

    def over(self, epoch_seconds: float) -> bool:
        """Whether one more epoch of `epoch_seconds` would end more than `CUT` of the budget late."""
        self._tick()
        return self._left + CUT * self.seconds < epoch_seconds

    def _tick(self) -> None:
        if (now := self._now()) - self._kept >= SAVE_SECONDS:
            self._kept = now
            self._keep(self._before + now - self._started)
