"""What tests of exports share: designs of every kind, weights in which each tensor counts, and processes without this package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.interop.export import Subject
from nas.interop.importers.function import traced, unequal_calls
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.blocks.activations import NORM_MOMENTUM
from nas.networks.build import build
from nas.spaces.space import load_space

SPACES = sorted(path.stem for path in (Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))

# Small designs of every branch, and of every merge, shortcut, stem and head that the zoo has not in small.
SMALL = {
    "basic": "branch: {kind: basic, se_ratio: 0.25}, shortcut: avg_pool",
    "plain": "branch: basic, merge: none",
    "pre-activated": "branch: {kind: bottleneck, group_width: 4, order: pre}, shortcut: projection_all",
    "bottleneck": "branch: {kind: bottleneck, group_width: 4, stride_on: 1x1}, shortcut: zero_pad",
    "grouped": "branch: {kind: bottleneck, cardinality: 4, group_width: 3, act: gelu}, shortcut: blur_pool",
    "regnet": "branch: {kind: regnet, cardinality: 2, group_width: 4, se_ratio: 0.25}",
    "res2net": "branch: {kind: res2net, group_width: 3, scale: 3}, merge: {kind: add, drop: 0.2}",
    "mbconv": "branch: mbconv, shortcut: matching, merge: {kind: add, drop: 0.1}",
    "fused": "branch: {kind: fused_mbconv, expansion: 1}, shortcut: matching",
    "mixture": "branch: {kind: mbconv, experts: 3, act: relu6}, shortcut: matching",
    "condconv": "branch: {kind: condconv, experts: 2, se_ratio: 0.25}, shortcut: avg_pool",
    "convnext": "branch: convnext, shortcut: projection, merge: layer_scale",
    "skip_init": "branch: basic, merge: {kind: skip_init, start: 0.3}",
    "scaled matching": "branch: {kind: basic, act: elu}, shortcut: matching, merge: {kind: layer_scale, start: 0.5}",
    "highway": "branch: basic, merge: highway",
    "skip": "branch: basic, merge: skip",
    "skip by convolution": "branch: {kind: basic, order: pre}, merge: {kind: skip, gate: conv}",
}
STEMS = ("cifar", "imagenet", "deep", "strided", "patch")
HEADS = ("linear", "expanded", "normed")


def small_designs() -> dict[str, Architecture]:
    """Three stages of each design: one that keeps the width, one of depth 3 that reshapes, one that reshapes once."""
    found = {}
    for k, (name, block) in enumerate(SMALL.items()):
        stem, head = STEMS[k % len(STEMS)], HEADS[k % len(HEADS)]
        found[name] = Architecture.from_yaml(
            f"name: {name}\n"
            f"resolution: 48\nnorm_eps: {1e-5 if k % 4 else 1e-3}\n"
            f"stem: {{kind: {stem}, width: 8}}\n"
            f"stages: [{{depth: 2, width: 8, {block}}}, {{depth: 3, width: 16, stride: 2, {block}}}, "
            f"{{depth: 1, width: 24, {block}}}]\n"
            f"head: {{kind: {head}, classes: 7}}\n"
        )
    return found


def zoo_designs() -> dict[str, Architecture]:
    return {name: zoo.get(name) for name in zoo.names()}


def space_designs(samples: int) -> dict[str, Architecture]:
    """A few samples of every shipped space."""
    spaces = {name: load_space(name) for name in SPACES}
    return {
        f"{name} {seed}": space.architecture(space.sample(seed))
        for name, space in spaces.items()
        for seed in range(samples)
    }


def lively(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state_dict in which no tensor is at a neutral start: each must stand in its place."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in network.state_dict().items():
        drawn = torch.rand(tensor.shape, generator=generator)
        if not tensor.is_floating_point():
            found[name] = tensor
        elif tensor.ndim < 2 and name.endswith(("weight", "running_var")):
            found[name] = 0.5 + drawn
        elif tensor.ndim < 2 or name.endswith("scale"):
            found[name] = 0.2 * drawn - 0.1
        else:
            fan_in = tensor[0].numel() if tensor.ndim == 4 or "conv" not in name else 500  # experts lie there flat
            found[name] = (2 * drawn - 1) * (6 / fan_in) ** 0.5
    return found


def settled(architecture: Architecture, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with means and variances about those of what passes, as after training: or else the roundings of a deep network
    grow until its logits say nothing in single precision."""
    network = build(architecture, seed=0).eval()
    network.load_state_dict(weights)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    wide = replace(
        architecture, resolution=max(64, architecture.resolution)
    )  # that the last stage has more than a pixel
    with torch.inference_mode():
        network(torch.cat([images_for(wide, 3, 64, seed) for seed in range(2, 7)]))
    generator = torch.Generator().manual_seed(2)
    for norm in norms:
        norm.running_var.clamp_(min=0.1).mul_(0.8 + 0.4 * torch.rand(norm.running_var.shape, generator=generator))
    return {
        name: tensor if name.endswith("tracked") else network.state_dict()[name] for name, tensor in weights.items()
    }


def subject_of(architecture: Architecture, **provenance: object) -> Subject:
    """A design with weights."""
    return Subject(architecture, provenance, settled(architecture, lively(build(architecture, seed=0))))


def images_for(architecture: Architecture, count: int = 2, pixels: int = 48, seed: int = 1) -> Tensor:
    size = min(architecture.resolution, pixels)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, architecture.channels, size, size, generator=generator)
    colours = torch.randn(count, architecture.channels, 1, 1, generator=generator)
    scales = (1 + torch.arange(count) / 2).view(-1, 1, 1, 1)
    return (images + 3 * colours) * scales  # far from each other also where scales are normalised away


def logits_of(subject: Subject, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return subject.network()(images)


def far(got: Tensor, expected: Tensor) -> float:
    """The greatest difference, in units of the greatest logit. What the images make of the logits must agree to a hundredth."""
    assert got.shape == expected.shape
    greatest, apart = expected.abs().max(), (got - expected).abs().max()
    of_images = (expected - expected.mean(0)).abs().max()
    assert of_images > 20e-5 * greatest and apart < 0.01 * of_images
    return float(apart / greatest)


def assert_same_layers(theirs: nn.Module, architecture: Architecture, said: str = "") -> None:
    """That the layers are called with what ours are, and train alike: what no logits show (eps, momentum, dropout, drops).

    said: the text of a file that has no word for some of what training draws; what differs must be named there as left out.
    """
    side = images_for(architecture, 1, 64).shape[-1]
    found = traced(theirs, side, architecture.channels)
    for difference in unequal_calls(replace(architecture, resolution=side), found):
        drawn = next((name for name in ("stochastic depth", "dropout") if difference.startswith(name)), "")
        assert drawn and any(drawn in line and "left out" in line for line in said.splitlines()), difference
    assert found.momenta <= {NORM_MOMENTUM}


def few_classes(architecture: Architecture) -> Architecture:
    return replace(architecture, head=replace(architecture.head, classes=10))


def without_package(script: str, folder: Path, **tensors: Tensor) -> None:
    """Run a script in a fresh process, in this folder, where `import nas` fails; `tensors` lie in tensors.safetensors."""
    if tensors:
        save_file(tensors, folder / "tensors.safetensors")
    code = "import sys\nsys.modules['nas'] = None\nimport torch\ntorch.set_num_threads(1)\n" + script
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
