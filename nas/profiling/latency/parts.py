"""A network as the parts that are timed: stem, every block and head, each with its input shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nas.networks.architecture import Architecture
from nas.networks.blocks import Block
from nas.networks.build import Piece, walk
from nas.networks.cost import Cost, Shape

if TYPE_CHECKING:
    from torch import nn

FEATURES = 5  # columns of `Part.features`


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a network. Parts with equal names take equal time. kind: parts of one kind share a model of their time.

    features: 1 (for the overhead of a call), multiply-adds, activations, parameters, elements in and out.
    """

    name: str
    kind: str
    features: tuple[float, ...]


def parts_of(architecture: Architecture) -> list[Part]:
    """The stem, the blocks in order, and the head."""
    return [part for part, _, _ in _walked(architecture)]


def modules_of(architecture: Architecture) -> Iterator[tuple[Part, Callable[[], nn.Module], Shape]]:
    """The same parts, each with a function that makes its module, and its input shape."""
    yield from _walked(architecture)


def _walked(architecture: Architecture) -> Iterator[tuple[Part, Callable[[], nn.Module], Shape]]:
    shape = Shape(architecture.channels, architecture.resolution, architecture.resolution)
    for piece in walk(architecture):
        if not piece.blocks:
            part, after = _end(piece, shape)
            yield part, piece.module, shape
            shape = after
        for block, times in piece.blocks:
            for _ in range(times):
                part, after = _block(block, shape)
                yield part, block.module, shape
                shape = after


@lru_cache(maxsize=1 << 16)  # in a search, the same block occurs at the same place again and again
def _block(block: Block, shape: Shape) -> tuple[Part, Shape]:
    cost, after = block.cost(shape)
    return _part(f"{block!r} on {tuple(shape)}", block.branch.kind, cost, shape, after), after


@lru_cache(maxsize=1 << 12)
def _end(piece: Piece, shape: Shape) -> tuple[Part, Shape]:
    cost, after = piece.cost(shape)
    return _part(f"{piece.name} {piece.layers!r} on {tuple(shape)}", piece.name, cost, shape, after), after


def _part(name: str, kind: str, cost: Cost, before: Shape, after: Shape) -> Part:
    moved = float(before.channels * before.height * before.width + after.channels * after.height * after.width)
    return Part(name, kind, (1.0, float(cost.macs), float(cost.activations), float(cost.params), moved))
