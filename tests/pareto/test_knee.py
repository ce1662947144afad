"""The knee of a front, and what all functions on points refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.pareto.dominance import dominates, front, fronts, knee
from nas.pareto.volume import hypervolume, hypervolume_history

NAN, INF = math.nan, math.inf


MIN2 = ["minimize"] * 2


ACCURACY_COST = ["maximize", "minimize"]


# Knee


def test_knee_is_where_accuracy_stops_paying_for_cost():
    """Scaled error + scaled log10(cost) is 1 at both ends, 0.5625 for the second row and 0.375 for the third."""
    values = [[0.92, 1e8], [0.90, 1e7], [0.88, 10**6.5], [0.60, 1e6], [0.50, 1e9]]
    assert knee(values, ACCURACY_COST) == 2


def test_knee_compares_positive_costs_by_ratio_and_others_by_difference():
    """The accuracy rises by a quarter each time the cost doubles: straight in log cost, bent in plain cost."""
    error, log_cost = np.linspace(1, 0, 5), np.arange(5.0)
    assert knee(np.stack([-error, 2**log_cost], axis=1), ACCURACY_COST) is None
    assert knee(np.stack([-error, 2**log_cost - 1], axis=1), ACCURACY_COST) in (2, 3)  # a cost of 0 has no logarithm


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(1e-3, 1e6))
def test_knee_of_two_objectives_is_furthest_from_the_chord_whatever_the_units(seed, gain, unit):
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(1, 6, 12))
    accuracy = np.sort(rng.uniform(0, 1, 12))
    x, y = cost - cost[0], accuracy - accuracy[0]
    above = y / y[-1] - x / x[-1]  # proportional to the signed distance from the chord
    expected = int(np.argmax(above)) if above.max() > 1e-6 else None
    assert knee(np.stack([accuracy * gain, 10**cost * unit], axis=1), ACCURACY_COST) == expected


def test_knee_of_three_objectives_is_the_bulge():
    ideal_side = [[0.4, 0.2, 0.2], [0.3, 0.5, 0.15]]
    values = [[1, 0, 0], [0, 1, 0], [0, 0, 1], *ideal_side, [0.34, 0.34, 0.34]]
    assert knee(values, ["minimize"] * 3) == 3


@pytest.mark.parametrize("seed", range(10))
def test_a_cost_that_says_the_same_as_another_or_nothing_does_not_move_the_knee(seed):
    rng = np.random.default_rng(seed)
    accuracy, log_cost = np.sort(rng.uniform(0, 1, 20)), np.sort(rng.uniform(5, 8, 20))
    cost = 10**log_cost
    expected = knee(np.stack([accuracy, cost], axis=1), ACCURACY_COST)
    assert expected is not None
    for other in (100 * cost, np.ones(20)):
        assert knee(np.stack([accuracy, cost, other], axis=1), [*ACCURACY_COST, "minimize"]) == expected


def test_a_tied_best_accuracy_does_not_hide_the_knee():
    values = [[0.9, 5, 10], [0.9, 10, 5], [0.1, 1, 1], [0.8, 2, 2]]
    assert knee(values, ["maximize", "minimize", "minimize"]) == 3


def test_knee_never_prefers_a_row_for_being_worse():
    """The plane through the first three falls in x: unclipped, the fourth would win by its bad x."""
    extremes = [[0, 0.1, 0.1], [1, 0, 0.9], [1, 0.9, 0]]
    assert knee([*extremes, [0.9, 0.04, 0.06], [0.05, 0.045, 0.045]], ["minimize"] * 3) == 4


def test_knee_needs_three_distinct_rows_and_a_bend_towards_the_ideal():
    assert knee([], MIN2) is None
    assert knee([[1, 2], [2, 1]], MIN2) is None
    assert knee([[1, 2], [2, 1], [2, 1], [1, 2]], MIN2) is None
    assert knee([[1, 2]] * 3, MIN2) is None
    assert knee([[0, 2], [1, 1], [2, 0]], MIN2) is None
    assert knee([[0, 2], [1.5, 1.5], [2, 0]], MIN2) is None
    assert knee([[3], [1], [2]], ["minimize"]) is None
    assert knee([[0, 2], [0.5, 0.5], [0.5, 0.5], [2, 0]], MIN2) == 1


def test_knee_leaves_out_infinite_and_unmeasured_rows():
    values = [[0, 2], [-INF, 3], [0.5, 0.5], [2, 0], [NAN, -9]]
    assert knee(values, MIN2) == 2
    assert knee(values[:3], MIN2) is None


# Shapes and names


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("empty", [[], "zeros"])
def test_no_rows(m, empty):
    values = np.zeros((0, m)) if empty == "zeros" else empty
    directions, reference = ["minimize"] * m, [1.0] * m
    assert front(values, directions).shape == fronts(values, directions).shape == (0,)
    assert hypervolume(values, reference, directions) == 0.0
    assert hypervolume_history(values, reference, directions).shape == (0,)
    assert knee(values, directions) is None


CALLS = {
    "front": front,
    "fronts": fronts,
    "knee": knee,
    "hypervolume": lambda values, directions: hypervolume(values, [1, 1], directions),
    "hypervolume_history": lambda values, directions: hypervolume_history(values, [1, 1], directions),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_shapes_and_names_are_refused(call):
    for values in ([1.0, 2.0], [[1.0]], [[1.0, 2.0, 3.0]], np.zeros((2, 2, 2)), np.zeros((0, 3)), 1.0):
        with pytest.raises(ValueError, match=r"values must have the shape \(n, 2\)"):
            call(values, MIN2)
    with pytest.raises(ValueError, match="unknown direction 'min'"):
        call([[1, 2]], ["min", "minimize"])
    for directions in ([], "minimize"):
        with pytest.raises(ValueError, match="directions must be a sequence"):
            call([[1, 2]], directions)


@pytest.mark.parametrize("call", [hypervolume, hypervolume_history])
def test_wrong_references_are_refused(call):
    for reference in ([1.0], [1.0, 2.0, 3.0], 1.0):
        with pytest.raises(ValueError, match=r"reference must have the shape \(2,\)"):
            call([[0, 0]], reference, MIN2)
    with pytest.raises(ValueError, match="reference must not have a NaN"):
        call([[0, 0]], [1.0, NAN], MIN2)


def test_dominates_names_the_point_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"b must have the shape \(2,\)"):
        dominates([1, 2], [1, 2, 3], MIN2)
