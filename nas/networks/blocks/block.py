"""One residual block: merge(r, shortcut(r), branch(a)) between two widths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nas.networks.blocks._base import Branch, Merge, Shortcut
from nas.networks.blocks.activations import activation
from nas.networks.blocks.layer import Layer, cost_of_layers, module_of_layers
from nas.networks.cost import Cost, Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Block:
    """A branch, a shortcut and a merge from `width_in` to `width_out` channels at `stride`, with cost and module."""

    branch: Branch
    shortcut: Shortcut
    merge: Merge
    width_in: int
    width_out: int
    stride: int

    @property
    def inner(self) -> tuple[int, int, int]:
        """Input width, output width and stride of branch, shortcut and merge: the block's, unless its entry changes the shape."""
        if self.branch.enters_reshaped:
            return self.width_out, self.width_out, 1
        return self.width_in, self.width_out, self.stride

    def entry(self) -> tuple[Layer, ...]:
        return self.branch.entry(self.width_in, self.width_out, self.stride)

    def path(self) -> tuple[Layer, ...] | None:
        """Layers of the path around the branch; None if there is no path."""
        if not self.merge.uses_shortcut:
            return None
        return self.shortcut.layers(*self.inner, not self.branch.raw)

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        """Exact cost on an input of `shape`, and the output's shape. The branch is counted as executed for every image."""
        return _cost(self, shape)

    def branch_cost(self, shape: Shape) -> Cost:
        """The part of `cost` that is saved for an image whose branch is skipped."""
        _, entered = cost_of_layers(self.entry(), shape)
        _, width_out, stride = self.inner
        return self.branch.cost(entered, width_out, stride)[0]

    def module(self) -> nn.Module:
        """(b, width_in, h, w) -> (b, width_out, ceil(h / stride), ceil(w / stride))."""
        from nas.networks.blocks.modules import Residual

        width_in, width_out, stride = self.inner
        entry, path = self.entry(), self.path()
        act = self.branch.activation
        return Residual(
            branch=self.branch.module(width_in, width_out, stride),
            shortcut=None if path is None else module_of_layers(path, width_in),
            merge=None if path is None else self.merge.module(width_in, width_out, stride),
            pre=module_of_layers(entry, self.width_in) if entry else None,
            act=activation(act) if act else None,
            reshapes=self.width_in != self.width_out or self.stride != 1,
        )


@lru_cache(maxsize=1 << 16)  # a search computes the same block at the same place many times
def _cost(block: Block, shape: Shape) -> tuple[Cost, Shape]:
    total, entered = cost_of_layers(block.entry(), shape)
    _, width_out, stride = block.inner
    cost, result = block.branch.cost(entered, width_out, stride)
    total += cost
    path = block.path()
    if path is not None:
        total += cost_of_layers(path, entered)[0] + block.merge.cost(entered, width_out, stride)
    return total, result
