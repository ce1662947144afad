"""Statistics over repeats: mean and standard error by evaluations, evaluations until levels, and seconds per ask.

Standard errors are of the mean over repeats, s / sqrt(n) with the sample standard deviation s. Repeats with the same number are
paired between samplers (the same random draws). Therefore the standard error of a difference is that of the paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from nas.bench.cells import Floats
from nas.bench.folder import Folder
from nas.bench.samplers import OPTUNA, parse

MARKS = (25, 50, 100, 150)


@dataclass(frozen=True)
class Curves:
    """The repeats of one sampler: hypervolume and ask_seconds, (n, budget) each, one row for each repeat; repeats (n,): numbers.

    The other fields are sums over the repeats.
    """

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
        """Standard error of the mean, (budget,); NaN for a single repeat."""
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
        """Number of evaluations after which the mean over repeats reaches the level; None if it never does."""
        return _first(self.mean, level)


@dataclass(frozen=True)
class Level:
    """A share of the table's hypervolume, and the reason why it is reported."""

    share: float
    why: str


def standard_error(rows: Floats) -> Floats:
    if len(rows) < 2:
        return np.full(rows.shape[1:], np.nan)
    return np.asarray(rows.std(axis=0, ddof=1) / np.sqrt(len(rows)))


def curves(folder: Folder) -> list[Curves]:
    """Curves of all samplers with a finished repeat, requested samplers first."""
    names = list(dict.fromkeys([*folder.names, *(finished.sampler for finished in folder.done)]))
    made = []
    for name in names:
        finished = sorted((one for one in folder.done if one.sampler == name), key=lambda one: one.repeat)
        if finished:
            made.append(
                Curves(
                    name,
                    tuple(one.repeat for one in finished),
                    np.array([one.hypervolume for one in finished]),
                    np.array([one.ask_seconds for one in finished]),
                    sum(one.asks for one in finished),
                    sum(one.duplicates for one in finished),
                    sum(one.infeasible for one in finished),
                    sum(one.filled for one in finished),
                    sum(one.sampler_seconds for one in finished),
                )
            )
    return made


def marks(budget: int) -> list[int]:
    """Numbers of evaluations for which results are listed."""
    return sorted({*(mark for mark in MARKS if mark < budget), budget})


def best_optuna(curves: Sequence[Curves], budget: int) -> tuple[Curves, int] | None:
    """The built-in sampler of Optuna with the best mean after 100 evaluations (or the budget); None if none was run."""
    at = min(100, budget)
    samplers = [one for one in curves if parse(one.sampler)[0] in OPTUNA]
    return (max(samplers, key=lambda one: float(one.mean[at - 1])), at) if samplers else None


def levels(curves: Sequence[Curves], budget: int, asked: Sequence[float]) -> list[Level]:
    """The requested levels, and the one that Optuna's best sampler reaches."""
    made = [Level(share, "requested") for share in sorted(set(asked))]
    best = best_optuna(curves, budget)
    if best is not None:
        curve, at = best
        made.append(Level(float(curve.mean[at - 1]), f"mean of {curve.sampler}, Optuna's best, after {at}"))
    return made


@dataclass(frozen=True, slots=True)
class Until:
    """Evaluations until a level: of the mean curve, and the median over repeats; None beyond the budget.

    reached: number of repeats that reach the level.
    """

    share: float
    why: str
    of_mean: int | None
    median: float | None
    reached: int
    repeats: int


def until(curve: Curves, level: Level) -> Until:
    each = [_first(row, level.share) for row in curve.hypervolume]
    ordered = sorted(count if count is not None else float("inf") for count in each)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return Until(
        level.share,
        level.why,
        curve.first(level.share),
        _number(middle),
        sum(count is not None for count in each),
        len(each),
    )


def difference(one: Curves, other: Curves, at: int) -> tuple[float, float | None]:
    """Mean of `one` minus `other` after `at` evaluations over their common repeats, and its paired standard error."""
    shared = [repeat for repeat in one.repeats if repeat in other.repeats]
    if not shared:
        return float("nan"), None
    mine = one.hypervolume[[one.repeats.index(k) for k in shared], at - 1]
    theirs = other.hypervolume[[other.repeats.index(k) for k in shared], at - 1]
    gap = (mine - theirs)[:, None]
    return float(gap.mean()), _number(standard_error(gap)[0])


def summary(folder: Folder, asked: Sequence[float]) -> dict[str, object]:
    """All statistics, as JSON."""
    samplers, budget, scale = curves(folder), folder.protocol.budget, folder.scale
    wanted = levels(samplers, budget, asked)
    front = scale.front(range(folder.table.networks), folder.table.score)
    return {
        **folder.settings(),
        "networks": folder.table.networks,
        "front": len(front),
        "reference": {"score": scale.floor, "log10_costs": scale.reference[1:].tolist()},
        "samplers": [_of_sampler(curve, samplers[0], marks(budget), wanted) for curve in samplers],
    }


def _of_sampler(curve: Curves, first: Curves, at: Sequence[int], wanted: Sequence[Level]) -> dict[str, object]:
    """Statistics of one sampler, and its differences from the first one."""
    differences = {
        str(mark): dict(zip(("mean", "standard_error"), difference(first, curve, mark), strict=True)) for mark in at
    }
    paired = curve is not first and set(curve.repeats) & set(first.repeats)
    return {
        "sampler": curve.sampler,
        "repeats": len(curve.repeats),
        "hypervolume": {
            str(mark): {"mean": float(curve.mean[mark - 1]), "standard_error": _number(curve.error[mark - 1])}
            for mark in at
        },
        "first_less_this": differences if paired else None,
        "evaluations_until": [asdict(until(curve, level)) for level in wanted],
        "seconds_per_ask": curve.seconds_per_ask,
        "seconds_of_ask": {"median": float(np.median(curve.ask_seconds)), "at_end": curve.seconds_at_end},
        **{name: getattr(curve, name) for name in ("asks", "duplicates", "infeasible", "filled")},
    }


def _first(row: Floats, level: float) -> int | None:
    above = np.flatnonzero(row >= level)
    return int(above[0]) + 1 if above.size else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
