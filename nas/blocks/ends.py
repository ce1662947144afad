"""Stems and heads: from the image to the first stage, and from the last stage to the logits."""

from __future__ import annotations

from dataclasses import dataclass

from nas.blocks._base import HEADS, STEMS, Head, Layer, Stem, option
from nas.blocks.primitives import Conv, Linear, MaxPool, NormAct


@STEMS.register("imagenet")
@dataclass(frozen=True, slots=True)
class ImageNetStem(Stem):
    """7x7 convolution of stride 2, BN, ReLU, 3x3 maximum of stride 2: a quarter of the resolution. He et al. 2015."""

    kind = "imagenet"
    width: int = option(64, minimum=1)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        # The maximum needs the activation even where the first branch brings its own.
        return (Conv(self.width, 7, 2), MaxPool())


@STEMS.register("cifar")
@dataclass(frozen=True, slots=True)
class CifarStem(Stem):
    """3x3 convolution of stride 1, BN, ReLU: full resolution, for images of 8 to 64 pixels. He et al. 2015, section 4.2."""

    kind = "cifar"
    width: int = option(16, minimum=1)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        return (Conv(self.width, 3, norm=not raw, act=not raw),)


@HEADS.register("linear")
@dataclass(frozen=True, slots=True)
class LinearHead(Head):
    """Global average pooling and a linear layer; BN and ReLU first where the trunk is raw (pre-activated branches)."""

    kind = "linear"
    classes: int = option(1000, minimum=1)

    def layers(self, width_in: int, raw: bool) -> tuple[Layer, ...]:
        return (NormAct(), Linear(self.classes)) if raw else (Linear(self.classes),)
