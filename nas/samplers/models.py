"""Gaussian processes of a study's objectives: what finished trials teach, as rows and targets, and the hyperparameters."""

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

LEAST = 4  # observations below which nothing is modelled
WAITED_FOR = 128  # a trial that so many later ones have overtaken may never end
REMEMBERED = 64  # fits of hyperparameters


@dataclass(frozen=True, slots=True)
class Model:
    """A process of one objective and the unit of its targets: (value - centre) / spread."""

    process: Posterior
    centre: float
    spread: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """What trials teach of one objective: inputs (n, p), exact costs on their axes (n, k), targets (n,) in the unit of `Model`.

    blur (n,): variances of what the targets are off by, besides the noise.
    """

    inputs: Floats
    placed: Floats
    targets: Floats
    blur: Floats | None
    centre: float
    spread: float


@dataclass(frozen=True, slots=True)
class Blurred:
    """Observations of more than the usual noise: inputs (m, p), costs on their axes (m, k), values and variances (m,)."""

    inputs: Floats
    placed: Floats
    value: Floats
    variance: Floats


class Models:
    """Of one history, on the axes that its pool has now. `exact`: places, among the objectives, of the costs that are known.

    All is a function of the history: what is kept saves time alone. Rows are therefore kept as far as they are exact; their
    logarithms, whose last bit may vary with the company, are taken of all rows at once.
    """

    def __init__(
        self, history: History, oracle: Oracle, pool: Pool, exact: Sequence[int], *, cost_features: bool
    ) -> None:
        self._history, self._oracle, self._pool = history, oracle, pool
        self._exact, self._cost_features = list(exact), cost_features
        self._extra = 0 if pool.extra is None else len(pool.extra.kind)
        self.encoder = Encoder(history.domain, len(self._exact) + self._extra if cost_features else 0)
        self._kernel = Kernel(self.encoder.layout)
        self._numbers: NDArray[np.intp] = np.zeros(0, dtype=np.intp)  # of the observations, rising
        self._columns: Floats = np.zeros((0, 0))  # the encoder's, of each
        self._facts: Floats = np.zeros((0, 0))  # exact costs and the caller's further features, of each
        self._theta: dict[tuple[int, tuple[int, ...]], Floats] = {}  # by objective, and the trials that taught it

    def update(self) -> None:
        """Take in the history's new observations."""
        known = set(self._numbers.tolist())
        fresh = [own for own in self._history.observations if own.number not in known]
        if not fresh:
            return
        columns = self.encoder.columns([own.params for own in fresh])
        facts = np.array([[*(own.costs[k - 1] for k in self._exact), *self._features(own)] for own in fresh])
        numbers = np.array([own.number for own in fresh], dtype=np.intp)
        if known:
            columns, facts = np.vstack([self._columns, columns]), np.vstack([self._facts, facts])
            numbers = np.concatenate([self._numbers, numbers])
        order = np.argsort(numbers)
        self._columns, self._facts, self._numbers = columns[order], facts[order], numbers[order]

    def model(self, objective: int) -> Model:
        """The model of one objective, by all that has finished."""
        lesson = self._lesson(objective, len(self._history.observations), len(self._history.stopped))
        theta = self._hyperparameters(objective, self._learnt())
        n = len(lesson.targets)
        inducing = None if n <= EXACT else lesson.inputs[_telling(lesson.targets, lesson.placed, INDUCING)]
        process = Posterior(self._kernel, theta, lesson.inputs, lesson.targets, inducing, lesson.blur)
        return Model(process, lesson.centre, lesson.spread)

    def placed(self, observed: int | None = None) -> Floats:
        """Exact costs of the observations, or the first so many of them, on their axes, (n, exact)."""
        assert self._pool.axes is not None
        return self._pool.axes.place(self._facts[:observed, : len(self._exact)])

    def encode(self, candidates: Sequence[Candidate]) -> Floats:
        """Rows of candidates whose costs are known, (n, p)."""
        fresh = [own for own in candidates if own.columns is None]
        for own, columns in zip(fresh, self.encoder.columns([own.params for own in fresh]), strict=True):
            own.columns = columns
        columns = np.array([own.columns for own in candidates], dtype=np.float64).reshape(len(candidates), -1)
        more = np.array([own.facts.features for own in candidates]).reshape(len(candidates), -1)
        return np.hstack([columns, self._scaled(self._pool.placed(candidates), more)])

    # -- hyperparameters ---------------------------------------------------------------------------------------------

    def _learnt(self) -> tuple[int, ...]:
        """Numbers of the trials that hyperparameters are learnt from: the earliest, so many that they change with each tenth more.

        A trial that still runs will be one of them, so only those before it count, unless it keeps back more than half of all.
        """
        history = self._history
        numbers = sorted([own.number for own in history.observations] + [own.number for own in history.stopped])
        slow = [own for own in history.running if own > numbers[-1] - WAITED_FOR]
        settled = bisect.bisect(numbers, slow[0]) if slow else len(numbers)
        count = stage(settled if 2 * settled >= len(numbers) else len(numbers))
        return tuple(numbers[: max(count, 1 + numbers.index(history.observations[LEAST - 1].number))])

    def _hyperparameters(self, objective: int, numbers: tuple[int, ...]) -> Floats:
        """Fitted to what these trials teach, from where the fit to the first half of them has ended."""
        known = self._theta.get((objective, numbers))
        if known is not None:
            return known
        history = self._history
        half = numbers[: stage(len(numbers) // 2)]
        enough = bool(half) and history.observations[LEAST - 1].number <= half[-1]
        start = self._hyperparameters(objective, half) if enough else None
        observed = bisect.bisect(history.observations, numbers[-1], key=number_of)
        lesson = self._lesson(objective, observed, bisect.bisect(history.stopped, numbers[-1], key=number_of))
        rows = _telling(lesson.targets, lesson.placed, FIT)
        blur = None if lesson.blur is None else lesson.blur[rows]
        if len(self._theta) >= REMEMBERED:
            self._theta.clear()
        theta = self._kernel.fit(lesson.inputs[rows], lesson.targets[rows], start, blur)
        self._theta[objective, numbers] = theta
        return theta

    # -- rows and targets --------------------------------------------------------------------------------------------

    def _lesson(self, objective: int, observed: int, stopped: int) -> Lesson:
        """What the first so many observations and stopped trials teach of an objective."""
        trials, placed = self._history.observations[:observed], self.placed(observed)
        inputs = np.hstack([self._columns[:observed], self._scaled(placed, self._facts[:observed, len(self._exact) :])])
        more = None
        if objective:  # a cost that has to be measured, on its axis
            measured = np.array([[own.costs[objective - 1]] for own in trials])
            values, placed = Axes.of(measured).place(measured)[:, 0], -placed
        else:
            raw = np.array([own.quality for own in trials])
            values = warped(raw, raw)
            more = self._blurred(values, trials, self._history.stopped[:stopped])
        centre, spread = float(values.mean()), float(values.std())
        spread = spread if spread > 1e-12 else 1.0
        blur = None
        if more is not None:
            inputs, placed = np.vstack([inputs, more.inputs]), np.vstack([placed, more.placed])
            blur = np.concatenate([np.zeros(len(values)), more.variance / spread**2])
            values = np.concatenate([values, more.value])
        return Lesson(inputs, placed, (values - centre) / spread, blur, centre, spread)

    def _blurred(
        self, finals: Floats, observations: Sequence[Observation], stopped: Sequence[Stopped]
    ) -> Blurred | None:
        """What stopped trials say, as observations with a noise of their own."""
        if not stopped:
            return None
        curves = [own.curve for own in observations]
        value, variance = expected(finals, curves, [(own.fidelity, own.quality) for own in stopped])
        candidates = [Candidate(own.params, self._oracle.facts(own.params, len(self._exact))) for own in stopped]
        kept = [k for k, own in enumerate(candidates) if np.isfinite(value[k]) and own.facts.costs is not None]
        if not kept:
            return None
        candidates = [candidates[k] for k in kept]
        return Blurred(self.encode(candidates), self._pool.placed(candidates), value[kept], variance[kept])

    def _features(self, own: Observation) -> Floats:
        if self._pool.extra is None:
            return np.zeros(0)
        features = self._oracle.facts(own.params, len(self._exact)).features
        usable = features.size == self._extra and np.isfinite(features).all()
        return features if usable else self._pool.extra.middle

    def _scaled(self, placed: Floats, more: Floats) -> Floats:
        """Exact numbers as columns for the model: costs on their axes, (n, k), and further features, (n, f)."""
        assert self._pool.axes is not None
        if not self._cost_features:
            return np.zeros((len(placed), 0))
        columns = [self._pool.axes.scaled(placed)]
        if self._pool.extra is not None:
            columns.append(self._pool.extra.scaled(self._pool.extra.place(more)))
        return np.hstack(columns)


def stage(count: int) -> int:
    """The last of 1, 2, ..., 20, 22, ..., each a tenth more than the one before it, that is at most `count`."""
    here = 0
    while (after := here + max(1, here // 10)) <= count:
        here = after
    return here


def _telling(targets: Floats, placed: Floats, most: int) -> NDArray[np.intp]:
    """At most `most` observations to learn from: half of them those that are best for their costs, half spread over time."""
    n = len(targets)
    if n <= most:
        return np.arange(n)
    design = np.column_stack([np.ones(n), placed])
    surplus = targets - design @ np.linalg.lstsq(design, targets, rcond=None)[0]
    best = np.argsort(-surplus, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(n), best)
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int))]
    return np.sort(np.concatenate([best, spread]))
