"""Decides which proposed candidates are trained: those within the budgets that the run has not trained before."""

from __future__ import annotations

import dataclasses
import math

from nas.errors import NasError, WriteError
from nas.networks.architecture import Architecture
from nas.profiling.latency.meter import Meter
from nas.runs.records import Candidate
from nas.spaces.budget import Budget
from nas.utils.text import format_ms

UNMEASURED = "its latency could not be measured"  # the only rejection that no budget causes


class Gate:
    """The budgets of exact costs, the networks that the run already has, and the latency budget.

    meter: measures latencies; None if the run measures none. most_ms: the latency budget; None if there is none.
    """

    def __init__(self, budget: Budget, meter: Meter | None, most_ms: float | None) -> None:
        self.budget, self.meter, self.most_ms = budget, meter, most_ms
        self._owners: dict[str, str] = {}  # digest of a network -> the trial or baseline that trains it

    @property
    def bounded(self) -> bool:
        """Whether there is any budget."""
        return bool(self.budget.bounds) or self.most_ms is not None

    def register(self, digest: str, owner: str) -> None:
        """From now on, a candidate with this digest is a duplicate of `owner`: of the first one that was registered."""
        self._owners.setdefault(digest, owner)

    def may_pass(self, network: Architecture) -> bool:
        """Whether a network that meets the exact budgets is new and not far too slow by prediction. Measures nothing."""
        too_slow = self.meter is not None and self.meter.too_slow(network, self.most_ms)
        return not too_slow and network.digest not in self._owners

    def check(self, candidate: Candidate) -> tuple[Candidate, float]:
        """The candidate with its latency, or with the outcome and reason if it is not trained; and its constraint violation.

        The violation is `Budget.violation` of the exact cost plus log(latency / bound) where the latency is above its bound.
        """
        violation = self.budget.violation(candidate.cost)
        if reason := self.budget.reason(candidate.cost):
            return _rejected(candidate, reason), violation
        if (owner := self._owners.get(candidate.digest)) is not None:
            return dataclasses.replace(candidate, outcome="duplicate", reason=f"the same network as {owner}"), violation
        if self.meter is None:
            return candidate, violation
        candidate, excess = self._check_latency(self.meter, candidate)
        return candidate, violation + excess

    def _check_latency(self, meter: Meter, candidate: Candidate) -> tuple[Candidate, float]:
        """The latency is measured unless the prediction is far above the budget."""
        if reason := meter.too_slow(candidate.architecture, self.most_ms):
            return _rejected(candidate, reason), self._excess(meter.predicted(candidate.architecture))
        try:
            latency = meter.measured(candidate.architecture)
        except WriteError:
            raise
        except NasError as error:
            return _rejected(candidate, f"{UNMEASURED}: {error}"), 1.0
        candidate = dataclasses.replace(candidate, latency=latency)
        if self.most_ms is None or latency.median_ms <= self.most_ms:
            return candidate, 0.0
        reason = f"a latency of {format_ms(latency.median_ms)} is above the budget of {format_ms(self.most_ms)}"
        return _rejected(candidate, reason), self._excess(latency.median_ms)

    def _excess(self, latency_ms: float) -> float:
        assert self.most_ms is not None
        return math.log(latency_ms / self.most_ms)


def _rejected(candidate: Candidate, reason: str) -> Candidate:
    return dataclasses.replace(candidate, outcome="rejected", reason=reason)
