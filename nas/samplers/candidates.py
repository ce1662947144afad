"""Generation of candidates: random ones, mutations of good ones, and crossovers of two."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nas.samplers.domain import Domain, Params, completed, sample


def mutated(domain: Domain, parent: Params, steps: int, rng: random.Random) -> Params:
    """`parent` with `steps` of its parameters changed. Parameters that exist only after the change are drawn at random."""
    movable = [name for name in parent if name in domain.dimensions and domain.dimensions[name].count > 1]
    changed = dict(parent)
    for name in rng.sample(movable, min(steps, len(movable))):
        changed[name] = domain.dimensions[name].other(parent[name], rng)
    return completed(domain, changed, rng)


def crossed(domain: Domain, one: Params, other: Params, rng: random.Random) -> Params:
    """Each parameter from one of the two parents at random, or from the only parent that has it."""
    mixed = {**one, **other}
    for name in mixed:
        if name in one and name in other and rng.random() < 0.5:
            mixed[name] = one[name]
    return completed(domain, mixed, rng)


def offspring(domain: Domain, parents: Sequence[Params], count: int, rng: random.Random) -> list[Params]:
    """`count` children: half are mutations of one parameter, a quarter of two, a quarter crossovers, some of which are mutated too."""
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
