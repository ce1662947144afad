"""Predict the time of a search before it starts, from a few networks of the space that are trained for seconds.

    seconds per trial = start + epochs * (images trained on + images validated / FORWARD) * (a + b * MACs)
    wall = start of the executor + trials * mean seconds per trial / trials at once + half a trial, in which not all slots are busy
           + end of the executor and the report

a and b >= 0 are fitted by relative least squares to networks from the cheap to the expensive end of the space. Each is trained by
as many processes at once as there will be trials (`nas.profiling.throughput`), so that the effect of sharing the machine is included. A
sampler that learns prefers the cheap end of the front: its trials are expected to cost `TASTE` times as much as random ones, with a
range from `CHEAP` to 1. This range accounts for most of the width of the intervals. `saving` is the effect of early stopping.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.profiling.fitting import relative_weights
from nas.profiling.throughput import throughput
from nas.spaces.space import SearchSpace
from nas.stopping.policies import Policy, rungs
from nas.training.memory import training_memory
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils.text import counted

SAMPLES = 100  # random networks that represent the trials
PLACES = (0.05, 0.5, 0.95)  # quantiles of their MACs at which networks are trained
PROBE_SECONDS, PROBE_STEPS = 2.0, 2  # of timing, and of an epoch: one step of an expensive network may take seconds
FORWARD = 3.0  # time of a training step over that of an evaluation: backward takes twice as long as forward
TRIAL_SECONDS = 0.3  # of a trial in addition to its epochs: building, checkpoints, the sampler
START_SECONDS = {"ray": 15.0, "local": 3.0}
# From the end of the last trial to that of the command: Ray's shutdown, the front's configs, the report.
CLOSE_SECONDS = {"ray": 7.0, "local": 2.0}
DOUBT = 0.25  # uncertainty of a trial's seconds, as a share, due to other work on the machine
TASTE, CHEAP = 0.6, 0.25  # MACs of a learning sampler's trials over those of random ones: expected, and at least
EPOCHS = (30, 20, 10, 5, 3)  # the first of these that leaves time for enough trials is proposed
ENOUGH = 40  # trials
# With hours, so many times the planned trials are requested, so that time ends the search and not their number.
SPARE = 4
PARETO = (
    0.55  # share of epochs that trials after the first `least` train under the policy `pareto` (benchmarks/README.md)
)
CUT = 0.20  # of the hours: a search that exceeds them by this share is stopped


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds per training image of one of `slots` processes: base + slope * MACs. error: relative error of the fit."""

    base: float
    slope: float
    slots: int
    error: float
    measured: tuple[tuple[int, float], ...] = ()  # MACs and images a second of one process

    def seconds_per_image(self, macs: float) -> float:
        return self.base + self.slope * macs


def pace(rates: Sequence[tuple[int, float]], slots: int) -> Pace:
    """The pace fitted to (MACs, images a second of all processes together). NasError if no network could be trained."""
    trained = [(macs, rate / slots) for macs, rate in rates if rate > 0]
    if not trained:
        raise NasError("no network of the space could be trained here, for example for lack of memory")
    macs, rate = (np.array(column, dtype=np.float64) for column in zip(*trained, strict=True))
    columns = np.column_stack([rate, macs * rate])  # seconds predicted over seconds measured
    if len(trained) == 1:
        columns = columns[:, 1:]
    weights = relative_weights(columns)
    base, slope = (0.0, float(weights[0])) if len(trained) == 1 else (float(weights[0]), float(weights[1]))
    error = float(np.sqrt(np.mean((columns @ weights - 1) ** 2)))
    return Pace(base, slope, slots, error, tuple((int(count), float(per_second)) for count, per_second in trained))


