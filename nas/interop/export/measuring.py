"""Latency of written files: each as its own runtime runs it, in turns with the network in PyTorch and with a reference network.

On the CPU, fp32, for batches of random images. PyTorch's eager network lies in memory as `nas profile --latency` has it (channels
last); a file is run as it was written, on images as its readers have them (channels first).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.interop.export.formats import Exporter
from nas.interop.export.writing import Written
from nas.networks.cost import Shape
from nas.profiling.latency import Conditions, Latency
from nas.utils.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

EAGER = "eager"  # the network in PyTorch, beside the names of formats
SUFFIX = ".latency.json"
PAUSE = 0.01  # seconds before each repeat, until the threads of the runtime before have stopped to look for work
PACKAGES = {
    "onnx": "onnxruntime",
    "timm": "timm",
    "torchvision": "torchvision",
}  # beside torch, whose version counts, too


@dataclass(frozen=True, slots=True)
class Measured:
    """A latency of what a format wrote, or of the network itself (`EAGER`)."""

    format: str
    latency: Latency

    def to_dict(self, path: Path | None) -> dict[str, Any]:
        found: dict[str, Any] = {"format": self.format, "file": path.name if path else None, **self.latency.to_dict()}
        package = PACKAGES.get(self.format, "")
        try:
            return {**found, package: version(package)} if package else found
        except PackageNotFoundError:
            return found


def programs(formats: Mapping[str, Exporter]) -> list[str]:
    """Those of the formats whose files can be run."""
    return [name for name, exporter in formats.items() if exporter.load is not None]


def measure(
    row: Written, formats: Mapping[str, Exporter], batches: Sequence[int], threads: int | None = None, **timing: Any
) -> list[Measured]:
    """Latencies of the network and of its files that can be run, by batch and format, the network first.

    batches: images at once. threads: cores of the CPU; None for all that PyTorch takes. timing: keywords of
    `nas.profiling.latency.timing.interleaved`.
    """
    import torch

    from nas.profiling.latency.timing import beside, forward, prepared

    architecture = row.subject.architecture
    side = architecture.resolution
    shape = Shape(architecture.channels, side, side)
    names = [name for name in programs(formats) if name in row.paths]
    found = []
    for batch in batches:
        conditions = Conditions("cpu", batch, threads)
        with prepared(conditions) as (device, timer):
            images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
            calls = [forward(row.subject.network(), shape, batch, device)]
            for name in names:
                load = formats[name].load
                assert load is not None
                calls.append(_called(load(row.paths[name], torch.get_num_threads()), images))
            options = {"pause": PAUSE, **timing}
            latencies = beside(None, calls, [side] * len(calls), conditions, device, timer, **options)
        found += [Measured(name, latency) for name, latency in zip((EAGER, *names), latencies, strict=True)]
    return found


def _called(run: Callable[[Tensor], object], images: Tensor) -> Callable[[], object]:
    import torch

    @torch.inference_mode()
    def call() -> object:
        return run(images)

    return call


def times_of(found: Sequence[Measured]) -> dict[tuple[str, int], tuple[float, float]]:
    """Median and interquartile range in ms by format and number of images."""
    return {(own.format, own.latency.batch): (own.latency.median_ms, own.latency.spread_ms) for own in found}


def write_measured(folder: Path, row: Written, found: Sequence[Measured]) -> Path:
    """`NAME.latency.json`: every latency with its spread, repeats, conditions, device and versions. Written anew each time."""
    said = {
        "name": row.name,
        "digest": row.subject.architecture.digest,
        "latencies": [own.to_dict(row.paths.get(own.format)) for own in found],
    }
    write_text(path := folder / f"{row.name}{SUFFIX}", json.dumps(said, indent=2) + "\n")
    return path
