"""Gaussian processes of a study's objectives: training data from finished trials, and hyperparameters."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.samplers.encoding import Axes, Encoder, warped
from nas.samplers.gaussian_process import EXACT, FIT, INDUCING, Floats, Kernel, Posterior
from nas.samplers.history import History, Observation, Stopped, number_of
from nas.samplers.known_functions import Oracle
from nas.samplers.partial_curves import expected
from nas.samplers.pool import Candidate, Pool

LEAST = 4  # fewest observations for a model
WAITED_FOR = 128  # a trial whose number is so far below the latest may never end
REMEMBERED = 64  # cached fits of hyperparameters


@dataclass(frozen=True, slots=True)
class Model:
    """The process of one objective, and the scale of its targets: (value - centre) / spread."""

    process: Posterior
    centre: float
    spread: float


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training data of one objective: inputs (n, p), exact costs on their axes (n, k), targets (n,) on the scale of `Model`.

    blur (n,): variances of the targets' errors besides the noise; None if all are 0.
    """

    inputs: Floats
    placed: Floats
    targets: Floats
    blur: Floats | None
    centre: float
    spread: float


@dataclass(frozen=True, slots=True)
class Blurred:
    """Observations with additional noise: inputs (m, p), costs on their axes (m, k), values (m,), and variances (m,)."""

    inputs: Floats
    placed: Floats
    value: Floats
    variance: Floats


