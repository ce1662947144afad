"""SkipNet's merge: a gate decides for each image whether the block's branch is executed.

"SkipNet: Learning Dynamic Routing in Convolutional Networks", Wang et al., ECCV 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks import cost as closed_form
from nas.networks.blocks._base import MERGES, Merge, MergeSource, option
from nas.networks.blocks.layer import cost_of_layers
from nas.networks.blocks.primitives import Conv, Linear
from nas.networks.blocks.source import Argument, Call, Column, Term, Writer, activation_call, call
from nas.networks.cost import Cost, Shape

if TYPE_CHECKING:
    from torch import nn

HIDDEN = 10  # channels between the pooled gate's two layers, as in the paper's recurrent gate


@MERGES.register("skip")
@dataclass(frozen=True, slots=True)
class Skip(Merge):
    """y = shortcut(x) + g(x) branch(x), g(x) = [p(x) >= 1/2] in {0, 1} for each image, p = sigmoid(gate(x)).

    gate: `pooled` (mean over the image, 10 hidden units; hardly any multiply-adds) or `conv` (FFGate-II of the paper: 3x3 of
    stride 2, norm, ReLU, mean, linear; one logit in place of two). Training passes p's gradient through the step, on whole
    batches with masks, so that closed gates are trained too. price: weight in the loss of the share of the network's multiply-adds
    that this branch executes (`nas.training.gates.computation_loss`). start: p at the start of training, for features that
    are 0; only images that run the branch train it, so a gate should start open. The cost always counts the branch
    as executed, the worst case; `nas.training.gates` gives the expected and the executed one.
    """

    kind = "skip"
    equation = "shortcut(x) + g(x) H(x), g in {0, 1} for each image"
    gate: str = option("pooled", among=("pooled", "conv"))
    price: float = option(0.1, minimum=0, maximum=100)
    start: float = option(0.9, minimum=0.01, maximum=0.99)

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        if self.gate == "conv":
            return cost_of_layers((Conv(shape.channels, 3, 2), Linear(1)), shape)[0]
        return closed_form.linear(shape.channels, HIDDEN) + closed_form.linear(HIDDEN, 1)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        from torch import nn

        from nas.networks.blocks.dynamic_modules import Skip as SkipModule

        gate: list[nn.Module]
        if self.gate == "conv":
            gate = [Conv(width_in, 3, 2).module(width_in), *Linear(1).module(width_in).children()]
        else:
            gate = [*Linear(HIDDEN).module(width_in).children(), nn.ReLU(), nn.Linear(HIDDEN, 1)]
        return SkipModule(nn.Sequential(*gate), self.price, self.start)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        layers = _gate(write.same(uses.gate, "the gate"), before)
        gate = Call("SkipGate", (write.parameter("start", uses.start).text, *layers))
        return MergeSource("{shortcut} + self.merge({around}) * {branch}", (("merge", gate),))


def _gate(kind: str, before: Term) -> tuple[Argument, ...]:
    """Source of the gate's layers."""
    last, _ = Writer.alone().layer([Linear(1 if kind == "conv" else HIDDEN)], before)
    assert isinstance(last, Call)
    if kind == "conv":
        conv = call("conv_norm", before.text, before.text, "3", stride="2", act=activation_call(Conv(0, 3).act))
        return (conv, *last.arguments)
    return (*last.arguments, call("nn.ReLU"), call("nn.Linear", str(HIDDEN), "1"))
