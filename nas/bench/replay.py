"""One repeat: a study of a sampler, in which rows of a table replace trainings.

The budget counts distinct networks trained. A repeated proposal of a network gets the same result again; a proposal that is not in
the table is reported as PRUNED. Neither counts. After `asks` such proposals in a row, an untrained network is drawn at random and
given to the sampler as an enqueued trial. With `parallel` > 1, that number of trials is always running, and they end in the order
of random durations. The accuracy (of one of the seeds) and the duration of a training are drawn by network and repeat, so that
they are equal for all samplers in a repeat.
"""

from __future__ import annotations

import heapq
import itertools
import time
import warnings
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nas.bench import samplers
from nas.bench.score import Scale
from nas.bench.table import Choice, Table

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from nas.samplers.domain import Params


@dataclass(frozen=True, slots=True)
class Protocol:
    """Settings of all repeats. floor: quantile of the scores that is the reference of hypervolumes."""

    budget: int = 150
    parallel: int = 1
    asks: int = 10
    floor: float = 0.1
    seed: int = 0


@dataclass(slots=True)
class Repeat:
    """The results of one study. networks, hypervolume, ask_seconds: one entry for each trained network, in the order of completion.

    hypervolume: of the front so far, divided by the table's. ask_seconds: of the ask that proposed the network. sampler_seconds: of
    all `asks`. duplicates, infeasible: numbers of uncounted proposals. filled: number of networks drawn at random.
    """

    sampler: str
    repeat: int
    networks: list[int] = field(default_factory=list)
    hypervolume: list[float] = field(default_factory=list)
    ask_seconds: list[float] = field(default_factory=list)
    asks: int = 0
    duplicates: int = 0
    infeasible: int = 0
    filled: int = 0
    sampler_seconds: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Luck:
    """The random draws of a repeat: accuracy (n,) and duration (n,) of each network, the sampler's seed, and an order of networks."""

    def __init__(self, table: Table, seed: int, repeat: int) -> None:
        rng = np.random.default_rng([seed, repeat])
        column = rng.integers(table.accuracy.shape[1], size=table.networks)
        self.accuracy = table.accuracy[np.arange(table.networks), column]
        self.duration = rng.lognormal(0.0, 0.5, size=table.networks)
        self.sampler = int(rng.integers(1 << 31))
        self.order = rng.permutation(table.networks)  # in which networks are drawn at random


def replay(table: Table, scale: Scale, protocol: Protocol, sampler: str, repeat: int) -> Repeat:
    """Run one study. Equal arguments give equal results, except for seconds. The budget is at most `table.networks`."""
    return _Replay(table, scale, protocol, sampler, repeat).run()


