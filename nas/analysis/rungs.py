"""How well the accuracy behind an early epoch ranks the trials as their last one does: Spearman's rho and Kendall's tau-b.

Only trials that were trained to the end can tell; where others were stopped early the ranks are of those that were let on,
which lie closer together, so that the correlation over all would be higher. The learning rate falls to 0 at the last
epoch of the whole schedule: an early epoch is not a shorter training.
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
    """An epoch, and (value, low, high) of either correlation with the final accuracy, the interval by bootstrap over trials."""

    epoch: int
    spearman: tuple[float, float, float]
    kendall: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Rungs:
    trials: int  # that the correlations are of
    stopped: int  # that could not be counted
    epochs: int
    rungs: tuple[Rung, ...]


def rung_correlation(run: Run) -> Rungs:
    """Correlations behind the epochs before the last; no rungs if fewer than `LEAST` searched trials have them all."""
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
    """tau-b, (r,), where trial i counts times[r, i] times: sum w w' s(x) s(y) over the root of those of s(x)^2 and s(y)^2."""
    a, b = (np.sign(numbers[:, np.newaxis] - numbers[np.newaxis, :]) for numbers in (x, y))
    together, ties_x, ties_y = (((times @ signs) * times).sum(axis=1) for signs in (a * b, a * a, b * b))
    scale = np.sqrt(ties_x * ties_y)
    found: Floats = np.divide(together, scale, out=np.zeros(len(times)), where=scale > 0)
    return found


def _spearman(x: Floats, y: Floats) -> Floats:
    """Correlation of the ranks in each row, (r,), of (r, n); 0 where one has no spread."""
    from scipy.stats import rankdata

    ranks = []
    for numbers in (x, y):
        rank = rankdata(numbers, axis=1)
        rank -= rank.mean(axis=1, keepdims=True)
        ranks.append(rank)
    a, b = ranks
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found: Floats = np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0)
    return found


def _interval(value: float, draws: Floats) -> tuple[float, float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)
