"""`nas.pareto` against brute force, inclusion-exclusion, Optuna's hypervolume and closed forms."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from nas.errors import UsageError
from nas.pareto.dominance import dominates, front, fronts
from nas.pareto.objectives import Objective, parse_objectives
from nas.pareto.volume import hypervolume, hypervolume_history

NAN, INF = math.nan, math.inf
MIN2 = ["minimize"] * 2
ACCURACY_COST = ["maximize", "minimize"]


# Few distinct values, so that ties and copies are the rule.
COARSE = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, 4.0])
WILD = st.one_of(COARSE, st.sampled_from([NAN, INF, -INF]))


@st.composite
def problems(draw, elements, most_rows=25, most_columns=4):
    """(values, directions)"""
    m = draw(st.integers(1, most_columns))
    rows = draw(st.lists(st.lists(elements, min_size=m, max_size=m), max_size=most_rows))
    directions = draw(st.lists(st.sampled_from(["maximize", "minimize"]), min_size=m, max_size=m))
    return np.array(rows, dtype=float).reshape(-1, m), directions


def signs(directions):
    return np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])


# Oracles, written from the definitions


def better(a, b, directions):
    pairs = [(x, y) if direction == "maximize" else (-x, -y) for x, y, direction in zip(a, b, directions, strict=True)]
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


def brute_front(values, directions, among):
    valid = [i for i in among if not any(math.isnan(x) for x in values[i])]
    return {i for i in valid if not any(better(values[j], values[i], directions) for j in valid)}


def brute_ranks(values, directions):
    ranks, left, rank = np.zeros(len(values), dtype=int), set(range(len(values))), 0
    while peeled := brute_front(values, directions, left):
        ranks[list(peeled)] = rank
        left -= peeled
        rank += 1
    ranks[list(left)] = rank
    return ranks


def inclusion_exclusion(losses, corner):
    """Volume of a union of boxes: the boxes, less the pairs' intersections, plus the triples', ..."""
    inside = [row for row in losses if all(x < r for x, r in zip(row, corner, strict=True))]
    return sum(
        (-1) ** (size + 1) * math.prod(r - max(xs) for r, xs in zip(corner, zip(*some, strict=True), strict=True))
        for size in range(1, len(inside) + 1)
        for some in itertools.combinations(inside, size)
    )


def optuna_hypervolume(losses, corner):
    corner = np.asarray(corner, dtype=float)
    return compute_hypervolume(losses[(losses < corner).all(axis=1)], corner)


# Objectives


def test_objectives_are_parsed():
    assert parse_objectives("accuracy,params,macs") == (
        Objective("accuracy", "maximize"),
        Objective("params", "minimize"),
        Objective("macs", "minimize"),
    )
    assert parse_objectives(" accuracy , flops") == parse_objectives("accuracy,macs")
    assert [objective.name for objective in parse_objectives("accuracy,activations,params")][1:] == [
        "activations",
        "params",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "accuracy,latency",
            r"unknown objective 'latency'; known: accuracy, params, macs, flops, activations, latency_ms",
        ),
        ("accuracy,,params", "unknown objective ''"),
        ("", "unknown objective ''"),
        ("Accuracy,params", "unknown objective 'Accuracy'"),
        ("accuracy,flops,macs", "macs is named twice .*same count"),
        ("accuracy,params,params", "params is named twice"),
        ("accuracy,params,accuracy", "accuracy is named twice"),
        ("params,accuracy", "accuracy must come first"),
        ("params", "accuracy must come first"),
        ("accuracy", "at least one cost"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse_objectives(text)


def test_objective_is_frozen_and_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Objective("params", "minimize").name = "macs"
    with pytest.raises(ValueError, match="objective 'params': unknown direction 'down'"):
        Objective("params", "down")


# Dominance and fronts


def test_dominates():
    assert dominates([0.9, 10], [0.9, 11], ACCURACY_COST)
    assert not dominates([0.9, 10], [0.9, 10], ACCURACY_COST)
    assert not dominates([0.9, 10], [0.8, 9], ACCURACY_COST)
    assert dominates([INF, -INF], [0.0, 0.0], ACCURACY_COST)
    assert not dominates([NAN, 1], [0.5, 2], ACCURACY_COST)
    assert not dominates([0.5, 1], [NAN, 2], ACCURACY_COST)


@given(problems(WILD, most_rows=2))
def test_dominates_agrees_with_its_definition(problem):
    values, directions = problem
    for a, b in itertools.product(values, repeat=2):
        assert dominates(a, b, directions) == better(a, b, directions)


@given(problems(WILD))
def test_front_is_what_nothing_dominates(problem):
    values, directions = problem
    indices = front(values, directions)
    assert indices.dtype == np.intp
    assert len(indices) == len(set(indices.tolist()))
    assert set(indices.tolist()) == brute_front(values, directions, range(len(values)))


@given(problems(WILD))
def test_front_is_ordered_by_the_first_minimised_objective_then_by_index(problem):
    values, directions = problem
    indices = front(values, directions).tolist()
    key = directions.index("minimize") if "minimize" in directions else None
    assert indices == sorted(indices, key=lambda i: (0.0 if key is None else values[i, key], i))


@given(problems(WILD))
def test_fronts_peel_one_front_after_another(problem):
    values, directions = problem
    np.testing.assert_array_equal(fronts(values, directions), brute_ranks(values, directions))


@given(problems(WILD), st.randoms(use_true_random=False))
def test_ranks_move_with_their_rows(problem, random):
    values, directions = problem
    order = random.sample(range(len(values)), len(values))
    np.testing.assert_array_equal(fronts(values[order], directions), fronts(values, directions)[order])


def test_all_copies_are_on_the_front():
    values = [[2, 2], [1, 3], [2, 2], [3, 3], [NAN, 0]]
    assert front(values, MIN2).tolist() == [1, 0, 2]
    assert fronts(values, MIN2).tolist() == [0, 0, 0, 1, 2]
    many = np.tile([[2, 2], [1, 3]], (50, 1))
    assert front(many, MIN2).tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


def test_rows_that_were_not_measured_share_the_last_rank():
    assert fronts([[NAN, 1], [1, NAN]], MIN2).tolist() == [0, 0]
    assert front([[NAN, 1], [1, NAN]], MIN2).tolist() == []


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_a_chain_has_one_row_a_front_and_an_antichain_one_front(m):
    rng = np.random.default_rng(m)
    order = rng.permutation(300)
    chain = np.repeat(order[:, np.newaxis], m, axis=1)
    np.testing.assert_array_equal(fronts(chain, ["minimize"] * m), order)
    assert front(chain, ["minimize"] * m).tolist() == [int(np.argmin(order))]
    if m > 1:  # equal sums: what is better in one objective is worse in another
        antichain = rng.integers(0, 1000, (300, m))
        antichain[:, -1] = -antichain[:, :-1].sum(axis=1)
        assert sorted(front(antichain, ["minimize"] * m)) == list(range(300))
        assert not fronts(antichain, ["minimize"] * m).any()


# Hypervolume


def test_hypervolume_of_one_box_has_the_orientation_of_the_values():
    assert hypervolume([[0.75, 2.0]], [0.25, 10.0], ACCURACY_COST) == 0.5 * 8
    assert hypervolume([[0.25, 2.0], [0.1, 1.0], [0.9, 10.0]], [0.25, 10.0], ACCURACY_COST) == 0.0


@given(problems(COARSE, most_rows=8), st.data())
def test_hypervolume_is_the_inclusion_exclusion_sum(problem, data):
    values, directions = problem
    reference = np.array([data.draw(st.sampled_from([0.0, 3.0, 5.0, 1.0])) for _ in directions])
    expected = inclusion_exclusion((values * signs(directions)).tolist(), (reference * signs(directions)).tolist())
    assert hypervolume(values, reference, directions) == expected  # small integers: exact


@settings(max_examples=50)
@given(st.integers(1, 5), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_hypervolume_agrees_with_optuna(m, n, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, m))
    reference = rng.normal(1.0, 0.5, size=m)
    expected = optuna_hypervolume(values, reference)
    assert hypervolume(values, reference, ["minimize"] * m) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_of_a_large_front_agrees_with_optuna(m):
    points = np.abs(np.random.default_rng(m).normal(size=(60, m)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)  # on the sphere none dominates another
    reference = np.full(m, 1.1)
    assert hypervolume(points, reference, ["minimize"] * m) == pytest.approx(optuna_hypervolume(points, reference))


def test_hypervolume_of_a_staircase_of_n_steps():
    n = 1000
    steps = np.arange(n)
    values = np.stack([steps, n - 1 - steps], axis=1)
    assert hypervolume(values, [n, n], MIN2) == n * (n + 1) / 2


@given(problems(WILD))
def test_nothing_but_the_front_counts(problem):
    values, directions = problem
    reference = signs(directions) * 3.5
    whole = hypervolume(values, reference, directions)
    assert hypervolume(values[front(values, directions)], reference, directions) == whole


@given(problems(COARSE), st.data())
def test_a_row_that_is_dominated_or_not_measured_changes_nothing(problem, data):
    values, directions = problem
    reference = signs(directions) * 4.5
    whole = hypervolume(values, reference, directions)
    unmeasured = np.full((1, len(directions)), NAN)
    assert hypervolume(np.vstack([values, unmeasured]), reference, directions) == whole
    if len(values):
        row = values[data.draw(st.integers(0, len(values) - 1))]
        worse = row + signs(directions) * data.draw(st.lists(COARSE, min_size=row.size, max_size=row.size))
        assert hypervolume(np.vstack([values, worse]), reference, directions) == whole


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_hypervolume_depends_neither_on_order_nor_on_orientation(m, n, seed):
    rng = np.random.default_rng(seed)
    values, reference = rng.uniform(size=(n, m)), np.full(m, 0.9)
    directions = rng.choice(["maximize", "minimize"], m).tolist()
    whole = hypervolume(values, reference, directions)
    assert hypervolume(rng.permutation(values), reference, directions) == whole

    flip = rng.choice([-1.0, 1.0], m)
    other = {"maximize": "minimize", "minimize": "maximize"}
    flipped = [other[direction] if sign < 0 else direction for direction, sign in zip(directions, flip, strict=True)]
    assert hypervolume(values * flip, reference * flip, flipped) == whole
    np.testing.assert_array_equal(fronts(values * flip, flipped), fronts(values, directions))


@settings(max_examples=50)
@given(problems(WILD))
def test_history_is_the_hypervolume_of_each_prefix_and_never_falls(problem):
    values, directions = problem
    reference = signs(directions) * 4.5
    history = hypervolume_history(values, reference, directions)
    assert history.shape == (len(values),)
    expected = [hypervolume(values[: k + 1], reference, directions) for k in range(len(values))]
    np.testing.assert_allclose(history, expected, rtol=1e-12)
    assert (history[1:] >= history[:-1]).all()


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_history_of_many_rows_ends_at_the_hypervolume(m):
    values = np.random.default_rng(m).uniform(size=(200, m))
    directions = ["maximize"] + ["minimize"] * (m - 1)
    reference = [0.0] + [1.0] * (m - 1)
    history = hypervolume_history(values, reference, directions)
    assert history[-1] == pytest.approx(hypervolume(values, reference, directions), rel=1e-12)
    assert history[0] == pytest.approx(values[0, 0] * np.prod(1 - values[0, 1:]))
    assert (np.diff(history) >= 0).all()


@pytest.mark.parametrize("m", [2, 3])
def test_history_never_falls_where_a_row_is_better_by_one_rounding_step(m):
    for seed in range(30):
        values = np.random.default_rng(seed).uniform(size=(40, m))
        values[:, -1] = 1 - 0.999999 * values[:, :-1].mean(axis=1)
        better_by_a_hair = values[0].copy()
        better_by_a_hair[0] = np.nextafter(better_by_a_hair[0], 0)
        history = hypervolume_history(np.vstack([values, better_by_a_hair]), np.ones(m), ["minimize"] * m)
        assert (np.diff(history) >= 0).all()


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_infinitely_better_rows_have_infinite_volume(m):
    directions, zero = ["minimize"] * m, [0.0] * m
    finite, endless, worse = [-1.0] * m, [-1.0] * (m - 1) + [-INF], [-1.0] * (m - 1) + [INF]
    assert hypervolume([finite, worse], zero, directions) == 1.0
    assert hypervolume([finite, endless, endless], zero, directions) == INF
    assert hypervolume([finite], [INF] * m, directions) == INF
    assert hypervolume([finite, endless], [-INF] * m, directions) == 0.0
    on_the_edge = [0.0] + [-INF] * (m - 1)  # infinitely long, but without width
    assert hypervolume([on_the_edge], zero, directions) == 0.0
    assert hypervolume_history([on_the_edge], zero, directions).tolist() == [0.0]
    rows = [worse, finite, endless, endless, finite, [-2.0] * m]
    assert hypervolume_history(rows, zero, directions).tolist() == [0.0, 1.0, INF, INF, INF, INF]
