"""Once-for-all's stem for residual networks: ResNet-D's with a shortcut around its middle convolution, which may be left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks.blocks._base import STEMS, Stem, option
from nas.networks.blocks.activations import ACTIVATIONS
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, MaxPool
from nas.networks.blocks.source import Column, Expression, Term, Writer, call
from nas.networks.cost import Cost, Kept, Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Around(Layer):
    """y = x + conv(x), the convolution with its norm and activation; the shape stays."""

    conv: Conv

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return self.conv.cost(shape)

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.plain_modules import Around as AroundModule

        return AroundModule(self.conv.module(width_in))

    def kept(self, shape: Shape) -> Kept:
        return Kept(self.conv.kept(shape).elements + shape.elements)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        inside, after = write.layer(uses.conv, before)
        return call("Around", inside), after


@STEMS.register("residual_deep")
@dataclass(frozen=True, slots=True)
class ResidualDeepStem(Stem):
    """3x3 of stride 2 to `inner` channels, x + 3x3 of x, 3x3 to `width`, 3x3 maximum of stride 2; each 3x3 with BN and act.

    "Once-for-All: Train One Network and Specialize it for Efficient Deployment", Cai et al., ICLR 2020, its ResNet-50.
    middle: `residual`, or `none` where the second convolution is left out.
    """

    kind = "residual_deep"
    width: int = option(64, minimum=1)
    inner: int = option(32, minimum=1)
    middle: str = option("residual", among=("residual", "none"))
    act: str = option("relu", among=ACTIVATIONS)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        middle = (Around(Conv(self.inner, 3, act=self.act)),) if self.middle == "residual" else ()
        return (Conv(self.inner, 3, 2, act=self.act), *middle, Conv(self.width, 3, act=self.act), MaxPool())
