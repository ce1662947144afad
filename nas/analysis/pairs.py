"""Interactions of pairs of knobs: whether the effect of one knob depends on the value of the other.

Tests the interaction in r ~ A + B + A:B, where r is the residual at matched cost: the F statistic of the additive model against
a mean for each cell, by permutation of the additive model's residuals (Freedman and Lane, 1983).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.analysis.marginals import LEAST, Marginal, marginals
from nas.analysis.sample import Floats, Ints, Sample
from nas.analysis.significance import benjamini_hochberg

KNOBS = 6  # whose pairs are tested: those with the strongest main effects
SHUFFLES = 499
MAX_TRIALS = 1000
LEAST_PER_CELL = 2  # trials in a cell on average; with fewer, a pair is not tested


@dataclass(frozen=True, slots=True)
class Interaction:
    """Two knobs, p of their interaction by permutation, and q corrected for all pairs tested."""

    first: str
    second: str
    p: float
    q: float


def strongest_knobs(sample: Sample, count: int, rows: Sequence[Marginal] | None = None) -> list[str]:
    """The first `count` knobs by the smallest p of their values; knobs that could not be tested come last."""
    best = dict.fromkeys(sample.knobs, 2.0)
    for row in marginals(sample) if rows is None else rows:
        if row.p_worse is not None and row.p_better is not None:
            best[row.knob] = min(best[row.knob], row.p_worse, row.p_better)
    return sorted(best, key=lambda key: best[key])[:count]


def interactions(sample: Sample, rows: Sequence[Marginal] | None = None) -> list[Interaction]:
    """Interactions of the strongest knobs, smallest p first; none if there are too few trials."""
    if len(sample) < LEAST:
        return []
    chosen = np.linspace(0, len(sample) - 1, min(len(sample), MAX_TRIALS)).astype(np.intp)
    rng = np.random.default_rng(0)
    pairs = []
    for first, second in itertools.combinations(strongest_knobs(sample, KNOBS, rows), 2):
        a, b = sample.knobs[first].codes[chosen], sample.knobs[second].codes[chosen]
        both = (a >= 0) & (b >= 0)
        p = _interaction(a[both], b[both], sample.residual[chosen][both], rng)
        if p is not None:
            pairs.append((first, second, p))
    adjusted = benjamini_hochberg([p for *_, p in pairs])
    made = [Interaction(first, second, p, float(q)) for (first, second, p), q in zip(pairs, adjusted, strict=True)]
    return sorted(made, key=lambda pair: pair.p)


def _interaction(a: Ints, b: Ints, residual: Floats, rng: np.random.Generator) -> float | None:
    n = len(residual)
    cells = np.unique(np.stack([a, b]), axis=1).shape[1] if n else 0
    if n < LEAST or n < LEAST_PER_CELL * cells:
        return None
    additive = np.column_stack([np.ones(n), *(_dummies(code)[:, 1:] for code in (a, b))])
    full = _dummies(a * (b.max() + 1) + b)
    q_additive, q_full = (_basis(design) for design in (additive, full))
    if q_full.shape[1] <= q_additive.shape[1]:
        return None
    fitted = q_additive @ (q_additive.T @ residual)
    noise = residual - fitted
    draws = np.column_stack([noise, *(rng.permutation(noise) for _ in range(SHUFFLES))])
    total = (draws**2).sum(axis=0)
    left_additive = total - ((q_additive.T @ draws) ** 2).sum(axis=0)
    left_full = total - ((q_full.T @ draws) ** 2).sum(axis=0)
    statistic = (left_additive - left_full) / np.maximum(left_full, 1e-300)
    return float((1 + np.sum(statistic[1:] >= statistic[0])) / (1 + SHUFFLES))


def _dummies(codes: Ints) -> Floats:
    dummies: Floats = (codes[:, np.newaxis] == np.unique(codes)[np.newaxis, :]).astype(np.float64)
    return dummies


def _basis(design: Floats) -> Floats:
    """Orthonormal columns with the span of the design's columns, which may be linearly dependent."""
    u, sizes, _ = np.linalg.svd(design, full_matrices=False)
    spanned: Floats = u[:, sizes > 1e-9 * sizes[0]]
    return spanned
