r"""A Gaussian process over choices and exact features with noisy observations, for up to a few thousand of them.

    k(x, x') = s_1 M(r_1) + s_2 M(r_2) + t_1 <f, f'> / F + t_2 <c, c'> / C
    r_1^2 = sum_g w_g |z_g - z'_g|^2,    r_2^2 = sum_f u_f (f - f')^2

z_g is the embedding of choice g: one-hot for unordered choices, with |z - z'|^2 = [z != z'], which gives a weighted Hamming
distance; a position in [0, 1] for ordered ones. f are the F features, c the C counts, and M is the Matern 5/2 correlation
(1 + sqrt5 r + 5 r^2 / 3) exp(-sqrt5 r). The variance of the Gaussian noise is fitted. The linear terms model a trend in features
and counts with unknown slopes: a dozen observations determine little else in a space with dozens of choices.

Hyperparameters maximize the marginal likelihood times log-normal priors (L-BFGS-B, analytic gradient; Rasmussen and
Williams, 2006, chapter 5) on at most `FIT` observations. Up to `EXACT` observations the posterior is exact. Beyond that it is the
projected process on `INDUCING` of them (their section 8.3.4), whose variance approaches that of the prior far from these points.
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
CHOICE, FEATURE, COUNT = 0, 1, 2
_CURVED, _STRAIGHT = (CHOICE, FEATURE), (FEATURE, COUNT)  # parts with a Matern term, and with a linear term
_NOISE, _LINES, _WEIGHTS = 2, 3, 5  # indices in theta
_ROOT5 = 5**0.5
_JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class Layout:
    """The meaning of the p input columns. part (p,): CHOICE, FEATURE or COUNT. group (p,): index of each column's weight.

    Groups are numbered from 0 without gaps; counts have no weight, and group -1.
    """

    group: NDArray[np.intp]
    part: NDArray[np.intp]

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if self.group.size else 0

    def part_of_group(self) -> NDArray[np.intp]:
        parts = np.zeros(self.groups, dtype=np.intp)
        weighted = self.group >= 0
        parts[self.group[weighted]] = self.part[weighted]
        return parts


def matern(squared: Floats) -> tuple[Floats, Floats]:
    """Matern 5/2 correlation of squared distances, and its derivative with respect to the squared distance."""
    root = np.sqrt(5.0 * np.maximum(squared, 0.0))
    decay = np.exp(-root)
    return (1.0 + root + root * root / 3.0) * decay, (-5.0 / 6.0) * (1.0 + root) * decay


def squared_distances(left: Floats, right: Floats) -> Floats:
    """|a - b|^2 for all pairs of rows, (n, m), at least 0."""
    cross = left @ right.T
    cross *= -2.0
    cross += (left * left).sum(axis=1)[:, None]
    cross += (right * right).sum(axis=1)[None, :]
    return np.maximum(cross, 0.0, out=cross)


class Kernel:
    """The kernel above. `theta`: logarithms of s_1, s_2, noise variance, t_1, t_2, then of the weight of each group.

    The priors were chosen by the accuracy of predictions from few observations of random candidates, on tables and synthetic
    functions: trends are likely, nonlinear effects of the features less so.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.columns = [np.flatnonzero(layout.part == part) for part in (CHOICE, FEATURE, COUNT)]
        part = layout.part_of_group()
        weight = np.log(2.0) - np.log(np.maximum(np.bincount(part, minlength=2), 1))[part]
        groups = layout.groups
        self.size = _WEIGHTS + groups
        self.mean = np.concatenate([np.log([1.0, 0.1, 0.03, 0.5, 0.1]), weight])
        self.deviation = np.concatenate([[1.0, 1.0, 1.5, 1.0, 1.0], np.ones(groups)])
        low = np.concatenate([[-7.0, -7.0, np.log(1e-5), -7.0, -7.0], np.full(groups, -9.0)])
        high = np.concatenate([[4.0, 4.0, np.log(2.0), 4.0, 4.0], np.full(groups, 4.0)])
        self.bounds = np.stack([low, high], axis=1)

    def scaled(self, theta: Floats, inputs: Floats) -> list[Floats]:
        """The columns of choices, and those of features, each times the square root of its weight."""
        roots = np.exp(0.5 * theta[_WEIGHTS:])
        return [inputs[:, self.columns[part]] * roots[self.layout.group[self.columns[part]]] for part in _CURVED]

    def cross(self, theta: Floats, left: Floats, right: Floats) -> Floats:
        """Covariance of the noise-free function, (n, m)."""
        total = np.zeros((len(left), len(right)))
        for part, (a, b) in enumerate(zip(self.scaled(theta, left), self.scaled(theta, right), strict=True)):
            if a.shape[1]:
                total += np.exp(theta[part]) * matern(squared_distances(a, b))[0]
        for _, columns, scale in self._lines(theta):
            total += scale * (left[:, columns] @ right[:, columns].T)
        return total

    def variance(self, theta: Floats, inputs: Floats) -> Floats:
        """Prior variance of the noise-free function, (n,)."""
        total = np.full(len(inputs), sum(float(np.exp(theta[part])) for part in _CURVED if len(self.columns[part])))
        for _, columns, scale in self._lines(theta):
            total += scale * np.einsum("ij,ij->i", inputs[:, columns], inputs[:, columns])
        return total

    def noise(self, theta: Floats) -> float:
        """Variance of the observation noise."""
        return float(np.exp(theta[_NOISE]))

    def loss(self, theta: Floats, inputs: Floats, targets: Floats, blur: Floats | None = None) -> tuple[float, Floats]:
        """Negative log posterior of the hyperparameters, up to a constant, and its gradient. targets: (n,), mean 0.

        blur (n,): known variances of the observations' errors, besides the noise.
        """
        n = len(targets)
        noise = self.noise(theta)
        gradient = np.zeros(self.size)
        covariance = np.zeros((n, n))
        curves: list[tuple[int, Floats, Floats, Floats]] = []
        for part, scaled in enumerate(self.scaled(theta, inputs)):
            if not scaled.shape[1]:
                continue
            value, slope = matern(squared_distances(scaled, scaled))
            value *= np.exp(theta[part])
            slope *= np.exp(theta[part])
            covariance += value
            curves.append((part, scaled, value, slope))
        lines = [
            (place, scale * (inputs[:, columns] @ inputs[:, columns].T)) for place, columns, scale in self._lines(theta)
        ]
        for _, line in lines:
            covariance += line
        covariance[np.diag_indices(n)] += noise + _JITTER + (0.0 if blur is None else blur)
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, gradient
        inverse = lapack.dpotri(factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ targets
        loss = 0.5 * targets @ alpha + np.log(np.diag(factor)).sum()
        inner = inverse - np.outer(alpha, alpha)  # d loss / d K = inner / 2
        for part, scaled, value, slope in curves:
            gradient[part] = 0.5 * np.vdot(inner, value)
            weighted = inner * slope
            # sum_ab B_ab (x_a - x_b)^2 for each column, with symmetric B; the scaled columns contain the weight.
            by_column = weighted.sum(axis=1) @ (scaled * scaled) - (scaled * (weighted @ scaled)).sum(axis=0)
            np.add.at(gradient, _WEIGHTS + self.layout.group[self.columns[part]], by_column)
        for place, line in lines:
            gradient[place] = 0.5 * np.vdot(inner, line)
        gradient[_NOISE] = 0.5 * noise * np.trace(inner)
        pull = (theta - self.mean) / self.deviation
        return float(loss + 0.5 * pull @ pull), gradient + pull / self.deviation

    def _lines(self, theta: Floats) -> list[tuple[int, NDArray[np.intp], float]]:
        """Each linear term: its index in theta, its columns, and the factor of their inner product."""
        return [
            (place, self.columns[part], float(np.exp(theta[place])) / len(self.columns[part]))
            for place, part in enumerate(_STRAIGHT, _LINES)
            if len(self.columns[part])
        ]

    def fit(
        self, inputs: Floats, targets: Floats, start: Floats | None = None, blur: Floats | None = None, steps: int = 40
    ) -> Floats:
        """Hyperparameters at a mode of the posterior. L-BFGS-B begins at `start`, or at the prior's mean. Deterministic."""
        begin = self.mean if start is None else np.clip(start, *self.bounds.T)
        result = minimize(
            self.loss,
            begin,
            args=(inputs, targets, blur),
            jac=True,
            method="L-BFGS-B",
            bounds=self.bounds,
            options={"maxiter": steps},
        )
        return np.asarray(result.x, dtype=np.float64)


class Posterior:
    """The posterior of the function: means and covariances at any inputs. targets: (n,), mean 0; blur as in `Kernel.loss`."""

    def __init__(
        self,
        kernel: Kernel,
        theta: Floats,
        inputs: Floats,
        targets: Floats,
        inducing: Floats | None,
        blur: Floats | None = None,
    ) -> None:
        self.kernel, self.theta = kernel, theta
        self.noise = kernel.noise(theta)
        noise: Floats = np.full(len(inputs), self.noise + _JITTER) + (0.0 if blur is None else blur)
        self._outer: Floats | None = None
        if inducing is None:
            self._points = inputs
            covariance = kernel.cross(theta, inputs, inputs)
            covariance[np.diag_indices(len(inputs))] += noise
            self._factor = _cholesky(covariance)
            self._weights = solve_triangular(self._factor, targets, lower=True, check_finite=False)
            residual = solve_triangular(self._factor, self._weights, lower=True, trans=1, check_finite=False)
            self.fitted = targets - noise * residual  # posterior means at the inputs
            return
        self._points = inducing
        covariance = kernel.cross(theta, inducing, inducing)
        covariance[np.diag_indices(len(inducing))] += 1e-6 * kernel.variance(theta, inducing)
        self._factor = _cholesky(covariance)
        half = solve_triangular(self._factor, kernel.cross(theta, inducing, inputs), lower=True, check_finite=False)
        inner = (half / noise) @ half.T
        inner[np.diag_indices(len(inducing))] += 1.0
        self._outer = _cholesky(inner)
        self._weights = solve_triangular(self._outer, half @ (targets / noise), lower=True, check_finite=False)
        self.fitted = half.T @ solve_triangular(self._outer, self._weights, lower=True, trans=1, check_finite=False)

    def at(self, inputs: Floats) -> View:
        """The posterior at these inputs, (n, p)."""
        half = solve_triangular(
            self._factor, self.kernel.cross(self.theta, self._points, inputs), lower=True, check_finite=False
        )
        prior = self.kernel.variance(self.theta, inputs)
        variance = prior - (half * half).sum(axis=0)
        if self._outer is None:
            return View(self, inputs, half.T @ self._weights, np.maximum(variance, 1e-10), half, None)
        known = solve_triangular(self._outer, half, lower=True, check_finite=False)
        variance += (known * known).sum(axis=0)
        return View(self, inputs, known.T @ self._weights, np.maximum(variance, 1e-10), half, known)


@dataclass(frozen=True, slots=True)
class View:
    """Posterior means (n,) and variances (n,) at some inputs, and the factors from which covariances follow."""

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
    """Lower Cholesky factor. The diagonal is increased until the matrix is positive definite."""
    raised = 0.0
    while True:
        try:
            return np.asarray(cholesky(matrix + raised * np.eye(len(matrix)), lower=True, check_finite=False))
        except np.linalg.LinAlgError:
            raised = max(10 * raised, 1e-8 * float(np.trace(matrix)) / len(matrix))
