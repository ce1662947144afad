"""Latency in a search: measured before a candidate is trained, predicted for the thousands of candidates that a sampler considers.

Before the first trial, on the still quiet machine, the meter times a reference network of median size, the most frequent parts of
random candidates, and a few whole networks, which calibrate the sums of parts (`nas.profiling.latency.lookup`). Later, trainings
and the meter share the cores. The repeats of a candidate are therefore interleaved with those of the reference, repeats that the
system interrupted are left out, and the result is divided by the slowdown of the reference. One process measures for one driver,
one candidate at a time. All measurements are kept in the run's folder.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.profiling.latency._base import Conditions, Latency
from nas.profiling.latency.child import Child
from nas.profiling.latency.lookup import Lookup, fitted
from nas.profiling.latency.parts import Part, parts_of
from nas.spaces.space import SearchSpace
from nas.utils.files import unwritable
from nas.utils.text import format_ms

FILE = "latency.jsonl"  # in the run's folder
SAMPLES = 200  # random candidates, whose most frequent parts are timed
PARTS = 150  # that are timed
NETWORKS = 16  # that are measured as a whole; they are not among the samples


class Cache:
    """A file of latencies, one line each, by a key (a network's digest or a part's name) and the conditions; the last line counts.

    Lines that can't be read are ignored, such as the incomplete last line of a driver that was killed.
    """

    def __init__(self, path: Path, conditions: Conditions, device: str, torch: str) -> None:
        self.path = path
        self._wanted = (device, conditions.batch, torch)
        self._threads = conditions.threads
        self._latencies = {what: latency for what, latency in read(path) if self._fits(latency)}

    def _fits(self, latency: Latency) -> bool:
        same = (latency.device, latency.batch, latency.torch) == self._wanted
        return same and self._threads in (None, latency.threads)

    def get(self, what: str) -> Latency | None:
        return self._latencies.get(what)

    def put(self, what: str, latency: Latency) -> None:
        """NasError if the file can't be written to."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn() + json.dumps({"what": what, **latency.to_dict()}) + "\n")
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._latencies[what] = latency

    def _torn(self) -> bool:
        """Whether the last line has no newline, so that one must be written first."""
        try:
            with self.path.open("rb") as file:
                file.seek(-1, 2)
                return file.read() != b"\n"
        except OSError:
            return False


def read(path: Path) -> Iterator[tuple[str, Latency]]:
    """The keys and latencies in a `Cache` file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                data = json.loads(line)
                yield str(data["what"]), Latency.from_dict(data)
            except (ValueError, TypeError, KeyError, UsageError):
                continue


class Meter:
    """The latencies of one run. `prepare` runs at the first question at the latest; `close` after use."""

    def __init__(
        self, folder: Path, conditions: Conditions, space: SearchSpace, seed: int, known: tuple[Architecture, ...] = ()
    ) -> None:
        self._folder, self._conditions, self._space, self._seed = folder, conditions, space, seed
        self._known = known
        self._child = Child(conditions)
        self._cache: Cache | None = None
        self.device = self._torch = ""
        self.quiet_ms = 0.0
        self.lookup = Lookup()
        self.largest_ms = 0.0  # largest predicted latency of random candidates and the known networks

    def identified(self) -> str:
        """The device's product name. UsageError if there is no such device."""
        if not self.device:
            self.device, self._torch = self._child.device()
        return self.device

    def prepare(self, say: Callable[[str], None] = lambda text: None) -> None:
        """Time the reference, the parts and the whole networks that are not in the cache, and fit the lookup; only once.

        UsageError if there is no such device, NasError if nothing can be measured.
        """
        if self._cache is not None:
            return
        device = self.identified()
        cache = Cache(self._folder / FILE, self._conditions, device, self._torch)
        rng = random.Random(f"latency:{self._seed}")
        drawn = self._drawn(rng, SAMPLES)
        whole = list({network.digest: network for network in self._drawn(rng, NETWORKS)}.values())
        self.reference = sorted(drawn, key=lambda network: cost_of(network).macs)[len(drawn) // 2]
        say(f"measuring latency on {device} ({self._conditions}): parts of networks, and {len(whole)} whole ones ...")
        self._time_reference(cache)
        parts = self._time_parts(cache, drawn)
        measured = self._time_networks(cache, whole)
        self.lookup, self._cache = fitted(parts, measured), cache
        self.largest_ms = max(self.lookup.predicted(network) for network in (*drawn, *whole, *self._known))
        accuracy = (
            ""
            if math.isnan(self.lookup.error)
            else f", to within {self.lookup.error:.0%} (root mean square over {len(measured)} networks, rank correlation"
            f" {self.lookup.rank:.2f})"
        )
        say(f"latency of candidates that were not run yet is predicted from {len(parts)} parts{accuracy}")

    def _drawn(self, rng: random.Random, count: int) -> list[Architecture]:
        return [self._space.architecture(self._space.sample(rng.randrange(1 << 30))) for _ in range(count)]

    def _time_reference(self, cache: Cache) -> None:
        name = f"reference {self.reference.digest}"
        if (quiet := cache.get(name)) is None:
            quiet = self._child.networks([self.reference], self.reference)[0]
            cache.put(name, quiet)
        self.quiet_ms = quiet.median_ms

    def _time_parts(self, cache: Cache, networks: Sequence[Architecture]) -> list[tuple[Part, float]]:
        """The most frequent parts of the networks with their ms."""
        counts: Counter[Part] = Counter(part for network in networks for part in parts_of(network))
        chosen = [part for part, _ in counts.most_common(PARTS)]
        if missing := [part.name for part in chosen if cache.get(part.name) is None]:
            for name, latency in self._child.parts(networks, missing, self.reference, self.quiet_ms).items():
                cache.put(name, latency)
        return [(part, known.median_ms) for part in chosen if (known := cache.get(part.name))]

    def _time_networks(self, cache: Cache, networks: Sequence[Architecture]) -> list[tuple[Architecture, float]]:
        for network in networks:
            if cache.get(network.digest) is None:
                cache.put(network.digest, self._child.networks([network], self.reference, self.quiet_ms)[0])
        return [(network, known.median_ms) for network in networks if (known := cache.get(network.digest))]

    def predicted(self, architecture: Architecture) -> float:
        """Latency in ms, predicted from the parts."""
        self.prepare()
        return self.lookup.predicted(architecture)

    def measured(self, architecture: Architecture) -> Latency:
        """Measured latency, from the cache if it was measured under the same conditions. NasError if it can't be run."""
        self.prepare()
        assert self._cache is not None
        latency = self._cache.get(architecture.digest)
        if latency is None:
            latency = self._child.networks([architecture], self.reference, self.quiet_ms)[0]
            self._cache.put(architecture.digest, latency)
        return latency

    def too_slow(self, architecture: Architecture, most_ms: float | None) -> str:
        """A message if the predicted latency exceeds the bound by more than the prediction's error; otherwise empty."""
        if most_ms is None:
            return ""
        predicted = self.predicted(architecture)
        error = 0.0 if math.isnan(self.lookup.error) else self.lookup.error
        if predicted <= most_ms * (1 + error):
            return ""
        return f"a predicted latency of {format_ms(predicted)} is above the budget of {format_ms(most_ms)}"

    def close(self) -> None:
        self._child.close()


def check(conditions: Conditions) -> None:
    """UsageError or NasError if latencies can't be measured on this machine; called before anything is written."""
    with Child(conditions) as child:
        try:
            child.device()
        except UsageError:
            raise
        except NasError as error:
            raise NasError(f"latency ({conditions}): {error}") from error
