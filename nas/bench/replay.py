"""One repeat: a sampler's study, with rows of a table for trainings.

The budget counts distinct networks trained. A proposal of a network that was trained already is answered from memory, one that
the table lacks is told as PRUNED; neither counts, and after `asks` such proposals in a row a network not yet trained is drawn at
random and handed to the sampler as an enqueued trial. With `parallel` > 1 so many trials are always running, and end in the
order of random durations. What a network's training gives (which seed's accuracy, how long it takes) is drawn by network and
repeat, so that all samplers of a repeat meet the same luck.
"""

from __future__ import annotations

import heapq
import itertools
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.bench import samplers
from nas.bench.score import Scale
from nas.bench.table import Choice, Table

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True, slots=True)
class Protocol:
    """What all repeats share. floor: quantile of the scores at which hypervolumes end."""

    budget: int = 150
    parallel: int = 1
    asks: int = 10
    floor: float = 0.1
    seed: int = 0


@dataclass(slots=True)
class Repeat:
    """What one study did. networks, hypervolume, ask_seconds: by trained network, in the order in which they ended.

    hypervolume: of the front found by then, as a share of the table's. ask_seconds: of the ask that proposed the network;
    sampler_seconds: of all `asks`.
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Luck:
    """What chance gives each network of a repeat: accuracy (n,) in one seed, duration (n,), and seeds for what else is random."""

    def __init__(self, table: Table, seed: int, repeat: int) -> None:
        rng = np.random.default_rng([seed, repeat])
        column = rng.integers(table.accuracy.shape[1], size=table.networks)
        self.accuracy = table.accuracy[np.arange(table.networks), column]
        self.duration = rng.lognormal(0.0, 0.5, size=table.networks)
        self.sampler = int(rng.integers(1 << 31))
        self.order = rng.permutation(table.networks)  # in which random networks are filled in


def replay(table: Table, scale: Scale, protocol: Protocol, sampler: str, repeat: int) -> Repeat:
    """The same arguments give the same result, but for seconds. budget: at most `table.networks`."""
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
        self.told_costs = table.costs if raw else scale.log_costs
        self.space = Space(table)
        self.study = optuna.create_study(
            directions=scale.directions, sampler=samplers.build(sampler, self.space.problem(), self.luck.sampler)
        )
        self.trained: set[int] = set()
        self.running: dict[int, list[optuna.Trial]] = {}  # trials that wait for a network
        self.ends: list[tuple[float, int, int]] = []  # when, how many were begun before, network
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
        """Ask until a network is proposed that was not begun yet; it, and the seconds of the ask that did."""
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
        self.study.tell(trial, [float(self.luck.accuracy[network]), *self.told_costs[network].tolist()])

    def _record(self, network: int, seconds: float) -> None:
        done = self.done
        done.networks.append(network)
        done.ask_seconds.append(round(seconds, 6))
        found = self.scale.found(done.networks, self.luck.accuracy[done.networks])
        done.hypervolume.append(round(self.scale.share(found), 9))


class Space:
    """The choices of a table as Optuna parameters."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.distributions: dict[str, BaseDistribution] = {own.name: distribution(own) for own in table.choices}
        self._places = [{value: place for place, value in enumerate(own.values)} for own in table.choices]

    def network(self, params: dict[str, Any]) -> int | None:
        """Its number, None if the table lacks it. KeyError for params that are incomplete."""
        places = tuple(
            places.get(params[own.name], -1) for own, places in zip(self.table.choices, self._places, strict=True)
        )
        return self.table.network_of.get(places)

    def params(self, network: int) -> dict[str, Any]:
        combination = self.table.examples[network]
        return {own.name: own.values[place] for own, place in zip(self.table.choices, combination, strict=True)}

    def problem(self) -> samplers.Problem:
        nothing = [float("nan")] * self.table.costs.shape[1]
        unknown = [float("nan")] * self.table.more_costs.shape[1]

        def costs(params: dict[str, Any]) -> list[float]:
            network = self.network(params)
            return nothing if network is None else self.table.costs[network].tolist()

        def features(params: dict[str, Any]) -> list[float]:
            network = self.network(params)
            return unknown if network is None else self.table.more_costs[network].tolist()

        def identity(params: dict[str, Any]) -> Any:
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
    """Whole numbers in even steps are a range, whose order a sampler knows; anything else is a category."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    numbers = [value for value in choice.values if isinstance(value, int)]
    if choice.ordered and 1 < len(numbers) == len(choice.values):
        step = numbers[1] - numbers[0]
        if all(after - before == step for before, after in itertools.pairwise(numbers)):
            return IntDistribution(numbers[0], numbers[-1], step=step)
    return CategoricalDistribution(choice.values)
