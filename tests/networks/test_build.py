"""Whole networks: cost against PyTorch's count, weights and logits against torchvision's, seeds, initial weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import measured
from strategies import all_variants, architectures, label
from torch import nn

import nas
from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, SHORTCUTS, STEMS
from nas.networks.blocks.basic import Basic
from nas.networks.build import build, cost_of, costs_by_piece
from nas.networks.cost import Cost, Shape

pytestmark = pytest.mark.usefixtures("one_thread")

PROJECTION = SHORTCUTS["projection"]()


def small(branch, *, resolution: int = 16) -> Architecture:
    stages = (Stage(branch, 2, 12, 1, PROJECTION), Stage(branch, 1, 16, 2, PROJECTION))
    return Architecture(STEMS["cifar"](8), stages, HEADS["linear"](5), resolution)


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return list(states[0]) == list(states[1]) and all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# Cost.


@given(architectures(), st.none() | st.integers(1, 40))
def test_cost_is_what_pytorch_counts(architecture, resolution):
    side = resolution or architecture.resolution
    cost, out = measured(build(architecture), (architecture.channels, side, side), "cpu")
    assert cost_of(architecture, resolution) == cost
    assert out == (architecture.head.classes, 1, 1)


@given(architectures())
def test_costs_of_the_pieces_add_up_and_end_in_the_logits(architecture):
    rows = costs_by_piece(architecture)
    assert [row.name for row in rows] == ["stem", *(f"stage{k + 1}" for k in range(len(architecture.stages))), "head"]
    assert sum((row.cost for row in rows), Cost()) == cost_of(architecture)
    assert [row.output.channels for row in rows[1:-1]] == [stage.width for stage in architecture.stages]
    assert rows[-1].output == Shape(architecture.head.classes, 1, 1)


@given(architectures(), st.integers(1, 20))
def test_a_deeper_stage_costs_its_second_block_again(architecture, more):
    """Exactly linear in depth from the second block on: what lets a search count in closed form."""

    def cost(depth):
        stages = (dataclasses.replace(architecture.stages[0], depth=depth), *architecture.stages[1:])
        return cost_of(dataclasses.replace(architecture, stages=stages))

    one, two, many = cost(1), cost(2), cost(2 + more)
    for measure in ("params", "macs", "activations"):
        a, b, c = (getattr(item, measure) for item in (one, two, many))
        assert c - b == more * (b - a)


@pytest.mark.parametrize("resolution", [0, -1, True, 1.5, "224", 1 << 20])
def test_cost_refuses_a_resolution_that_is_none(resolution):
    with pytest.raises(UsageError, match="resolution must be a whole number from 1 to"):
        cost_of(small(Basic()), resolution)


def test_parts_that_cannot_stand_together_are_named_before_anything_is_built():
    stage = Stage(Basic(), 1, 16, 2, SHORTCUTS["identity"]())
    architecture = dataclasses.replace(small(Basic()), stages=(stage,))
    for use in (cost_of, build):
        with pytest.raises(UsageError, match="identity can't lead from 8 to 16 channels at stride 2"):
            use(architecture)


def test_public_names_are_these():
    assert (nas.build, nas.cost_of, nas.Architecture, nas.zoo) == (build, cost_of, Architecture, zoo)


# Canonical architectures build the same network.


@settings(max_examples=50)
@given(architectures(most_pixels=12), st.integers(0, 3))
def test_canonical_builds_the_same_network(architecture, seed):
    one, other = build(architecture, seed), build(architecture.canonical(), seed)
    assert same(one, other)
    x = torch.randn(2, architecture.channels, architecture.resolution, architecture.resolution)
    with torch.no_grad():
        assert torch.equal(one.eval()(x), other.eval()(x))


@settings(max_examples=25)
@given(architectures(most_pixels=12))
def test_what_is_read_back_builds_the_same_network(architecture):
    assert same(build(architecture, 0), build(Architecture.from_yaml(architecture.to_yaml()), 0))


# Seeds and initial weights.


@settings(max_examples=25)
@given(architectures(most_pixels=8), st.integers(0, 2**31))
def test_weights_depend_on_the_seed_alone(architecture, seed):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(architecture, seed)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same(one, build(architecture, seed))
    assert not same(one, build(architecture, seed + 1))
    torch.manual_seed(seed)
    assert same(one, build(architecture))


def test_building_leaves_the_accelerators_random_state_alone(monkeypatch):
    def refuse(*_):
        raise AssertionError("seeded")

    for backend in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            if hasattr(backend, name):
                monkeypatch.setattr(backend, name, refuse)
    build(small(Basic()), 0)


def test_initial_weights_are_kaiming_normal_by_fan_out():
    network = build(zoo.get("resnet18"), 0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert module.bias is None
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.1)
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            for tensor in (module.weight, module.bias):
                assert 0.98 * bound < tensor.abs().max() <= bound


@pytest.mark.parametrize("branch", all_variants(BRANCHES), ids=label)
def test_every_parameter_of_a_network_receives_a_gradient(branch):
    network = build(small(branch), 0).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    logits = network(torch.randn(8, 3, 16, 16, generator=generator))
    (logits * torch.randn(logits.shape, generator=generator)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


# torchvision's networks with torchvision's weights.


def copy_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Module by module in the order in which an image passes them, which is the order of both walks."""

    def own(network):
        return [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]

    for source, target in zip(own(theirs), own(ours), strict=True):
        assert isinstance(target, type(source))
        target.load_state_dict(source.state_dict())


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnext50_32x4d", pytest.param("wide_resnet50_2", marks=pytest.mark.slow)]
)
def test_logits_are_torchvisions(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # no norm at its neutral start, so that each must stand in its place
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                nn.init.uniform_(tensor, low, high)
    ours = build(zoo.get(name)).eval()
    copy_weights(theirs, ours)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
