"""How long networks take: measured whole or part by part, predicted from parts, kept in a run's folder.

Importing this loads no torch; `measure` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.profiling.latency._base import Conditions, Latency

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture

__all__ = ["Conditions", "Latency", "measure", "measure_all"]


def measure(architecture: Architecture, **options: Any) -> Latency:
    """The latency of one network: `measure_all` of it alone."""
    return measure_all([architecture], **options)[0]


def measure_all(
    architectures: Sequence[Architecture],
    *,
    device: str = "cpu",
    batch: int = 1,
    threads: int | None = None,
    resolution: int | None = None,
    **timing: Any,
) -> list[Latency]:
    """The latency of each network for a batch of random images, repeats interleaved (`nas.profiling.latency.timing`).

    In evaluation mode, fp32, eager, channels last, as this project's modules are: norms are not folded into convolutions. threads:
    cores of the CPU (None: all that this process has); on a GPU those of the host. resolution: pixels (None: the network's own).
    timing: keywords of `nas.profiling.latency.timing.interleaved`. UsageError for a device that is not there or conditions that can't be.
    """
    from nas.profiling.latency.timing import measured

    return measured(architectures, Conditions(device, batch, threads), resolution, **timing)
