"""The cost and the `nn.Module` of an architecture, both from one walk over its stages."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.networks.architecture import Architecture
from nas.networks.blocks import Block
from nas.networks.blocks.layer import Layer, cost_of_layers, module_of_layers
from nas.networks.cost import Cost, Shape
from nas.utils import limits

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Piece:
    """The stem, a stage, or the head: layers or (block, times) pairs, never both."""

    name: str
    width_in: int
    layers: tuple[Layer, ...] = ()
    blocks: tuple[tuple[Block, int], ...] = ()

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        total, shape = cost_of_layers(self.layers, shape)
        for block, times in self.blocks:
            cost, shape = block.cost(shape)
            total += cost * times if times > 1 else cost
        return total, shape

    def module(self) -> nn.Module:
        from torch import nn

        if self.blocks:
            return nn.Sequential(*(block.module() for block, times in self.blocks for _ in range(times)))
        return module_of_layers(self.layers, self.width_in)


def walk(architecture: Architecture) -> Iterator[Piece]:
    """The stem, each stage and the head, in the order in which an image passes them."""
    raw_start = architecture.stages[0].branch.raw
    yield Piece("stem", architecture.channels, layers=architecture.stem.layers(raw_start))
    width = architecture.stem.width
    for number, stage in enumerate(architecture.stages, 1):
        yield Piece(f"stage{number}", width, blocks=tuple(stage.blocks(width)))
        width = stage.width
    yield Piece("head", width, layers=architecture.head.layers(width, architecture.raw))


@dataclass(frozen=True, slots=True)
class PieceCost:
    """Cost of the stem, a stage or the head, and its output's shape."""

    name: str
    cost: Cost
    output: Shape


def costs_by_piece(architecture: Architecture, resolution: int | None = None) -> list[PieceCost]:
    """Cost of the stem, of each stage and of the head, for square images of `resolution` pixels (default: its own)."""
    if not isinstance(architecture, Architecture):
        raise TypeError(
            f"expected an Architecture, not {architecture!r:.80}; nas.zoo.get(name) gives the network of a name, "
            "nas.Architecture.from_yaml(path) that of a file"
        )
    if resolution is not None:
        architecture = replace(architecture, resolution=resolution)  # refuses 0 and 3.5 pixels
    shape = Shape(architecture.channels, architecture.resolution, architecture.resolution)
    rows = []
    for piece in walk(architecture):
        cost, shape = piece.cost(shape)
        rows.append(PieceCost(piece.name, cost, shape))
    return rows


def cost_of(architecture: Architecture, resolution: int | None = None) -> Cost:
    """Exact parameters, multiply-adds and activations (see `nas.networks.cost`), without building the network or importing torch.

    UsageError if the parts don't fit together (an identity shortcut between different shapes).
    """
    return sum((row.cost for row in costs_by_piece(architecture, resolution)), Cost())


def blocks_of(architecture: Architecture, resolution: int | None = None) -> Iterator[tuple[Block, Shape]]:
    """Every single block, in order, with the shape of its input."""
    size = resolution or architecture.resolution
    shape = Shape(architecture.channels, size, size)
    for piece in walk(architecture):
        if piece.blocks:
            for block, times in piece.blocks:
                for _ in range(times):
                    yield block, shape
                    shape = block.cost(shape)[1]
        else:
            shape = piece.cost(shape)[1]


def places_of(architecture: Architecture) -> Iterator[str]:
    """Names of the blocks, in order: stage1.block1, stage1.block2, ..."""
    for number, stage in enumerate(architecture.stages, 1):
        for position in range(1, stage.depth + 1):
            yield f"stage{number}.block{position}"


def build(architecture: Architecture, seed: int | None = None) -> nn.Module:
    """The network: (b, channels, h, w) float images -> (b, classes) logits, weights initialized (Kaiming normal, fan out).

    With `seed`, the weights depend on the architecture and the seed alone, and the global random state stays unchanged.
    """
    import torch

    from nas.networks.blocks.modules import Network

    cost = cost_of(architecture)  # refuses parts that don't fit together, before torch fails on them
    if torch.get_default_device().type == "cpu":  # on the meta device, weights take no memory
        blocks = sum(stage.depth for stage in architecture.stages)
        limits.require_room(architecture.name or "this network", cost.params, blocks)
    if seed is None:
        return _assemble(architecture, Network)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators too
        return _assemble(architecture, Network)


@functools.lru_cache(maxsize=2)  # an import reads the same one five times
def skeleton(architecture: Architecture) -> nn.Module:
    """The network's modules, names and shapes on PyTorch's meta device, without values. It is shared: only read it."""
    import torch

    with torch.device("meta"):
        return build(architecture)


def _assemble(architecture: Architecture, network: type[nn.Module]) -> nn.Module:
    from torch import nn

    from nas.networks.blocks.dynamic_modules import Skip
    from nas.networks.blocks.modules import Residual

    stem, *stages, head = [piece.module() for piece in walk(architecture)]
    built = network(stem, stages, head)
    residuals = [module for module in built.modules() if isinstance(module, Residual)]
    macs = cost_of(architecture).macs
    for residual, place, (block, shape) in zip(
        residuals, places_of(architecture), blocks_of(architecture), strict=True
    ):
        if isinstance(residual.merge, Skip):
            residual.merge.place, residual.merge.network_macs = place, macs
            residual.merge.branch_macs = block.branch_cost(shape).macs
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = architecture.norm_eps
    return built
