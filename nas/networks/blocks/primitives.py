"""The primitives that parts are made of: each states its cost on integers and its PyTorch module, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.networks import cost as closed_form
from nas.networks.blocks.activations import LAYER_NORM_EPS, NORM_EPS, NORM_MOMENTUM, activation
from nas.networks.cost import Cost, Shape, strided

if TYPE_CHECKING:
    from torch import nn


def squeezed(width: int, ratio: float) -> int:
    """Channels of a squeeze-excitation's bottleneck: the nearest whole number to ratio x width, at least one."""
    return max(1, round(width * ratio))


def scaled_group(scale: Callable[[int], int], cardinality: int, group_width: int) -> int:
    """Channels of a group for which `cardinality` of them come nearest to scale(cardinality x group_width), at least one."""
    inner = scale(cardinality * group_width)
    return max(1, (2 * inner + cardinality) // (2 * cardinality))


@dataclass(frozen=True, slots=True)
class Conv:
    """k x k convolution padded by (k - 1) / 2, then norm and activation (a name of `ACTIVATIONS`, or '') as asked."""

    out: int
    kernel: int
    stride: int = 1
    groups: int = 1
    norm: bool = True
    act: str = "relu"
    bias: bool = False

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        channels, height, width = shape
        if channels % self.groups or self.out % self.groups:
            raise UsageError(f"a convolution from {channels} to {self.out} channels can't have {self.groups} groups")
        result = Shape(self.out, strided(height, self.kernel, self.stride), strided(width, self.kernel, self.stride))
        cost = closed_form.conv(
            channels, self.out, self.kernel, self.groups, result.height, result.width, bias=self.bias
        )
        return (cost + closed_form.norm(self.out) if self.norm else cost), result

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        padding = self.kernel // 2
        conv: nn.Module
        if self.groups > 1 and not self.bias:
            from nas.networks.blocks.modules import GroupedConv2d

            conv = GroupedConv2d(width_in, self.out, self.kernel, self.stride, padding, self.groups)
        elif self.kernel == 1 and self.stride > 1 and self.groups == 1:
            from nas.networks.blocks.modules import PointwiseConv2d

            conv = PointwiseConv2d(width_in, self.out, self.stride, bias=self.bias)
        else:
            conv = nn.Conv2d(width_in, self.out, self.kernel, self.stride, padding, groups=self.groups, bias=self.bias)
        layers: list[nn.Module] = [conv]
        if self.norm:
            layers.append(nn.BatchNorm2d(self.out, eps=NORM_EPS, momentum=NORM_MOMENTUM))
        if self.act:
            layers.append(activation(self.act))
        return nn.Sequential(*layers) if len(layers) > 1 else conv


@dataclass(frozen=True, slots=True)
class Patch:
    """s x s convolution with stride s and bias; zeros below and on the right fill the last patch up, no pixel is dropped."""

    out: int
    stride: int

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        result = Shape(self.out, -(-shape.height // self.stride), -(-shape.width // self.stride))
        return (
            closed_form.conv(shape.channels, self.out, self.stride, 1, result.height, result.width, bias=True),
            result,
        )

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.modules import PatchConv

        return PatchConv(width_in, self.out, self.stride)


@dataclass(frozen=True, slots=True)
class NormAct:
    """Batch normalisation and an activation: what stands before the convolutions of a pre-activated branch."""

    act: str = "relu"

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return closed_form.norm(shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.BatchNorm2d(width_in, eps=NORM_EPS, momentum=NORM_MOMENTUM), activation(self.act))


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Layer normalisation over the channels of each pixel (Ba et al. 2016), a scale and a shift per channel."""

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return closed_form.norm(shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.modules import LayerNorm2d

        return LayerNorm2d(width_in, eps=LAYER_NORM_EPS)


@dataclass(frozen=True, slots=True)
class SqueezeExcitation:
    """y = x * sigmoid(W2 act(W1 mean(x) + b1) + b2), the mean over the image, `squeeze` channels between W1 and W2.

    "Squeeze-and-Excitation Networks", Hu et al., CVPR 2018.
    """

    squeeze: int
    act: str = "relu"

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        into = closed_form.linear(shape.channels, self.squeeze)
        return into + closed_form.linear(self.squeeze, shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.modules import SqueezeExcite

        return SqueezeExcite(width_in, self.squeeze, activation(self.act))


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
class BlurPool:
    """3x3 binomial filter with stride s, borders repeated: subsampling that does not alias ("Making Convolutional Networks
    Shift-Invariant Again", Zhang, ICML 2019). Its weights are fixed: multiply-adds, but no parameters."""

    stride: int

    def width(self, width_in: int) -> int:
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        channels = shape.channels
        result = Shape(channels, strided(shape.height, 3, self.stride), strided(shape.width, 3, self.stride))
        filtered = closed_form.conv(channels, channels, 3, channels, result.height, result.width)
        return Cost(0, filtered.macs, filtered.activations), result

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.modules import Blur

        return Blur(width_in, self.stride)


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
        from nas.networks.blocks.modules import ZeroPadShortcut

        return ZeroPadShortcut(self.out - width_in, self.stride)


@dataclass(frozen=True, slots=True)
class Linear:
    """Global average over the image, a layer norm and dropout if asked, then y = xW + b."""

    out: int
    norm: bool = False
    dropout: float = 0.0

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        cost = closed_form.linear(shape.channels, self.out)
        return (cost + closed_form.norm(shape.channels) if self.norm else cost), Shape(self.out, 1, 1)

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        if self.norm:
            layers.append(nn.LayerNorm(width_in, eps=LAYER_NORM_EPS))
        if self.dropout:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers, nn.Linear(width_in, self.out))
