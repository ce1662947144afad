"""Candidates to choose among: random ones, mutations of good ones, crossovers of two."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nas.samplers.domain import Domain, Params, completed, sample


def mutated(domain: Domain, parent: Params, steps: int, rng: random.Random) -> Params:
    """`parent` with `steps` of its parameters changed; what comes into being by that is drawn at random."""
    movable = [name for name in parent if name in domain.dimensions and domain.dimensions[name].count > 1]
    changed = dict(parent)
    for name in rng.sample(movable, min(steps, len(movable))):
        changed[name] = domain.dimensions[name].other(parent[name], rng)
    return completed(domain, changed, rng)


def crossed(domain: Domain, one: Params, other: Params, rng: random.Random) -> Params:
    """Each parameter from one parent or the other, where only one has it from that one."""
    mixed = {**one, **other}
    for name in mixed:
        if name in one and name in other and rng.random() < 0.5:
            mixed[name] = one[name]
    return completed(domain, mixed, rng)


def offspring(domain: Domain, parents: Sequence[Params], count: int, rng: random.Random) -> list[Params]:
    """`count` children of the parents: half of one step, a quarter of two, a quarter of two parents, some of them mutated."""
    children: list[Params] = []
    for _ in range(count if parents else 0):
        parent, kind = rng.choice(parents), rng.random()
        if kind < 0.5:
            children.append(mutated(domain, parent, 1, rng))
        elif kind < 0.75 or len(parents) < 2:
            children.append(mutated(domain, parent, 2, rng))
        else:
            child = crossed(domain, parent, rng.choice(parents), rng)
            children.append(mutated(domain, child, 1, rng) if rng.random() < 0.3 else child)
    return children


def randoms(domain: Domain, count: int, rng: random.Random) -> list[Params]:
    return [sample(domain, rng) for _ in range(count)]
