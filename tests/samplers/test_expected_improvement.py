"""Expected hypervolume improvement with known costs, against Monte Carlo and against what the front's hypervolume gains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.pareto.volume import hypervolume
from nas.samplers.expected_improvement import Cells, cells, ehvi, ei, expected_improvement

LEVELS = st.integers(0, 12).map(lambda k: k / 4 - 1.0)  # few, so that ties are common


@st.composite
def scenes(draw, k: int):
    """A front's points (any points), a candidate's costs, and the reference, all on a coarse grid."""
    n = draw(st.integers(0, 7))
    qualities = np.array(draw(st.lists(LEVELS, min_size=n, max_size=n)), dtype=np.float64)
    costs = np.array(draw(st.lists(st.tuples(*[LEVELS] * k), min_size=n, max_size=n)), dtype=np.float64).reshape(n, k)
    candidate = np.array(draw(st.tuples(*[LEVELS] * k)), dtype=np.float64)
    return qualities, costs, candidate, np.full(k, 1.75), -0.75


def gain(qualities, costs, reference, floor, quality: float, cost) -> float:
    """Hypervolume that one more point adds."""
    directions = ["maximize"] + ["minimize"] * len(reference)
    points = np.column_stack([qualities, costs])
    corner = [floor, *reference]
    return hypervolume(np.vstack([points, [quality, *cost]]), corner, directions) - hypervolume(
        points, corner, directions
    )


@pytest.mark.parametrize("k", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_known_quality_improves_by_what_the_hypervolume_gains(k, data):
    qualities, costs, candidate, reference, floor = data.draw(scenes(k))
    parts = cells(qualities, costs, reference, floor)
    for quality in (-1.0, 0.3, 1.5, 2.6):
        expected = gain(qualities, costs, reference, floor, quality, candidate)
        found = ehvi(np.array([quality]), np.zeros(1), candidate[None, :], parts)[0]
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_improvement_without_volume_is_that_on_the_best_that_is_no_dearer(k, data):
    qualities, costs, candidate, reference, floor = data.draw(scenes(k))
    cheap = qualities[(costs <= candidate).all(axis=1)]
    best = max([floor, *cheap.tolist()])
    found = ei(np.array([0.4]), np.array([0.7]), candidate[None, :], cells(qualities, costs, reference, floor))[0]
    within = (candidate < reference).all()
    expected = expected_improvement(np.array([0.4]), np.array([0.7]), np.array([best]))[0, 0] if within else 0.0
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
@given(data=st.data(), mean=st.floats(-1.5, 2.5), deviation=st.floats(0.05, 1.5))
@settings(max_examples=15, deadline=None)
def test_the_expectation_is_that_of_monte_carlo(k, data, mean, deviation):
    qualities, costs, candidate, reference, floor = data.draw(scenes(k))
    found = ehvi(
        np.array([mean]), np.array([deviation]), candidate[None, :], cells(qualities, costs, reference, floor)
    )[0]
    # Antithetic, stratified normal draws: the improvement is piecewise linear in them.
    u = (np.arange(400) + 0.5) / 400
    draws = mean + deviation * np.sqrt(2) * _inverse_erf(2 * u - 1)
    gains = [gain(qualities, costs, reference, floor, y, candidate) for y in draws]
    assert found == pytest.approx(np.mean(gains), rel=0.02, abs=2e-3)


def _inverse_erf(x):
    from scipy.special import erfinv

    return erfinv(x)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_cells_are_disjoint_and_cover_everything_below_the_reference(k, data):
    qualities, costs, _, reference, floor = data.draw(scenes(k))
    parts = cells(qualities, costs, reference, floor)
    for point in np.random.default_rng(0).uniform(-2.0, 1.75, (40, k)):
        inside = ((parts.low <= point) & (point < parts.high)).all(axis=1)
        assert inside.sum() == 1
        reached = qualities[(costs <= point).all(axis=1)] if len(qualities) else qualities
        assert parts.levels[parts.level[inside][0]] == max([floor, *reached[reached > floor]])


def test_the_layer_cake_is_the_same_number():
    """sum_j V_j [EI(a_j) - EI(a_{j+1})], V_j by the hypervolume in cost space."""
    rng = np.random.default_rng(3)
    qualities, costs, reference, floor = rng.normal(size=12), rng.normal(size=(12, 2)), np.full(2, 2.0), -0.5
    mean, deviation, candidate = 0.7, 0.4, np.array([-0.3, 0.1])
    levels = np.unique([floor, *qualities[qualities > floor]])
    gains = expected_improvement(np.array([mean]), np.array([deviation]), levels)[0]
    total = 0.0
    for j, level in enumerate(levels):
        covered = np.maximum(costs[qualities > level], candidate)
        free = np.prod(reference - candidate) - hypervolume(covered, reference, ["minimize"] * 2)
        total += free * (gains[j] - (gains[j + 1] if j + 1 < len(levels) else 0.0))
    found = ehvi(np.array([mean]), np.array([deviation]), candidate[None], cells(qualities, costs, reference, floor))
    assert found[0] == pytest.approx(total)


def test_two_costs_need_few_rectangles():
    rng = np.random.default_rng(0)
    parts = cells(rng.normal(size=300), rng.normal(size=(300, 2)), np.full(2, 4.0), -4.0)
    assert isinstance(parts, Cells) and len(parts.level) <= 3 * 300 + 1


def test_nothing_is_gained_beyond_the_reference_or_below_the_floor():
    parts = cells(np.array([0.5]), np.array([[0.0]]), np.array([1.0]), 0.0)
    assert ehvi(np.array([9.0]), np.array([1.0]), np.array([[1.0]]), parts)[0] == 0.0
    assert ehvi(np.array([-9.0]), np.array([0.0]), np.array([[-3.0]]), parts)[0] == 0.0
    assert ehvi(np.array([0.75]), np.array([0.0]), np.array([[-1.0]]), parts)[0] == pytest.approx(0.75 + 0.25)
