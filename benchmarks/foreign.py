"""Samplers in plain define-by-run Optuna studies, in which some parameters exist only for some values of others.

uv run python benchmarks/foreign.py [--samplers known-cost,tpe,nsga2,random] [--studies blocks,cells,training] [--repeats 20] [--budget 60]

Three synthetic functions of a network's quality, with noise. The known-cost sampler gets only the costs: no space, no identities.
The output is the hypervolume (noise-free quality, log10 costs) of the observed front, as a percentage of that of the best known
front, which comes from 20,000 random candidates and 12 rounds of 1,500 mutations of their front.
"""

from __future__ import annotations

import argparse
import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna

from nas.bench.summary import standard_error
from nas.pareto.dominance import front
from nas.pareto.volume import hypervolume
from nas.samplers import KnownCostSampler

MARKS = (12, 25, 40, 60)
STAGES, EDGES = range(3), range(7)
PATHS = ((3,), (6,), (0, 4), (1, 5), (0, 2, 5))  # paths from the input to the output of a cell, by edges
Params = dict[str, Any]


class Asker(Protocol):
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int: ...


class Chance:
    """Random answers, except for given ones."""

    def __init__(self, rng: random.Random, given: Params | None = None) -> None:
        self.rng, self.given, self.params = rng, given or {}, Params()

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.params[name] = self.given[name] if name in self.given else self.rng.choice(list(choices))
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        self.params[name] = self.given[name] if name in self.given else self.rng.randrange(low, high + 1, step)
        return int(self.params[name])


@dataclass(frozen=True)
class Made:
    """ask: asks for a trial's parameters. costs, quality: functions of the answers. noise: standard deviation of an observed quality."""

    ask: Callable[[Asker], None]
    costs: Callable[[Params], list[float]]
    quality: Callable[[Params], float]
    noise: float


# -- three stages of blocks: cardinality and bottleneck ratio for some block types only; two costs ---------------------------


def ask_blocks(trial: Asker) -> None:
    for i in STAGES:
        block = trial.suggest_categorical(f"s{i}.block", ("basic", "bottleneck", "resnext"))
        trial.suggest_int(f"s{i}.depth", 1, 6)
        trial.suggest_int(f"s{i}.width", 16, 96 * (1 + i), step=16)
        if block == "resnext":
            trial.suggest_categorical(f"s{i}.cardinality", (2, 4, 8, 16))
        if block != "basic":
            trial.suggest_categorical(f"s{i}.ratio", (0.25, 0.5, 1.0))
    trial.suggest_categorical("stem", ("conv3", "conv7", "patch"))
    trial.suggest_categorical("shortcut", ("identity", "projection", "pool", "none"))


def costs_of_blocks(params: Params) -> list[float]:
    weights = macs = 0.0
    for i in STAGES:
        width = params[f"s{i}.width"]
        middle = max(width * params.get(f"s{i}.ratio", 1.0), 4)
        groups = params.get(f"s{i}.cardinality", 1)
        own = 18 * width**2 if params[f"s{i}.block"] == "basic" else 2 * width * middle + 9 * middle**2 / groups
        weights += params[f"s{i}.depth"] * own
        macs += params[f"s{i}.depth"] * own * 256 / 4**i
    return [weights, macs]


def quality_of_blocks(params: Params) -> float:
    width, depth = ([params[f"s{i}.{what}"] for i in STAGES] for what in ("width", "depth"))
    total = 0.0
    for i in STAGES:
        groups = 1.3 - 0.05 * abs(math.log2(params.get(f"s{i}.cardinality", 4)) - 2.5)
        worth = {"basic": 1.0, "bottleneck": 1.15, "resnext": groups}[params[f"s{i}.block"]]
        seen = depth[i] ** 0.8 * width[i] / 8 * (0.6 + 0.4 * params.get(f"s{i}.ratio", 1.0))
        total += 1.1 * (1.0, 1.4, 1.2)[i] * worth * math.log2(1 + seen)
    total += {"identity": 0, "projection": 0.3, "pool": 0.6, "none": -0.35 * max(sum(depth) - 5, 0)}[params["shortcut"]]
    total += {"conv3": 0.4, "conv7": 0.0, "patch": -1.0}[params["stem"]]
    total -= 0.8 * abs(math.log2(width[1] / width[0]) - 0.8) + 0.5 * abs(math.log2(width[2] / width[1]) - 0.5)
    return 96 - 60 * math.exp(-0.22 * total)


# -- cells of seven edges, some without a path to the output, which learn nothing; one cost --------------------------------------------


def ask_cells(trial: Asker) -> None:
    for i in EDGES:
        trial.suggest_categorical(f"edge{i}", ("none", "skip", "conv1", "conv3", "pool"))


def costs_of_cells(params: Params) -> list[float]:
    weights = {"conv1": 2.2e4, "conv3": 1.6e5}
    return [5e4 + sum(weights.get(params[f"edge{i}"], 0.0) for i in EDGES)]


def quality_of_cells(params: Params) -> float:
    own = [params[f"edge{i}"] for i in EDGES]
    live = [path for path in PATHS if all(own[k] != "none" for k in path)]
    if not live:
        return 10.0
    worth = {"skip": 0.15, "conv1": 0.8, "conv3": 1.3, "pool": -0.1}
    best = max(sum(worth[own[k]] for k in path) for path in live)
    everything = sum(worth[own[k]] for k in {k for path in live for k in path})
    residual = 0.5 * any(all(own[k] == "skip" for k in path) for path in live)
    return 94 - 32 * math.exp(-0.75 * best - 0.28 * everything - residual) - (0 if best > 0.4 else 12)