@dataclass(frozen=True, slots=True)
class Plan:
    """A proposed search for a time budget, and its predicted wall time in seconds, with a 90 % interval from `low` to `high`.

    If the clock ends the search, its time is more certain than the number of trials, which lies between `fewest` and `most`.
    """

    seconds: float  # the budget
    trials: int
    fewest: int
    most: int
    epochs: int
    rungs: tuple[int, ...]  # epochs after which early stopping may end a trial; empty without early stopping
    slots: int
    trial_seconds: float  # mean, including the effect of early stopping
    closing: float  # seconds after the last trial
    wall: float
    low: float
    high: float
    memory: int  # bytes of the largest training step among random networks
    devices: int  # GPUs that are paid for; without GPUs, machines

    def price(self, per_hour: float) -> tuple[float, float, float]:
        """Expected, low and high cost of the search at this price per device and hour."""
        expected, low, high = (wall / 3600 * self.devices * per_hour for wall in (self.wall, self.low, self.high))
        return expected, low, high

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def representatives(space: SearchSpace, proxy: Proxy, seed: int = 0) -> list[Architecture]:
    """Random networks as they are trained, by ascending MACs."""
    rng = random.Random(f"plan:{seed}")
    drawn = [proxy.of(space.architecture(space.sample(rng.randrange(1 << 30)))) for _ in range(SAMPLES)]
    return sorted(drawn, key=lambda network: cost_of(network).macs)


def probe(networks: Sequence[Architecture], slots: int, batch: int, device: str, precision: str, threads: int) -> Pace:
    """Train a cheap, a median and an expensive network for a few seconds, in `slots` processes at once."""
    chosen = [networks[int(place * (len(networks) - 1))] for place in PLACES]
    rates = [
        (
            cost_of(network).macs,
            throughput(
                network,
                slots,
                batch,
                device=device,
                precision=precision,
                threads=threads,
                seconds=PROBE_SECONDS,
                steps=PROBE_STEPS,
            ),
        )
        for network in {network.digest: network for network in chosen}.values()
    ]
    return pace(rates, slots)


def trial_seconds(measured: Pace, macs: float, epochs: int, images: int, validated: int) -> float:
    return TRIAL_SECONDS + epochs * (images + validated / FORWARD) * measured.seconds_per_image(macs)


@dataclass(frozen=True, slots=True)
class _Workload:
    """The trials of a search: MACs of random networks, images per epoch, and how much they cost compared with random ones.

    expected: MACs of the sampler's trials over those of random ones; cheapest: the least that this ratio may be.
    """

    measured: Pace
    macs: Sequence[int]
    images: int
    validated: int
    policy: Policy
    expected: float
    cheapest: float

    def per_trial(self, epochs: int, ratio: float) -> list[float]:
        """Seconds of a trial without early stopping, one for each network, if its MACs are multiplied by `ratio`."""
        return [trial_seconds(self.measured, ratio * macs, epochs, self.images, self.validated) for macs in self.macs]

    def trials_within(self, seconds: float, epochs: int, ratio: float, slower: float = 1.0) -> int:
        """How many trials fit into the seconds, if each takes `slower` times as long as predicted."""
        mean = slower * statistics.mean(self.per_trial(epochs, ratio))
        whole = max(0.0, seconds - mean / 2) / mean * self.measured.slots
        first, share = saving(self.policy, epochs)
        return int(whole if whole <= first else first + (whole - first) / share)

    def seconds(self, trials: int, epochs: int) -> float:
        """Expected seconds of all slots together for the trials, with early stopping, if no slot is ever idle."""
        first, share = saving(self.policy, epochs)
        whole = min(trials, first) + share * max(0, trials - first)
        return whole * statistics.mean(self.per_trial(epochs, self.expected)) / self.measured.slots

    def rungs(self, epochs: int) -> tuple[int, ...]:
        if self.policy.name == "none":
            return ()
        return tuple(rung for rung in rungs(epochs, self.policy.eta) if rung < epochs)


