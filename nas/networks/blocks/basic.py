"""Basic block: two 3x3 convolutions. "Deep Residual Learning for Image Recognition", He et al., CVPR 2016."""

from __future__ import annotations

from dataclasses import dataclass

from nas.networks.blocks._base import BRANCHES, Convolutional, option
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv


@BRANCHES.register("basic")
@dataclass(frozen=True, slots=True)
class Basic(Convolutional):
    """H(x) = W2 * act(bn(W1 * x)), both 3x3 with `width` channels: 18 C^2 weights at C channels.

    order: `post` (conv-BN-ReLU, ResNet v1) or `pre` (BN-ReLU-conv, "Identity Mappings in Deep Residual Networks", 2016;
    wide residual networks, Zagoruyko & Komodakis 2016).
    """

    kind = "basic"
    order: str = option("post", among=("post", "pre"))

    @property
    def raw(self) -> bool:
        return self.order == "pre"

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        return (
            Conv(width_out, 3, stride, act=self.act),
            Conv(width_out, 3, norm=not self.raw, act=""),
            *self.excitation(width_out),
        )
