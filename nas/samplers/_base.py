"""Samplers by name, what they are told of a search, and how a knob is put to an Optuna trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from nas.networks.blocks._base import Value
from nas.pareto.objectives import Objective
from nas.spaces.knobs import Choices, Knob
from nas.spaces.space import SearchSpace
from nas.utils.registry import Registry

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True)
class Problem:
    """What a sampler may know before the first trial. The first objective is expensive; the others are fields of `Cost`.

    seed: the run's, which a resumed run keeps. latency_ms: predicts the one that is not; None where latency is neither an objective nor
    bounded. most_ms: its bound. before: trials that the study has as the sampler is made.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    seed: int
    latency_ms: Callable[[Choices], float] | None = None
    most_ms: float | None = None
    before: int = 0

    @property
    def stream_seed(self) -> int:
        """For a sampler that draws from one stream, so that a resumed run does not repeat the numbers of its first start."""
        return (self.seed + 7919 * self.before) % (1 << 31)


Factory: TypeAlias = "Callable[[Problem], optuna.samplers.BaseSampler]"
"""From a problem to a sampler. Optuna is imported inside, so that listing the names costs nothing."""

SAMPLERS: Registry[Factory] = Registry("sampler")


def suggest(trial: optuna.Trial, key: str, knob: Knob) -> Value:
    """Ask an Optuna trial for a knob's value: an integer range where the values are one, else a category."""
    if len(knob) > 1 and knob.step is not None:
        return trial.suggest_int(key, int(knob.values[0]), int(knob.values[-1]), step=knob.step)
    value = trial.suggest_categorical(key, knob.values)
    assert value is not None  # no knob has the value None
    return value
