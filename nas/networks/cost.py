"""Exact cost of a network: parameters, multiply-adds and activations, in closed form on integers.

Conventions, the same everywhere in this project:

- `params`: learnable numbers, `sum(p.numel() for p in module.parameters())`.
- `macs`: multiply-adds of convolutions, linear layers and matrix products, per image. Bias, normalization, pooling and
  element-wise operations are not counted. The ResNet paper calls this number "FLOPs"; PyTorch's `FlopCounterMode` counts
  multiplications and additions separately, and so gives twice as much.
- `activations`: elements in the outputs of all convolutions and linear layers, per image ("Designing Network Design
  Spaces", Radosavovic et al., CVPR 2020), which predicts run time on accelerators better than `macs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters, multiply-adds and activations of a network or of a part of one."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs, self.activations + other.activations)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.params * times, self.macs * times, self.activations * times)

    __rmul__ = __mul__


class Shape(NamedTuple):
    """Shape of one image's features: channels, height, width."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        return self.channels * self.height * self.width


class Kept(NamedTuple):
    """Memory that a layer's backward pass needs for one image: elements of activations, and bytes of other tensors."""

    elements: int
    extra_bytes: int = 0


def strided(size: int, kernel: int, stride: int) -> int:
    """Output size of a convolution or pooling with padding p = (k - 1) // 2: floor((size + 2p - k) / s) + 1."""
    return (size + 2 * ((kernel - 1) // 2) - kernel) // stride + 1


def conv(
    width_in: int, width_out: int, kernel: int, groups: int, height: int, width: int, *, bias: bool = False
) -> Cost:
    """k x k convolution from `width_in` to `width_out` channels in `groups`, with a `height` x `width` output."""
    weights = kernel * kernel * (width_in // groups) * width_out
    return Cost(weights + (width_out if bias else 0), weights * height * width, width_out * height * width)


def norm(channels: int) -> Cost:
    """Batch normalization: a scale and a shift per channel."""
    return Cost(params=2 * channels)


def linear(width_in: int, width_out: int, *, bias: bool = True) -> Cost:
    """y = xW + b."""
    return Cost(width_in * width_out + (width_out if bias else 0), width_in * width_out, width_out)
