"""Samplers by name, and how a knob is put to an Optuna trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from nas.knobs import Knob, Value
from nas.registry import Registry

if TYPE_CHECKING:
    import optuna

Factory: TypeAlias = "Callable[[int], optuna.samplers.BaseSampler]"
"""From a seed to a sampler. Optuna is imported inside, so that listing the names costs nothing."""

SAMPLERS: Registry[Factory] = Registry("sampler")


def suggest(trial: optuna.Trial, key: str, knob: Knob) -> Value:
    """Ask an Optuna trial for a knob's value: an integer range where the values are one, else a category."""
    if len(knob) > 1 and knob.step is not None:
        return trial.suggest_int(key, int(knob.values[0]), int(knob.values[-1]), step=knob.step)
    value = trial.suggest_categorical(key, knob.values)
    assert value is not None  # no knob has the value None
    return value
