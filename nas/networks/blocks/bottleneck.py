"""Bottleneck block with grouped 3x3: ResNet's, wide ResNet's and ResNeXt's in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nas.networks.blocks._base import BRANCHES, Branch, Convolutional, option
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, scaled_group


@BRANCHES.register("bottleneck")
@dataclass(frozen=True, slots=True)
class Bottleneck(Convolutional):
    """H(x) = W3 * act(bn(W2 * act(bn(W1 * x)))): 1x1 to cardinality x group_width, grouped 3x3, 1x1 to `width`.

    cardinality 1 is ResNet's (He et al. 2015), a larger `group_width` wide ResNet's, cardinality above 1 is ResNeXt's
    ("Aggregated Residual Transformations for Deep Neural Networks", Xie et al., CVPR 2017). Every pair of the two is
    legal, since the inner width is their product. stride_on: which convolution carries the stride, `3x3` (v1.5, as
    torchvision) or `1x1` (v1, as the paper). order: `post` or `pre` (He et al. 2016).
    """

    kind = "bottleneck"
    cardinality: int = option(1, minimum=1)
    group_width: int = option(64, minimum=1)
    stride_on: str = option("3x3", among=("3x3", "1x1"))
    order: str = option("post", among=("post", "pre"))

    @property
    def raw(self) -> bool:
        return self.order == "pre"

    def canonical(self, stride: int) -> Branch:
        return replace(self, stride_on="3x3") if stride == 1 else self

    def scaled(self, scale: Callable[[int], int]) -> Branch:
        return replace(self, group_width=scaled_group(scale, self.cardinality, self.group_width))

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        inner = self.cardinality * self.group_width
        first, second = (stride, 1) if self.stride_on == "1x1" else (1, stride)
        return (
            Conv(inner, 1, first, act=self.act),
            Conv(inner, 3, second, groups=self.cardinality, act=self.act),
            Conv(width_out, 1, norm=not self.raw, act=""),
            *self.excitation(width_out),
        )
