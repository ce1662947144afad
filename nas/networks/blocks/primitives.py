"""The layers that parts consist of. Each states its cost on integers, its PyTorch module, its memory and its source code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.networks import cost as closed_form
from nas.networks.blocks.activations import KEEP_INPUT, LAYER_NORM_EPS, NORM_EPS, NORM_MOMENTUM, activation
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.source import Argument, Column, Expression, Term, Writer, activation_call, call
from nas.networks.cost import Cost, Kept, Shape, strided

if TYPE_CHECKING:
    from torch import nn


def squeezed(width: int, ratio: float) -> int:
    """Channels of a squeeze-excitation's bottleneck: ratio x width rounded to the nearest whole number, at least 1."""
    return max(1, round(width * ratio))


def scaled_group(scale: Callable[[int], int], cardinality: int, group_width: int) -> int:
    """Channels of a group, at least 1, so that cardinality x channels is nearest to scale(cardinality x group_width)."""
    inner = scale(cardinality * group_width)
    return max(1, (2 * inner + cardinality) // (2 * cardinality))


@dataclass(frozen=True, slots=True)
class Conv(Layer):
    """k x k convolution padded by (k - 1) / 2, then optional norm and activation (a name of `ACTIVATIONS`, or '')."""

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

    def kept(self, shape: Shape) -> Kept:
        return Kept(self.cost(shape)[0].activations * (self.norm + (self.act in KEEP_INPUT)))

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        norm, bias = write.same(uses.norm, "the norm"), write.same(uses.bias, "the bias")
        act = write.activation(uses.act)
        sizes, out = conv_sizes(uses, before, write)
        if norm and not bias:
            return call("conv_norm", *sizes, **({"act": activation_call(act)} if act else {})), out
        kernel = write.kernel(uses.kernel)
        padding = str(int(kernel) // 2) if kernel.isdigit() else f"{kernel} // 2"
        more = {"padding": padding} if padding != "0" else {}
        conv = call("nn.Conv2d", *sizes, **more, **({} if bias else {"bias": "False"}))
        chain: list[Argument] = [conv]
        if norm:
            chain.append(call("nn.BatchNorm2d", out.text, eps="NORM_EPS"))
        if act:
            chain.append(activation_call(act))
        return (conv if len(chain) == 1 else call("nn.Sequential", *chain)), out


def conv_sizes(uses: Column, before: Term, write: Writer) -> tuple[list[Argument], Term]:
    """The arguments of a convolution from its input width to its groups, and its output width."""
    out = write.width(uses.out, before)
    stride, groups = write.stride(uses.stride), write.groups(uses.groups, before)
    sizes: list[Argument] = [before.text, out.text, write.kernel(uses.kernel)]
    sizes += [("stride", stride)] if stride != "1" else []
    sizes += [("groups", groups)] if groups != "1" else []
    return sizes, out


@dataclass(frozen=True, slots=True)
class Patch(Layer):
    """s x s convolution with stride s and bias; zeros below and on the right complete the last patch, so that no pixel is dropped."""

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

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        out = write.width(uses.out, before)
        return call("PatchConv", before.text, out.text, write.stride(uses.stride)), out


@dataclass(frozen=True, slots=True)
class NormAct(Layer):
    """Batch normalization and an activation, as before the convolutions of a pre-activated branch."""

    act: str = "relu"

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return closed_form.norm(shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.BatchNorm2d(width_in, eps=NORM_EPS, momentum=NORM_MOMENTUM), activation(self.act))

    def kept(self, shape: Shape) -> Kept:
        return Kept(shape.elements * (self.act in KEEP_INPUT))

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        return call("norm_act", before.text, activation_call(write.activation(uses.act))), before


@dataclass(frozen=True, slots=True)
class LayerNorm(Layer):
    """Layer normalisation over the channels of each pixel (Ba et al. 2016), a scale and a shift per channel."""

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return closed_form.norm(shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.plain_modules import LayerNorm2d

        return LayerNorm2d(width_in, eps=LAYER_NORM_EPS)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        return call("LayerNorm2d", before.text, eps=repr(LAYER_NORM_EPS)), before


@dataclass(frozen=True, slots=True)
class SqueezeExcitation(Layer):
    """y = x * sigmoid(W2 act(W1 mean(x) + b1) + b2), the mean over the image, `squeeze` channels between W1 and W2.

    "Squeeze-and-Excitation Networks", Hu et al., CVPR 2018.
    """

    squeeze: int
    act: str = "relu"

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        into = closed_form.linear(shape.channels, self.squeeze)
        return into + closed_form.linear(self.squeeze, shape.channels), shape

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.plain_modules import SqueezeExcite

        return SqueezeExcite(width_in, self.squeeze, activation(self.act))

    def kept(self, shape: Shape) -> Kept:
        return Kept(3 * shape.channels)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        act = activation_call(write.activation(uses.act))
        return call("SqueezeExcite", before.text, write.squeeze(uses.squeeze, before), act), before


@dataclass(frozen=True, slots=True)
class MaxPool(Layer):
    """3x3 maximum, stride 2, as in the ImageNet stem."""

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(), Shape(shape.channels, strided(shape.height, 3, 2), strided(shape.width, 3, 2))

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def kept(self, shape: Shape) -> Kept:
        return Kept(0, 8 * self.cost(shape)[1].elements)  # int64 indices

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        return call("nn.MaxPool2d", "3", stride="2", padding="1"), before


@dataclass(frozen=True, slots=True)
class AvgPool(Layer):
    """s x s mean with stride s; a window over the edge averages its pixels (sizes ceil(n / s), as a convolution's)."""

    stride: int

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(), Shape(shape.channels, -(-shape.height // self.stride), -(-shape.width // self.stride))

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        return nn.AvgPool2d(self.stride, self.stride, ceil_mode=True, count_include_pad=False)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        stride = write.stride(uses.stride)
        return call("nn.AvgPool2d", stride, ceil_mode="True", count_include_pad="False"), before


@dataclass(frozen=True, slots=True)
class BlurPool(Layer):
    """3x3 binomial filter with stride s, borders repeated: subsampling without aliasing ("Making Convolutional Networks
    Shift-Invariant Again", Zhang, ICML 2019). Its weights are fixed: multiply-adds, but no parameters."""

    stride: int

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        channels = shape.channels
        result = Shape(channels, strided(shape.height, 3, self.stride), strided(shape.width, 3, self.stride))
        filtered = closed_form.conv(channels, channels, 3, channels, result.height, result.width)
        return Cost(0, filtered.macs, filtered.activations), result

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.plain_modules import Blur

        return Blur(width_in, self.stride)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        return call("Blur", before.text, write.stride(uses.stride)), before


@dataclass(frozen=True, slots=True)
class ZeroPad(Layer):
    """Every s-th pixel, channels padded with zeros to `out`; if there are more than `out`, the first ones are kept."""

    out: int
    stride: int

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(), Shape(self.out, -(-shape.height // self.stride), -(-shape.width // self.stride))

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.plain_modules import ZeroPad as ZeroPadModule

        return ZeroPadModule(self.out - width_in, self.stride)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        out = write.width(uses.out, before)
        extra = f"{out.text} - {before.text}" if out.text != before.text else "0"
        return call("ZeroPad", extra, write.stride(uses.stride)), out


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """Global average over the image, optional layer norm and dropout, then y = xW + b."""

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

    def kept(self, shape: Shape) -> Kept:
        return Kept(3 * shape.channels)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        chain: list[Argument] = [call("nn.AdaptiveAvgPool2d", "1"), call("nn.Flatten")]
        if write.same(uses.norm, "the norm"):
            chain.append(call("nn.LayerNorm", before.text, eps=repr(LAYER_NORM_EPS)))
        if dropout := write.same(uses.dropout, "dropout"):
            chain.append(call("nn.Dropout", repr(dropout)))
        out = write.parameter("out", uses.out)
        if write.classes is not None and set(uses.out) == {write.classes}:
            out = Term("classes", out.values)
        return call("nn.Sequential", *chain, call("nn.Linear", before.text, out.text)), out
