"""The time budget of a run: how much has passed, and when trials must not begin or go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nas.profiling.time_plan import CUT

LATE = 0.15  # of the hours, by which a trial that is begun may end behind them
KEPT_EVERY = 5.0  # seconds after which it is kept anew how many have passed


class Clock:
    """Whether there is time for one more trial, and whether one that runs has to stop: hours are kept to within `CUT`.

    seconds: of the promise, from when the command was given. before: seconds that earlier drivers took. keep: told from time to
    time how many they and this one took, for a driver that goes on after this one was killed.
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
        """A trial is handed out."""
        self._begun[key] = self._now()
        self._tick()

    def ended(self, key: str, trained: float) -> None:
        """A trial ended that trained for so many seconds. It counts for as long as it kept its slot: the start of its process, too."""
        kept = self._now() - self._begun.pop(key, self._now())
        self._took.append(max(kept, trained))
        self._tick()

    @property
    def expected(self) -> float:
        """Seconds of the next trial: the plan's word counts as much as two trials that were seen."""
        return (2 * self._expected + sum(self._took)) / (2 + len(self._took))

    @property
    def _left(self) -> float:
        return self.seconds - self._closing - (self._now() - self._zero)

    def room(self) -> bool:
        """Whether a trial that begins now ends before the promise is over, or behind it within half of itself and `LATE`."""
        return self._left >= self.expected - min(self.expected / 2, LATE * self.seconds)

    def over(self, epoch_seconds: float) -> bool:
        """Whether one more epoch of so many seconds would end later than `CUT` behind the promise."""
        self._tick()
        return self._left + CUT * self.seconds < epoch_seconds

    def _tick(self) -> None:
        if (now := self._now()) - self._kept >= KEPT_EVERY:
            self._kept = now
            self._keep(self._before + now - self._started)
