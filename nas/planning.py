"""What a search will take, before it is begun: a few networks of the space are trained for seconds, the rest is arithmetic.

    seconds a trial = start + epochs * (images trained on + images validated / FORWARD) * (a + b * MACs)
    wall = start of the executor + trials * mean seconds a trial / trials at once + half a trial, in which not all slots are busy

a and b >= 0 by relative least squares over networks from the cheap end of the space to the dear one, each trained by as many
processes at once as trials will be (`nas.throughput`), so that sharing the machine is in the figures. Trials are taken to cost what
random ones do; which ones the sampler will like is not known, and is what most of the interval is for.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.architecture import Architecture
from nas.errors import NasError, UsageError
from nas.memory import training_memory
from nas.network import cost_of
from nas.proxy import Proxy
from nas.recipe import Recipe
from nas.space import SearchSpace
from nas.stopping import rungs
from nas.throughput import throughput

SAMPLES = 100  # random networks that stand for the trials
PLACES = (0.05, 0.5, 0.95)  # of them by MACs, that are trained
PROBE_SECONDS, PROBE_STEPS = 2.0, 2  # that each is timed for, and of an epoch: a dear network's step may take seconds
FORWARD = 3.0  # a step takes so many times as long as an evaluation: backward is twice forward
TRIAL_SECONDS = 0.3  # that a trial takes beside its epochs: building, checkpoints, the sampler
START_SECONDS = {"ray": 15.0, "local": 3.0}
DOUBT = 0.25  # share of a trial's seconds that the sampler's taste and the machine's other work may add or take
EPOCHS = (30, 20, 10, 5, 3)  # that are proposed, the first that leaves room for enough trials
ENOUGH = 40  # trials
SPARE = 4  # times the trials that are planned: with hours, time ends a search, not their number
ETA = 3.0  # of the rungs that are proposed


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
    """What is proposed for so many seconds, and what it will take: seconds of wall time, from `low` to `high` in 9 of 10 cases."""

    seconds: float  # that were given
    trials: int
    epochs: int
    rungs: tuple[int, ...]  # epochs behind which early stopping, where it is asked for, may end a trial
    slots: int
    trial_seconds: float  # mean
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
) -> Plan:
    """The plan for so many seconds, of which `spent` are gone; epochs and trials as given, or as many as there is time for.

    UsageError where not even one trial fits.
    """
    macs = [cost_of(own).macs for own in networks]
    start = spent + START_SECONDS[executor]

    def per_trial(count: int) -> list[float]:
        return [trial_seconds(found, own, count, images, validated) for own in macs]

    def room(count: int) -> int:
        mean = statistics.mean(per_trial(count))
        return int(max(0.0, seconds - start - mean / 2) / mean * found.slots)

    if epochs is None:
        wanted = ENOUGH if trials is None else trials
        epochs = next((count for count in EPOCHS if room(count) >= wanted), EPOCHS[-1])
    each = per_trial(epochs)
    mean, spread = statistics.mean(each), statistics.pstdev(each)
    count = room(epochs) if trials is None else trials
    if count < 1:
        raise UsageError(
            f"{seconds:,.0f} s are too short for even one trial: a start of {start:.0f} s, and {mean:.0f} s for {epochs} epochs"
        )
    work = count * mean / found.slots
    wall = start + work + mean / 2
    doubt = math.hypot(DOUBT * work, found.error * work, 1.64 * spread * math.sqrt(count) / found.slots, 0.3 * start)
    batch = recipe.batch_size
    memory = max(training_memory(own, batch, ema=bool(recipe.ema)).total for own in networks)
    rung = tuple(own for own in rungs(epochs, ETA) if own < epochs)
    low = max(start, wall - doubt)
    return Plan(seconds, count, epochs, rung, found.slots, mean, wall, low, wall + doubt, memory, devices)


class Clock:
    """Whether there is time for one more trial: its share of the hours is kept, half a trial to either side.

    seconds: of the promise, from when the command was given. before: seconds that earlier drivers took.
    """

    def __init__(self, promise: Mapping[str, Any], now: Callable[[], float], before: float = 0.0) -> None:
        self.seconds = float(promise["seconds"])
        self._expected = float(promise["trial_seconds"])
        self._now, self._begun = now, now() - float(promise.get("spent", 0.0)) - before
        self._took: list[float] = []

    def took(self, seconds: float) -> None:
        """A trial ended that had trained for so long."""
        self._took.append(seconds)

    @property
    def expected(self) -> float:
        """Seconds of the next trial: the plan's word counts as much as three trials that were seen."""
        return (3 * self._expected + sum(self._took)) / (3 + len(self._took))

    def room(self) -> bool:
        """Whether a trial that begins now ends before the promise is over, or within half of itself behind it."""
        return self._now() - self._begun + self.expected / 2 <= self.seconds
