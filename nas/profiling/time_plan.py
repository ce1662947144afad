"""What a search will take, before it is begun: a few networks of the space are trained for seconds, the rest is arithmetic.

    seconds a trial = start + epochs * (images trained on + images validated / FORWARD) * (a + b * MACs)
    wall = start of the executor + trials * mean seconds a trial / trials at once + half a trial, in which not all slots are busy
           + end of the executor and the report

a and b >= 0 by relative least squares over networks from the cheap end of the space to the dear one, each trained by as many
processes at once as trials will be (`nas.profiling.throughput`), so that sharing the machine is in the figures. A sampler that learns
goes for the cheap end of the front: its trials are taken to cost `TASTE` of what random ones do, and anything from `CHEAP` of that to
all of it, which is what most of the intervals is for. What early stopping saves is counted by `saving`.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.profiling.throughput import throughput
from nas.spaces.space import SearchSpace
from nas.stopping.policies import Policy, rungs
from nas.training.memory import training_memory
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils.text import counted

SAMPLES = 100  # random networks that stand for the trials
PLACES = (0.05, 0.5, 0.95)  # of them by MACs, that are trained
PROBE_SECONDS, PROBE_STEPS = 2.0, 2  # that each is timed for, and of an epoch: a dear network's step may take seconds
FORWARD = 3.0  # a step takes so many times as long as an evaluation: backward is twice forward
TRIAL_SECONDS = 0.3  # that a trial takes beside its epochs: building, checkpoints, the sampler
START_SECONDS = {"ray": 15.0, "local": 3.0}
# From the last trial's end to the command's: Ray's end, the front's configs, the report.
CLOSE_SECONDS = {"ray": 7.0, "local": 2.0}
DOUBT = 0.25  # share of a trial's seconds that the machine's other work may add or take
TASTE, CHEAP = 0.6, 0.25  # multiply-adds of the sampler's trials over those of random ones: expected, and at the least
EPOCHS = (30, 20, 10, 5, 3)  # that are proposed, the first that leaves room for enough trials
ENOUGH = 40  # trials
SPARE = 4  # times the trials that are planned: with hours, time ends a search, not their number
PARETO = (
    0.55  # of the epochs are trained behind the first `least` trials under the policy `pareto` (benchmarks/README.md)
)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that one of `slots` processes takes to train an image: base + slope * MACs. error: of the fit, relative."""

    base: float
    slope: float
    slots: int
    error: float
    measured: tuple[tuple[int, float], ...] = ()  # MACs and images a second of one process

    def seconds_per_image(self, macs: float) -> float:
        return self.base + self.slope * macs