class Models:
    """The models of one history, on the current axes of its pool. exact: indices, among the objectives, of the known costs.

    The models are a function of the history; caches only save time. Therefore only exact columns are cached. Logarithms are taken
    of all rows at once, because the last bit of a vectorized logarithm may depend on the other rows.
    """

    def __init__(
        self, history: History, oracle: Oracle, pool: Pool, exact: Sequence[int], *, cost_features: bool
    ) -> None:
        self._history, self._oracle, self._pool = history, oracle, pool
        self._exact, self._cost_features = list(exact), cost_features
        self._extra = 0 if pool.extra is None else len(pool.extra.kind)
        self.encoder = Encoder(history.domain, len(self._exact) + self._extra if cost_features else 0)
        self._kernel = Kernel(self.encoder.layout)
        self._numbers: NDArray[np.intp] = np.zeros(0, dtype=np.intp)  # of the observations, ascending
        self._columns: Floats = np.zeros((0, 0))  # of the encoder, for each observation
        self._facts: Floats = np.zeros((0, 0))  # exact costs and the caller's further features of each observation
        self._theta: dict[tuple[int, tuple[int, ...]], Floats] = {}  # by objective and training trials

    def update(self) -> None:
        """Add the new observations of the history."""
        known = set(self._numbers.tolist())
        fresh = [trial for trial in self._history.observations if trial.number not in known]
        if not fresh:
            return
        columns = self.encoder.columns([trial.params for trial in fresh])
        facts = np.array([[*(trial.costs[k - 1] for k in self._exact), *self._features(trial)] for trial in fresh])
        numbers = np.array([trial.number for trial in fresh], dtype=np.intp)
        if known:
            columns, facts = np.vstack([self._columns, columns]), np.vstack([self._facts, facts])
            numbers = np.concatenate([self._numbers, numbers])
        order = np.argsort(numbers)
        self._columns, self._facts, self._numbers = columns[order], facts[order], numbers[order]

    def model(self, objective: int) -> Model:
        """The model of one objective, from all finished trials."""
        data = self._training_data(objective, len(self._history.observations), len(self._history.stopped))
        theta = self._hyperparameters(objective, self._training_numbers())
        n = len(data.targets)
        inducing = None if n <= EXACT else data.inputs[_subset(data.targets, data.placed, INDUCING)]
        process = Posterior(self._kernel, theta, data.inputs, data.targets, inducing, data.blur)
        return Model(process, data.centre, data.spread)

    def placed(self, observed: int | None = None) -> Floats:
        """Exact costs of all observations, or of the first `observed` ones, on their axes, (n, exact)."""
        assert self._pool.axes is not None
        return self._pool.axes.place(self._facts[:observed, : len(self._exact)])

    def encode(self, candidates: Sequence[Candidate]) -> Floats:
        """Inputs of candidates with known costs, (n, p)."""
        fresh = [candidate for candidate in candidates if candidate.columns is None]
        for candidate, columns in zip(
            fresh, self.encoder.columns([candidate.params for candidate in fresh]), strict=True
        ):
            candidate.columns = columns
        columns = np.array([candidate.columns for candidate in candidates], dtype=np.float64).reshape(
            len(candidates), -1
        )
        more = np.array([candidate.facts.features for candidate in candidates]).reshape(len(candidates), -1)
        return np.hstack([columns, self._scaled(self._pool.placed(candidates), more)])

    # -- hyperparameters ---------------------------------------------------------------------------------------------

    def _training_numbers(self) -> tuple[int, ...]:
        """Numbers of the trials from which hyperparameters are fitted: the earliest; they change with each tenth more.

        A running trial will belong to them, so only trials before the first running one count, unless these are less than half.
        """
        history = self._history
        numbers = sorted([*map(number_of, history.observations), *map(number_of, history.stopped)])
        slow = [number for number in history.running if number > numbers[-1] - WAITED_FOR]
        settled = bisect.bisect(numbers, slow[0]) if slow else len(numbers)
        count = stage(settled if 2 * settled >= len(numbers) else len(numbers))
        return tuple(numbers[: max(count, 1 + numbers.index(history.observations[LEAST - 1].number))])

    def _hyperparameters(self, objective: int, numbers: tuple[int, ...]) -> Floats:
        """Hyperparameters fitted to these trials. The fit starts at the hyperparameters of the first half of them."""
        known = self._theta.get((objective, numbers))
        if known is not None:
            return known
        history = self._history
        half = numbers[: stage(len(numbers) // 2)]
        enough = bool(half) and history.observations[LEAST - 1].number <= half[-1]
        start = self._hyperparameters(objective, half) if enough else None
        observed = bisect.bisect(history.observations, numbers[-1], key=number_of)
        data = self._training_data(objective, observed, bisect.bisect(history.stopped, numbers[-1], key=number_of))
        rows = _subset(data.targets, data.placed, FIT)
        blur = None if data.blur is None else data.blur[rows]
        if len(self._theta) >= REMEMBERED:
            self._theta.clear()
        theta = self._kernel.fit(data.inputs[rows], data.targets[rows], start, blur)
        self._theta[objective, numbers] = theta
        return theta

    # -- training data ---------------------------------------------------------------------------------------------

    def _training_data(self, objective: int, observed: int, stopped: int) -> TrainingData:
        """Data of an objective from the first `observed` observations and the first `stopped` stopped trials."""
        trials, placed = self._history.observations[:observed], self.placed(observed)
        inputs = np.hstack([self._columns[:observed], self._scaled(placed, self._facts[:observed, len(self._exact) :])])
        more = None
        if objective:  # a measured cost, on its axis
            measured = np.array([[trial.costs[objective - 1]] for trial in trials])
            values, placed = Axes.of(measured).place(measured)[:, 0], -placed
        else:
            raw = np.array([trial.quality for trial in trials])
            values = warped(raw, raw)
            more = self._blurred(values, trials, self._history.stopped[:stopped])
        centre, spread = float(values.mean()), float(values.std())
        spread = spread if spread > 1e-12 else 1.0
        blur = None
        if more is not None:
            inputs, placed = np.vstack([inputs, more.inputs]), np.vstack([placed, more.placed])
            blur = np.concatenate([np.zeros(len(values)), more.variance / spread**2])
            values = np.concatenate([values, more.value])
        return TrainingData(inputs, placed, (values - centre) / spread, blur, centre, spread)

    def _blurred(
        self, finals: Floats, observations: Sequence[Observation], stopped: Sequence[Stopped]
    ) -> Blurred | None:
        """Stopped trials as observations with separate noise variances; None if no estimate can be made."""
        if not stopped:
            return None
        curves = [trial.curve for trial in observations]
        value, variance = expected(finals, curves, [(trial.fidelity, trial.quality) for trial in stopped])
        candidates = [Candidate(trial.params, self._oracle.facts(trial.params, len(self._exact))) for trial in stopped]
        kept = [k for k, each in enumerate(candidates) if np.isfinite(value[k]) and each.facts.costs is not None]
        if not kept:
            return None
        candidates = [candidates[k] for k in kept]
        return Blurred(self.encode(candidates), self._pool.placed(candidates), value[kept], variance[kept])

    def _features(self, trial: Observation) -> Floats:
        if self._pool.extra is None:
            return np.zeros(0)
        features = self._oracle.facts(trial.params, len(self._exact)).features
        usable = features.size == self._extra and np.isfinite(features).all()
        return features if usable else self._pool.extra.middle

    def _scaled(self, placed: Floats, more: Floats) -> Floats:
        """Columns of exact numbers. placed (n, k): costs on their axes; more (n, f): further features."""
        assert self._pool.axes is not None
        if not self._cost_features:
            return np.zeros((len(placed), 0))
        columns = [self._pool.axes.scaled(placed)]
        if self._pool.extra is not None:
            columns.append(self._pool.extra.scaled(self._pool.extra.place(more)))
        return np.hstack(columns)


def stage(count: int) -> int:
    """The largest number up to `count` of the sequence 1, 2, ..., 20, 22, ..., which grows by a tenth each step."""
    here = 0
    while (after := here + max(1, here // 10)) <= count:
        here = after
    return here


def _subset(targets: Floats, placed: Floats, most: int) -> NDArray[np.intp]:
    """Indices of at most `most` training observations: half are those with the best quality for their costs, half are spread over time."""
    n = len(targets)
    if n <= most:
        return np.arange(n)
    design = np.column_stack([np.ones(n), placed])
    surplus = targets - design @ np.linalg.lstsq(design, targets, rcond=None)[0]
    best = np.argsort(-surplus, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(n), best)
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int))]
    return np.sort(np.concatenate([best, spread]))
