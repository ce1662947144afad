"""A small network, batches of made-up images, a training of both, and what is compared of two of them."""

from __future__ import annotations

import io

import torch
from helpers_search import CLASSES, SIZE, images, space_of
from torch import nn

from nas.data.batches import Augment, Batches
from nas.networks.build import build
from nas.training.recipe import Recipe
from nas.training.trainer import Training

CHOICES = {"stage1.depth": 1, "stage1.width": 4, "stage2.depth": 2, "stage2.width": 8}
SPACE = """\
space: two stages
stages: 2
values:
  block: bottleneck
  cardinality: 2
  group_width: 4
  stem_width: 4
  stage*.depth: [1, 2]
  stage*.width: [4, 8]
  stage2.stride: 2
"""


def batches(
    count: int = 48, seed: int = 0, device: str = "cpu", size: int = 16, train: bool = True, x=None, y=None
) -> Batches:
    if x is None:
        x, y = images(count, seed)
    return Batches(
        x, y, mean=(0.4,), std=(0.25,), batch_size=size, device=device, seed=3, drop_last=train,
        augment=Augment(crop_padding=1, flip=False) if train else None,
    )  # fmt: skip


def network(seed: int = 0) -> nn.Module:
    return build(space_of(SPACE, resolution=SIZE, classes=CLASSES).architecture(CHOICES), seed=seed)


def training(recipe: Recipe, seed: int = 0, device: str = "cpu", **options) -> Training:
    return Training(network(seed), batches(device=device), batches(32, 1, device, 64, train=False), recipe, **options)


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def saved(state: dict) -> dict:
    """What a checkpoint file keeps of a state."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
