"""Optuna's own test cases of samplers, from the installed package, for the known-cost sampler: an objective, a cost, is added.

Not run, since they can't apply:
- `SingleOnlySamplerTestCase`: of samplers that refuse several objectives. Ours refuses a single one, which
  `test_what_it_is_not_for_is_said` holds (test_known_cost_edges.py).
- Of `optuna.testing.pytest_importance`, `pruners` and `visualization`: nothing of theirs is defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from nas.samplers import KnownCostSampler


def size(params: dict[str, Any]) -> float:
    """The cost of any params: numbers by amount, words by length."""
    return 1.0 + sum(abs(value) if isinstance(value, (int, float)) else len(value) for value in params.values())


class Priced(optuna.Study):
    """A study to which an objective tells its first value alone; the size of its params is the second, once or twice."""

    def _values(self, value: float, params: dict[str, Any]) -> list[float]:
        return [value] + [size(params)] * (len(self.directions) - 1)

    def optimize(self, func: Callable[[optuna.Trial], float], *args: Any, **options: Any) -> None:
        super().optimize(lambda trial: self._values(func(trial), trial.params), *args, **options)

    def tell(self, trial: optuna.Trial, values: float, **options: Any) -> Any:
        return super().tell(trial, self._values(values, trial.params), **options)

    def add_trial(self, trial: optuna.trial.FrozenTrial) -> None:
        trial.values = self._values(trial.values[0], trial.params)
        super().add_trial(trial)

    @property
    def best_value(self) -> float:
        return min(trial.values[0] for trial in self.trials if trial.values is not None)


class KnownCost:
    """The sampler, and studies of one objective more, or two of which the last has to be measured."""

    @pytest.fixture(params=[1, 2], ids=["known", "measured"])
    def costs(self, request: pytest.FixtureRequest) -> int:
        return request.param

    @pytest.fixture
    def sampler(self, costs: int) -> Callable[[], BaseSampler]:
        options: dict[str, Any] = {"measured": (2,), "startup": 0} if costs == 2 else {}  # modelled as soon as can be
        return lambda: KnownCostSampler(lambda params: [size(params)], seed=0, **options)

    @pytest.fixture(autouse=True)
    def priced_studies(self, monkeypatch: pytest.MonkeyPatch, costs: int) -> None:
        create = optuna.create_study

        def create_priced(directions: Sequence[str] | None = None, **options: Any) -> optuna.Study:
            if directions is not None:
                return create(directions=directions, **options)
            study = create(directions=["minimize"] * (1 + costs), **options)
            study.__class__ = Priced
            return study

        monkeypatch.setattr(optuna, "create_study", create_priced)
        monkeypatch.setattr(optuna.study, "create_study", create_priced)


class TestBasic(KnownCost, BasicSamplerTestCase):
    pass


class TestRelative(KnownCost, RelativeSamplerTestCase):
    pass


class TestMultiObjective(KnownCost, MultiObjectiveSamplerTestCase):
    pass
