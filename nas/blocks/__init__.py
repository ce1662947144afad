"""Parts of residual networks by name: `BRANCHES`, `SHORTCUTS`, `MERGES`, `STEMS`, `HEADS`; and the block made of them."""

from nas.blocks import (
    basic,
    bottleneck,
    conditional,
    convnext,
    ends,
    mbconv,
    merges,
    regnet,
    res2net,
    shortcuts,
    skipnet,
)
from nas.blocks._base import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS, Branch, Head, Merge, Part, Shortcut, Stem
from nas.blocks.block import Block

__all__ = [
    "BRANCHES",
    "HEADS",
    "MERGES",
    "SHORTCUTS",
    "STEMS",
    "Block",
    "Branch",
    "Head",
    "Merge",
    "Part",
    "Shortcut",
    "Stem",
    "basic",
    "bottleneck",
    "conditional",
    "convnext",
    "ends",
    "mbconv",
    "merges",
    "regnet",
    "res2net",
    "shortcuts",
    "skipnet",
]
