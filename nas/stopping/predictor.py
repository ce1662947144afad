"""Prediction of the final accuracy from the first epochs: ridge regression on logits, its uncertainty from cross-validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas.stopping.curves import Curve, Floats

FLOOR = 1e-3  # accuracies are clipped to [FLOOR, 1 - FLOOR], so that logits are finite
# Ridge penalties, in observations; the one with the least leave-one-out error is used.
PENALTIES = (0.1, 1.0, 10.0, 100.0)


class Predictor:
    """Final accuracy from a curve's first `epoch` epochs: logit(final) = w @ features + a Student-t residual.

    Ridge regression on standardised features, fitted to n complete curves. Of `PENALTIES`, the one with the least mean squared
    leave-one-out error s^2 is used; a leave-one-out error is residual_i / (1 - h_ii), with the leverages h. The prediction at x
    has the scale s sqrt(1 + h(x)) and n minus the effective number of parameters as degrees of freedom.
    """

    def __init__(self, curves: Sequence[Curve], epoch: int) -> None:
        self.epoch = epoch
        raw = np.array([features(curve, epoch) for curve in curves])
        final = np.array([curve.accuracy for curve in curves])
        y = _logit(final)
        self._mean, spread = raw.mean(axis=0), raw.std(axis=0)
        self._spread = np.where(spread > 1e-9, spread, 1.0)
        x = np.hstack([np.ones((len(raw), 1)), (raw - self._mean) / self._spread])
        best = math.inf
        for penalty in PENALTIES:
            ridge = np.full(x.shape[1], penalty)
            ridge[0] = 1e-9  # the intercept is not penalised
            inverse = np.linalg.inv(x.T @ x + np.diag(ridge))
            leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
            weights = inverse @ x.T @ y
            left_out = (y - x @ weights) / np.maximum(1 - leverage, 1e-6)
            error = float(np.mean(left_out**2))
            if error < best:
                best = error
                self._inverse, self._weights = inverse, weights
                self.freedom = max(float(len(y) - leverage.sum()), 1.0)
        self.spread = math.sqrt(best)  # of logits
        at_epoch = np.array([curve.points[epoch - 1].accuracy for curve in curves])
        self.correlation = _spearman(at_epoch, final)

    def probability(self, curve: Curve, bar: float) -> float:
        """P(final accuracy of a curve > bar)."""
        from scipy.special import stdtr

        x = np.concatenate([[1.0], (np.array(features(curve, self.epoch)) - self._mean) / self._spread])
        expected = float(x @ self._weights)
        scale = max(self.spread * math.sqrt(1 + float(x @ self._inverse @ x)), 1e-9)
        return float(stdtr(self.freedom, (expected - float(_logit(np.array(bar)))) / scale))


def features(curve: Curve, epoch: int) -> list[float]:
    """At epoch `epoch`: logit of the accuracy, its change since the epoch before, log losses, log costs."""
    now = curve.points[epoch - 1]
    before = curve.points[max(epoch - 2, 0)]
    level, last = (float(_logit(np.array(point.accuracy))) for point in (now, before))
    losses = [math.log(min(max(loss, 1e-6), 1e6)) if loss == loss else 0.0 for loss in (now.val_loss, now.train_loss)]
    return [level, level - last, *losses, *(math.log(max(cost, 1.0)) for cost in curve.costs)]


def _logit(accuracy: Floats) -> Floats:
    clipped = np.clip(accuracy, FLOOR, 1 - FLOOR)
    return np.log(clipped / (1 - clipped))


def _spearman(a: Floats, b: Floats) -> float | None:
    """Rank correlation, with mean ranks for ties; None if all values of `a` or of `b` are equal."""
    first, second = (_mean_ranks(values) for values in (a, b))
    if first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[place]
    return ranks
