r"""A Gaussian process over choices and exact features, with noise, for a few thousand observations.

    k(x, x') = s_1 M(r_1) + s_2 M(r_2),    r_1^2 = sum_g w_g |z_g - z'_g|^2,    r_2^2 = sum_f u_f (f - f')^2

z_g is the embedding of choice g (one-hot: |z - z'|^2 = [z != z'], so that unordered choices meet in a weighted Hamming
distance; a position in [0, 1] for ordered ones), f the features, and M the Matern 5/2 correlation
(1 + sqrt5 r + 5 r^2 / 3) exp(-sqrt5 r). Observations carry Gaussian noise of one variance, which is learnt.

Hyperparameters maximise the marginal likelihood times log-normal priors (L-BFGS-B, analytic gradient; Rasmussen and
Williams, 2006, chapter 5) on at most `FIT` observations. Up to `EXACT` observations the posterior is exact; beyond that it is
the projected process on `INDUCING` of them (their section 8.3.4), whose variance is the prior's far from all of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, lapack, solve_triangular
from scipy.optimize import minimize

Floats: TypeAlias = NDArray[np.float64]

FIT, EXACT, INDUCING = 250, 1000, 400
_ROOT5 = 5**0.5
_JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of the inputs are what: `group` (p,) gives each column's weight, `parts` (p,) is 0 for choices, 1 for features.

    Groups are numbered from 0 without gaps.
    """

    group: NDArray[np.intp]
    part: NDArray[np.intp]

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if self.group.size else 0

    def part_of_group(self) -> NDArray[np.intp]:
        parts = np.zeros(self.groups, dtype=np.intp)
        parts[self.group] = self.part
        return parts


def matern(squared: Floats) -> tuple[Floats, Floats]:
    """Matern 5/2 at squared distances, and its derivative by the squared distance."""
    root = np.sqrt(5.0 * np.maximum(squared, 0.0))
    decay = np.exp(-root)
    return (1.0 + root + root * root / 3.0) * decay, (-5.0 / 6.0) * (1.0 + root) * decay


def squared_distances(left: Floats, right: Floats) -> Floats:
    """|a - b|^2 of all rows, (n, m), never below 0."""
    cross = left @ right.T
    cross *= -2.0
    cross += (left * left).sum(axis=1)[:, None]
    cross += (right * right).sum(axis=1)[None, :]
    return np.maximum(cross, 0.0, out=cross)


class Kernel:
    """The kernel above, by log hyperparameters `theta`: s_1, s_2, noise variance, then a weight for each group."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.columns = [np.flatnonzero(layout.part == part) for part in (0, 1)]
        part = layout.part_of_group()
        counts = np.bincount(part, minlength=2)
        self.size = 3 + layout.groups
        weight = np.where(part == 0, np.log(2.0 / max(counts[0], 1)), np.log(2.0 / max(counts[1], 1)))
        self.mean = np.concatenate([[np.log(0.5), np.log(0.5), np.log(0.03)], weight])
        self.deviation = np.concatenate([[1.0, 1.0, 1.5], np.full(layout.groups, 1.3)])
        low = np.concatenate([[-7.0, -7.0, np.log(1e-5)], np.full(layout.groups, -9.0)])
        high = np.concatenate([[4.0, 4.0, np.log(2.0)], np.full(layout.groups, 4.0)])
        self.bounds = np.stack([low, high], axis=1)

    def scaled(self, theta: Floats, inputs: Floats) -> list[Floats]:
        """The columns of each part, times the root of their weights."""
        roots = np.exp(0.5 * theta[3:])[self.layout.group]
        return [inputs[:, columns] * roots[columns] for columns in self.columns]

    def cross(self, theta: Floats, left: Floats, right: Floats) -> Floats:
        """Covariance of the noise-free function, (n, m)."""
        total = np.zeros((len(left), len(right)))
        for part, (a, b) in enumerate(zip(self.scaled(theta, left), self.scaled(theta, right), strict=True)):
            if a.shape[1]:
                total += np.exp(theta[part]) * matern(squared_distances(a, b))[0]
        return total

    def variance(self, theta: Floats) -> float:
        return float(sum(np.exp(theta[part]) for part in (0, 1) if len(self.columns[part])))

    def loss(self, theta: Floats, inputs: Floats, targets: Floats) -> tuple[float, Floats]:
        """Negative log posterior of the hyperparameters, up to a constant, and its gradient. targets: (n,), mean 0."""
        n = len(targets)
        noise = np.exp(theta[2])
        gradient = np.zeros(self.size)
        covariance = np.zeros((n, n))
        pieces: list[tuple[Floats, Floats, Floats] | None] = []
        for part, scaled in enumerate(self.scaled(theta, inputs)):
            if not scaled.shape[1]:
                pieces.append(None)
                continue
            value, slope = matern(squared_distances(scaled, scaled))
            value *= np.exp(theta[part])
            slope *= np.exp(theta[part])
            covariance += value
            pieces.append((scaled, value, slope))
        covariance[np.diag_indices(n)] += noise + _JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, gradient
        inverse = lapack.dpotri(factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ targets
        loss = 0.5 * targets @ alpha + np.log(np.diag(factor)).sum()
        inner = inverse - np.outer(alpha, alpha)  # d loss / d K = inner / 2
        for part, piece in enumerate(pieces):
            if piece is None:
                continue
            scaled, value, slope = piece
            gradient[part] = 0.5 * np.vdot(inner, value)
            weighted = inner * slope
            # sum_ab B_ab (x_a - x_b)^2 by column, with B symmetric; the weight is in the scaled columns already.
            by_column = weighted.sum(axis=1) @ (scaled * scaled) - (scaled * (weighted @ scaled)).sum(axis=0)
            np.add.at(gradient, 3 + self.layout.group[self.columns[part]], by_column)
        gradient[2] = 0.5 * noise * np.trace(inner)
        pull = (theta - self.mean) / self.deviation
        return float(loss + 0.5 * pull @ pull), gradient + pull / self.deviation

    def fit(self, inputs: Floats, targets: Floats, start: Floats | None = None, steps: int = 40) -> Floats:
        """Hyperparameters at a mode, from `start` or the prior's. Deterministic."""
        begin = self.mean if start is None else np.clip(start, *self.bounds.T)
        found = minimize(
            self.loss,
            begin,
            args=(inputs, targets),
            jac=True,
            method="L-BFGS-B",
            bounds=self.bounds,
            options={"maxiter": steps},
        )
        return np.asarray(found.x, dtype=np.float64)


