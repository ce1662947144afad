"""Tests that hold for few trials and for many at once: exact, by ranks, and corrected for how many are made.

All are within bins of equal cost (`Sample.bins`): under the null hypothesis the trials of a bin are exchangeable, whatever
knobs they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nas.analysis.sample import Floats, Ints, Mask


def benjamini_hochberg(p: Sequence[float] | Floats) -> Floats:
    """q(i) = min over j >= i of m p(j) / j: to call all with q <= Q a finding makes a share of at most Q false, on average.

    (Benjamini and Hochberg, 1995; under positive dependence too: Benjamini and Yekutieli, 2001.) p: (m,); q: (m,).
    """
    values = np.asarray(p, dtype=np.float64)
    m = len(values)
    if m == 0:
        return values
    order = np.argsort(values)
    scaled = values[order] * m / np.arange(1, m + 1)
    adjusted = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    q = np.empty(m)
    q[order] = adjusted
    return q


def membership(member: Mask, has: Mask, bins: Ints) -> tuple[int, float, float, float]:
    """How many `has` are `member`, how many were to be expected, and P(as few or fewer), P(as many or more).

    Exact: in each bin the number is hypergeometric, and the sum's distribution their convolution (the exact form of
    Cochran, Mantel and Haenszel's test). All arguments are (n,).
    """
    distribution = np.ones(1)
    seen = 0
    mean = 0.0
    for number in np.unique(bins):
        inside = bins == number
        total, members, having = int(inside.sum()), int(member[inside].sum()), int(has[inside].sum())
        seen += int((member & has & inside).sum())
        mean += members * having / total
        distribution = np.convolve(distribution, _hypergeometric(total, members, having))
    few, many = float(distribution[: seen + 1].sum()), float(distribution[seen:].sum())
    return seen, mean, min(1.0, few), min(1.0, many)


def shift(scores: Floats, has: Mask, bins: Ints) -> tuple[float, float]:
    """P of so low and P of so high a rank sum of those that `has`, against the others of their bins (van Elteren, 1960).

    Ranks within bins, each bin weighted by 1 / (size + 1); the mean and variance are those of all permutations within bins,
    ties included, the tail is the normal one. All arguments are (n,).
    """
    from scipy.special import ndtr
    from scipy.stats import rankdata

    total = variance = 0.0
    for number in np.unique(bins):
        inside = bins == number
        n = int(inside.sum())
        chosen = has[inside]
        k = int(chosen.sum())
        if k in (0, n):
            continue
        centred = (rankdata(scores[inside]) - (n + 1) / 2) / (n + 1)
        total += float(centred[chosen].sum())
        variance += k * (n - k) / (n * (n - 1)) * float((centred**2).sum())
    if variance == 0:
        return 1.0, 1.0
    z = total / variance**0.5
    return float(ndtr(z)), float(ndtr(-z))


@lru_cache(maxsize=4096)
def _hypergeometric(total: int, members: int, having: int) -> Floats:
    """P of 0, 1, ..., min(members, having) members among `having` of `total`; SciPy's takes a millisecond for its checks."""
    from scipy.special import gammaln

    def log_choose(n: Floats | int, k: Floats | int) -> Floats:
        chosen: Floats = gammaln(np.add(n, 1.0)) - gammaln(np.add(k, 1.0)) - gammaln(np.subtract(n, k) + 1.0)
        return chosen

    k = np.arange(min(members, having) + 1, dtype=np.float64)
    possible = total - members >= having - k
    pmf = np.zeros(len(k))
    k = k[possible]
    logs = log_choose(members, k) + log_choose(total - members, having - k) - log_choose(total, having)
    pmf[possible] = np.exp(logs)
    return pmf