def pace(rates: Sequence[tuple[int, float]], slots: int) -> Pace:
    """The pace from MACs and images a second of all processes together. NasError if none could be trained."""
    import scipy.optimize

    found = [(macs, rate / slots) for macs, rate in rates if rate > 0]
    if not found:
        raise NasError("no network of the space could be trained here, as for want of memory")
    macs, rate = np.array([own for own, _ in found], dtype=np.float64), np.array([own for _, own in found])
    columns = np.column_stack([rate, macs * rate])  # seconds predicted over seconds measured
    if len(found) == 1:
        columns = columns[:, 1:]
    unit = columns.max(axis=0)
    weights = scipy.optimize.nnls(columns / unit, np.ones(len(found)))[0] / unit
    base, slope = (0.0, float(weights[0])) if len(found) == 1 else (float(weights[0]), float(weights[1]))
    error = float(np.sqrt(np.mean((columns @ weights - 1) ** 2)))
    return Pace(base, slope, slots, error, tuple((int(own), float(each)) for own, each in found))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is proposed for so many seconds, and what it will take: seconds of wall time, from `low` to `high` in 9 of 10 cases.

    Where the clock ends the search, time is known better than trials, of which there will be from `fewest` to `most`.
    """

    seconds: float  # that were given
    trials: int
    fewest: int
    most: int
    epochs: int
    rungs: tuple[int, ...]  # epochs behind which early stopping may end a trial; none where it is not asked for
    slots: int
    trial_seconds: float  # mean, with what early stopping saves
    closing: float  # seconds behind the last trial
    wall: float
    low: float
    high: float
    memory: int  # bytes of the largest training step among random networks
    devices: int  # GPUs that are paid for; of CPUs, machines

    def price(self, per_hour: float) -> tuple[float, float, float]:
        """What it costs at this price a device and hour: expected, low and high."""
        expected, low, high = (own / 3600 * self.devices * per_hour for own in (self.wall, self.low, self.high))
        return expected, low, high

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def representatives(space: SearchSpace, proxy: Proxy, seed: int = 0) -> list[Architecture]:
    """Random networks as they are trained, by MACs."""
    rng = random.Random(f"plan:{seed}")
    drawn = [proxy.of(space.architecture(space.sample(rng.randrange(1 << 30)))) for _ in range(SAMPLES)]
    return sorted(drawn, key=lambda own: cost_of(own).macs)


def probe(networks: Sequence[Architecture], slots: int, batch: int, device: str, precision: str, threads: int) -> Pace:
    """Train the cheap, the middle and the dear one for a few seconds, in `slots` processes at once."""
    chosen = {own.digest: own for own in (networks[int(place * (len(networks) - 1))] for place in PLACES)}
    options: dict[str, Any] = {"device": device, "precision": precision, "threads": threads}
    options |= {"seconds": PROBE_SECONDS, "steps": PROBE_STEPS}
    return pace(
        [(cost_of(own).macs, throughput(own, slots, batch, **options)) for own in chosen.values()],
        slots,
    )


def trial_seconds(found: Pace, macs: float, epochs: int, images: int, validated: int) -> float:
    return TRIAL_SECONDS + epochs * (images + validated / FORWARD) * found.seconds_per_image(macs)


def proposed(
    found: Pace,
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
    """The plan for so many seconds, of which `spent` are gone; epochs and trials as given, or as many as there is time for.

    UsageError where not even one trial fits.
    """
    policy = stopping or Policy()
    taste, cheap = (1.0, 1.0) if sampler == "random" else (TASTE, CHEAP)
    macs = [cost_of(own).macs for own in networks]
    start, close = spent + START_SECONDS[executor], CLOSE_SECONDS[executor]

    def per_trial(count: int, part: float = taste) -> list[float]:
        return [trial_seconds(found, part * own, count, images, validated) for own in macs]

    def room(count: int, part: float = taste, slower: float = 1.0) -> int:
        mean = slower * statistics.mean(per_trial(count, part))
        whole = max(0.0, seconds - start - close - mean / 2) / mean * found.slots
        first, share = saving(policy, count)
        return int(whole if whole <= first else first + (whole - first) / share)

    if epochs is None:
        wanted = ENOUGH if trials is None else trials
        epochs = next((count for count in EPOCHS if room(count) >= wanted), EPOCHS[-1])
    each = per_trial(epochs)
    mean, spread = statistics.mean(each), statistics.pstdev(each)
    count = room(epochs) if trials is None else trials
    if count < 1:
        raise UsageError(
            f"{seconds:,.0f} s are too short for even one trial: {start:.0f} s for the start, {mean:.0f} s for {counted(epochs, 'epoch')}, "
            f"{close:.0f} s for the end"
        )
    first, share = saving(policy, epochs)
    whole = min(count, first) + share * max(0, count - first)
    work = whole * mean / found.slots
    wall = start + work + mean / 2 + close
    doubt = math.hypot(DOUBT * work, found.error * work, 1.64 * spread * math.sqrt(count) / found.slots, 0.3 * start)
    cheapest, dearest = (work * statistics.mean(per_trial(epochs, part)) / mean for part in (cheap, 1.0))
    low, high = wall - work + cheapest - doubt, wall - work + dearest + doubt
    fewest = most = count
    if trials is None:  # the clock ends the search
        low, high = (1 - CUT) * seconds, (1 + CUT) * seconds
        fewest, most = max(1, room(epochs, 1.0, 1 + DOUBT)), room(epochs, cheap, 1 - DOUBT)
    batch = recipe.batch_size
    memory = max(training_memory(own, batch, ema=bool(recipe.ema)).total for own in networks)
    rung = () if policy.name == "none" else tuple(own for own in rungs(epochs, policy.eta) if own < epochs)
    return Plan(
        seconds=seconds,
        trials=count,
        fewest=min(fewest, count),
        most=max(most, count),
        epochs=epochs,
        rungs=rung,
        slots=found.slots,
        trial_seconds=work * found.slots / count,
        closing=close,
        wall=wall,
        low=min(wall, max(start, low)),
        high=max(wall, min(high, (1 + CUT) * seconds)),
        memory=memory,
        devices=devices,
    )


def saving(policy: Policy, epochs: int) -> tuple[int, float]:
    """How many trials run to their end before early stopping begins, and the share of the epochs that the others train.

    ASHA's by its rungs: of what reaches one, 1/eta goes on. That of `pareto` depends on the networks; it is what was measured in
    searches of 64 trials.
    """
    if policy.name == "none":
        return 0, 1.0
    if policy.name == "pareto":
        return policy.least, PARETO
    trained, going, before = 0.0, 1.0, 0
    for rung in (*(own for own in rungs(epochs, policy.eta) if own < epochs), epochs):
        trained, before, going = trained + going * (rung - before), rung, going / policy.eta
    return math.ceil(policy.eta), trained / epochs


CUT = 0.20  # of the hours: what would run on for longer is stopped
