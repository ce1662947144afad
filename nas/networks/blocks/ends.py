"""Stems and heads: from the image to the first stage, and from the last stage to the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nas.networks.blocks._base import HEADS, STEMS, Head, Stem, option
from nas.networks.blocks.activations import ACTIVATIONS
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import Conv, LayerNorm, Linear, MaxPool, NormAct, Patch


@STEMS.register("imagenet")
@dataclass(frozen=True, slots=True)
class ImageNetStem(Stem):
    """7x7 convolution of stride 2, BN, ReLU, 3x3 maximum of stride 2: a quarter of the resolution. He et al. 2015."""

    kind = "imagenet"
    width: int = option(64, minimum=1)
    act: str = option("relu", among=ACTIVATIONS)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        # The maximum needs the activation even where the first branch brings its own.
        return (Conv(self.width, 7, 2, act=self.act), MaxPool())


@STEMS.register("deep")
@dataclass(frozen=True, slots=True)
class DeepStem(Stem):
    """ResNet-D's: three 3x3 convolutions, the first of stride 2 and two with half the width, then a 3x3 maximum of stride 2.

    "Bag of Tricks for Image Classification with Convolutional Neural Networks", He et al., CVPR 2019.
    """

    kind = "deep"
    width: int = option(64, minimum=1)
    act: str = option("relu", among=ACTIVATIONS)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        half = max(1, self.width // 2)
        first, second = Conv(half, 3, 2, act=self.act), Conv(half, 3, act=self.act)
        return (first, second, Conv(self.width, 3, act=self.act), MaxPool())


@STEMS.register("strided")
@dataclass(frozen=True, slots=True)
class StridedStem(Stem):
    """3x3 convolution of stride 2, BN, activation: half of the resolution. MobileNetV2's, EfficientNet's and RegNet's."""

    kind = "strided"
    width: int = option(32, minimum=1)
    act: str = option("silu", among=ACTIVATIONS)

    def canonical(self, raw: bool) -> Stem:
        return replace(self, act="silu") if raw else self

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        return (Conv(self.width, 3, 2, norm=not raw, act="" if raw else self.act),)


@STEMS.register("patch")
@dataclass(frozen=True, slots=True)
class PatchStem(Stem):
    """ConvNeXt's: s x s convolution with stride s = `patch`, then a layer norm. "A ConvNet for the 2020s", CVPR 2022."""

    kind = "patch"
    width: int = option(96, minimum=1)
    patch: int = option(4, minimum=1, maximum=64)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        return (Patch(self.width, self.patch), LayerNorm())


@STEMS.register("cifar")
@dataclass(frozen=True, slots=True)
class CifarStem(Stem):
    """3x3 convolution of stride 1, BN, ReLU: full resolution, for images of 8 to 64 pixels. He et al. 2015, section 4.2."""

    kind = "cifar"
    width: int = option(16, minimum=1)
    act: str = option("relu", among=ACTIVATIONS)

    def canonical(self, raw: bool) -> Stem:
        return replace(self, act="relu") if raw else self

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        return (Conv(self.width, 3, norm=not raw, act="" if raw else self.act),)


@HEADS.register("linear")
@dataclass(frozen=True, slots=True)
class LinearHead(Head):
    """Global average pooling and a linear layer; BN and activation first where the trunk is raw.

    dropout: on the averages, in training (Srivastava et al., JMLR 2014).
    """

    kind = "linear"
    classes: int = option(1000, minimum=1)
    act: str = option("relu", among=ACTIVATIONS)
    dropout: float = option(0.0, minimum=0, maximum=0.95)

    def canonical(self, raw: bool) -> Head:
        return self if raw else replace(self, act="relu")

    def layers(self, width_in: int, raw: bool) -> tuple[Layer, ...]:
        linear = Linear(self.classes, dropout=self.dropout)
        return (NormAct(self.act), linear) if raw else (linear,)


@HEADS.register("expanded")
@dataclass(frozen=True, slots=True)
class ExpandedHead(Head):
    """MobileNetV2's and EfficientNet's: 1x1 convolution to `width`, BN, activation, global average, dropout, linear."""

    kind = "expanded"
    classes: int = option(1000, minimum=1)
    width: int = option(1280, minimum=1)
    act: str = option("silu", among=ACTIVATIONS)
    dropout: float = option(0.0, minimum=0, maximum=0.95)

    def scaled(self, scale: Callable[[int], int]) -> Head:
        return replace(self, width=scale(self.width))

    def layers(self, width_in: int, raw: bool) -> tuple[Layer, ...]:
        return (Conv(self.width, 1, act=self.act), Linear(self.classes, dropout=self.dropout))


@HEADS.register("normed")
@dataclass(frozen=True, slots=True)
class NormedHead(Head):
    """ConvNeXt's: global average pooling, a layer norm, a linear layer. "A ConvNet for the 2020s", CVPR 2022."""

    kind = "normed"
    classes: int = option(1000, minimum=1)
    dropout: float = option(0.0, minimum=0, maximum=0.95)

    def layers(self, width_in: int, raw: bool) -> tuple[Layer, ...]:
        return (Linear(self.classes, norm=True, dropout=self.dropout),)
