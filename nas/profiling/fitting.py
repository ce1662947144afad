"""Least squares of relative errors with weights >= 0, for the models of latency and of training time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def relative_weights(columns: Floats) -> Floats:
    """The w >= 0, (m,), that minimises the sum over rows of (columns . w - 1)^2; columns: (n, m), features / measured value."""
    import scipy.optimize

    unit = np.maximum(columns.max(axis=0), 1e-300)  # brings all columns to one order of magnitude
    weights: Floats = scipy.optimize.nnls(columns / unit, np.ones(len(columns)))[0] / unit
    return weights
