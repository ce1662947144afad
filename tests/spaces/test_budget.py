"""Budgets on exact costs: what lies within, samples that do, and how far a space reaches."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from helpers_search import CONDITIONAL, TINY, every_choice, space_of
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.networks.cost import Cost
from nas.spaces.budget import METRICS, Budget
from nas.spaces.sampling import survey
from nas.spaces.space import load_space, names

SHIPPED = [
    pytest.param(name, resolution, marks=() if (name, resolution) == ("resnext", 8) else pytest.mark.slow)
    for name in ("resnet", "resnext")  # a block of one kind in all stages, where descent finds the extremes exactly
    for resolution in (8, 32, 224)
]
every_shipped = pytest.mark.parametrize(("name", "resolution"), SHIPPED)

counts = st.integers(0, 10**12)
costs = st.builds(Cost, counts, counts, counts)


@st.composite
def budgets(draw):
    bounds = {}
    for metric in draw(st.lists(st.sampled_from(METRICS), unique=True)):
        low, high = sorted(draw(st.tuples(counts, counts)))
        bounds[metric] = (draw(st.sampled_from([None, low])), draw(st.sampled_from([None, high, float(high)])))
    return Budget(bounds)


@given(budgets(), costs)
def test_what_lies_within(budget, cost):
    within = all(
        (low is None or getattr(cost, metric) >= low) and (high is None or getattr(cost, metric) <= high)
        for metric, (low, high) in budget.bounds.items()
    )
    assert (budget.reason(cost) == "") == within
    assert math.isfinite(budget.violation(cost)) and budget.violation(cost) >= 0
    if any(getattr(cost, metric) == 0 for metric in METRICS):
        return  # no network costs nothing
    assert (budget.violation(cost) == 0) == within


def test_the_violation_is_the_log_of_the_ratio_to_the_bound_summed():
    budget = Budget({"params": (100, 1000), "macs": (None, 50)})
    assert budget.violation(Cost(2000, 50, 1)) == pytest.approx(math.log(2))
    assert budget.violation(Cost(50, 500, 1)) == pytest.approx(math.log(2) + math.log(10))
    assert budget.violation(Cost(100, 1, 1)) == budget.violation(Cost(1000, 50, 1)) == 0
    assert Budget({"params": (None, 0)}).violation(Cost(1, 1, 1)) > 0


def test_the_reason_names_cost_and_bound():
    budget = Budget({"params": (100, 1000), "macs": (None, 2.5e6)})
    assert budget.reason(Cost(1001, 1, 1)) == "1,001 params are above the budget of 1,000"
    assert budget.reason(Cost(99, 1, 1)) == "99 params are below the budget of 100"
    assert budget.reason(Cost(500, 2_500_001, 1)) == "2,500,001 macs are above the budget of 2,500,000"
    assert str(budget) == "100 <= params <= 1,000, macs <= 2,500,000"
    assert str(Budget()) == "none"


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ({"parms": (None, 1)}, "'parms'"),
        ({"flops": (None, 1)}, "'flops'"),
        ({"params": (None, -1)}, "-1 is not a count"),
        ({"params": (None, math.nan)}, "nan is not a count"),
        ({"params": (math.inf, None)}, "inf is not a count"),
        ({"params": (2, 1)}, "the lower bound 2 is above the upper bound 1"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(bounds, says):
    with pytest.raises(UsageError, match=says):
        Budget(bounds)


def test_merging_replaces_the_bounds_that_are_set():
    own = Budget({"params": (10, 100), "macs": (None, 5)})
    merged = own.merged(Budget({"params": (None, 50), "activations": (1, None)}))
    assert merged == Budget({"params": (10, 50), "macs": (None, 5), "activations": (1, None)})
    assert own.merged(Budget()) == own and Budget().merged(own) == own
    with pytest.raises(UsageError, match="above the upper bound"):
        own.merged(Budget({"params": (None, 9)}))


# -- samples -----------------------------------------------------------------------------------------------------------


@every_shipped
@pytest.mark.parametrize(
    "metric", ["params", *(pytest.param(metric, marks=pytest.mark.slow) for metric in METRICS[1:])]
)
def test_samples_lie_within_wide_and_narrow_budgets(name, resolution, metric):
    space = load_space(name, resolution=resolution)
    found = survey(space, samples=100)
    low, middle, high = (getattr(cost, metric) for cost in (found.smallest, found.median, found.largest))
    for bounds in (
        (None, middle),
        (middle, None),
        (0.98 * middle, 1.02 * middle),
        (None, 1.1 * low),
        (0.9 * high, None),
        (low, low),
    ):
        within = space.within(Budget({metric: bounds}))
        choices = within.sample(4)
        assert within.feasible(choices) and within.sample(4) == choices
        value = getattr(space.cost(choices), metric)
        assert (bounds[0] or 0) <= value <= (bounds[1] or math.inf)


@pytest.mark.parametrize("name", names())
def test_the_cheaper_half_of_every_space_can_be_sampled(name):
    space = load_space(name, resolution=8)
    middle = survey(space, samples=50).median.params
    within = space.within(Budget({"params": (None, middle)}))
    assert all(space.cost(within.sample(seed)).params <= middle for seed in range(5))


@every_shipped
def test_samples_lie_within_budgets_on_two_costs(name, resolution):
    """A band around a network that exists; fewer than one in thousands of uniform samples lies in it."""
    space, rng = load_space(name, resolution=resolution), random.Random(3)
    for seed in range(3):
        cost = space.cost(space.any(rng))
        within = space.within(Budget({m: (0.9 * getattr(cost, m), 1.1 * getattr(cost, m)) for m in ("params", "macs")}))
        assert within.feasible(within.sample(seed))


def test_samples_within_a_budget_differ_and_reach_all_that_fits():
    space = space_of(TINY)
    listed = sorted(space.cost(choices).params for choices in every_choice(space))
    budget = Budget({"params": (None, listed[7])})
    within = space.within(budget)
    reached = {str(within.sample(seed)) for seed in range(200)}
    assert reached == {str(choices) for choices in every_choice(space) if budget.reason(space.cost(choices)) == ""}


@every_shipped
def test_an_impossible_budget_says_how_far_the_space_reaches(name, resolution):
    space = load_space(name, resolution=resolution)
    found = survey(space, samples=200)
    for bounds in ((None, found.smallest.params - 1), (found.largest.params + 1, None)):
        with pytest.raises(UsageError) as error:
            space.within(Budget({"params": bounds})).sample(0)
        message = str(error.value)
        assert f"the space spans params {found.smallest.params:,} to {found.largest.params:,}" in message
        assert name in message and f"{resolution} px" in message and "\n" not in message


# -- the survey --------------------------------------------------------------------------------------------------------


@every_shipped
def test_nothing_lies_outside_of_the_extremes_of_a_survey(name, resolution):
    space, rng = load_space(name, resolution=resolution), random.Random(11)
    found = survey(space, samples=100)
    sampled = [space.cost(space.any(rng)) for _ in range(2000)]
    for metric in METRICS:
        values = [getattr(cost, metric) for cost in sampled]
        low, middle, high = (getattr(cost, metric) for cost in (found.smallest, found.median, found.largest))
        assert low <= min(values) <= max(values) <= high
        assert min(values) <= middle <= max(values)


@pytest.mark.parametrize("text", [TINY, CONDITIONAL])
def test_a_survey_of_a_small_space_is_exact(text):
    space = space_of(text)
    listed = [space.cost(choices) for choices in every_choice(space)]
    found = survey(space, samples=400, seed=1)
    for metric in METRICS:
        values = [getattr(cost, metric) for cost in listed]
        assert (getattr(found.smallest, metric), getattr(found.largest, metric)) == (min(values), max(values))


def test_the_share_that_fits():
    space = space_of(TINY)  # all of its knobs always exist, so that uniform choices are uniform over the list
    listed = [space.cost(choices) for choices in every_choice(space)]
    limit = sorted(cost.params for cost in listed)[3]
    exact = sum(cost.params <= limit for cost in listed) / len(listed)
    found = survey(space.within(Budget({"params": (None, limit)})), samples=1000)
    assert found.samples == 1000
    assert abs(found.feasible - exact) < 5 * math.sqrt(exact * (1 - exact) / 1000)
    assert survey(space, samples=50).feasible == 1.0
    assert found.median.params == pytest.approx(statistics.median(cost.params for cost in listed), rel=0.3)


def test_a_survey_is_repeatable():
    space = load_space("resnext", resolution=8)
    assert survey(space, samples=50, seed=3) == survey(space, samples=50, seed=3)