class _Replay:
    def __init__(self, table: Table, scale: Scale, protocol: Protocol, sampler: str, repeat: int) -> None:
        import optuna

        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.table, self.scale, self.protocol = table, scale, protocol
        self.luck = Luck(table, protocol.seed, repeat)
        self.done = Repeat(sampler, repeat)
        raw = samplers.parse(sampler)[0] in samplers.KNOWS_COSTS
        self.reported_costs = table.costs if raw else scale.log_costs
        self.space = Space(table)
        self.study = optuna.create_study(
            directions=scale.directions, sampler=samplers.build(sampler, self.space.problem(), self.luck.sampler)
        )
        self.trained: set[int] = set()
        self.running: dict[int, list[optuna.Trial]] = {}  # trials by the network that is being trained
        self.ends: list[tuple[float, int, int]] = []  # time of completion, number of networks begun, network
        self.next_fill = 0

    def run(self) -> Repeat:
        begun, now = time.perf_counter(), 0.0
        asked: dict[int, float] = {}
        while len(self.trained) < self.protocol.budget:
            while len(self.running) < self.protocol.parallel and self._begun < self.protocol.budget:
                network, seconds = self._start()
                asked[network] = seconds
                heapq.heappush(self.ends, (now + float(self.luck.duration[network]), self._begun, network))
            now, _, network = heapq.heappop(self.ends)
            self.trained.add(network)
            for trial in self.running.pop(network):
                self._tell(trial, network)
            self._record(network, asked[network])
        self.done.seconds = round(time.perf_counter() - begun, 3)
        self.done.sampler_seconds = round(self.done.sampler_seconds, 6)
        return self.done

    @property
    def _begun(self) -> int:
        return len(self.trained) + len(self.running)

    def _start(self) -> tuple[int, float]:
        """Ask until a new network is proposed. Returns the network, and the seconds of the ask that proposed it."""
        uncounted = 0
        while True:
            if uncounted == self.protocol.asks:
                self._fill()
            before = time.perf_counter()
            trial = self.study.ask(self.space.distributions)
            seconds = time.perf_counter() - before
            self.done.asks += 1
            self.done.sampler_seconds += seconds
            network = self.space.network(trial.params)
            if network is None:
                self.done.infeasible += 1
                self._prune(trial)
            elif network in self.trained:
                self.done.duplicates += 1
                self._tell(trial, network)
            elif network in self.running:
                self.done.duplicates += 1
                self.running[network].append(trial)
            else:
                self.running[network] = [trial]
                return network, seconds
            uncounted += 1

    def _fill(self) -> None:
        while int(network := self.luck.order[self.next_fill]) in self.trained or int(network) in self.running:
            self.next_fill += 1
        self.study.enqueue_trial(self.space.params(int(network)))
        self.done.filled += 1

    def _prune(self, trial: optuna.Trial) -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.PRUNED)

    def _tell(self, trial: optuna.Trial, network: int) -> None:
        self.study.tell(trial, [float(self.luck.accuracy[network]), *self.reported_costs[network].tolist()])

    def _record(self, network: int, seconds: float) -> None:
        done = self.done
        done.networks.append(network)
        done.ask_seconds.append(round(seconds, 6))
        front = self.scale.front(done.networks, self.luck.accuracy[done.networks])
        done.hypervolume.append(round(self.scale.share(front), 9))


class Space:
    """The choices of a table as Optuna parameters, and the networks of their combinations."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.distributions: dict[str, BaseDistribution] = {
            choice.name: distribution(choice) for choice in table.choices
        }
        self._places = [{value: k for k, value in enumerate(choice.values)} for choice in table.choices]

    def network(self, params: Params) -> int | None:
        """The number of the network with these params; None if it is not in the table. KeyError for incomplete params."""
        places = tuple(
            places.get(params[choice.name], -1) for choice, places in zip(self.table.choices, self._places, strict=True)
        )
        return self.table.network_of.get(places)

    def params(self, network: int) -> Params:
        combination = self.table.examples[network]
        return {choice.name: choice.values[k] for choice, k in zip(self.table.choices, combination, strict=True)}

    def problem(self) -> samplers.Problem:
        nothing = [float("nan")] * self.table.costs.shape[1]
        unknown = [float("nan")] * self.table.more_costs.shape[1]

        def costs(params: Params) -> list[float]:
            network = self.network(params)
            return nothing if network is None else self.table.costs[network].tolist()

        def features(params: Params) -> list[float]:
            network = self.network(params)
            return unknown if network is None else self.table.more_costs[network].tolist()

        def identity(params: Params) -> Hashable:
            network = self.network(params)
            return network if network is not None else tuple(params.items())

        return samplers.Problem(
            self.distributions,
            costs,
            features if unknown else None,
            lambda params: self.network(params) is not None,
            identity,
        )


def distribution(choice: Choice) -> BaseDistribution:
    """An integer range for evenly spaced integers, so that samplers know their order; else a category."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    numbers = [value for value in choice.values if isinstance(value, int)]
    if choice.ordered and 1 < len(numbers) == len(choice.values):
        step = numbers[1] - numbers[0]
        if all(after - before == step for before, after in itertools.pairwise(numbers)):
            return IntDistribution(numbers[0], numbers[-1], step=step)
    return CategoricalDistribution(choice.values)
