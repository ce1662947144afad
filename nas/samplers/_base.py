"""The registry of samplers, the description of a search that they receive, and the request of a knob's value from an Optuna trial."""

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
    """The facts that a sampler may use before the first trial.

    The first objective is expensive. The others are fields of `Cost`, or the latency.
    seed: of the run; a resumed run has the same one. latency_ms: predicts the latency of choices; None if latency is neither an
    objective nor bounded. most_ms: upper bound of the latency. before: number of trials in the study when the sampler is created.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    seed: int
    latency_ms: Callable[[Choices], float] | None = None
    most_ms: float | None = None
    before: int = 0

    @property
    def stream_seed(self) -> int:
        """Seed of a sampler that draws from one stream of random numbers: a resumed run must not repeat the numbers of its first start."""
        return (self.seed + 7919 * self.before) % (1 << 31)


Factory: TypeAlias = "Callable[[Problem], optuna.samplers.BaseSampler]"
"""Creates the sampler of a problem. It imports Optuna itself, so that listing the names stays fast."""

SAMPLERS: Registry[Factory] = Registry("sampler")


def suggest(trial: optuna.Trial, key: str, knob: Knob) -> Value:
    """Ask an Optuna trial for the value of a knob: an integer parameter if the values are evenly spaced, else a categorical one."""
    if len(knob) > 1 and knob.step is not None:
        return trial.suggest_int(key, int(knob.values[0]), int(knob.values[-1]), step=knob.step)
    value = trial.suggest_categorical(key, knob.values)
    assert value is not None  # no knob has the value None
    return value
