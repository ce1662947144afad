"""Repeats in numbers: mean and standard error by evaluations, evaluations until levels, and seconds an ask.

Standard errors are of the mean over repeats, s / sqrt(n) with the sample's standard deviation. Repeats of one number are paired
between samplers (the same luck), so that the standard error of a difference is that of the paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.bench.folder import Folder
from nas.bench.samplers import OPTUNA, parse
from nas.bench.table import Floats

MARKS = (25, 50, 100, 150)


@dataclass(frozen=True)
class Curves:
    """What the repeats of one sampler did: hypervolume and ask_seconds (n, budget), a row a repeat; repeats (n,) numbers."""

    sampler: str
    repeats: tuple[int, ...]
    hypervolume: Floats
    ask_seconds: Floats
    asks: int
    duplicates: int
    infeasible: int
    filled: int
    sampler_seconds: float

    @property
    def mean(self) -> Floats:
        return np.asarray(self.hypervolume.mean(axis=0))

    @property
    def error(self) -> Floats:
        """Standard error of the mean, (budget,); NaN of a single repeat."""
        return standard_error(self.hypervolume)

    @property
    def seconds_per_ask(self) -> float:
        return self.sampler_seconds / self.asks

    @property
    def seconds_at_end(self) -> float:
        """Median seconds of the asks for the last tenth of the networks."""
        last = max(self.ask_seconds.shape[1] // 10, 1)
        return float(np.median(self.ask_seconds[:, -last:]))

    def first(self, level: float) -> int | None:
        """Evaluations after which the mean over repeats is at the level, None if it never is."""
        return _first(self.mean, level)


@dataclass(frozen=True)
class Level:
    """A share of the table's hypervolume, and why it is looked at."""

    share: float
    why: str


def standard_error(rows: Floats) -> Floats:
    if len(rows) < 2:
        return np.full(rows.shape[1:], np.nan)
    return np.asarray(rows.std(axis=0, ddof=1) / np.sqrt(len(rows)))


def curves(folder: Folder) -> list[Curves]:
    """Of all samplers of which a repeat is done, those asked for first."""
    names = list(dict.fromkeys([*folder.names, *(own.sampler for own in folder.done)]))
    made = []
    for name in names:
        own = sorted((one for one in folder.done if one.sampler == name), key=lambda one: one.repeat)
        if own:
            made.append(
                Curves(
                    name,
                    tuple(one.repeat for one in own),
                    np.array([one.hypervolume for one in own]),
                    np.array([one.ask_seconds for one in own]),
                    sum(one.asks for one in own),
                    sum(one.duplicates for one in own),
                    sum(one.infeasible for one in own),
                    sum(one.filled for one in own),
                    sum(one.sampler_seconds for one in own),
                )
            )
    return made


def marks(budget: int) -> list[int]:
    """Evaluations at which curves are read off."""
    return sorted({*(mark for mark in MARKS if mark < budget), budget})


def best_optuna(found: Sequence[Curves], budget: int) -> tuple[Curves, int] | None:
    """The best of Optuna's own samplers after 100 evaluations (or the budget), by the mean; None if none was run."""
    at = min(100, budget)
    own = [one for one in found if parse(one.sampler)[0] in OPTUNA]
    return (max(own, key=lambda one: float(one.mean[at - 1])), at) if own else None


def levels(found: Sequence[Curves], budget: int, asked: Sequence[float]) -> list[Level]:
    """Those asked for, and the one that Optuna's best sampler reaches."""
    made = [Level(share, "asked for") for share in sorted(set(asked))]
    best = best_optuna(found, budget)
    if best is not None:
        own, at = best
        made.append(Level(float(own.mean[at - 1]), f"mean of {own.sampler}, Optuna's best, after {at}"))
    return made


def until(own: Curves, level: Level) -> dict[str, Any]:
    """Evaluations until a level: of the mean curve, and the median over repeats (None beyond the budget)."""
    each = [_first(row, level.share) for row in own.hypervolume]
    reached = [count for count in each if count is not None]
    ordered = sorted(count if count is not None else float("inf") for count in each)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return {
        "share": level.share,
        "why": level.why,
        "of_mean": own.first(level.share),
        "median": middle if np.isfinite(middle) else None,
        "reached": len(reached),
        "repeats": len(each),
    }


def difference(one: Curves, other: Curves, at: int) -> tuple[float, float | None]:
    """Mean of one less the other after `at` evaluations over the repeats that both have, and its paired standard error."""
    shared = [repeat for repeat in one.repeats if repeat in other.repeats]
    if not shared:
        return float("nan"), None
    mine = one.hypervolume[[one.repeats.index(k) for k in shared], at - 1]
    theirs = other.hypervolume[[other.repeats.index(k) for k in shared], at - 1]
    gap = (mine - theirs)[:, None]
    return float(gap.mean()), _number(standard_error(gap)[0])


def summary(folder: Folder, asked: Sequence[float]) -> dict[str, Any]:
    """All of it, for JSON."""
    found, budget, scale = curves(folder), folder.protocol.budget, folder.scale
    at = marks(budget)
    wanted = levels(found, budget, asked)
    front = scale.found(range(folder.table.networks), folder.table.score)
    return {
        **folder.settings(),
        "networks": folder.table.networks,
        "front": len(front),
        "reference": {"score": scale.floor, "log10_costs": scale.reference[1:].tolist()},
        "samplers": [
            {
                "sampler": own.sampler,
                "repeats": len(own.repeats),
                "hypervolume": {
                    str(mark): {"mean": float(own.mean[mark - 1]), "standard_error": _number(own.error[mark - 1])}
                    for mark in at
                },
                "first_less_this": {
                    str(mark): dict(zip(("mean", "standard_error"), difference(found[0], own, mark), strict=True))
                    for mark in at
                }
                if own is not found[0] and set(own.repeats) & set(found[0].repeats)
                else None,
                "evaluations_until": [until(own, level) for level in wanted],
                "seconds_per_ask": own.seconds_per_ask,
                "seconds_of_ask": {"median": float(np.median(own.ask_seconds)), "at_end": own.seconds_at_end},
                "asks": own.asks,
                "duplicates": own.duplicates,
                "infeasible": own.infeasible,
                "filled": own.filled,
            }
            for own in found
        ],
    }


def _first(row: Floats, level: float) -> int | None:
    above = np.flatnonzero(row >= level)
    return int(above[0]) + 1 if above.size else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
