"""Parts of residual networks by name: `BRANCHES`, `SHORTCUTS`, `MERGES`, `STEMS`, `HEADS`; and the block made of them.

Every file of this folder is imported, so that a part is there by its file being there. The two that hold PyTorch modules
are not: torch is loaded when a module is made.
"""

import importlib
import pkgutil

from nas.networks.blocks._base import (
    BRANCHES,
    HEADS,
    MERGES,
    SHORTCUTS,
    STEMS,
    Branch,
    Convolutional,
    Head,
    Merge,
    Part,
    Shortcut,
    Stem,
    option,
)
from nas.networks.blocks.block import Block
from nas.networks.blocks.layer import Layer

TORCH = {"modules", "dynamic_modules", "plain_modules"}

for _file in sorted(found.name for found in pkgutil.iter_modules(__path__)):
    if _file not in TORCH:
        importlib.import_module(f"{__name__}.{_file}")

__all__ = [
    "BRANCHES",
    "HEADS",
    "MERGES",
    "SHORTCUTS",
    "STEMS",
    "Block",
    "Branch",
    "Convolutional",
    "Head",
    "Layer",
    "Merge",
    "Part",
    "Shortcut",
    "Stem",
    "option",
]
