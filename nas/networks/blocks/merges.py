"""Merges without dynamics: how shortcut and branch become the block's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks import cost as closed_form
from nas.networks.blocks._base import MERGES, Merge, option
from nas.networks.cost import Cost, Shape, strided

if TYPE_CHECKING:
    from torch import nn

MAX_DROP = 0.95  # a block that is never trained is no block


@MERGES.register("add")
@dataclass(frozen=True, slots=True)
class Sum(Merge):
    """y = shortcut(x) + branch(x). He et al. 2015.

    drop: stochastic depth, the probability with which an image loses the branch in training at the network's last block;
    it grows linearly from the first. "Deep Networks with Stochastic Depth", Huang et al., ECCV 2016.
    """

    kind = "add"
    drop: float = option(0.0, minimum=0, maximum=MAX_DROP)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Add

        return Add(self.drop)


@MERGES.register("skip_init")
@dataclass(frozen=True, slots=True)
class SkipInit(Merge):
    """y = shortcut(x) + s branch(x), s a learnt number that starts at `start`: at 0 the network starts as its shortcuts.

    "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks", De & Smith, NeurIPS 2020.
    drop: stochastic depth, as in `add`.
    """

    kind = "skip_init"
    start: float = option(0.0, minimum=-1, maximum=1)
    drop: float = option(0.0, minimum=0, maximum=MAX_DROP)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        return Cost(params=1)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Add

        return Add(self.drop, 1, self.start)


@MERGES.register("layer_scale")
@dataclass(frozen=True, slots=True)
class LayerScale(Merge):
    """y = shortcut(x) + s * branch(x), s a learnt number a channel that starts at `start`.

    "Going Deeper with Image Transformers", Touvron et al., ICCV 2021; ConvNeXt. drop: stochastic depth, as in `add`.
    """

    kind = "layer_scale"
    start: float = option(1e-6, minimum=-1, maximum=1)
    drop: float = option(0.0, minimum=0, maximum=MAX_DROP)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        return Cost(params=width_out)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Add

        return Add(self.drop, width_out, self.start)


@MERGES.register("highway")
@dataclass(frozen=True, slots=True)
class Highway(Merge):
    """y = t branch(x) + (1 - t) shortcut(x), t = sigmoid(W x + b), a 1x1 convolution to a gate a channel and pixel.

    "Highway Networks", Srivastava et al. 2015; as "exclusive gating" of a residual network in He et al., ECCV 2016. bias:
    where b starts. At -6 the block starts as its shortcut, which is how He et al. trained 110 layers; at 0 the two paths
    are halved in each block, and there they could not.
    """

    kind = "highway"
    bias: float = option(-6.0, minimum=-20, maximum=20)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        height, width = (strided(size, 1, stride) for size in (shape.height, shape.width))
        return closed_form.conv(shape.channels, width_out, 1, 1, height, width, bias=True)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Highway as HighwayModule

        return HighwayModule(width_in, width_out, stride, self.bias)


@MERGES.register("none")
@dataclass(frozen=True, slots=True)
class Plain(Merge):
    """y = branch(x): a plain network, which residual learning is compared with."""

    kind = "none"
    uses_shortcut = False

    def module(self, width_in: int, width_out: int, stride: int) -> None:
        return None
