"""Augmentations of a batch in addition to crop and mirroring: cutout, and a light RandAugment.

Both work on a whole batch on its device, (b, h, w, c), in gray levels from 0 to 255. The caller draws the random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

MOST = 30  # largest magnitude of RandAugment
GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
LIGHT = ("brightness", "contrast", "saturation")
DEGREES, SHEAR, SHIFT, BLEND = 30.0, 0.3, 150 / 331, 0.9  # at MOST; the shift as a share of the side
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def cut_out(images: Tensor, centre: Tensor, side: int, fill: Tensor) -> Tensor:
    """The images with a square of `side` pixels around `centre` set to `fill` ("Cutout", DeVries & Taylor 2017).

    images: (b, h, w, c), any type. centre: (b, 2) integers, row and column; the square is clipped at the image's border.
    fill: (c,), of the images' type.
    """
    _, height, width, _ = images.shape
    inside = []
    for axis, length in ((0, height), (1, width)):
        offset = torch.arange(length, device=images.device) - (centre[:, axis, None] - side // 2)
        inside.append((offset >= 0) & (offset < side))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(hole[..., None], fill, images)


def rand_augment(images: Tensor, operations: Tensor, magnitude: int) -> Tensor:
    """Apply one operation of `GEOMETRY` and one of `LIGHT` to each image; float32 in 0 .. 255, not rounded.

    A light form of "RandAugment" (Cubuk et al., NeurIPS 2020 workshops) with two operations. Their strength is the share
    magnitude / 30 of the paper's ranges (30 degrees, shear 0.3, 45 % of the side, a blend of 0.9), in either direction. Sampling
    is bilinear; pixels outside the image are black.

    images: (b, h, w, c). operations: (b, 2) integers: 0 for none, k or -k for the k-th operation (from 1) of each of the two
    tuples, in one direction or the other. Saturation does not change images with one channel.
    """
    share = magnitude / MOST
    moved = _moved(images.permute(0, 3, 1, 2).to(torch.float32), operations[:, 0], share)
    return _lit(moved, operations[:, 1], share).permute(0, 2, 3, 1)


def _moved(x: Tensor, operation: Tensor, share: float) -> Tensor:
    """x (b, c, h, w), each image sampled through the inverse of its affine map."""
    height, width = x.shape[2:]
    kind, way = operation.abs(), operation.sign().to(torch.float32)

    def amount(name: str, most: float) -> Tensor:
        return torch.where(kind == 1 + GEOMETRY.index(name), way * share * most, 0.0)

    angle = amount("rotate", math.radians(DEGREES))
    matrix = torch.zeros(len(x), 2, 3, device=x.device)  # in affine_grid's units: -1 to 1 over each side
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
    matrix[:, 0, 1] = (amount("shear_x", SHEAR) - torch.sin(angle)) * height / width
    matrix[:, 1, 0] = (amount("shear_y", SHEAR) + torch.sin(angle)) * width / height
    matrix[:, 0, 2] = amount("translate_x", 2 * SHIFT)
    matrix[:, 1, 2] = amount("translate_y", 2 * SHIFT)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    moved = functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.where((kind == 0)[:, None, None, None], x, moved)


def _lit(x: Tensor, operation: Tensor, share: float) -> Tensor:
    """x (b, c, h, w) blended with black, its mean gray or its gray image: factor x + (1 - factor) other."""
    kind = operation.abs()[:, None, None, None]
    factor = 1 + BLEND * share * operation.sign().to(torch.float32)[:, None, None, None]
    grey = _weighted(x, _LUMA) if x.shape[1] == len(_LUMA) else x.mean(1, keepdim=True)
    other = torch.where(kind == 1 + LIGHT.index("saturation"), grey, 0.0)
    other = torch.where(kind == 1 + LIGHT.index("contrast"), grey.mean((2, 3), keepdim=True), other)
    lit = (factor * x + (1 - factor) * other).clamp(0, 255)
    unchanged = kind == 0
    if x.shape[1] == 1:
        unchanged = unchanged | (kind == 1 + LIGHT.index("saturation"))
    return torch.where(unchanged, x, lit)


def _weighted(x: Tensor, weights: Sequence[float]) -> Tensor:
    factors = torch.stack([x.new_full((1, 1), weight) for weight in weights])  # created on the device, without a copy
    return (x * factors).sum(1, keepdim=True)
