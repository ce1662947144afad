"""ConvNeXt's block. "A ConvNet for the 2020s", Liu et al., CVPR 2022."""

from __future__ import annotations

from dataclasses import dataclass

from nas.networks.blocks._base import BRANCHES, Branch, option
from nas.networks.blocks.activations import ACTIVATIONS
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, LayerNorm, Patch


@BRANCHES.register("convnext")
@dataclass(frozen=True, slots=True)
class ConvNeXt(Branch):
    """H(x) = W2 * act(W1 * ln(D * x)): k x k depthwise, 1x1 to expansion x width, 1x1 back; biases, one norm.

    Where a block changes the shape, a layer norm and an s x s convolution with stride s precede branch and shortcut.
    The trunk stays raw: no norm and no activation after the sum. The paper's merge is `layer_scale`.
    """

    kind = "convnext"
    enters_reshaped = True
    kernel: int = option(7, among=(3, 5, 7, 9, 11))
    expansion: int = option(4, minimum=1)
    act: str = option("gelu", among=ACTIVATIONS)

    @property
    def raw(self) -> bool:
        return True

    def entry(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        return () if width_in == width_out and stride == 1 else (LayerNorm(), Patch(width_out, stride))

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        return (
            Conv(width_out, self.kernel, groups=width_in, norm=False, act="", bias=True),
            LayerNorm(),
            Conv(self.expansion * width_out, 1, norm=False, act=self.act, bias=True),
            Conv(width_out, 1, norm=False, act="", bias=True),
        )
