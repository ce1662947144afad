"""RegNet's X and Y blocks. "Designing Network Design Spaces", Radosavovic et al., CVPR 2020."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nas.networks.blocks._base import BRANCHES, Branch, Convolutional, option
from nas.networks.blocks.bottleneck import Bottleneck
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, SqueezeExcitation, scaled_group, squeezed


@BRANCHES.register("regnet")
@dataclass(frozen=True, slots=True)
class RegNet(Convolutional):
    """H(x) = W3 * se(act(bn(W2 * act(bn(W1 * x))))): 1x1 to cardinality x group_width, grouped 3x3, 1x1 to `width`.

    In the paper's networks cardinality x group_width is the width itself (bottleneck ratio 1). X: se_ratio 0, which builds a
    `bottleneck`; Y: 1/4. Unlike SENet's, the squeeze-excitation follows the 3x3, and its inner width is se_ratio x
    the block's *input* width.
    """

    kind = "regnet"
    cardinality: int = option(1, minimum=1)
    group_width: int = option(8, minimum=1)

    def canonical(self, stride: int) -> Branch:
        return self if self.se_ratio else Bottleneck(self.cardinality, self.group_width, act=self.act)

    def scaled(self, scale: Callable[[int], int]) -> Branch:
        return replace(self, group_width=scaled_group(scale, self.cardinality, self.group_width))

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        inner = self.cardinality * self.group_width
        excitation = (SqueezeExcitation(squeezed(width_in, self.se_ratio), self.act),) if self.se_ratio else ()
        return (
            Conv(inner, 1, act=self.act),
            Conv(inner, 3, stride, groups=self.cardinality, act=self.act),
            *excitation,
            Conv(width_out, 1, act=""),
        )
