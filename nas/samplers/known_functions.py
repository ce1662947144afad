"""The caller's functions of params: called once for each candidate, their results checked; an exception becomes a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.errors import reason_of
from nas.samplers.domain import Key, Params, key_of
from nas.samplers.gaussian_process import Floats

REMEMBERED = 50_000  # candidates


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a candidate before it is run.

    costs (k,): None if the caller's function raised, as it may for incomplete params. allowed: feasible, and all costs finite.
    """

    key: Key
    costs: Floats | None
    features: Floats
    allowed: bool


class Oracle:
    """Calls and caches `costs`, `feasible`, `identity` and `features`. ValueError for a wrong number of costs or features."""

    def __init__(
        self,
        costs: Callable[[Params], Sequence[float]],
        feasible: Callable[[Params], bool] | None,
        identity: Callable[[Params], Hashable] | None,
        features: Callable[[Params], Sequence[float]] | None,
    ) -> None:
        self._costs, self._feasible, self._identity, self._features = costs, feasible, identity, features
        self._facts: dict[Key, Facts] = {}
        self._identities: dict[Key, Hashable] = {}
        self._warned: set[str] = set()
        self._width: int | None = None  # of the features

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_facts": {}, "_identities": {}}  # caches, which a copy does not need

    def facts(self, params: Params, count: int) -> Facts:
        """The facts about a candidate. count: expected number of costs."""
        key = key_of(params)
        known = self._facts.get(key)
        if known is None:
            if len(self._facts) >= REMEMBERED:
                self._facts.clear()
            known = self._facts[key] = self._ask(key, params, count)
        return known

    def identity(self, params: Params) -> Hashable:
        """Equal for candidates that are the same network; the params themselves without an `identity` function."""
        key = key_of(params)
        if self._identity is None:
            return key
        if key not in self._identities:
            if len(self._identities) >= REMEMBERED:
                self._identities.clear()
            try:
                self._identities[key] = self._identity(dict(params))
            except Exception as error:
                self._warn("identity", error)
                return key
        return self._identities[key]

    def _ask(self, key: Key, params: Params, count: int) -> Facts:
        nothing = np.zeros(0)
        try:
            costs = np.asarray(self._costs(dict(params)), dtype=np.float64).reshape(-1)
        except Exception as error:
            self._warn("costs", error)
            return Facts(key, None, nothing, self._is_feasible(params))
        if len(costs) != count:
            raise ValueError(
                f"costs(params) gave {len(costs)} values; the study has {count} objectives after the first that are exact"
            )
        features = nothing
        if self._features is not None:
            try:
                features = np.asarray(self._features(dict(params)), dtype=np.float64).reshape(-1)
            except Exception as error:
                self._warn("features", error)
                return Facts(key, None, nothing, self._is_feasible(params))
            if self._width not in (None, len(features)):
                raise ValueError(
                    f"features(params) gave {len(features)} values, but {self._width} for another candidate"
                )
            self._width = len(features)
        finite = bool(np.isfinite(costs).all() and np.isfinite(features).all())
        return Facts(key, costs, features, finite and self._is_feasible(params))

    def _is_feasible(self, params: Params) -> bool:
        if self._feasible is None:
            return True
        try:
            return bool(self._feasible(dict(params)))
        except Exception as error:
            self._warn("feasible", error)
            return True

    def _warn(self, name: str, error: Exception) -> None:
        """Warn once for each function. A study must not end because the cost of a candidate is unknown."""
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"KnownCostSampler: {name}(params) raised {type(error).__name__}: {reason_of(error)}; such candidates are only "
                "tried at random",
                stacklevel=2,
            )
