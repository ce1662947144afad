"""A small space of layers with an exact cost, for studies of the known-cost sampler."""

from __future__ import annotations

import optuna

DIRECTIONS = ["maximize", "minimize"]


OPS = ("a", "b", "c")


def layers(trial, count: int = 5) -> list[str]:
    return [trial.suggest_categorical(f"layer{k}", OPS) for k in range(count)]


def cost(params) -> list[float]:
    return [1.0 + sum((1, 2, 4)[OPS.index(params[f"layer{k}"])] for k in range(5) if f"layer{k}" in params)]


def quality(params) -> float:
    """More is better but for one interaction."""
    gain = [(0.0, 0.6, 1.0)[OPS.index(params[f"layer{k}"])] for k in range(5)]
    return sum(gain) - 2.0 * (params["layer0"] == "c" and params["layer1"] == "c")


def study_of(sampler, directions=DIRECTIONS, **options) -> optuna.Study:
    return optuna.create_study(directions=directions, sampler=sampler, **options)


def run(study: optuna.Study, trials: int, objective=None) -> None:
    study.optimize(
        objective or (lambda trial: (layers(trial), (quality(trial.params), *cost(trial.params)))[1]), trials
    )


def names(study: optuna.Study) -> list[frozenset]:
    return [frozenset(trial.params.items()) for trial in study.get_trials(deepcopy=False)]


def conditional(trial) -> dict:
    params = {"kind": trial.suggest_categorical("kind", ["plain", "wide", "deep"])}
    if params["kind"] == "wide":
        params["width"] = trial.suggest_int("width", 8, 64, step=8)
    if params["kind"] == "deep":
        params["depth"] = trial.suggest_int("depth", 1, 20)
        if params["depth"] > 10:
            params["rate"] = trial.suggest_float("rate", 0.01, 1.0, log=True)
    return params


def conditional_cost(params) -> list[float]:
    return [{"plain": 3.0, "wide": params.get("width", 0), "deep": params.get("depth", 0)}[params["kind"]]]
