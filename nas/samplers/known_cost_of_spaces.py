"""Our own sampler, told all that a search space knows of its networks before any is trained."""

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

COSTS = ("params", "macs", "activations")
LATENCY = "latency_ms"
REMEMBERED = 1 << 14  # candidates; their costs, features and names are asked for one after the other


@SAMPLERS.register("known-cost")
def known_cost(problem: Problem) -> optuna.samplers.BaseSampler:
    """Gaussian process of accuracy over choices and exact costs, expected hypervolume improvement with costs known."""
    from nas.samplers.known_cost import KnownCostSampler

    space, names = problem.space, [objective.name for objective in problem.objectives[1:]]

    @lru_cache(maxsize=REMEMBERED)
    def known(choices: tuple[tuple[str, Any], ...]) -> tuple[Architecture, Cost]:
        architecture = space.architecture(dict(choices))
        return architecture, cost_of(architecture)

    def cost(choices: dict[str, Any]) -> Cost:
        return known(tuple(choices.items()))[1]

    def costs(choices: dict[str, Any]) -> Sequence[float]:
        return [ms(choices) if name == LATENCY else getattr(cost(choices), name) for name in names]

    def ms(choices: dict[str, Any]) -> float:
        assert problem.latency_ms is not None
        return problem.latency_ms(choices)

    def features(choices: dict[str, Any]) -> Sequence[float]:
        found = cost(choices)
        depth = sum(value for key, value in choices.items() if key.split(".")[-1] in ("depth", "network_depth"))
        return [*(getattr(found, name) for name in COSTS if name not in names), 1 + depth]

    def feasible(choices: dict[str, Any]) -> bool:
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
    """Accuracies on the way, as a run's study keeps them: the whole curve, or of a stopped trial the place where it ended."""
    facts = trial.user_attrs.get("nas", {})
    reached = facts.get("partial")
    curve: Mapping[str, float] = facts.get("curve") or {}  # JSON has made text of the fidelities
    return {float(share): value for share, value in curve.items()} or (
        {reached["fidelity"]: reached["value"]} if reached else {}
    )
