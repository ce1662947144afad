"""Latencies and the conditions of their measurement. Plain data; no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import UsageError
from nas.utils.text import format_ms
from nas.utils.validation import Check, brief, mapping, number, optional, require, text, whole

MOST_BATCH, MOST_THREADS = 1 << 16, 1 << 12


@dataclass(frozen=True, slots=True)
class Conditions:
    """device: cpu, cuda or cuda:N. batch: images at once. threads: of the CPU; None for all that a process has."""

    device: str = "cpu"
    batch: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
            raise UsageError(f"latency on device {self.device!r}: known are cpu, cuda and cuda:N")
        for name, value, most in (("batch", self.batch, MOST_BATCH), ("threads", self.threads, MOST_THREADS)):
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"latency with {name} {value}: a whole number from 1 to {most:,}")

    def __str__(self) -> str:
        cores = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}, batch {self.batch}{cores}"


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of one batch: median and interquartile range (IQR) of the repeats, and the conditions of the measurement.

    repeats: number of repeats in the statistics. disturbed: number of repeats left out because the system preempted the process.
    noise: IQR over median of a reference network whose repeats are interleaved with these; smaller differences are not
    distinguishable. load: the reference's median over its median on the quiet machine, by which the figures are divided (1 if
    unknown). energy_mj: millijoules per batch by the device's power meter; None if there is none.
    """

    median_ms: float
    spread_ms: float
    repeats: int
    disturbed: int
    noise: float
    device: str  # its product name
    batch: int
    threads: int
    resolution: int  # pixels
    torch: str  # version
    load: float = 1.0
    energy_mj: float | None = None

    def __str__(self) -> str:
        return f"{format_ms(self.median_ms)} ± {format_ms(self.spread_ms)}"

    def relative_to(self, now_ms: float, quiet_ms: float) -> Latency:
        """The latency scaled to the quiet machine, where the reference takes `quiet_ms` instead of `now_ms`."""
        load = now_ms / quiet_ms
        return dataclasses.replace(
            self, median_ms=self.median_ms / load, spread_ms=self.spread_ms / load, load=self.load * load
        )

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Latency:
        """UsageError if the data are not such a record."""
        if wanted := mapping(data):
            raise UsageError(f"a latency must be {wanted}, not {brief(data)}")
        require(data, _CHECKS, "a latency")
        require(data, {"load": number, "energy_mj": optional(number)}, "a latency", missing=True)
        if data["median_ms"] <= 0:
            raise UsageError(f"a latency: median_ms must be above 0, not {brief(data['median_ms'])}")
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})


_CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(("median_ms", "spread_ms", "noise"), number),
    **dict.fromkeys(("repeats", "disturbed"), whole()),
    **dict.fromkeys(("batch", "threads", "resolution"), whole(1)),
    **dict.fromkeys(("device", "torch"), text),
}