def proposed(
    measured: Pace,
    networks: Sequence[Architecture],
    seconds: float,
    recipe: Recipe,
    *,
    images: int,
    validated: int,
    executor: str = "ray",
    devices: int = 1,
    spent: float = 0.0,
    epochs: int | None = None,
    trials: int | None = None,
    stopping: Policy | None = None,
    sampler: str = "random",
) -> Plan:
    """The plan for `seconds`, of which `spent` have passed. epochs, trials: None for as many as there is time for.

    UsageError if not even one trial fits.
    """
    expected, cheapest = (1.0, 1.0) if sampler == "random" else (TASTE, CHEAP)
    macs = [cost_of(network).macs for network in networks]
    load = _Workload(measured, macs, images, validated, stopping or Policy(), expected, cheapest)
    start, close = spent + START_SECONDS[executor], CLOSE_SECONDS[executor]
    free = seconds - start - close
    if epochs is None:
        wanted = ENOUGH if trials is None else trials
        epochs = next((count for count in EPOCHS if load.trials_within(free, count, expected) >= wanted), EPOCHS[-1])
    mean = statistics.mean(load.per_trial(epochs, expected))
    count = load.trials_within(free, epochs, expected) if trials is None else trials
    if count < 1:
        raise UsageError(
            f"{seconds:,.0f} s are too short for even one trial: {start:.0f} s for the start, {mean:.0f} s for {counted(epochs, 'epoch')}, "
            f"{close:.0f} s for the end"
        )
    work = load.seconds(count, epochs)
    wall = start + work + mean / 2 + close
    if trials is None:  # the clock ends the search
        low, high = (1 - CUT) * seconds, (1 + CUT) * seconds
        fewest = max(1, load.trials_within(free, epochs, 1.0, 1 + DOUBT))
        most = load.trials_within(free, epochs, cheapest, 1 - DOUBT)
    else:
        low, high = _interval(load, count, epochs, wall, start)
        fewest = most = count
    return Plan(
        seconds=seconds,
        trials=count,
        fewest=min(fewest, count),
        most=max(most, count),
        epochs=epochs,
        rungs=load.rungs(epochs),
        slots=measured.slots,
        trial_seconds=work * measured.slots / count,
        closing=close,
        wall=wall,
        low=min(wall, max(start, low)),
        high=max(wall, min(high, (1 + CUT) * seconds)),
        memory=max(training_memory(network, recipe.batch_size, ema=bool(recipe.ema)).total for network in networks),
        devices=devices,
    )


def _interval(load: _Workload, trials: int, epochs: int, wall: float, start: float) -> tuple[float, float]:
    """Low and high end of the wall time of a fixed number of trials, where `wall` is expected."""
    each = load.per_trial(epochs, load.expected)
    work, slots = load.seconds(trials, epochs), load.measured.slots
    spread = 1.64 * statistics.pstdev(each) * math.sqrt(trials) / slots
    doubt = math.hypot(DOUBT * work, load.measured.error * work, spread, 0.3 * start)
    cheap, expensive = (
        work * statistics.mean(load.per_trial(epochs, ratio)) / statistics.mean(each) for ratio in (load.cheapest, 1.0)
    )
    return wall - work + cheap - doubt, wall - work + expensive + doubt


def saving(policy: Policy, epochs: int) -> tuple[int, float]:
    """How many trials run to their end before early stopping begins, and the mean share of the epochs that later trials train.

    For ASHA it follows from the rungs: 1/eta of the trials that reach a rung continue. For `pareto` it depends on the networks;
    the value was measured in searches of 64 trials.
    """
    if policy.name == "none":
        return 0, 1.0
    if policy.name == "pareto":
        return policy.least, PARETO
    trained, continuing, before = 0.0, 1.0, 0
    for rung in (*(rung for rung in rungs(epochs, policy.eta) if rung < epochs), epochs):
        trained, before, continuing = trained + continuing * (rung - before), rung, continuing / policy.eta
    return math.ceil(policy.eta), trained / epochs
