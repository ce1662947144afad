"""The planner: a pace from measured rates, a plan from a pace, a promise that is kept. Rates are made up; no test asserts a time."""

from __future__ import annotations

import dataclasses
import heapq
import json
import random
import re
import shlex
import statistics

import pytest
from helpers_cli import output, refusal
from helpers_search import TINY, begin, finish, settings_of, space_of, write_space
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import NasError, UsageError
from nas.execution.clock import Clock
from nas.networks.build import cost_of
from nas.profiling import time_plan as planning
from nas.profiling.time_plan import pace, proposed, representatives, trial_seconds
from nas.runs.layout import ELAPSED
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.runs.trial_reader import read_elapsed
from nas.searching.search import search
from nas.stopping.policies import Policy
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe

RECIPE = Recipe.of(10, 32)
DATA = {"images": 1000, "validated": 250}


@pytest.fixture(scope="module")
def networks():
    return representatives(space_of(TINY), Proxy())


@given(st.floats(1e-6, 1e-3), st.floats(1e-13, 1e-9), st.integers(1, 8))
def test_a_linear_pace_is_found_again(base, slope, slots):
    rates = [(macs, slots / (base + slope * macs)) for macs in (10**4, 10**6, 10**8)]
    found = pace(rates, slots)
    assert found.error < 1e-6
    for macs in (10**5, 10**7):
        assert found.seconds_per_image(macs) == pytest.approx(base + slope * macs, rel=1e-4)


def test_one_network_gives_a_pace_and_none_does_not():
    assert pace([(1000, 50.0)], 1).seconds_per_image(2000) == pytest.approx(0.04)
    with pytest.raises(NasError, match="no network of the space"):
        pace([(1000, 0.0), (2000, 0.0)], 1)


@given(st.floats(120, 1e5), st.integers(1, 8))
def test_a_plan_fits_into_its_seconds(networks, seconds, slots):
    found = pace([(10**4, slots * 2000.0), (10**6, slots * 500.0)], slots)
    plan = proposed(found, networks, seconds, RECIPE, **DATA)
    assert plan.trials >= 1 and plan.low <= plan.wall <= plan.high
    assert plan.wall <= seconds < plan.wall + plan.trial_seconds + plan.trial_seconds / slots
    assert plan.epochs in planning.EPOCHS and all(1 <= rung < plan.epochs for rung in plan.rungs)
    costs = [cost_of(own).macs for own in networks]
    each = statistics.mean(trial_seconds(found, own, plan.epochs, 1000, 250) for own in costs)
    assert plan.trial_seconds == pytest.approx(each)


def test_more_time_gives_more_epochs_then_more_trials(networks):
    found = pace([(10**4, 2000.0)], 2)
    plans = [proposed(found, networks, seconds, RECIPE, **DATA) for seconds in (60, 600, 6000, 60000)]
    assert [own.epochs for own in plans] == sorted(own.epochs for own in plans)
    assert plans[-1].trials > plans[-2].trials
    given_ = proposed(found, networks, 600, RECIPE, epochs=7, trials=3, **DATA)
    assert (given_.epochs, given_.trials) == (7, 3)


def test_a_sampler_that_learns_trains_cheaper_networks(networks):
    """More of them fit; how many is said from where all cost what random ones do to where they are the cheapest."""
    found = pace([(10**4, 2000.0), (10**7, 200.0)], 2)
    random_, learning = (
        proposed(found, networks, 6000, RECIPE, epochs=10, sampler=own, **DATA) for own in ("random", "tpe")
    )
    assert random_.fewest < random_.trials < random_.most and learning.fewest == random_.fewest
    assert random_.trials < learning.trials < learning.most and random_.most < learning.most
    assert learning.trial_seconds < random_.trial_seconds
    assert (learning.low, learning.high) == (4800, 7200), "the clock's promise"
    fixed = proposed(found, networks, 6000, RECIPE, epochs=10, trials=20, sampler="tpe", **DATA)
    assert fixed.fewest == fixed.trials == fixed.most == 20
    assert fixed.low < fixed.wall < fixed.high < 4800


def test_early_stopping_counts_where_it_is_asked_for(networks):
    found = pace([(10**4, 2000.0)], 2)
    plain, pareto, asha = (
        proposed(found, networks, 6000, RECIPE, epochs=10, stopping=Policy.parse(name), **DATA)
        for name in ("none", "pareto", "asha")
    )
    assert plain.rungs == () and pareto.rungs == (1, 2, 3, 4, 5, 6, 8) and asha.rungs == (1, 3, 9)
    assert plain.trials < pareto.trials < asha.trials
    assert plain.wall == pytest.approx(pareto.wall, rel=0.02) and plain.trial_seconds > pareto.trial_seconds
    assert planning.saving(Policy.parse("asha"), 10) == (3, pytest.approx((1 + 2 / 3 + 6 / 9 + 1 / 27) / 10))
    few = proposed(found, networks, 6000, RECIPE, epochs=10, trials=6, stopping=Policy.parse("pareto"), **DATA)
    assert few.trial_seconds == pytest.approx(plain.trial_seconds), "nothing is stopped before six are complete"


