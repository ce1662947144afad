"""Costs of a sampler's networks: their mean multiply-adds divided by those of random networks; the basis of `nas plan`.

uv run python benchmarks/taste.py [--spaces resnet resnext mbconv] [--sampler known-cost] [--trials 40] [--seeds 10]

Nothing is trained: the error is synthetic, a power of the multiply-adds with noise, and reported at once. A repeated network
is reported as a failure and does not count, as in a search. Each cell is the mean over the seeds, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import functools
import random
import statistics

import optuna

from nas.networks.build import cost_of
from nas.pareto.objectives import parse_objectives
from nas.profiling.time_plan import representatives
from nas.samplers import SAMPLERS, Problem, suggest
from nas.spaces.space import load_space
from nas.training.proxy import Proxy

EXPONENT, NOISE = -0.3, 0.05  # of the error, whose logarithm the noise is of
RESOLUTION, CHANNELS, CLASSES = 8, 1, 10  # of the digits


def shares(name: str, sampler: str, trials: int, seed: int) -> list[float]:
    """Multiply-adds of the trials of a search divided by those of the mean random network, in the order of proposal."""
    space = load_space(name, resolution=RESOLUTION, channels=CHANNELS, classes=CLASSES)
    objectives = parse_objectives("accuracy,params,macs")
    expected = statistics.mean(cost_of(own).macs for own in representatives(space, Proxy(), seed))
    rng = random.Random(seed)
    study = optuna.create_study(
        directions=[own.direction for own in objectives],
        sampler=SAMPLERS.find(sampler)(Problem(space, objectives, seed)),
    )
    known: set[str] = set()
    found: list[float] = []
    while len(found) < trials:
        trial = study.ask()
        network = space.architecture(space.suggest(functools.partial(suggest, trial)))
        cost = cost_of(network)
        if network.digest in known:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        known.add(network.digest)
        error = 0.1 * (cost.macs / expected) ** EXPONENT * 2.718 ** rng.gauss(0, NOISE)
        study.tell(trial, [1 - min(error, 0.9), float(cost.params), float(cost.macs)])
        found.append(cost.macs / expected)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["resnet", "resnext", "mbconv"])
    parser.add_argument("--sampler", default="known-cost")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spans = [(first, min(first + 10, args.trials)) for first in range(0, args.trials, 10)]
    wholes = [(0, last) for _, last in spans[1:]]
    print("| space | " + " | ".join(f"{first + 1} to {last}" for first, last in [*spans, *wholes]) + " |")
    print("|---|" + "---:|" * len([*spans, *wholes]), flush=True)
    for space in args.spaces:
        runs = [shares(space, args.sampler, args.trials, seed) for seed in range(args.seeds)]
        cells = []
        for first, last in [*spans, *wholes]:
            means = [statistics.mean(own[first:last]) for own in runs]
            cells.append(f"{statistics.mean(means):.2f} ({min(means):.2f} to {max(means):.2f})")
        print(f"| {space} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
