"""Latency of parts, and the prediction of networks from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from helpers_latency import ms_of, truth
from hypothesis import given
from hypothesis import strategies as st

from nas.networks import zoo
from nas.networks.build import build, cost_of
from nas.profiling.latency.lookup import fitted, spearman
from nas.profiling.latency.parts import parts_of
from nas.spaces.space import load_space

# -- parts and the lookup ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "resnext50_32x4d", "wrn-28-10"])
def test_parts_are_the_whole_network(name):
    network = zoo.get(name)
    found = parts_of(network)
    assert len(found) == 2 + sum(stage.depth for stage in network.stages)
    cost = cost_of(network)
    assert [sum(part.features[k] for part in found) for k in (1, 2, 3)] == [cost.macs, cost.activations, cost.params]


def test_modules_of_parts_are_those_of_the_network():
    import torch

    from nas.profiling.latency.parts import modules_of

    network = zoo.get("resnet20").adapted(classes=10, resolution=16, channels=1)
    with torch.device("meta"):
        whole = sum(parameter.numel() for parameter in build(network).parameters())
        parts, x = 0, torch.zeros(2, 1, 16, 16)
        for _, make, shape in modules_of(network):
            assert x.shape == (2, *shape)
            module = make()
            parts += sum(parameter.numel() for parameter in module.parameters())
            x = module(x)
    assert parts == whole and x.shape == (2, 10)


@pytest.mark.parametrize("space", ["resnext", "mbconv", "mixed"])
def test_an_additive_world_is_predicted_whole(space):
    """Parts that were timed by their times, others by the model of their kind; networks from other draws than the parts."""
    found = load_space(space, resolution=32, channels=3, classes=10)
    draw = [found.architecture(found.sample(seed)) for seed in range(60)]
    parts = {part.name: (part, ms_of(part)) for own in draw[:20] for part in parts_of(own)}
    lookup = fitted(list(parts.values()), [(own, truth(own)) for own in draw[20:40]])
    predicted = np.array([lookup.predicted(own) for own in draw[40:]])
    times = np.array([truth(own) for own in draw[40:]])
    assert np.abs(predicted / times - 1).max() < 0.02
    assert lookup.error < 0.02 and lookup.rank > 0.99 and lookup.networks == 20
    assert 0 < np.mean([lookup.timed_share(own) for own in draw[40:]]) < 1


def test_the_error_is_that_of_networks_left_out():
    found = load_space("resnext", resolution=32, channels=3, classes=10)
    draw = [found.architecture(found.sample(seed)) for seed in range(20)]
    parts = {part.name: (part, ms_of(part)) for own in draw[:4] for part in parts_of(own)}
    noisy = [(own, truth(own) * (1.5 if k % 2 else 0.75)) for k, own in enumerate(draw)]
    lookup = fitted(list(parts.values()), noisy)
    assert 0.25 < lookup.error < 0.6  # a third above or below what lies between
    assert math.isnan(fitted(list(parts.values()), noisy[:3]).error)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_scipys(pairs):
    a, b = np.array(pairs, dtype=float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert math.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-9)
