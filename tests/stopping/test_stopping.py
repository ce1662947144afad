"""Early stopping: what is decided from curves alone. Properties of the cost-aware policy, and baselines by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.stopping.curves import Curve, Point
from nas.stopping.policies import POLICIES, Policy, Stopping, best_of_cheaper, ranking, rungs
from nas.stopping.predictor import Predictor

EPOCHS = 8


def curve_to(final: float, costs: tuple[float, ...], epochs: int, scatter: float = 0.0) -> Curve:
    """A curve that rises to `final` at EPOCHS, the first `epochs` of it; before its end it lies `scatter` off, in logits."""
    points = []
    for epoch in range(1, epochs + 1):
        left = 1 - epoch / EPOCHS
        logit = math.log(final / (1 - final)) - 2 * left + scatter * left
        accuracy = 1 / (1 + math.exp(-logit))
        points.append(Point(accuracy, 2.0 - accuracy, 2.1 - accuracy))
    return Curve(costs, tuple(points), "complete" if epochs == EPOCHS else "running")


def quality(costs: tuple[float, ...], luck: float) -> float:
    """Final accuracy: diminishing returns of cost, and luck in [-1, 1]."""
    return 0.9 - 0.5 / (1 + math.log10(costs[0])) + 0.08 * luck


def state_of(finals: list[tuple[float, tuple[float, ...]]], policy: str = "pareto", **options: object) -> Stopping:
    """A state with these complete curves."""
    options = {"epsilon": 0.05, "share": 0.0, "quota": 0, "least": 8, **options} if policy == "pareto" else options
    state = Stopping(dataclasses.replace(Policy.parse(policy), **options), EPOCHS)
    for number, (final, costs) in enumerate(finals):
        state.add(str(number), curve_to(final, costs, EPOCHS, scatter=0.2 * math.sin(7 * number)))
    return state


def verdict(state: Stopping, curve: Curve, key: str = "new") -> bool:
    state.add(key, curve)
    decision = state.decide(key)
    return decision is not None and decision.stop


CHEAP = [
    (0.6 + 0.03 * (7 * k % 10), (100 * 2.0**k,)) for k in range(10)
]  # complete, and far cheaper and better than what comes

costs = st.tuples(*(st.integers(100, 10**7).map(float) for _ in range(2)))
finals = st.tuples(st.floats(0.2, 0.98), costs)
curves = st.builds(curve_to, st.floats(0.11, 0.98), costs, st.integers(1, EPOCHS - 1), st.floats(-1, 1))


@given(st.lists(finals, max_size=7), curves)
def test_nothing_is_stopped_before_there_are_enough_complete_curves(known, curve):
    assert not verdict(state_of(known, least=8), curve)


@given(st.lists(finals, min_size=8, max_size=20), st.integers(1, EPOCHS - 1), st.floats(0.2, 0.9))
def test_what_is_cheaper_than_all_is_never_stopped(known, epoch, final):
    state = state_of(known)
    assert not verdict(state, curve_to(final, (99.0, 1e7), epoch))
    assert not verdict(state, curve_to(final, (1e7, 99.0), epoch), "other")


@settings(max_examples=50)
@given(st.lists(st.tuples(costs, st.floats(-1, 1)), min_size=12, max_size=30), costs, st.integers(1, EPOCHS - 1))
def test_what_dominates_everything_is_never_stopped(known, own, epoch):
    state = state_of([(quality(its, luck), its) for its, luck in known])
    assert not verdict(state, curve_to(0.985, own, epoch))


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_curve_below_what_is_cheaper_is_stopped(epoch):
    known = [(quality((10.0**k, 10.0**k), 1.0 if k < 5 else -1.0), (10.0**k, 10.0**k)) for k in np.linspace(2, 6, 20)]
    state = state_of(known)
    bad = curve_to(0.3, (2e6, 2e6), epoch)
    state.add("bad", bad)
    decision = state.decide("bad")
    assert decision is not None and decision.stop
    assert decision.bar == best_of_cheaper(state.complete(), (2e6, 2e6)) > 0.8
    assert decision.probability is not None and decision.probability <= state.policy.epsilon
    assert "0.8" in decision.reason and decision.curves == 20 and decision.epoch == epoch


@settings(max_examples=50)
@given(st.lists(finals, min_size=9, max_size=20), curves, st.floats(0.01, 0.4))
def test_decisions_are_the_same_for_the_same_curves(known, curve, epsilon):
    first, second = (state_of(known, epsilon=epsilon) for _ in range(2))
    for state in (first, second):
        state.add("new", curve)
    assert first.decide("new") == second.decide("new")


@settings(max_examples=50)
@given(st.lists(finals, min_size=9, max_size=20), curves, st.integers(1, 3))
def test_quotas_hold_in_every_bin(known, curve, quota):
    state = state_of(known, quota=quota, epsilon=0.5)
    if verdict(state, curve):
        for place in range(2):
            bin_ = math.floor(math.log(curve.costs[place]) / math.log(4))
            inside = [own for _, own in known if math.floor(math.log(own[place]) / math.log(4)) == bin_]
            assert len(inside) >= quota


def test_a_quota_is_filled_by_those_that_began_first():
    # One cost; all that is complete is far cheaper and better, so that nothing but its quota keeps a trial alive.
    state = state_of(CHEAP, quota=2)
    for number in range(4):
        state.add(f"r{number}", curve_to(0.2, (1e6,), 1))
    verdicts = [state.decide(f"r{number}") for number in range(4)]
    assert [own.stop for own in verdicts if own] == [False, False, True, True]
    assert [own.spared for own in verdicts if own] == [True, True, False, False]


def test_the_share_that_always_runs_is_of_its_size_and_known_before():
    policy = Policy("pareto", share=0.1)
    chosen = [policy.always(3, str(number)) for number in range(5000)]
    assert 0.08 < np.mean(chosen) < 0.12
    assert chosen == [policy.always(3, str(number)) for number in range(5000)]
    assert chosen != [policy.always(4, str(number)) for number in range(5000)]
    state = state_of(CHEAP, share=1.0)
    state.add("new", curve_to(0.2, (1e6,), 1))
    decision = state.decide("new")
    assert decision is not None and decision.spared and not decision.stop


def test_what_is_exempt_is_never_stopped_and_counts_as_a_curve():
    state = Stopping(
        Policy("pareto", epsilon=0.05, share=0.0, quota=0), EPOCHS, exempt=lambda key: key.startswith("baseline:")
    )
    for k in range(10):
        state.add(f"baseline:{k}", curve_to(*CHEAP[k], EPOCHS))
    for key, stopped in (("baseline:new", False), ("new", True)):
        assert verdict(state, curve_to(0.2, (1e6,), 1), key) is stopped


def test_only_what_is_as_cheap_in_every_cost_sets_the_bar():
    known = [curve_to(0.9, (10.0, 30.0), EPOCHS), curve_to(0.5, (10.0, 20.0), EPOCHS)]
    assert best_of_cheaper(known, (10.0, 30.0)) == pytest.approx(0.9)
    assert best_of_cheaper(known, (11.0, 29.0)) == pytest.approx(0.5)
    assert best_of_cheaper(known, (9.0, 30.0)) is None


def test_each_rung_is_decided_once_and_a_missed_one_later():
    state = state_of(CHEAP, share=1.0, eta=2.0)
    assert state.rungs == (1, 2, 4)
    decided = []
    for epoch in (1, 2, 3, 5, 6, 7):  # the end of epoch 4 was not reported
        state.add("new", curve_to(0.2, (1e6,), epoch))
        decision = state.decide("new")
        decided += [] if decision is None else [decision.epoch]
    assert decided == [1, 2, 5]


@given(st.integers(1, 300), st.floats(1.1, 10))
def test_rungs_rise_within_the_epochs(epochs, eta):
    found = rungs(epochs, eta)
    assert list(found) == sorted(set(found))
    assert all(1 <= rung < epochs for rung in found)
    assert (len(found) > 0) == (epochs > 1)
    assert rungs(10, 3) == (1, 3, 9) and rungs(200, 3) == (10, 30, 90) and rungs(10, 2) == (1, 2, 4, 8)


@pytest.mark.parametrize("epoch", [1, 3, 6])
def test_probabilities_are_calibrated_on_simulated_curves(epoch):
    """Of predictions that say p, a share of about p comes true; the better ones are further from 1/2."""
    rng = np.random.default_rng(epoch)

    def draw() -> Curve:
        size = 10 ** rng.uniform(3, 7)
        return curve_to(quality((size,), rng.uniform(-1, 1)), (size,), EPOCHS, rng.normal(0, 1.0))

    said, true = [], []
    for _ in range(60):
        predictor = Predictor([draw() for _ in range(20)], epoch)
        for _ in range(20):
            curve = draw()
            bar = rng.uniform(0.7, 0.9)
            own = dataclasses.replace(curve, points=curve.points[:epoch])
            said.append(predictor.probability(own, bar))
            true.append(curve.accuracy > bar)
    said_, true_ = np.array(said), np.array(true)
    assert abs(said_.mean() - true_.mean()) < 0.05
    for low, high in ((0.0, 0.1), (0.9, 1.0)):
        chosen = (said_ >= low) & (said_ <= high)
        if chosen.sum() >= 50:
            assert abs(true_[chosen].mean() - said_[chosen].mean()) < 0.08
    brier = ((said_ - true_) ** 2).mean()
    assert brier < 0.25 if epoch < 6 else brier < 0.2


def test_the_predictor_sees_ranks_and_curves_without_spread():
    rising = Predictor([curve_to(0.3 + 0.05 * k, (10.0**k,), EPOCHS) for k in range(1, 10)], 1)
    assert rising.correlation == pytest.approx(1.0)
    flat = [Curve((10.0,), (Point(0.1, 2.3, 2.3),) * EPOCHS, "complete")] * 9
    predictor = Predictor(flat, 1)
    assert predictor.correlation is None
    assert predictor.probability(flat[0], 0.5) < 0.01
    assert predictor.probability(dataclasses.replace(flat[0], points=(Point(0.1, math.inf, math.nan),)), 0.05) >= 0


# Baselines


def at_rung(accuracies: list[float], own_costs: list[tuple[float, ...]], policy: str) -> list[bool]:
    """Who is stopped at the first epoch, one after another."""
    state = Stopping(Policy.parse(policy), EPOCHS)
    found = []
    for number, (accuracy, its) in enumerate(zip(accuracies, own_costs, strict=True)):
        found.append(verdict(state, Curve(its, (Point(accuracy, 1.0, 1.0),)), str(number)))
    return found


def test_asha_lets_the_best_third_of_those_seen_go_on():
    # n = 1, 2, 3: one goes on; n = 4: two, and .7 is second; n = 5, 6: two; n = 7: three, and the equal .7 is second, too.
    seen = [0.5, 0.4, 0.9, 0.7, 0.6, 0.8, 0.8]
    assert at_rung(seen, [(1.0,)] * 7, "asha:eta=3") == [False, True, False, False, True, False, False]


def test_asha_ignores_costs_and_its_multi_objective_sibling_does_not():
    accuracies, sizes = [0.9, 0.5, 0.8, 0.4, 0.3, 0.85], [(1e6,), (1e3,), (1e6,), (1e5,), (1e6,), (1e5,)]
    assert at_rung(accuracies, sizes, "asha:eta=2") == [False, True, False, True, True, False]
    # The third is dominated; so is .4 at 1e5, by .5 at 1e3; of five, .8 is the third in order, not .3; the last is on the front.
    assert at_rung(accuracies, sizes, "mo-asha:eta=2") == [False, True, True, True, True, False]
    cheap_last = [0.9, 0.8, 0.7, 0.3], [(1e6,), (1e6,), (1e6,), (1e3,)]
    assert at_rung(*cheap_last, "asha:eta=2")[-1]
    assert not at_rung(*cheap_last, "mo-asha:eta=2")[-1]


def test_multi_objective_order_is_by_rank_then_by_an_epsilon_net():
    # First front: (-.9, 3), (-.5, 1), (-.8, 2.9), (-.7, 2). From the most accurate: the furthest is (-.5, 1), then (-.7, 2).
    losses = np.array([[-0.6, 3.0], [-0.8, 2.9], [-0.9, 3.0], [-0.5, 1.0], [-0.7, 2.0], [-0.55, 2.5]])
    assert ranking(losses).tolist() == [2, 3, 4, 1, 0, 5]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_nobody_stands_before_one_that_dominates_it(rows):
    losses = np.array(rows, dtype=np.float64)
    order = ranking(losses).tolist()
    assert sorted(order) == list(range(len(rows)))
    for place, row in enumerate(order):
        for other in order[place + 1 :]:
            dominated = (losses[other] <= losses[row]).all() and (losses[other] < losses[row]).any()
            assert not dominated


# Options


def test_policies_are_said_in_words():
    assert Policy.parse("none") == Policy()
    assert Policy.parse("asha").eta == 3
    assert Policy.parse("pareto:epsilon=0.1,least=20") == Policy("pareto", epsilon=0.1, least=20)
    for name in POLICIES:
        policy = Policy.parse(name)
        assert Policy.from_dict(policy.to_dict()) == policy
    assert Policy.from_dict({}) == Policy()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("paretto", "did you mean 'pareto'"),
        ("pareto:epsilom=1", "did you mean 'epsilon'"),
        ("pareto:epsilon=x", "must be a number"),
        ("pareto:epsilon=0.7", "epsilon must be from 0 to 0.5"),
        ("pareto:epsilon=nan", "epsilon must be from"),
        ("asha:eta=1", "eta must be from"),
        ("pareto:least=2", "least must be from 4"),
    ],
)
def test_what_is_no_policy_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        Policy.parse(text)