class Posterior:
    """What observations say of the function: means and covariances at any inputs. targets: (n,), mean 0."""

    def __init__(self, kernel: Kernel, theta: Floats, inputs: Floats, targets: Floats, inducing: Floats | None) -> None:
        self.kernel, self.theta = kernel, theta
        noise = np.exp(theta[2]) + _JITTER
        self._outer: Floats | None = None
        if inducing is None:
            self._points = inputs
            covariance = kernel.cross(theta, inputs, inputs)
            covariance[np.diag_indices(len(inputs))] += noise
            self._factor = _cholesky(covariance)
            self._weights = solve_triangular(self._factor, targets, lower=True, check_finite=False)
            residual = solve_triangular(self._factor, self._weights, lower=True, trans=1, check_finite=False)
            self.fitted = targets - noise * residual  # means at the inputs themselves
            return
        self._points = inducing
        covariance = kernel.cross(theta, inducing, inducing)
        covariance[np.diag_indices(len(inducing))] += 1e-6 * kernel.variance(theta)
        self._factor = _cholesky(covariance)
        half = solve_triangular(self._factor, kernel.cross(theta, inducing, inputs), lower=True, check_finite=False)
        inner = half @ half.T / noise
        inner[np.diag_indices(len(inducing))] += 1.0
        self._outer = _cholesky(inner)
        self._weights = solve_triangular(self._outer, half @ targets / noise, lower=True, check_finite=False)
        self.fitted = half.T @ solve_triangular(self._outer, self._weights, lower=True, trans=1, check_finite=False)

    def at(self, inputs: Floats) -> View:
        """The posterior at these inputs, (n, p)."""
        half = solve_triangular(
            self._factor, self.kernel.cross(self.theta, self._points, inputs), lower=True, check_finite=False
        )
        prior = self.kernel.variance(self.theta)
        variance = prior - (half * half).sum(axis=0)
        if self._outer is None:
            return View(self, inputs, half.T @ self._weights, np.maximum(variance, 1e-10), half, None)
        known = solve_triangular(self._outer, half, lower=True, check_finite=False)
        variance += (known * known).sum(axis=0)
        return View(self, inputs, known.T @ self._weights, np.maximum(variance, 1e-10), half, known)


@dataclass(frozen=True, slots=True)
class View:
    """Means (n,) and variances (n,) at some inputs, and what their covariance with others follows from."""

    posterior: Posterior
    inputs: Floats
    mean: Floats
    variance: Floats
    half: Floats
    known: Floats | None

    def covariance(self, other: View) -> Floats:
        """Posterior covariance, (n, m)."""
        prior = self.posterior.kernel.cross(self.posterior.theta, self.inputs, other.inputs)
        result = prior - self.half.T @ other.half
        if self.known is not None and other.known is not None:
            result += self.known.T @ other.known
        return result


def _cholesky(matrix: Floats) -> Floats:
    """Lower factor; the diagonal is raised as far as it takes."""
    raised = 0.0
    while True:
        try:
            return np.asarray(cholesky(matrix + raised * np.eye(len(matrix)), lower=True, check_finite=False))
        except np.linalg.LinAlgError:
            raised = max(10 * raised, 1e-8 * float(np.trace(matrix)) / len(matrix))
