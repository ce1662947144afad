"""Rank correlation of early and final accuracy: Spearman's rho and Kendall's tau-b for epochs before the last.

Only trials that were trained to the end are counted. With early stopping these are the survivors, whose accuracies lie closer
together than those of all trials, so that the correlation over all trials would be higher. The learning rate falls to 0 at the
last epoch of the schedule, so that an early epoch is not the end of a shorter training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.analysis.sample import Floats, Ints

if TYPE_CHECKING:
    from nas.runs.run import Run

LEAST = 10  # trials
MAX_TRIALS = 500
MAX_RUNGS = 12
RESAMPLES = 200
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Rung:
    """An epoch and both correlations with the final accuracy as (value, low, high), the interval by bootstrap over trials."""

    epoch: int
    spearman: tuple[float, float, float]
    kendall: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Rungs:
    trials: int  # in the correlations
    stopped: int  # trials left out because they were stopped early
    epochs: int
    rungs: tuple[Rung, ...]


def rung_correlation(run: Run) -> Rungs:
    """Correlations at up to `MAX_RUNGS` epochs before the last; none if fewer than `LEAST` searched trials have all epochs."""
    complete = [trial for trial in run.trials if trial.accuracy is not None and not trial.label and trial.epochs]
    stopped = run.count("stopped")
    epochs = max((len(trial.epochs) for trial in complete), default=0)
    complete = [trial for trial in complete if len(trial.epochs) == epochs]
    if len(complete) < LEAST or epochs < 2:
        return Rungs(len(complete), stopped, epochs, ())
    chosen = np.linspace(0, len(complete) - 1, min(len(complete), MAX_TRIALS)).astype(np.intp)
    curves = np.array([[epoch.accuracy for epoch in complete[k].epochs] for k in chosen])
    at = np.unique(np.geomspace(1, epochs - 1, min(MAX_RUNGS, epochs - 1)).round().astype(np.intp))
    if epochs - 1 <= MAX_RUNGS:
        at = np.arange(1, epochs)
    draws = np.random.default_rng(0).integers(0, len(chosen), (RESAMPLES, len(chosen)))
    rungs = tuple(_rung(int(epoch), curves[:, epoch - 1], curves[:, -1], draws) for epoch in at)
    return Rungs(len(chosen), stopped, epochs, rungs)


def _rung(epoch: int, early: Floats, final: Floats, draws: Ints) -> Rung:
    rho = _spearman(early[np.newaxis], final[np.newaxis])[0]
    rhos = _spearman(early[draws], final[draws])
    n = len(final)
    times = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(np.float64)
    taus = _kendall(early, final, np.vstack([np.ones(n), times]))
    return Rung(epoch, _interval(float(rho), rhos), _interval(float(taus[0]), taus[1:]))


def _kendall(x: Floats, y: Floats, times: Floats) -> Floats:
    """Weighted tau-b, (r,): sum w w' s(x) s(y) / sqrt(sum w w' s(x)^2 * sum w w' s(y)^2), with weights w = times[r, i] of trial i."""
    a, b = (np.sign(numbers[:, np.newaxis] - numbers[np.newaxis, :]) for numbers in (x, y))
    together, ties_x, ties_y = (((times @ signs) * times).sum(axis=1) for signs in (a * b, a * a, b * b))
    scale = np.sqrt(ties_x * ties_y)
    tau: Floats = np.divide(together, scale, out=np.zeros(len(times)), where=scale > 0)
    return tau


def _spearman(x: Floats, y: Floats) -> Floats:
    """Correlation of the ranks within each row of x and y, (r, n): (r,); 0 where x or y is constant."""
    from scipy.stats import rankdata

    ranks = []
    for numbers in (x, y):
        rank = rankdata(numbers, axis=1)
        rank -= rank.mean(axis=1, keepdims=True)
        ranks.append(rank)
    a, b = ranks
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    rho: Floats = np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0)
    return rho


def _interval(value: float, draws: Floats) -> tuple[float, float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)
