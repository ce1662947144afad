"""`KnownCostSampler` for a search space: the exact costs, features and constraints of its networks follow from the choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nas.networks.build import cost_of
from nas.samplers._base import SAMPLERS, Problem

if TYPE_CHECKING:
    import optuna

    from nas.networks.architecture import Architecture
    from nas.networks.cost import Cost
    from nas.spaces.knobs import Choices

COSTS = ("params", "macs", "activations")
LATENCY = "latency_ms"
DEPTHS = ("depth", "network_depth")  # last parts of the names of knobs
REMEMBERED = 1 << 14  # candidates; costs, features, feasibility and identity of one are requested in turn


@SAMPLERS.register("known-cost")
def known_cost(problem: Problem) -> optuna.samplers.BaseSampler:
    """Expected hypervolume improvement with exact costs; a Gaussian process over choices and costs models the accuracy."""
    from nas.samplers.known_cost import KnownCostSampler

    space, names = problem.space, [objective.name for objective in problem.objectives[1:]]

    @lru_cache(maxsize=REMEMBERED)
    def known(choices: tuple[tuple[str, Any], ...]) -> tuple[Architecture, Cost]:
        architecture = space.architecture(dict(choices))
        return architecture, cost_of(architecture)

    def cost(choices: Choices) -> Cost:
        return known(tuple(choices.items()))[1]

    def costs(choices: Choices) -> Sequence[float]:
        return [ms(choices) if name == LATENCY else getattr(cost(choices), name) for name in names]

    def ms(choices: Choices) -> float:
        assert problem.latency_ms is not None
        return problem.latency_ms(choices)

    def features(choices: Choices) -> Sequence[float]:
        exact = cost(choices)
        depths = (value for key, value in choices.items() if key.split(".")[-1] in DEPTHS and isinstance(value, int))
        return [*(getattr(exact, name) for name in COSTS if name not in names), 1 + sum(depths)]

    def feasible(choices: Choices) -> bool:
        if space.budget.violation(cost(choices)):
            return False
        return problem.most_ms is None or ms(choices) <= problem.most_ms

    return KnownCostSampler(
        costs,
        feasible=feasible if space.budget.bounds or problem.most_ms is not None else None,
        seed=problem.seed,
        space=space,
        identity=lambda choices: known(tuple(choices.items()))[0].digest,
        features=features,
        curve=_curve,
    )


def _curve(trial: optuna.trial.FrozenTrial) -> Mapping[float, float]:
    """Accuracies by fidelity, from the trial's attributes: the learning curve, or the last point of a stopped trial."""
    facts = trial.user_attrs.get("nas", {})
    reached = facts.get("partial")
    curve: Mapping[str, float] = facts.get("curve") or {}  # JSON has text keys
    return {float(share): value for share, value in curve.items()} or (
        {reached["fidelity"]: reached["value"]} if reached else {}
    )
