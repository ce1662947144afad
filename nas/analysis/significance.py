"""Significance tests that hold for few trials and for many tests: exact or by ranks, and corrected for multiple testing.

All are stratified by bins of equal cost (`Sample.bins`). Null hypothesis: the trials of a bin are exchangeable, whatever their
knobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nas.analysis.sample import Floats, Ints, Mask


def benjamini_hochberg(p: Sequence[float] | Floats) -> Floats:
    """q(i) = min over j >= i of m p(j) / j: if all tests with q <= Q are called findings, their false discovery rate is <= Q.

    Benjamini and Hochberg, 1995; valid under positive dependence as well (Benjamini and Yekutieli, 2001). p: (m,); q: (m,).
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
    """(count, expected count, P(as few or fewer), P(as many or more)) of the trials with `has` that are also `member`.

    Exact: in each bin the count is hypergeometric, and the distribution of the sum is the convolution over the bins (the exact
    Cochran-Mantel-Haenszel test). All arguments are (n,).
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
    """(P(as low or lower), P(as high or higher)) of the rank sum of the trials with `has` within their bins (van Elteren, 1960).

    Scores are ranked within bins, and each bin is weighted by 1 / (size + 1). Mean and variance are those of all permutations
    within bins, including ties; the tail is normal. All arguments are (n,).
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
    """P of 0, 1, ..., min(members, having) members among `having` of `total`; SciPy's own function is slow."""
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
