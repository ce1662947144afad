"""The latency meter of a run, and what it measures before the first trial."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from nas.errors import UsageError
from nas.profiling.latency.meter import Meter
from nas.runs.records import LATENCY
from nas.runs.settings import Settings
from nas.runs.specification import LatencyMeasured
from nas.spaces.space import SearchSpace
from nas.utils.text import Say

REFERENCE_MARGIN = 1.1  # the reference point's latency over the largest predicted one


def run_meter(folder: Path, settings: Settings, space: SearchSpace) -> Meter | None:
    """The meter of the run's latencies; None if the run measures none."""
    conditions = settings.latency_conditions()
    if conditions is None:
        return None
    known = tuple(entry.network() for entry in settings.baselines)
    return Meter(folder, conditions, space, settings.seed, known)


def with_measurements(settings: Settings, meter: Meter, folder: Path, say: Say) -> Settings:
    """The settings with the device, the errors of prediction and the latency of the reference point.

    Measures what latencies are predicted from. UsageError if the run's latencies were measured on another device: they could not be
    compared.
    """
    latency, device = settings.latency, meter.identified()
    assert latency is not None  # a run without latencies has no meter
    if latency.measured and latency.measured.measured_on != device:
        raise UsageError(
            f"{folder}: its latencies were measured on {latency.measured.measured_on}, and this machine has {device}; resume it there"
        )
    meter.prepare(say)
    measured = LatencyMeasured(device, meter.quiet_ms, **meter.lookup.summary())  # type: ignore[arg-type]  # the last two are integers
    reference = settings.reference
    if latency.measured is None:  # set once: all hypervolumes of a run use the same reference point
        reference = tuple(
            REFERENCE_MARGIN * meter.largest_ms if name == LATENCY else value
            for name, value in zip(settings.objectives, reference, strict=True)
        )
    return dataclasses.replace(settings, latency=dataclasses.replace(latency, measured=measured), reference=reference)
