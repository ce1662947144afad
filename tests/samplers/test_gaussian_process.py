"""The Gaussian process: its gradient against differences, its posterior against textbook formulas, and the approximation."""

from __future__ import annotations

import numpy as np
import pytest

from nas.samplers.gaussian_process import CHOICE, COUNT, FEATURE, Kernel, Layout, Posterior, matern

LAYOUT = Layout(np.array([0, 0, 0, 1, 1, 2, 3, -1]), np.array([CHOICE] * 5 + [FEATURE] * 2 + [COUNT]))


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A one-hot choice of three, a position, two features, a count; and a function of them with noise."""
    rng = np.random.default_rng(seed)
    choice = rng.integers(0, 3, n)
    inputs = np.zeros((n, 8))
    inputs[np.arange(n), choice] = 0.5**0.5
    inputs[:, 3] = rng.integers(0, 5, n) / 4
    inputs[:, 4] = 0.5**0.5
    inputs[:, 5:] = rng.normal(size=(n, 3))
    values = (
        np.array([0.0, 1.0, -0.5])[choice]
        + inputs[:, 3] ** 2
        + np.tanh(inputs[:, 5])
        + 0.3 * inputs[:, 7]
        + 0.1 * rng.normal(size=n)
    )
    return inputs, (values - values.mean()) / values.std()


def test_the_gradient_is_that_of_the_loss():
    inputs, targets = data(40)
    kernel = Kernel(LAYOUT)
    rng = np.random.default_rng(1)
    for _ in range(3):
        theta = kernel.mean + 0.5 * rng.normal(size=kernel.size)
        gradient = kernel.loss(theta, inputs, targets)[1]
        for k in range(kernel.size):
            step = np.zeros(kernel.size)
            step[k] = 1e-5
            difference = kernel.loss(theta + step, inputs, targets)[0] - kernel.loss(theta - step, inputs, targets)[0]
            assert gradient[k] == pytest.approx(difference / 2e-5, rel=1e-4, abs=1e-4)


def test_the_loss_is_the_marginal_likelihood_with_the_prior():
    inputs, targets = data(25)
    kernel = Kernel(LAYOUT)
    theta = kernel.mean + 0.3
    covariance = kernel.cross(theta, inputs, inputs) + (kernel.noise(theta) + 1e-8) * np.eye(25)
    expected = 0.5 * targets @ np.linalg.solve(covariance, targets) + 0.5 * np.linalg.slogdet(covariance)[1]
    pull = ((theta - kernel.mean) / kernel.deviation) ** 2
    assert kernel.loss(theta, inputs, targets)[0] == pytest.approx(expected + 0.5 * pull.sum())


def test_the_slope_of_the_correlation():
    squared = np.linspace(0.01, 9, 50)
    difference = (matern(squared + 1e-6)[0] - matern(squared - 1e-6)[0]) / 2e-6
    assert np.allclose(matern(squared)[1], difference, atol=1e-6)
    assert matern(np.zeros(1))[0] == 1.0


def test_the_posterior_is_the_textbooks():
    inputs, targets = data(60)
    elsewhere, _ = data(15, seed=1)
    kernel = Kernel(LAYOUT)
    theta = kernel.fit(inputs, targets)
    noisy = kernel.cross(theta, inputs, inputs) + (kernel.noise(theta) + 1e-8) * np.eye(60)
    across = kernel.cross(theta, elsewhere, inputs)
    posterior = Posterior(kernel, theta, inputs, targets, None)
    view = posterior.at(elsewhere)
    assert np.allclose(view.mean, across @ np.linalg.solve(noisy, targets))
    expected = kernel.cross(theta, elsewhere, elsewhere) - across @ np.linalg.solve(noisy, across.T)
    assert np.allclose(view.covariance(view), expected, atol=1e-8)
    assert np.allclose(view.variance, np.diag(expected), atol=1e-8)
    assert np.allclose(posterior.fitted, posterior.at(inputs).mean)


def test_the_fit_finds_the_noise_and_predicts():
    inputs, targets = data(150)
    elsewhere, truth = data(200, seed=7)
    kernel = Kernel(LAYOUT)
    theta = kernel.fit(inputs, targets)
    assert 0.002 < kernel.noise(theta) < 0.05  # (0.1 / the standard deviation of the values)^2 is 0.011
    assert np.corrcoef(Posterior(kernel, theta, inputs, targets, None).at(elsewhere).mean, truth)[0, 1] > 0.97


def test_the_projected_process_is_the_exact_one_where_every_input_is_inducing():
    inputs, targets = data(80)
    elsewhere, _ = data(20, seed=1)
    kernel = Kernel(LAYOUT)
    theta = kernel.fit(inputs, targets)
    exact = Posterior(kernel, theta, inputs, targets, None)
    projected = Posterior(kernel, theta, inputs, targets, inputs)
    one, other = exact.at(elsewhere), projected.at(elsewhere)
    assert np.allclose(one.mean, other.mean, atol=1e-3)
    assert np.allclose(one.variance, other.variance, atol=1e-3)
    assert np.allclose(one.covariance(one), other.covariance(other), atol=1e-3)
    assert np.allclose(exact.fitted, projected.fitted, atol=1e-3)


def test_the_projected_process_is_unsure_far_from_its_inducing_inputs():
    inputs, targets = data(300)
    kernel = Kernel(LAYOUT)
    theta = kernel.fit(inputs[:100], targets[:100])
    far = inputs[:1].copy()
    far[:, :5] += 50.0  # choices that nothing is known of; the trend in the others goes on
    view = Posterior(kernel, theta, inputs, targets, inputs[:60]).at(far)
    assert np.exp(theta[0]) < view.variance[0] < kernel.variance(theta, far)[0]


def test_equal_rows_are_repeated_measurements():
    inputs, targets = data(30)
    repeated = np.vstack([inputs, np.repeat(inputs[:1], 20, axis=0)])
    kernel = Kernel(LAYOUT)
    theta = kernel.mean
    values = np.concatenate([targets, np.full(20, 1.0)])
    once, often = Posterior(kernel, theta, inputs, targets, None), Posterior(kernel, theta, repeated, values, None)
    assert often.at(inputs[:1]).variance[0] < 0.2 * once.at(inputs[:1]).variance[0]
