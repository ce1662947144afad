"""How many trials share a GPU: the decision by itself, the memory it rests on, and the probe with real processes."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from helpers_search import training_data
from hypothesis import given
from hypothesis import strategies as st

from nas.networks.architecture import Architecture
from nas.profiling import gpu_packing as packing
from nas.profiling import throughput
from nas.profiling.gpu_packing import GAIN, SIZES, Packing, Question, decided, how_many_fit
from nas.spaces.budget import Budget
from nas.spaces.sampling import largest
from nas.spaces.space import load_space
from nas.training.memory import training_memory
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe

TINY = Architecture.from_yaml("""
name: tiny
resolution: 8
channels: 1
stem: {kind: cifar, width: 4}
stages:
- {depth: 1, width: 4, branch: {kind: basic}, shortcut: {kind: projection}}
head: {kind: linear, classes: 3}
""")
SPACE = load_space("resnet", resolution=32, channels=3, classes=10)


@pytest.mark.parametrize(
    ("rates", "fits", "size", "tried"),
    [
        ({1: 100, 2: 190, 4: 300, 8: 500}, 8, 8, [1, 2, 4, 8]),
        ({1: 100, 2: 190, 4: 300, 8: 500}, 7, 4, [1, 2, 4]),
        ({1: 100, 2: 190, 4: 200, 8: 500}, 8, 2, [1, 2, 4]),
        ({1: 100, 2: 109, 4: 900}, 8, 1, [1, 2]),
        ({1: 100, 2: 111}, 2, 2, [1, 2]),
        ({1: 100, 2: 0, 4: 900}, 8, 1, [1, 2]),  # a process failed
        ({1: 100, 2: 190}, 1, 1, [1]),
        ({1: 0, 2: 9}, 8, 1, [1]),  # nor does one alone,
    ],
)
def test_the_climb_ends_where_more_gain_too_little(rates, fits, size, tried):
    found, measured = decided(lambda processes: float(rates[processes]), fits)
    assert found == size and measured == {k: float(rates[k]) for k in tried}


@given(st.lists(st.floats(0, 1e6), min_size=len(SIZES), max_size=len(SIZES)), st.integers(1, 10))
def test_what_is_chosen_fits_and_each_step_to_it_gained(rates, fits):
    by_size = dict(zip(SIZES, rates, strict=True))
    size, measured = decided(by_size.__getitem__, fits)
    assert size in SIZES and size <= fits and set(measured) <= {k for k in SIZES if k <= max(fits, 1)}
    climbed = [k for k in SIZES if k <= size]
    assert all(by_size[b] >= GAIN * by_size[a] for a, b in itertools.pairwise(climbed))


@given(st.integers(1, 1 << 40), st.integers(0, 1 << 40), st.integers(1, 8))
def test_as_many_fit_as_memory_holds(each, device, most):
    fit = how_many_fit(each, device, most)
    assert 1 <= fit <= most
    assert fit == 1 or fit * each <= device
    assert fit == most or (fit + 1) * each > device


def test_the_largest_network_within_the_budget_is_found():
    rng = random.Random(0)
    start = SPACE.sample(3)
    found = SPACE.cost(largest(SPACE, start, "activations", rng)).activations
    assert found >= max(SPACE.cost(SPACE.sample(seed)).activations for seed in range(200))
    bound = SPACE.cost(start).activations * 1.2
    within = SPACE.within(Budget({"activations": (None, bound)}))
    assert SPACE.cost(start).activations <= within.cost(largest(within, start, "activations", rng)).activations <= bound


def test_memory_of_a_trial_is_the_largest_networks_and_counts_the_images():
    found = packing.candidates(SPACE, Proxy())
    recipe = Recipe.of(2, 64)
    each = packing.trial_bytes(found, recipe, "fp32", 1000, 0)
    assert each == 1000 + max(training_memory(architecture, 64).total for architecture in found)
    assert training_memory(found[-1], 64).total > training_memory(found[len(found) // 2], 64).total
    assert packing.trial_bytes(found, dataclasses.replace(recipe, ema=0.9), "fp32", 1000, 0) > each
    narrow = packing.candidates(SPACE, Proxy(width=0.5))
    assert packing.trial_bytes(narrow, recipe, "fp32", 1000, 0) < each


def test_a_question_says_the_median_network_and_both_precisions():
    found, data = packing.candidates(SPACE, Proxy()), training_data()
    asked = packing.question(found, Recipe.of(2, 16), data, "auto", "auto", 5)
    assert Architecture.from_dict(asked.architecture) == found[len(found) // 2]
    assert data.x.nbytes < asked.trial_bytes["bf16"] < asked.trial_bytes["fp32"]


def asked(**options) -> Question:
    plain = Question(TINY.to_dict(), {"fp32": 1 << 20, "bf16": 1 << 20}, 8, "cpu", "fp32")
    return dataclasses.replace(plain, **options)


def test_the_answer_is_what_was_measured(monkeypatch):
    rates = {1: 100.0, 2: 180.0, 4: 190.0}
    monkeypatch.setattr(packing, "throughput", lambda network, processes, batch, **_: rates[processes])
    answer = packing.measured(asked())
    assert answer.trials_per_gpu == 2 and answer.images_per_second == rates and answer.gpus_per_trial == 0.5
    assert answer.device == "cpu" and "180" in answer.reason and str(answer).startswith("2 trials on each GPU")
    assert Packing.from_dict(answer.to_dict()) == answer


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (asked(device="auto"), "sees none"),
        (asked(trial_bytes={"fp32": 1 << 60, "bf16": 1 << 60}), "holds no second"),
        (asked(most=1), "cores or workers"),
    ],
)
def test_where_nothing_is_to_be_measured_one_trial_has_the_gpu(monkeypatch, question, words):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(packing, "throughput", lambda *_, **__: pytest.fail("measured"))
    answer = packing.measured(question)
    assert answer.trials_per_gpu == 1 and words in answer.reason


def test_a_probe_that_fails_leaves_one_trial_on_the_gpu(monkeypatch):
    monkeypatch.setattr(packing, "throughput", lambda *_, **__: 0.0)
    answer = packing.measured(asked())
    assert answer.trials_per_gpu == 1 and answer.reason == "the probe failed"


@pytest.mark.slow
def test_processes_train_and_are_timed_for_real():
    assert throughput.throughput(TINY, 2, 4, seconds=0.2) > 0


@pytest.mark.slow
def test_a_process_that_fails_counts_as_no_images():
    assert throughput.throughput(TINY, 1, 4, device="no-such-device") == 0


@pytest.mark.slow
def test_more_processes_than_cores_are_decided_by_what_they_gain():
    answer = packing.measured(asked())
    assert answer.trials_per_gpu in SIZES and answer.images_per_second[1] > 0 and answer.fits == SIZES[-1]
