"""Suggestion time: time until a sampler's next candidate, with the earlier trials in memory and in the run's journal.

uv run python benchmarks/suggestion.py [--samplers tpe,nsga2,random] [--at 50,200,1000] [--places memory,journal]
uv run python benchmarks/suggestion.py --samplers known-cost --at 200,2000,10000 --places memory
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import optuna

from nas.pareto.objectives import parse_objectives
from nas.runs.records import objective_values
from nas.runs.storage import journal
from nas.samplers import SAMPLERS, Problem, suggest
from nas.spaces.space import load_space

REPEATS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--at", default="50,200,1000")
    parser.add_argument("--places", default="memory,journal")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_space("resnext")
    objectives = parse_objectives("accuracy,params,macs")
    directions = [objective.direction for objective in objectives]
    rng = random.Random(0)
    print(
        f"optuna {optuna.__version__}, space resnext ({len(space.knobs)} knobs), {REPEATS} suggestions each: median (min to max), ms"
    )
    for name in args.samplers.split(","):
        for count in map(int, args.at.split(",")):
            if name == "gp" and count > 200:
                continue  # tens of seconds each
            for place in args.places.split(","):
                with tempfile.TemporaryDirectory() as folder:
                    storage = journal(Path(folder)) if place == "journal" else None
                    study = optuna.create_study(
                        storage=storage, directions=directions, sampler=SAMPLERS[name](Problem(space, objectives, 0))
                    )
                    done = []
                    for _ in range(count):
                        choices = space.any(rng)
                        distributions = {
                            key: optuna.distributions.CategoricalDistribution(knob.values)
                            if knob.step is None
                            else optuna.distributions.IntDistribution(
                                int(knob.values[0]), int(knob.values[-1]), step=knob.step
                            )
                            for key, knob in space.knobs.items()
                            if key in choices
                        }
                        values = objective_values(rng.random(), space.cost(choices), objectives)
                        done.append(
                            optuna.trial.create_trial(params=choices, distributions=distributions, values=values)
                        )
                    study.add_trials(done)
                    times = []
                    for _ in range(REPEATS if name != "gp" else 3):
                        begun = time.perf_counter()
                        trial = study.ask()
                        choices = space.suggest(lambda key, knob, trial=trial: suggest(trial, key, knob))
                        times.append(1000 * (time.perf_counter() - begun))
                        study.tell(trial, objective_values(rng.random(), space.cost(choices), objectives))
                    spread = f"({min(times):.1f} to {max(times):.1f})"
                    print(
                        f"{name:>8} {count:>6} trials, {place:>7}: {statistics.median(times):>8.1f} {spread}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
