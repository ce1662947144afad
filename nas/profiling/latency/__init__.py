"""Inference latency of networks: measured for whole networks or their parts, predicted from parts, kept in a run's folder.

Importing this package does not load torch; `measure` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.profiling.latency._base import Conditions, Latency

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture

__all__ = ["Conditions", "Latency", "measure", "measure_all"]


def measure(architecture: Architecture, **options: Any) -> Latency:
    """The latency of one network, with the options of `measure_all`."""
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
    """The latency of each network for a batch of random images, with interleaved repeats (`nas.profiling.latency.timing`).

    Networks run in evaluation mode, in fp32, eagerly and channels-last; norms are not folded into convolutions. threads: of the
    CPU (None: all that this process has); for a GPU, of its host. resolution: pixels (None: the network's own). timing: keywords
    of `nas.profiling.latency.timing.interleaved`. UsageError for a missing device or invalid conditions.
    """
    from nas.profiling.latency.timing import measured

    return measured(architectures, Conditions(device, batch, threads), resolution, **timing)
