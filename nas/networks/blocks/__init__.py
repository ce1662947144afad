"""Parts of residual networks by name: `BRANCHES`, `SHORTCUTS`, `MERGES`, `STEMS`, `HEADS`; and the block made of them.

Every file of this folder is imported, which registers its parts. The files of PyTorch modules are not: torch is imported when
a module is created.
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

for _file in sorted(file.name for file in pkgutil.iter_modules(__path__)):
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
