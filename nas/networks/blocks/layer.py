"""The base of layers: each states its cost, its PyTorch module, the memory that it keeps and its source code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nas.networks.blocks.source import Column, Expression, Mismatch, Term, Writer
from nas.networks.cost import Cost, Kept, Shape

if TYPE_CHECKING:
    from torch import nn


class Layer(ABC):
    """A primitive of a network: a frozen dataclass of numbers and names."""

    __slots__ = ()
    per_image: ClassVar[bool] = (
        False  # whether each image has its own kernels, so that the graph depends on the batch size
    )

    @abstractmethod
    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        """Cost on an input of `shape`, and the shape of the output."""

    @abstractmethod
    def module(self, width_in: int) -> nn.Module:
        """A new module for inputs of `width_in` channels."""

    def width(self, width_in: int) -> int:
        """Channels of the output."""
        return width_in

    def kept(self, shape: Shape) -> Kept:
        """Memory per image that the backward pass needs besides the layer's input and output; by default a convolution's."""
        return Kept(self.cost(shape)[0].activations)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        """The expression that creates the module in a stand-alone file, and the output width.

        uses: the layer in each block that the expression stands for. before: the input width. Mismatch if the layer can't be
        written, which is the default.
        """
        raise Mismatch(f"its layer {cls.__name__} is not known to the format")


def cost_of_layers(layers: Sequence[Layer], shape: Shape) -> tuple[Cost, Shape]:
    """Sum of the costs of consecutive layers, and the shape of the last output."""
    params = macs = activations = 0  # summed as integers: an exact cost spends most of its time here
    for layer in layers:
        cost, shape = layer.cost(shape)
        params, macs, activations = params + cost.params, macs + cost.macs, activations + cost.activations
    return Cost(params, macs, activations), shape


def module_of_layers(layers: Sequence[Layer], width_in: int) -> nn.Module:
    """The layers in sequence; an identity if there are none."""
    from torch import nn

    modules = []
    for layer in layers:
        modules.append(layer.module(width_in))
        width_in = layer.width(width_in)
    if not modules:
        return nn.Identity()
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)
