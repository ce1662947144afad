"""One residual block: merge(x, shortcut(x), branch(x)) between two widths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nas.blocks._base import Branch, Merge, Shortcut, cost_of_layers, module_of_layers
from nas.blocks.primitives import NormAct
from nas.cost import Cost, Shape

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

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        """Exact cost on an input of `shape`, and the output's shape."""
        return _cost(self, shape)

    def module(self) -> nn.Module:
        """(b, width_in, h, w) -> (b, width_out, ceil(h / stride), ceil(w / stride))."""
        from nas.blocks.modules import Residual

        preactivated = self.branch.preactivated
        shortcut = merge = None
        if self.merge.uses_shortcut:
            layers = self.shortcut.layers(self.width_in, self.width_out, self.stride, not preactivated)
            shortcut = module_of_layers(layers, self.width_in)
            merge = self.merge.module(self.width_out)
        return Residual(
            branch=self.branch.module(self.width_in, self.width_out, self.stride),
            shortcut=shortcut,
            merge=merge,
            pre=NormAct().module(self.width_in) if preactivated else None,
            reshapes=self.width_in != self.width_out or self.stride != 1,
        )


@lru_cache(maxsize=1 << 16)  # a search meets the same block at the same place again and again
def _cost(block: Block, shape: Shape) -> tuple[Cost, Shape]:
    total, result = block.branch.cost(shape, block.width_out, block.stride)
    if block.branch.preactivated:
        total += NormAct().cost(shape)[0]
    if block.merge.uses_shortcut:
        layers = block.shortcut.layers(block.width_in, block.width_out, block.stride, not block.branch.preactivated)
        total += cost_of_layers(layers, shape)[0] + block.merge.cost(result)
    return total, result
