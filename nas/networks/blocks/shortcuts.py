"""Shortcuts: identity, zero-padding (A), projection (B, C), average-pool (D) and anti-aliased projection, matching."""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import UsageError
from nas.networks.blocks._base import SHORTCUTS, Shortcut
from nas.networks.blocks.layer import Layer
from nas.networks.blocks.primitives import AvgPool, BlurPool, Conv, ZeroPad


def _reshapes(width_in: int, width_out: int, stride: int) -> bool:
    return width_in != width_out or stride != 1


@SHORTCUTS.register("identity")
@dataclass(frozen=True, slots=True)
class Identity(Shortcut):
    """y = x; only between equal shapes. Shortcuts A, B and D become it where the shapes agree."""

    kind = "identity"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        if _reshapes(width_in, width_out, stride):
            raise UsageError(
                f"shortcut identity can't lead from {width_in} to {width_out} channels at stride {stride}; "
                "use projection, zero_pad or avg_pool"
            )
        return ()


@SHORTCUTS.register("zero_pad")
@dataclass(frozen=True, slots=True)
class ZeroPadding(Shortcut):
    """Option A of He et al. 2015: every s-th pixel, new channels zero; no parameters. Identity between equal shapes."""

    kind = "zero_pad"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        return (ZeroPad(width_out, stride),) if _reshapes(width_in, width_out, stride) else ()

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        return self if _reshapes(width_in, width_out, stride) else Identity()


@SHORTCUTS.register("projection")
@dataclass(frozen=True, slots=True)
class Projection(Shortcut):
    """Option B of He et al. 2015: y = bn(W x), 1x1 with the stride, where the shapes differ; identity where they agree."""

    kind = "projection"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        return (Conv(width_out, 1, stride, norm=norm, act=""),) if _reshapes(width_in, width_out, stride) else ()

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        return self if _reshapes(width_in, width_out, stride) else Identity()


@SHORTCUTS.register("projection_all")
@dataclass(frozen=True, slots=True)
class ProjectionAll(Shortcut):
    """Option C of He et al. 2015: y = bn(W x) in every block."""

    kind = "projection_all"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        return (Conv(width_out, 1, stride, norm=norm, act=""),)

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        return Projection() if _reshapes(width_in, width_out, stride) else self


@SHORTCUTS.register("avg_pool")
@dataclass(frozen=True, slots=True)
class AvgPoolProjection(Shortcut):
    """ResNet-D: y = bn(W pool(x)), s x s mean before the 1x1 so that no pixel is dropped; identity between equal shapes.

    "Bag of Tricks for Image Classification with Convolutional Neural Networks", He et al., CVPR 2019.
    """

    kind = "avg_pool"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        if not _reshapes(width_in, width_out, stride):
            return ()
        projection = Conv(width_out, 1, norm=norm, act="")
        return (projection,) if stride == 1 else (AvgPool(stride), projection)

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        return self if stride != 1 else Projection().canonical(width_in, width_out, stride)


@SHORTCUTS.register("blur_pool")
@dataclass(frozen=True, slots=True)
class BlurPoolProjection(Shortcut):
    """Anti-aliased: y = bn(W blur(x)), a 3x3 binomial filter with the stride before the 1x1; identity between equal shapes.

    "Making Convolutional Networks Shift-Invariant Again", Zhang, ICML 2019.
    """

    kind = "blur_pool"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        if not _reshapes(width_in, width_out, stride):
            return ()
        projection = Conv(width_out, 1, norm=norm, act="")
        return (projection,) if stride == 1 else (BlurPool(stride), projection)

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        return self if stride != 1 else Projection().canonical(width_in, width_out, stride)


@SHORTCUTS.register("matching")
@dataclass(frozen=True, slots=True)
class Matching(Shortcut):
    """y = x where the shapes agree; no path, and so a plain block, where they don't. MobileNetV2's and EfficientNet's."""

    kind = "matching"

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...] | None:
        return None if _reshapes(width_in, width_out, stride) else ()

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        return self if _reshapes(width_in, width_out, stride) else Identity()
