"""The primitives that parts are made of: each states its cost on integers and its PyTorch module, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas import cost as closed_form
from nas.cost import Cost, Shape, strided
from nas.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1


@dataclass(frozen=True, slots=True)
class Conv:
    """k x k convolution without bias, padded by (k - 1) / 2, then norm and ReLU as asked."""

    out: int
    kernel: int
    stride: int = 1
    groups: int = 1
    norm: bool = True
    act: bool = True

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        channels, height, width = shape
        if channels % self.groups or self.out % self.groups:
            raise UsageError(f"a convolution from {channels} to {self.out} channels can't have {self.groups} groups")
        result = Shape(self.out, strided(height, self.kernel, self.stride), strided(width, self.kernel, self.stride))
        cost = closed_form.conv(channels, self.out, self.kernel, self.groups, result.height, result.width)
        return (cost + closed_form.norm(self.out) if self.norm else cost), result

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        conv = nn.Conv2d(width_in, self.out, self.kernel, self.stride, self.kernel // 2, groups=self.groups, bias=False)
        layers: list[nn.Module] = [conv]
        if self.norm:
            layers.append(nn.BatchNorm2d(self.out, eps=NORM_EPS, momentum=NORM_MOMENTUM))
        if self.act:
            layers.append(nn.ReLU(inplace=True))
        return nn.Sequential(*layers) if len(layers) > 1 else conv


@dataclass(frozen=True, slots=True)
class NormAct:
    """Batch normalisation and ReLU: what stands before the convolutions of a pre-activated branch."""

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return closed_form.norm(shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.BatchNorm2d(width_in, eps=NORM_EPS, momentum=NORM_MOMENTUM), nn.ReLU(inplace=True))


@dataclass(frozen=True, slots=True)
class MaxPool:
    """3x3 maximum, stride 2, as behind the ImageNet stem."""

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(), Shape(shape.channels, strided(shape.height, 3, 2), strided(shape.width, 3, 2))

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


@dataclass(frozen=True, slots=True)
class AvgPool:
    """s x s mean with stride s; a window over the edge averages what it has (sizes ceil(n / s), as a convolution's)."""

    stride: int

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(), Shape(shape.channels, -(-shape.height // self.stride), -(-shape.width // self.stride))

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.AvgPool2d(self.stride, self.stride, ceil_mode=True, count_include_pad=False)


@dataclass(frozen=True, slots=True)
class ZeroPad:
    """Every s-th pixel, channels padded with zeros to `out` (or, where `out` is fewer, the first ones kept)."""

    out: int
    stride: int

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(), Shape(self.out, -(-shape.height // self.stride), -(-shape.width // self.stride))

    def module(self, width_in: int) -> nn.Module:
        from nas.blocks.modules import ZeroPadShortcut

        return ZeroPadShortcut(self.out - width_in, self.stride)


@dataclass(frozen=True, slots=True)
class Linear:
    """Global average over the image, then y = xW + b."""

    out: int

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return closed_form.linear(shape.channels, self.out), Shape(self.out, 1, 1)

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, self.out))
