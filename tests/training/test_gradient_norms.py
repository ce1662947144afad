"""Gradient norms: those of autograd, at every layer, and without a trace in what is trained."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas.data.batches import Augment, Batches
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.blocks import BRANCHES, MERGES
from nas.networks.build import build
from nas.training.gradient_norms import GradientHooks, GradientWatch, layers
from nas.training.recipe import Recipe
from nas.training.trainer import Training

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, CLASSES = 8, 3


def network_of(branch: str = "basic", merge: str = "add", **options) -> Architecture:
    stage = {"depth": 2, "width": 8, "branch": {"kind": branch, **options}, "merge": merge, "shortcut": "projection"}
    return Architecture.from_dict(
        {
            "name": f"{branch} {merge}",
            "resolution": SIDE,
            "channels": 1,
            "stem": {"kind": "cifar", "width": 8},
            "stages": [stage, {**stage, "width": 16, "stride": 2}],
            "head": {"kind": "linear", "classes": CLASSES},
        }
    )


def images(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, SIDE, SIDE, generator=random), torch.arange(count) % CLASSES


def batches(seed: int = 0, count: int = 64) -> tuple[Batches, Batches]:
    random = np.random.default_rng(1)
    x = random.integers(0, 255, (count, SIDE, SIDE, 1)).astype(np.uint8)
    y = np.arange(count) % CLASSES
    common = {"mean": (0.5,), "std": (0.25,), "batch_size": 16, "device": "cpu", "seed": seed}
    return Batches(x, y, augment=Augment(1, flip=True), drop_last=True, **common), Batches(x, y, **common)


def training(architecture: Architecture, epochs: int = 2) -> Training:
    return Training(build(architecture, seed=0), *batches(), Recipe.of(epochs, 16))


def watched(architecture: Architecture, window: int, epochs: int = 2):
    """A training with a watch, and the moments of all its epochs."""
    job = training(architecture, epochs)
    watch = GradientWatch(job.network, len(job.train_batches), window)
    job.after_backward = watch.after_backward
    moments = []
    for number in range(1, epochs + 1):
        watch.begin(number)
        job.epoch()
        moments += watch.end()
    return job, moments


# -- the norms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["basic", "bottleneck"])
@pytest.mark.parametrize("order", ["post", "pre"])
def test_norms_are_those_of_autograd(branch, order):
    """Oracle: `torch.autograd.grad` of the loss by outputs that forward hooks have kept, in a network without these hooks."""
    x, y = images()
    architecture = network_of(branch, order=order)
    with GradientHooks(network := build(architecture, seed=0)) as hooks:
        F.cross_entropy(network(x), y).backward()
        outputs, weights = hooks.read()

    other, kept = build(architecture, seed=0), {}
    modules = dict(other.named_modules())
    for layer in hooks.layers:
        modules[layer.name].register_forward_hook(lambda _m, _i, output, name=layer.name: kept.update({name: output}))
    loss = F.cross_entropy(other(x), y)
    names = [layer.name for layer in hooks.layers]
    by_output = torch.autograd.grad(loss, [kept[name] for name in names], retain_graph=True)
    by_weight = torch.autograd.grad(loss, [modules[name].weight for name in names])
    assert len(names) > 8
    np.testing.assert_allclose(outputs, [gradient.norm() for gradient in by_output], rtol=1e-5)
    np.testing.assert_allclose(weights, [gradient.norm() for gradient in by_weight], rtol=1e-5)


def test_a_norm_by_hand():
    """L = c . (W x): dL/dy = c and dL/dW = c x^T, whose norm is |c| |x|."""
    linear = nn.Linear(2, 2, bias=False)
    with GradientHooks(linear) as hooks:
        (linear(torch.tensor([[3.0, 4.0]])) @ torch.tensor([5.0, 12.0])).sum().backward()
        outputs, weights = hooks.read()
    assert (outputs.tolist(), weights.tolist()) == ([13.0], [65.0])


def test_a_layer_that_is_overwritten_in_place_can_be_watched():
    """A convolution right before an in-place activation, whose input the hook would otherwise forbid to overwrite."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 2))
    x, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 0])
    hidden = network[0](x)
    expected = torch.autograd.grad(F.cross_entropy(network[3](hidden.relu().flatten(1)), y), hidden)[0].norm()
    with GradientHooks(network) as hooks:
        F.cross_entropy(network(x), y).backward()
        assert hooks.read()[0][0] == pytest.approx(float(expected), rel=1e-5)
    assert network[1].inplace


