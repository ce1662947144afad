"""Res2Net's block: residual-like links between groups of channels inside one block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.networks.blocks._base import BRANCHES, Branch, Convolutional, option
from nas.networks.blocks.activations import KEEP_INPUT
from nas.networks.blocks.bottleneck import Bottleneck
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, scaled_group
from nas.networks.blocks.source import Column, Expression, Term, Writer, activation_class, call
from nas.networks.cost import Cost, Kept, Shape, strided

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Hierarchy(Layer):
    """y_i = K_i(x_i + y_{i-1}) over `scale` > 1 groups of `group` channels, K_i 3x3-BN-act; the last group has no K.

    Where a block changes the shape (`first`), the groups are not linked and the last one is averaged, 3x3 with `stride`.
    """

    scale: int
    group: int
    cardinality: int
    stride: int
    first: bool
    act: str

    @property
    def _conv(self) -> Conv:
        return Conv(self.group, 3, self.stride, groups=self.cardinality, act=self.act)

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        height, width = (strided(size, 3, self.stride) for size in (shape.height, shape.width))
        one, _ = self._conv.cost(Shape(self.group, shape.height, shape.width))
        return one * (self.scale - 1), Shape(shape.channels, height, width)

    def module(self, width_in: int) -> nn.Module:
        from torch import nn

        from nas.networks.blocks.modules import Cascade

        convs = [self._conv.module(self.group) for _ in range(self.scale - 1)]
        pool = nn.AvgPool2d(3, self.stride, padding=1) if self.first else None
        return Cascade(convs, pool, linked=not self.first)

    def kept(self, shape: Shape) -> Kept:
        # Convolutions and activations of the groups, whose outputs are concatenated; and the sums between groups.
        elements = self.cost(shape)[0].activations * (2 + (self.act in KEEP_INPUT))
        linked = 0 if self.first else (self.scale - 2) * self.group * shape.height * shape.width
        return Kept(elements + linked)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        act = write.activation(uses.act)
        scale, group = write.option("scale", uses.scale), write.width(uses.group, before)
        more: dict[str, Expression] = {}
        if (stride := write.stride(uses.stride)) != "1":
            more["stride"] = stride
        if (cardinality := write.groups(uses.cardinality, Term("", ()))) != "1":
            more["cardinality"] = cardinality
        if any(uses.first):
            more["first"] = write.changes_shape(uses.first)
        return call("Cascade", scale, group.text, activation_class(act), **more), before


@BRANCHES.register("res2net")
@dataclass(frozen=True, slots=True)
class Res2Net(Convolutional):
    """H(x) = W3 * hierarchy(act(bn(W1 * x))): 1x1 to `scale` groups, hierarchical 3x3 convolutions, 1x1 to `width`.

    A group has cardinality x group_width channels ("26w x 4s": group_width 26, scale 4, in the first stage; it grows with
    the stages as a bottleneck's). cardinality above 1 is Res2NeXt. scale 1 is a bottleneck.
    "Res2Net: A New Multi-scale Backbone Architecture", Gao et al., TPAMI 2021.
    """

    kind = "res2net"
    scale: int = option(4, minimum=1)
    cardinality: int = option(1, minimum=1)
    group_width: int = option(26, minimum=1)

    def canonical(self, stride: int) -> Branch:
        if self.scale > 1:
            return self
        return Bottleneck(self.cardinality, self.group_width, act=self.act, se_ratio=self.se_ratio)

    def scaled(self, scale: Callable[[int], int]) -> Branch:
        return replace(self, group_width=scaled_group(scale, self.cardinality, self.group_width))

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        group = self.cardinality * self.group_width
        first = stride != 1 or width_in != width_out
        inner: Layer = Hierarchy(self.scale, group, self.cardinality, stride, first, self.act)
        if self.scale == 1:
            inner = Conv(group, 3, stride, self.cardinality, act=self.act)
        return (
            Conv(self.scale * group, 1, act=self.act),
            inner,
            Conv(width_out, 1, act=""),
            *self.excitation(width_out),
        )
