"""For each value of each knob: how often it occurs near the front, and its effect on accuracy at matched cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas.analysis.sample import Floats, Mask, Sample
from nas.analysis.significance import benjamini_hochberg, membership, shift
from nas.networks.blocks._base import Value

LEAST = 30  # complete trials; with fewer, nothing is tested
LEAST_HERE = 8  # trials with a value, and trials with another value of its knob; with fewer, the value is not tested
FALSE_FINDINGS = 0.05  # false discovery rate


@dataclass(frozen=True, slots=True)
class Marginal:
    """One value of a knob among n trials in which the knob exists.

    near: trials with this value in the best quarter of their bin of cost; near_expected: its expectation if the value has no
    effect. worth: mean residual of the trials with the value minus that of the others, as a share of accuracy.
    P values are one-sided; None if too few trials have this value or another one. q: two-sided, corrected for all tests.
    """

    knob: str
    value: Value
    trials: int
    of: int
    front: int
    near: int
    near_expected: float
    worth: float
    p_rare: float | None  # of as few or fewer near the front
    p_common: float | None
    p_worse: float | None  # of ranks as low or lower at matched cost
    p_better: float | None
    q_near: float | None = None
    q_worth: float | None = None

    @property
    def tested(self) -> bool:
        return self.p_worse is not None

    @property
    def better(self) -> bool | None:
        """Whether the value is significantly better (True) or worse (False) than the others at matched cost; None if neither.

        Also None if ranks and means disagree, which a single failed training can cause.
        """
        if self.q_worth is None or self.q_worth > FALSE_FINDINGS or self.p_better is None or self.p_worse is None:
            return None
        ranks_higher = self.p_better < self.p_worse
        return ranks_higher if ranks_higher == (self.worth > 0) else None


def marginals(sample: Sample) -> list[Marginal]:
    """A row for each value of each knob, in the order of the space."""
    rows: list[Marginal] = []
    for key, factor in sample.knobs.items():
        exists = factor.exists
        bins, near, front = sample.bins[exists], sample.near[exists], sample.front[exists]
        residual, codes = sample.residual[exists], factor.codes[exists]
        for code, value in enumerate(factor.values):
            has = codes == code
            rows.append(
                _row(key, value, has, bins=bins, near=near, front=front, residual=residual, enough=len(sample) >= LEAST)
            )
    return _corrected(rows)


def _row(
    key: str, value: Value, has: Mask, *, bins: np.ndarray, near: Mask, front: Mask, residual: Floats, enough: bool
) -> Marginal:
    n, of = int(has.sum()), len(has)
    worth = float(residual[has].mean() - residual[~has].mean()) if 0 < n < of else 0.0
    seen, mean, rare, common = membership(near, has, bins)
    tested = enough and min(n, of - n) >= LEAST_HERE
    worse, better = shift(residual, has, bins) if tested else (None, None)
    return Marginal(
        key, value, n, of, int((front & has).sum()), seen, mean, worth,
        rare if tested else None, common if tested else None, worse, better,
    )  # fmt: skip


def _corrected(rows: list[Marginal]) -> list[Marginal]:
    tested = [k for k, row in enumerate(rows) if row.tested]

    def adjusted(low: str, high: str) -> Floats:
        return benjamini_hochberg([min(1.0, 2 * min(getattr(rows[k], low), getattr(rows[k], high))) for k in tested])

    near, worth = adjusted("p_rare", "p_common"), adjusted("p_worse", "p_better")
    for k, q_near, q_worth in zip(tested, near, worth, strict=True):
        rows[k] = replace(rows[k], q_near=float(q_near), q_worth=float(q_worth))
    return rows


def findings(rows: list[Marginal]) -> list[Marginal]:
    """The values that are significantly better or worse at matched cost, smallest q first."""
    sure = [row for row in rows if row.better is not None]
    return sorted(sure, key=lambda row: (row.q_worth or 0.0, -abs(row.worth)))


def noise(sample: Sample) -> float:
    """Standard deviation of accuracy at matched cost over all trials, whatever their knobs."""
    return float(sample.residual.std(ddof=1)) if len(sample) > 1 else 0.0
