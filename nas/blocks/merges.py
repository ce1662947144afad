"""Merges: how shortcut and branch become the block's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.blocks._base import MERGES, Merge

if TYPE_CHECKING:
    from torch import nn


@MERGES.register("add")
@dataclass(frozen=True, slots=True)
class Sum(Merge):
    """y = shortcut(x) + branch(x). He et al. 2015."""

    kind = "add"

    def module(self, width: int) -> nn.Module:
        from nas.blocks.modules import Add

        return Add()


@MERGES.register("none")
@dataclass(frozen=True, slots=True)
class Plain(Merge):
    """y = branch(x): a plain network, which residual learning is compared with."""

    kind = "none"
    uses_shortcut = False