def test_too_little_time_is_said(networks):
    with pytest.raises(UsageError, match="too short for even one trial"):
        proposed(pace([(10**4, 1.0)], 1), networks, 60, RECIPE, **DATA)


def test_the_price_is_that_of_all_devices(networks):
    plan = dataclasses.replace(proposed(pace([(10**4, 2000.0)], 2), networks, 3600, RECIPE, **DATA), devices=4)
    assert plan.price(2.0) == tuple(own / 3600 * 4 * 2.0 for own in (plan.wall, plan.low, plan.high))


@given(st.floats(0.5, 2.0), st.integers(1, 8), st.floats(0.05, 0.4), st.integers(0, 10**6))
def test_a_promise_is_kept_where_trials_take_other_than_planned(factor, slots, spread, seed):
    """Hours of sixty trials or more a slot, trials up to twice or half as long as planned: over within a tenth either way."""
    rng, now = random.Random(seed), [0.0]
    clock = Clock({"seconds": 1000.0, "trial_seconds": 15.0, "spent": 20.0}, lambda: now[0])
    end = simulated(clock, now, slots, lambda: 15.0 * factor * rng.uniform(1 - spread, 1 + spread)) + 20.0
    assert 900 <= end <= 1100


def simulated(clock, now, slots, seconds, epochs=10):
    """When the last of the trials ends that a clock lets begin, each of `seconds()` in equal epochs; it stops them behind these."""
    running = [(0.0, "", 0.0, 0)] * slots  # when its epoch ends, its key, seconds an epoch, epochs left
    key = 0
    while running:
        now[0], who, epoch, left = heapq.heappop(running)
        if left and not clock.over(epoch):
            heapq.heappush(running, (now[0] + epoch, who, epoch, left - 1))
            continue
        if who:
            clock.ended(who, epoch)
        if clock.room():
            key, took = key + 1, seconds()
            clock.begins(str(key))
            heapq.heappush(running, (now[0] + took / epochs, str(key), took / epochs, epochs - 1))
    return now[0]


@given(st.floats(0.1, 0.35), st.floats(0.7, 3.0), st.integers(1, 4), st.floats(0.0, 0.3), st.integers(0, 10**6))
def test_a_promise_is_kept_where_trials_are_a_third_of_it(share, factor, slots, spread, seed):
    """Within a fifth either way with up to three slow trials, as beside another's work: they are stopped behind an epoch."""
    rng, now = random.Random(seed), [0.0]
    clock = Clock({"seconds": 1000.0, "trial_seconds": 1000 * share, "spent": 0.0, "closing": 10.0}, lambda: now[0])
    end = (
        simulated(clock, now, slots, lambda: 1000 * share * factor * rng.uniform(1 - spread, 1 + spread), epochs=5) + 10
    )
    assert end <= 1200
    if factor * (1 + spread) <= 1.0:
        assert end >= 800


def test_the_clock_counts_what_a_trial_keeps_its_slot_for():
    now = [0.0]
    clock = Clock({"seconds": 100.0, "trial_seconds": 10.0, "spent": 5.0, "closing": 3.0}, lambda: now[0])
    clock.begins("1")
    now[0] = 20.0
    clock.ended("1", 12.0)
    assert clock.expected == pytest.approx((10 + 10 + 20) / 3)
    clock.ended("2", 40.0)  # of an earlier driver
    assert clock.expected == pytest.approx((10 + 10 + 20 + 40) / 4)
    now[0] = 100 - 5 - 3 - 9.0  # 9 s are left for 20, of which half and no more than 15 may lie behind the end
    assert not clock.room()
    now[0] -= 1.0
    assert clock.room()
    now[0] = 100 - 5 - 3 + 20 - 7.0
    assert clock.over(7.5) and not clock.over(6.5)


def test_hours_that_are_over_end_a_run(tmp_path, monkeypatch):
    promise = {"seconds": 100.0, "trial_seconds": 10.0, "spent": 5.0}
    settings = dataclasses.replace(settings_of(trials=16), plan=promise)
    now = [0.0]
    monkeypatch.setattr("nas.searching.session_clock.time.monotonic", lambda: now[0])
    with begin(tmp_path, settings) as study:
        assert len(finish(study, most=5)) == 5
        job = study.ask()
        now[0] = 96.0
        assert study.ask() is None and not study.finished  # one is still at it
        study.put_back(job.key)
        assert study.ask() == job
    assert Settings.load(tmp_path).trials == 6
    with begin(tmp_path, Settings.load(tmp_path)) as study:  # the next driver ends what was begun
        assert len(finish(study)) == 1
        assert study.finished
    assert load_run(tmp_path).status == "done"


