r"""What trainings that were stopped early say of the values that they would have ended with.

At one fidelity (a share of the whole training), the values P reached there and the final ones F are taken as jointly normal:

    F = alpha + beta P + e,   e ~ N(0, s^2),   rho^2 = beta^2 V_P / V_F,   V_F = beta^2 V_P + s^2

alpha, beta and s come from the trials that went on to their end (a regression of the end on the way there is right for those
whatever rule on P stopped the others), V_P from all. Read backwards, P = p is an observation of F:

    f = m_F + (p - m_P) V_F / (beta V_P)   with noise of variance s^2 / rho^2,

so that a fidelity which predicts nothing says nothing, and one that predicts all is as good as the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.samplers.encoding import warped
from nas.samplers.gaussian_process import Floats

PAIRS = 5  # trials that went on, below which nothing is known of a fidelity
LEAST = 0.05  # rho^2 below which nothing is said
_DOUBT = 2.0  # prior, as so many pairs that say beta = 0 and s^2 = 1/2


def expected(
    finals: Floats, curves: Sequence[Mapping[float, float]], stopped: Sequence[tuple[float, float]]
) -> tuple[Floats, Floats]:
    """Final values that stopped trials stand for, and variances of what these are off by; NaN of what nothing is known of.

    finals (n,): of complete trials, on the model's scale. curves: values of theirs by fidelity, where known. stopped: (fidelity,
    value). Returns (m,) and (m,), on the scale of `finals`.
    """
    means, variances = np.full(len(stopped), np.nan), np.full(len(stopped), np.nan)
    for fidelity in {own for own, _ in stopped}:
        places = [k for k, (own, _) in enumerate(stopped) if own == fidelity]
        paired = [k for k, curve in enumerate(curves) if fidelity in curve]
        if len(paired) < PAIRS:
            continue
        raw = np.array([curves[k][fidelity] for k in paired] + [stopped[k][1] for k in places])
        early, ends = warped(raw, raw), finals[paired]
        x, y = early[: len(paired)] - early[: len(paired)].mean(), ends - ends.mean()
        spread = max(float(ends.var()), 1e-6)
        beta = (x @ y) / (x @ x + _DOUBT)
        rest = y - beta * x
        noise = (rest @ rest + _DOUBT * 0.5 * spread) / len(paired)
        middle, early_variance = early.mean(), early.var()
        total = beta * beta * early_variance + noise
        share = beta * beta * early_variance / total
        if beta <= 0 or share < LEAST:
            continue
        mean = ends.mean() + beta * (middle - early[: len(paired)].mean())
        means[places] = mean + (early[len(paired) :] - middle) * total / (beta * early_variance)
        variances[places] = noise / share
    return means, variances
