"""Runs for the tests of the statistics: choices of a shipped space, exact costs, and accuracies that follow a known law."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from make_run import CHANNELS, CLASSES, EPOCH_COUNT, RESOLUTION, make_settings

from nas.networks.architecture import Architecture
from nas.networks.blocks._base import Value
from nas.networks.build import cost_of
from nas.networks.cost import Cost
from nas.pareto.objectives import parse_objectives
from nas.runs.records import State, Trial
from nas.runs.run import Run
from nas.spaces.space import SearchSpace, load_space
from nas.training.records import Epoch

Worth = Callable[[Mapping[str, Value]], float]


@lru_cache(maxsize=8)
def space_for(name: str) -> SearchSpace:
    return load_space(name, resolution=RESOLUTION, channels=CHANNELS, classes=CLASSES)


@lru_cache(maxsize=8)
def drawn(name: str, count: int, seed: int) -> tuple[tuple[dict[str, Value], Architecture, Cost], ...]:
    """Uniform choices, their networks and costs."""
    space, rng = space_for(name), random.Random(seed)
    found = []
    for _ in range(count):
        choices = space.any(rng)
        architecture = space.architecture(choices)
        found.append((choices, architecture, cost_of(architecture)))
    return tuple(found)


def lawful_run(
    count: int,
    *,
    worth: Worth = lambda choices: 0.0,
    noise: float = 0.01,
    by_cost: float = 0.05,
    seed: int = 0,
    space: str = "resnext",
    stopped: int = 0,
    active: bool = False,
    epochs: int = EPOCH_COUNT,
) -> Run:
    """A run of `count` complete trials: accuracy = 0.7 + by_cost (log10 params - 5) + worth(choices) + noise N(0, 1).

    Beyond 400 trials the networks are drawn again, to be quick. stopped: further trials with one epoch behind them.
    """
    rng = np.random.default_rng(seed)
    networks = drawn(space, min(count + stopped, 400), seed)
    trials = []
    for number in range(count + stopped):
        choices, architecture, cost = networks[number % len(networks)]
        accuracy = 0.7 + by_cost * (np.log10(cost.params) - 5) + worth(choices) + noise * rng.normal()
        state: State = "complete" if number < count else "stopped"
        final = float(np.clip(round(float(accuracy), 5), 0, 1))
        reached = epochs if state == "complete" else 1
        records = tuple(
            Epoch(
                k,
                2.0 / k,
                2.1 / k,
                final * (1 - 0.5 * (epochs - k) / epochs) - 0.01 * rng.random() * (k < epochs),
                0.1,
                2.0,
                900.0,
            )
            for k in range(1, reached + 1)
        )
        complete = state == "complete"
        trials.append(
            Trial(
                number=number,
                state=state,
                label="",
                choices=dict(choices),
                architecture=architecture,
                digest=architecture.digest,
                cost=cost,
                accuracy=final if complete else None,
                values=(final, float(cost.params), float(cost.macs)) if complete else None,
                epochs=records,
                reason="",
                started=1.7e9 + 10 * number,
                seconds=2.0 * reached,
                finished=1.7e9 + 10 * number + 9,
            )
        )
    settings = make_settings("lawful", trials=count, space=space)
    config = settings.to_dict()
    session = {
        "begun": 1.7e9,
        "startup_seconds": 5.0,
        "search_seconds": 6.0 * count,
        "training_seconds": 2.0 * epochs * count,
        "workers": 2,
    }
    return Run(
        path=Path("results") / "lawful",
        config=config,
        objectives=parse_objectives(",".join(settings.objectives)),
        reference=tuple(settings.reference),
        trials=tuple(trials),
        active=active,
        sessions=() if active or not count else (session,),
    )
