r"""Estimates of the final values of trials that were stopped early.

A fidelity is a share of the whole training. The values P reached at one fidelity and the final values F are modeled as jointly normal:

    F = alpha + beta P + e,   e ~ N(0, s^2),   rho^2 = beta^2 V_P / V_F,   V_F = beta^2 V_P + s^2

alpha, beta and s are estimated from the complete trials. This regression of F on P is unbiased whatever rule on P stopped the other
trials. V_P is estimated from all trials. In reverse, P = p is an observation of F:

    f = m_F + (p - m_P) V_F / (beta V_P)   with noise of variance s^2 / rho^2,

The noise is infinite for a fidelity that predicts nothing (rho = 0), and 0 for one that predicts the final value exactly (rho = 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.samplers.encoding import warped
from nas.samplers.gaussian_process import Floats

PAIRS = 5  # fewest complete trials with a value at a fidelity for which an estimate is made
LEAST = 0.05  # smallest rho^2 for which an estimate is made
_DOUBT = 2.0  # weight of the prior: counts as so many pairs with beta = 0 and s^2 = 1/2


def expected(
    finals: Floats, curves: Sequence[Mapping[float, float]], stopped: Sequence[tuple[float, float]]
) -> tuple[Floats, Floats]:
    """Estimates of the final values of m stopped trials, and the variances of their errors: (m,) and (m,), on the scale of `finals`.

    NaN where no estimate is made. finals (n,): final values of the complete trials, on the model's scale. curves: values of each
    complete trial by fidelity, as far as known. stopped: pairs (fidelity, value).
    """
    means, variances = np.full(len(stopped), np.nan), np.full(len(stopped), np.nan)
    for fidelity in {reached for reached, _ in stopped}:
        places = [k for k, (reached, _) in enumerate(stopped) if reached == fidelity]
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