def test_the_hours_of_a_driver_that_was_killed_are_spent(tmp_path, monkeypatch):
    promise = {"seconds": 100.0, "trial_seconds": 10.0, "spent": 5.0}
    now = [1000.0]
    monkeypatch.setattr("nas.searching.session_clock.time.monotonic", lambda: now[0])
    for k, (ended, left) in enumerate([(1040.0, True), (1090.0, False)]):  # neither gives an account
        with begin(tmp_path, dataclasses.replace(settings_of(trials=16), plan=promise)) as study:
            assert study.clock.room()
            assert len(finish(study, most=1)) == 1
            study.ask()  # in flight when the driver dies
            now[0] = ended
            study.clock.over(1.0)  # an epoch ends
            now[0] += 3.0  # and a few seconds that nobody hears of
            assert study.clock.room() == left, k
        now[0] = 1040.0  # a driver's clock begins anywhere
    assert read_elapsed(tmp_path) == 90.0
    (tmp_path / ELAPSED).write_text('{"seconds": "many"')
    assert read_elapsed(tmp_path) == 0.0


def made_up(network, processes, batch_size, **options):
    return processes / (1e-4 + 1e-10 * cost_of(network).macs)


def test_a_search_follows_its_hours(tmp_path, monkeypatch):
    """Trials are as many as there is time for, whatever was planned: here the clock says three times that there is."""
    monkeypatch.setattr(planning, "throughput", made_up)
    room = iter([True, True, True])
    monkeypatch.setattr(Clock, "room", lambda clock: next(room, False))
    options = {"space": str(write_space(tmp_path)), "executor": "local", "device": "cpu", "sampler": "random"}
    run = search(**options, hours=0.1, epochs=1, free=("trials",), out=tmp_path / "run")
    plan = run.config["plan"]
    assert plan["seconds"] == pytest.approx(360) and plan["epochs"] == run.config["recipe"]["epochs"] == 1
    assert run.status == "done" and run.count("complete") == run.config["trials"] == 4  # the first is not asked about


def test_plan_prints_json_and_words(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "throughput", made_up)
    words = ("plan", "--space", write_space(tmp_path), "--hours", 0.1, "--executor", "local", "--device", "cpu")
    found = json.loads(output(*words, "--price-per-gpu-hour", 2, "--json"))
    assert found["low"] <= found["wall"] <= found["high"] and found["seconds"] == pytest.approx(360)
    assert found["price"]["wall"] == pytest.approx(found["wall"] / 1800)
    text = output(*words, "--trials", 5)
    assert "Plan: 5 trials of" in text and "in 9 of 10 cases" in text and "note" not in text


def test_no_more_processes_are_tried_than_there_are_cores(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(planning, "throughput", lambda *given, **options: tried.append(given[1]) or made_up(*given))
    monkeypatch.setattr("nas.searching.time_budget.available_cores", lambda: 3)
    words = ("plan", "--space", write_space(tmp_path), "--hours", 0.1, "--device", "cpu", "--json")
    assert json.loads(output(*words, "--workers", 500))["slots"] == 500 and set(tried) == {3}
    tried.clear()
    assert json.loads(output(*words, "--workers", 2))["slots"] == 2 and set(tried) == {2}


def test_the_search_that_follows_a_plan_has_all_that_the_plan_was_asked_with(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "throughput", made_up)
    words = ["--hours", "0.1", "--max-params", "2000", "--executor", "local", "--set", "stage*.depth=1"]
    text = output("plan", *words, "--price-per-gpu-hour", 2, "--space", space := write_space(tmp_path))
    (said,) = re.findall("`(nas search.+)` follows it", text)
    found = shlex.split(said)
    assert found[:2] == ["nas", "search"]
    pairs = set(zip(found[2::2], found[3::2], strict=True))
    assert pairs == {*zip(words[::2], words[1::2], strict=True), ("--space", str(space)), ("--dataset", "digits")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--hours or --gpu-hours"),
        (("--hours", -1), "--hours -1: a number above 0"),
        (("--gpu-hours", -1), "--gpu-hours -1: a number above 0"),
        (("--hours", 1, "--price-per-gpu-hour", -3), "--price-per-gpu-hour -3: a number from 0"),
        (("--hours", 1, "--price-per-gpu-hour", "nan"), "--price-per-gpu-hour nan: a number from 0"),
        (("--hours", 1, "--gpu-hours", 1), "one of them"),
        (("--gpu-hours", 1, "--device", "cpu"), "no GPU"),
    ],
)
def test_plan_says_what_is_wrong(words, said):
    assert said in refusal("plan", *words)
