"""Latency in a search: measured before a candidate is trained, predicted for the thousands that a sampler looks at.

Before the first trial, on the machine as it is then, the meter times a reference network of the space's middle, the parts that
occur most often among random candidates, and a few whole networks, by which sums of parts are calibrated (`nas.profiling.latency.lookup`).
While trainings run, they and the meter share the cores: each candidate is then run in turns with the reference, repeats during which
the system took the core away are left out, and the result is divided by how much slower the reference has become. One process
measures, for one driver, one candidate at a time. All that was measured is kept in the run's folder.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
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
NETWORKS = 16  # that are run whole, not among the samples


class Cache:
    """Latencies by what they are of (a digest, or a part's name) and their conditions: a line each, the last one counts.

    A line that can't be read, as the torn last one of a driver that was killed, is none.
    """

    def __init__(self, path: Path, conditions: Conditions, device: str, torch: str) -> None:
        self.path = path
        self._wanted = (device, conditions.batch, torch)
        self._threads = conditions.threads
        self._found: dict[str, Latency] = {}
        for what, latency in read(path):
            if self._fits(latency):
                self._found[what] = latency

    def _fits(self, latency: Latency) -> bool:
        same = (latency.device, latency.batch, latency.torch) == self._wanted
        return same and self._threads in (None, latency.threads)

    def get(self, what: str) -> Latency | None:
        return self._found.get(what)

    def put(self, what: str, latency: Latency) -> None:
        """NasError if the file can't be written to."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn() + json.dumps({"what": what, **latency.to_dict()}) + "\n")
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._found[what] = latency

    def _torn(self) -> bool:
        """Whether the last line has no end, so that another must not be written behind it."""
        try:
            with self.path.open("rb") as file:
                file.seek(-1, 2)
                return file.read() != b"\n"
        except OSError:
            return False


def read(path: Path) -> Iterator[tuple[str, Latency]]:
    """All that such a file holds."""
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
    """The latencies of one run. `prepare` before use, which the first question does otherwise; `close` behind it."""

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
        self.largest_ms = 0.0  # of random candidates, the dearest that is found and the known networks, as predicted

    def identified(self) -> str:
        """The device's product name. UsageError for one that is not there."""
        if not self.device:
            self.device, self._torch = self._child.device()
        return self.device

    def prepare(self, say: Callable[[str], None] = lambda text: None) -> None:
        """Time the reference, the parts and the whole networks that were not yet, and fit the lookup. Once.

        UsageError for a device that is not there, NasError if nothing can be measured.
        """
        if self._cache is not None:
            return
        device = self.identified()
        cache = Cache(self._folder / FILE, self._conditions, device, self._torch)
        rng = random.Random(f"latency:{self._seed}")
        drawn = [self._space.architecture(self._space.sample(rng.randrange(1 << 30))) for _ in range(SAMPLES)]
        whole = list({own.digest: own for own in self._drawn(rng, NETWORKS)}.values())
        self.reference = sorted(drawn, key=lambda own: cost_of(own).macs)[len(drawn) // 2]
        say(
            f"measuring latency on {self.device} ({self._conditions}): parts of networks, and {len(whole)} whole ones ..."
        )
        name = f"reference {self.reference.digest}"
        if (quiet := cache.get(name)) is None:
            quiet = self._child.networks([self.reference], self.reference)[0]
            cache.put(name, quiet)
        self.quiet_ms = quiet.median_ms
        counts: Counter[Part] = Counter(part for own in drawn for part in parts_of(own))
        chosen = [part for part, _ in counts.most_common(PARTS)]
        if missing := [part.name for part in chosen if cache.get(part.name) is None]:
            for part_name, latency in self._child.parts(drawn, missing, self.reference, self.quiet_ms).items():
                cache.put(part_name, latency)
        for own in whole:
            if cache.get(own.digest) is None:
                cache.put(own.digest, self._child.networks([own], self.reference, self.quiet_ms)[0])
        timed = [(part, known.median_ms) for part in chosen if (known := cache.get(part.name))]
        run = [(own, known.median_ms) for own in whole if (known := cache.get(own.digest))]
        self.lookup, self._cache = fitted(timed, run), cache
        self.largest_ms = max(self.lookup.predicted(own) for own in (*drawn, *whole, *self._known))
        if math.isnan(self.lookup.error):
            say(f"latency of candidates that were not run yet is predicted from {len(timed)} parts")
            return
        say(
            f"latency of candidates that were not run yet is predicted from {len(timed)} parts, to within {self.lookup.error:.0%} "
            f"(root mean square over {len(run)} networks, rank correlation {self.lookup.rank:.2f})"
        )

    def _drawn(self, rng: random.Random, count: int) -> list[Architecture]:
        return [self._space.architecture(self._space.sample(rng.randrange(1 << 30))) for _ in range(count)]

    def predicted(self, architecture: Architecture) -> float:
        """Latency in ms from the parts."""
        self.prepare()
        return self.lookup.predicted(architecture)

    def measured(self, architecture: Architecture) -> Latency:
        """Latency as run, now or once before under the same conditions. NasError if it can't be run."""
        self.prepare()
        assert self._cache is not None
        found = self._cache.get(architecture.digest)
        if found is None:
            found = self._child.networks([architecture], self.reference, self.quiet_ms)[0]
            self._cache.put(architecture.digest, found)
        return found

    def too_slow(self, architecture: Architecture, most_ms: float | None) -> str:
        """In words, that a network is predicted to lie above the bound by more than the prediction's error; else empty."""
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
    """UsageError or NasError if latencies can't be measured so on this machine: found before anything is written."""
    with Child(conditions) as child:
        try:
            child.device()
        except UsageError:
            raise
        except NasError as error:
            raise NasError(f"latency ({conditions}): {error}") from error
