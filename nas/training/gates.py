"""Costs of dynamic networks: expected before training, counted on data, and saved by skipping branches.

A block with the merge `skip` runs its branch only for the images that its gate g_k lets through. With M the network's
multiply-adds if every branch runs (`nas.networks.build.cost_of`, the worst case) and M_k those of branch k, an image costs
M - sum over k of (1 - g_k) M_k. Stem, head, shortcuts and the gates themselves always run.

Blocks are called stage1.block1, stage1.block2, ... The first half of this file needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.blocks.skipnet import Skip
from nas.networks.build import blocks_of, cost_of, places_of
from nas.networks.cost import Cost
from nas.training.records import Execution
from nas.utils.registry import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.networks.blocks.dynamic_modules import Skip as SkipModule


def gated_branches(architecture: Architecture, resolution: int | None = None) -> dict[str, Cost]:
    """Cost of each branch that may be skipped, by the name of its block; empty for a static network."""
    return {
        place: block.branch_cost(shape)
        for place, (block, shape) in zip(places_of(architecture), blocks_of(architecture, resolution), strict=True)
        if isinstance(block.merge, Skip) and block.path() is not None
    }


def expected_cost(
    architecture: Architecture, executed: float | Mapping[str, float] = 0.5, resolution: int | None = None
) -> Cost:
    """Mean cost of an image if gate k lets the share p_k of images through: M - sum over k of (1 - p_k) M_k, rounded.

    executed: p in [0, 1] for all gates, or for each by its block's name. 1 is the worst case (`cost_of`), 0 the best one.
    Activations are counted likewise; params don't depend on p. UsageError for impossible shares and unknown or missing names.
    """
    total, branches = cost_of(architecture, resolution), gated_branches(architecture, resolution)
    shares = dict(executed) if isinstance(executed, Mapping) else dict.fromkeys(branches, executed)
    for name in shares:
        if name not in branches:
            raise UsageError(f"no block {name!r} with a gate{did_you_mean(name, list(branches))}")
    if missing := [name for name in branches if name not in shares]:
        raise UsageError(f"executed: no share for {', '.join(missing)}")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"executed: the share of {name} must be from 0 to 1, not {share!r}")
    spared = [(1 - shares[name], branch) for name, branch in branches.items()]
    return Cost(
        total.params,
        total.macs - round(math.fsum(share * branch.macs for share, branch in spared)),
        total.activations - round(math.fsum(share * branch.activations for share, branch in spared)),
    )


# -- networks as modules -----------------------------------------------------------------------------------------------


def gates(network: nn.Module) -> list[SkipModule]:
    """The gated merges of a built network, in order; empty for a static one."""
    from nas.networks.blocks.dynamic_modules import Skip as SkipModule

    return [module for module in network.modules() if isinstance(module, SkipModule)]


def computation_loss(merges: list[SkipModule]) -> Tensor:
    """sum over k of price_k x (M_k / M) x mean over the batch of g_k, a scalar, for the last forward pass.

    Its straight-through gradient lowers the probability of every gate on every image. merges: a network's `gates`, at least
    one.
    """
    import torch

    terms = []
    for merge in merges:
        assert merge.executed is not None, "computation_loss needs a forward pass before it"
        terms.append(merge.executed.mean() * (merge.price * merge.branch_macs / max(merge.network_macs, 1)))
    return torch.stack(terms).sum()


@contextmanager
def counting(network: nn.Module) -> Iterator[Counter]:
    """Count the images that the gates let through in all forward passes in the block: see `Counter.execution`.

    >>> with counting(network) as counter:
    ...     evaluate(network, batches)
    >>> counter.execution().macs
    """
    counter = Counter(gates(network))
    handle = network.register_forward_hook(lambda *_: counter.add())
    try:
        yield counter
    finally:
        handle.remove()


class Counter:
    """Images let through by each gate since `counting` began. The sums stay on the network's device until they are read."""

    def __init__(self, merges: list[SkipModule]) -> None:
        self._merges = merges
        self._executed: list[Tensor | None] = [None] * len(merges)
        self._images = 0

    def execution(self) -> Execution | None:
        """Means over the images seen so far; None for a static network, or before the first image."""
        if not self._images:
            return None
        counts = [0.0 if executed is None else float(executed) for executed in self._executed]
        shares = {merge.place: count / self._images for merge, count in zip(self._merges, counts, strict=True)}
        spared = math.fsum((1 - shares[merge.place]) * merge.branch_macs for merge in self._merges)
        return Execution(self._merges[0].network_macs - spared, shares, self._images)

    def add(self) -> None:
        """Add the gates' decisions in the network's last forward pass."""
        for place, merge in enumerate(self._merges):
            assert merge.executed is not None
            before, count = self._executed[place], merge.executed.detach().sum()
            self._executed[place] = count if before is None else before + count
        if self._merges:
            assert self._merges[0].executed is not None
            self._images += len(self._merges[0].executed)


@contextmanager
def skipping(network: nn.Module) -> Iterator[None]:
    """In the block, evaluation runs each gated branch only on the images that its gate lets through, which is faster.

    Outputs are the same up to rounding. Otherwise, and always in training, every branch runs for every image and its output is
    masked: exports, compilers and CUDA graphs need shapes that don't depend on the data.
    """
    merges = gates(network)
    before = [merge.selects for merge in merges]
    for merge in merges:
        merge.selects = True
    try:
        yield
    finally:
        for merge, selected in zip(merges, before, strict=True):
            merge.selects = selected
