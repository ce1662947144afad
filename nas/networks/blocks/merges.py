"""Merges without dynamics: how shortcut and branch become the block's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks import cost as closed_form
from nas.networks.blocks._base import MERGES, Merge, MergeSource, option
from nas.networks.blocks.source import Column, Expression, Mismatch, Term, Writer, call
from nas.networks.cost import Cost, Shape, strided

if TYPE_CHECKING:
    from torch import nn

MAX_DROP = 0.95  # with a rate of 1 the block would never be trained


@MERGES.register("add")
@dataclass(frozen=True, slots=True)
class Sum(Merge):
    """y = shortcut(x) + branch(x). He et al. 2015.

    drop: stochastic depth, the probability with which an image loses the branch in training at the network's last block;
    it grows linearly from the first. "Deep Networks with Stochastic Depth", Huang et al., ECCV 2016.
    """

    kind = "add"
    kept_tensors = 1
    equation = "shortcut(x) + H(x)"
    drop: float = option(0.0, minimum=0, maximum=MAX_DROP)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Add

        return Add(self.drop)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        return _sum(uses, write)


@MERGES.register("skip_init")
@dataclass(frozen=True, slots=True)
class SkipInit(Merge):
    """y = shortcut(x) + s branch(x), s a learnt number that starts at `start`: at 0 the network starts as its shortcuts.

    "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks", De & Smith, NeurIPS 2020.
    drop: stochastic depth, as in `add`.
    """

    kind = "skip_init"
    equation = "shortcut(x) + s H(x), s a learnt number"
    start: float = option(0.0, minimum=-1, maximum=1)
    drop: float = option(0.0, minimum=0, maximum=MAX_DROP)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        return Cost(params=1)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Add

        return Add(self.drop, 1, self.start)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        return _sum(uses, write, scales="1")


@MERGES.register("layer_scale")
@dataclass(frozen=True, slots=True)
class LayerScale(Merge):
    """y = shortcut(x) + s * branch(x), s a learnt number a channel that starts at `start`.

    "Going Deeper with Image Transformers", Touvron et al., ICCV 2021; ConvNeXt. drop: stochastic depth, as in `add`.
    """

    kind = "layer_scale"
    equation = "shortcut(x) + s * H(x), s a learnt number a channel"
    start: float = option(1e-6, minimum=-1, maximum=1)
    drop: float = option(0.0, minimum=0, maximum=MAX_DROP)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        return Cost(params=width_out)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Add

        return Add(self.drop, width_out, self.start)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        return _sum(uses, write, scales="width")


@MERGES.register("highway")
@dataclass(frozen=True, slots=True)
class Highway(Merge):
    """y = t branch(x) + (1 - t) shortcut(x), t = sigmoid(W x + b), a 1x1 convolution to a gate a channel and pixel.

    "Highway Networks", Srivastava et al. 2015; as "exclusive gating" of a residual network in He et al., ECCV 2016. bias:
    the initial b. At -6 the block starts as its shortcut; with this He et al. trained 110 layers. At 0 each block halves both
    paths, and training failed.
    """

    kind = "highway"
    kept_tensors = 3
    equation = "t H(x) + (1 - t) shortcut(x), t a gate a channel and pixel"
    bias: float = option(-6.0, minimum=-20, maximum=20)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        height, width = (strided(size, 1, stride) for size in (shape.height, shape.width))
        return closed_form.conv(shape.channels, width_out, 1, 1, height, width, bias=True)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from nas.networks.blocks.modules import Highway as HighwayModule

        return HighwayModule(width_in, width_out, stride, self.bias)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        stride = "1" if before.text == "width" else "stride"
        gate = call("HighwayGate", before.text, "width", stride, write.parameter("bias", uses.bias).text)
        return MergeSource("{shortcut} + self.merge({around}) * ({branch} - {shortcut})", (("merge", gate),))


@MERGES.register("none")
@dataclass(frozen=True, slots=True)
class Plain(Merge):
    """y = branch(x): a plain network, which residual learning is compared with."""

    kind = "none"
    equation = "H(x)"
    uses_shortcut = False

    def module(self, width_in: int, width_out: int, stride: int) -> None:
        return None


def _sum(uses: Column, write: Writer, scales: str = "") -> MergeSource:
    """Source of a sum, with so many scales (none if ''), and with stochastic depth if all uses have it."""
    modules: list[tuple[str, Expression]] = []
    branch = "{branch}"
    if scales:
        modules.append(("merge", call("Scale", scales, write.parameter("start", uses.start).text)))
        branch = "self.merge({branch})"
    dropped = {rate > 0 for rate in uses.drop}
    if len(dropped) > 1:
        raise Mismatch("only some of its blocks have stochastic depth")
    if dropped.pop():
        modules.append(("drop", call("StochasticDepth", write.parameter("drop", uses.drop).text)))
        branch = f"self.drop({branch})"
    return MergeSource(f"{{shortcut}} + {branch}", tuple(modules))
