"""Inverted residual blocks: MobileNetV2's and EfficientNet's MBConv, and EfficientNetV2's fused one."""

from __future__ import annotations

from dataclasses import dataclass

from nas.networks.blocks._base import BRANCHES, Branch, option
from nas.networks.blocks.activations import ACTIVATIONS
from nas.networks.blocks.conditional import ConditionalConv, Routed
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, SqueezeExcitation, squeezed

KERNELS = (3, 5, 7)


@BRANCHES.register("mbconv")
@dataclass(frozen=True, slots=True)
class MBConv(Branch):
    """H(x) = W3 * se(act(bn(D * act(bn(W1 * x))))): 1x1 to expansion x input, k x k depthwise, 1x1 to `width`, linear.

    The defaults are EfficientNet's (Tan & Le, ICML 2019), act `relu6` and se_ratio 0 are MobileNetV2's (Sandler et al.,
    CVPR 2018). With expansion 1 there is no first 1x1. The squeeze-excitation has se_ratio x the block's *input* width,
    rounded down. No activation after the sum. experts above 1: each convolution mixes so many kernels for each
    image (CondConv, Yang et al., NeurIPS 2019; EfficientNet-CondConv).
    """

    kind = "mbconv"
    expansion: int = option(6, minimum=1)
    kernel: int = option(3, among=KERNELS)
    se_ratio: float = option(0.25, minimum=0, maximum=1)
    act: str = option("silu", among=ACTIVATIONS)
    experts: int = option(1, minimum=1)

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        inner = self.expansion * width_in
        expand = (self._conv(inner, 1, act=self.act),) if self.expansion != 1 else ()
        depthwise = self._conv(inner, self.kernel, stride, groups=inner, act=self.act)
        squeeze = max(1, int(width_in * self.se_ratio))
        excitation = (SqueezeExcitation(squeeze, self.act),) if self.se_ratio else ()
        layers: tuple[Layer, ...] = (*expand, depthwise, *excitation, self._conv(width_out, 1, act=""))
        return layers if self.experts == 1 else (Routed(layers, self.experts),)

    def _conv(self, out: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "") -> Layer:
        if self.experts == 1:
            return Conv(out, kernel, stride, groups, act=act)
        return ConditionalConv(out, kernel, stride, groups, act, self.experts)


@BRANCHES.register("fused_mbconv")
@dataclass(frozen=True, slots=True)
class FusedMBConv(Branch):
    """H(x) = W2 * se(act(bn(W1 * x))): k x k to expansion x input, 1x1 to `width`; with expansion 1 the k x k alone.

    "EfficientNetV2", Tan & Le, ICML 2021: on accelerators faster than a depthwise convolution in early stages.
    """

    kind = "fused_mbconv"
    expansion: int = option(4, minimum=1)
    kernel: int = option(3, among=KERNELS)
    se_ratio: float = option(0.0, minimum=0, maximum=1)
    act: str = option("silu", among=ACTIVATIONS)

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        inner = width_out if self.expansion == 1 else self.expansion * width_in
        excitation = (SqueezeExcitation(squeezed(width_in, self.se_ratio), self.act),) if self.se_ratio else ()
        project = () if self.expansion == 1 else (Conv(width_out, 1, act=""),)
        return (Conv(inner, self.kernel, stride, act=self.act), *excitation, *project)