def test_nothing_is_left_behind_and_nobody_warned():
    network = build(network_of(), seed=0)
    inplace = [name for name, module in network.named_modules() if getattr(module, "inplace", False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with GradientHooks(network):
            F.cross_entropy(network(images()[0]), images()[1]).backward()
    assert inplace == [name for name, module in network.named_modules() if getattr(module, "inplace", False)] != []
    assert not any(module._forward_hooks or module._backward_pre_hooks for module in network.modules())


def test_a_layer_without_a_gradient_has_no_norm():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    network = Two()
    with GradientHooks(network) as hooks:
        network(torch.ones(1, 4)).sum().backward()
        for norms in hooks.read():
            assert norms.isnan().tolist() == [False, True]


# -- the layers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "depth"), [("resnet20", 20), ("plain56", 56), ("resnet50", 50), ("resnext50_32x4d", 50)]
)
def test_depth_is_that_in_the_networks_name(name, depth):
    found = layers(build(zoo.get(name)))
    path = [layer for layer in found if layer.on_path]
    assert [layer.depth for layer in path] == list(range(1, depth + 1))
    assert path[0].name.startswith("stem")
    assert path[-1].name.startswith("head")
    beside = [layer for layer in found if not layer.on_path]
    assert len(beside) == (4 if depth == 50 else 0)
    assert all(".shortcut" in layer.name and "1 × 1" in layer.about for layer in beside)


def test_excitations_gates_and_routers_stand_beside_the_path():
    """20 layers on the path, whatever stands around them; each with a finite gradient."""
    for options in ({"branch": "basic", "se_ratio": 0.25}, {"merge": "highway"}, {"branch": "condconv"}):
        network = build(network_of(**options), seed=0)
        with GradientHooks(network) as hooks:
            F.cross_entropy(network(images()[0]), images()[1]).backward()
            outputs, weights = hooks.read()
        assert sum(layer.on_path for layer in hooks.layers) == 1 + 4 * 2 + 1, options
        assert not all(layer.on_path for layer in hooks.layers)
        assert outputs.isfinite().all()
        assert weights.isfinite().all()


# -- while a network trains -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture",
    [network_of(branch) for branch in BRANCHES] + [network_of(merge=merge) for merge in MERGES if merge != "add"],
    ids=lambda architecture: architecture.name,
)
def test_watching_changes_no_bit(architecture):
    """Random parts (dropped paths) draw the same numbers in both."""
    torch.manual_seed(0)
    plain = training(architecture)
    for _ in range(2):
        plain.epoch()
    torch.manual_seed(0)
    seen, moments = watched(architecture, window=3)
    assert [moment.epoch for moment in moments] == [0, 1, 2]
    for (name, one), other in zip(plain.network.state_dict().items(), seen.network.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_moments_are_means_over_the_first_and_the_last_steps():
    architecture, steps = network_of(), 4
    every = _each_step(architecture)
    for window in (1, 3, 10):
        _, moments = watched(architecture, window)
        size = min(window, steps)
        wanted = {0: every[:size], 1: every[steps - size : steps], 2: every[2 * steps - size :]}
        assert [(moment.epoch, moment.steps) for moment in moments] == [(epoch, size) for epoch in wanted]
        for moment in moments:
            np.testing.assert_allclose(moment.outputs, np.mean([o for o, _ in wanted[moment.epoch]], 0), rtol=1e-5)
            np.testing.assert_allclose(moment.weights, np.mean([w for _, w in wanted[moment.epoch]], 0), rtol=1e-5)


def _each_step(architecture: Architecture) -> list[tuple[list[float], list[float]]]:
    """Norms of all 8 steps of two epochs, with hooks that stay on."""
    job = training(architecture)
    found = []
    with GradientHooks(job.network) as hooks:
        job.after_backward = lambda _step: found.append(tuple(norms.tolist() for norms in hooks.read()))
        job.epoch()
        job.epoch()
    return found


def test_norms_that_are_no_numbers_are_none():
    job = training(network_of())
    watch = GradientWatch(job.network, len(job.train_batches), 1)
    watch.begin(1)
    F.cross_entropy(job.network(images()[0]) * torch.inf, images()[1]).backward()
    watch.after_backward(0)
    (moment,) = watch.end()
    assert set(moment.outputs) == {None}