# -- depth, width and a recipe, whose magnitude of augmentation exists only for one kind; one cost ---------------------------


def ask_training(trial: Asker) -> None:
    trial.suggest_int("depth", 2, 20)
    trial.suggest_int("width", 8, 128, step=8)
    trial.suggest_int("rate", 0, 12)
    trial.suggest_int("decay", 0, 8)
    if trial.suggest_categorical("augment", ("none", "flip", "random")) == "random":
        trial.suggest_int("magnitude", 1, 10)


def costs_of_training(params: Params) -> list[float]:
    return [9.0 * params["depth"] * params["width"] ** 2]


def quality_of_training(params: Params) -> float:
    depth, width = params["depth"], params["width"]
    size = math.log2(depth * width**2)
    best_rate = 7 - 0.12 * depth + 0.01 * width
    strength = 0.9 - 0.06 * (params.get("magnitude", 5) - 6) ** 2 / max(1.0, size - 12)
    x = 0.3 * size - 0.12 * (params["rate"] - best_rate) ** 2 - 0.08 * (params["decay"] - 4) ** 2
    x += {"none": 0.0, "flip": 0.5, "random": strength}[params["augment"]]
    diverges = params["rate"] > 11 and width > 64
    return float(95 - 70 * math.exp(-0.42 * max(x, 0.1)) - 40 * diverges)


STUDIES = {
    "blocks": Made(ask_blocks, costs_of_blocks, quality_of_blocks, 0.4),
    "cells": Made(ask_cells, costs_of_cells, quality_of_cells, 0.25),
    "training": Made(ask_training, costs_of_training, quality_of_training, 0.5),
}


class Scale:
    """Reference point of the hypervolume of a function, and the hypervolume of the best known front."""

    def __init__(self, made: Made) -> None:
        rng = random.Random(12345)
        found = [self._drawn(made, rng) for _ in range(20_000)]
        values = np.array([self.values(made, own) for own in found])
        self.directions: list[Any] = ["maximize"] + ["minimize"] * (values.shape[1] - 1)
        self.reference = np.array([np.quantile(values[:, 0], 0.1), *values[:, 1:].max(axis=0)])
        for _ in range(12):
            kept = front(values, self.directions)
            parents = [found[k] for k in kept]
            children = [self._mutated(made, rng.choice(parents), rng) for _ in range(1500)]
            found = parents + children
            values = np.vstack([values[kept], [self.values(made, own) for own in children]])
        self.whole = hypervolume(values, self.reference, self.directions)

    @staticmethod
    def values(made: Made, params: Params) -> list[float]:
        return [made.quality(params), *np.log10(made.costs(params)).tolist()]

    @staticmethod
    def _drawn(made: Made, rng: random.Random) -> Params:
        chance = Chance(rng)
        made.ask(chance)
        return chance.params

    @staticmethod
    def _mutated(made: Made, parent: Params, rng: random.Random) -> Params:
        dropped = rng.sample(sorted(parent), rng.choice((1, 1, 2)))
        chance = Chance(rng, {name: value for name, value in parent.items() if name not in dropped})
        made.ask(chance)
        return chance.params


def sampler(name: str, made: Made, seed: int) -> optuna.samplers.BaseSampler:
    if name == "known-cost":
        return KnownCostSampler(made.costs, seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    raise SystemExit(f"--samplers {name}: choose from known-cost, tpe, nsga2 and random")


def replay(name: str, made: Made, scale: Scale, repeat: int, budget: int) -> list[float]:
    """Percentage of the hypervolume after each trial."""
    noise = np.random.default_rng([7, repeat])
    study = optuna.create_study(directions=scale.directions, sampler=sampler(name, made, repeat))
    observed, true, shares = [], [], []
    for _ in range(budget):
        trial = study.ask()
        made.ask(trial)
        values = scale.values(made, trial.params)
        observation = values[0] + made.noise * float(noise.standard_normal())
        study.tell(trial, [observation, *made.costs(trial.params)])
        observed.append([observation, *values[1:]])
        true.append(values)
        found = front(np.array(observed), scale.directions)
        shares.append(100 * hypervolume(np.array(true)[found], scale.reference, scale.directions) / scale.whole)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", default="known-cost,tpe,nsga2,random")
    parser.add_argument("--studies", default=",".join(STUDIES))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--budget", type=int, default=60)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    marks = [mark for mark in MARKS if mark <= args.budget]
    print("| study | sampler | n | " + " | ".join(f"at {mark}, %" for mark in marks) + " |")
    print("|---|---|---:" + "|---:" * len(marks) + "|")
    for which in args.studies.split(","):
        scale = Scale(STUDIES[which])
        for name in args.samplers.split(","):
            shares = np.array([replay(name, STUDIES[which], scale, r, args.budget) for r in range(args.repeats)])
            errors = standard_error(shares)
            cells = [f"{shares[:, mark - 1].mean():.1f} ± {errors[mark - 1]:.1f}" for mark in marks]
            print(f"| {which} | {name} | {args.repeats} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
