"""Latency of exported files: each in its runtime, in turns with the network in PyTorch and with a reference network.

On the CPU, in fp32, on batches of random images. PyTorch's eager network has the memory format of `nas profile --latency`
(channels last); a file is run as it was written, on images with channels first.
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

EAGER = "eager"  # the network in PyTorch, in place of a format's name
SUFFIX = ".latency.json"
PAUSE = 0.01  # seconds before each repeat, until the threads of the previous runtime have stopped spinning
# Packages whose versions are recorded, as well as that of torch.
PACKAGES = {"onnx": "onnxruntime", "timm": "timm", "torchvision": "torchvision"}


@dataclass(frozen=True, slots=True)
class Measured:
    """A latency of the file of a format, or of the network in PyTorch (`EAGER`)."""

    format: str
    latency: Latency

    def to_dict(self, path: Path | None) -> dict[str, object]:
        row: dict[str, object] = {"format": self.format, "file": path.name if path else None, **self.latency.to_dict()}
        package = PACKAGES.get(self.format, "")
        try:
            return {**row, package: version(package)} if package else row
        except PackageNotFoundError:
            return row


def programs(formats: Mapping[str, Exporter]) -> list[str]:
    """The formats whose files can be run."""
    return [name for name, exporter in formats.items() if exporter.load is not None]


def measure(
    row: Written, formats: Mapping[str, Exporter], batches: Sequence[int], threads: int | None = None, **timing: Any
) -> list[Measured]:
    """Latencies of the network and of those of its files that can be run: for each batch size, the network first.

    batches: batch sizes. threads: cores of the CPU; None for as many as PyTorch uses. timing: keywords of
    `nas.profiling.latency.timing.interleaved`.
    """
    import torch

    from nas.profiling.latency.timing import forward, prepared, with_reference

    architecture = row.subject.architecture
    side = architecture.resolution
    shape = Shape(architecture.channels, side, side)
    names = [name for name in programs(formats) if name in row.paths]
    rows = []
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
            latencies = with_reference(None, calls, [side] * len(calls), conditions, device, timer, **options)
        rows += [Measured(name, latency) for name, latency in zip((EAGER, *names), latencies, strict=True)]
    return rows


def _called(run: Callable[[Tensor], object], images: Tensor) -> Callable[[], object]:
    import torch

    @torch.inference_mode()
    def call() -> object:
        return run(images)

    return call


def times_of(rows: Sequence[Measured]) -> dict[tuple[str, int], tuple[float, float]]:
    """Median and interquartile range in ms by format and batch size."""
    return {(row.format, row.latency.batch): (row.latency.median_ms, row.latency.spread_ms) for row in rows}


def write_measured(folder: Path, row: Written, rows: Sequence[Measured]) -> Path:
    """Write `NAME.latency.json`, replacing an older one: every latency with its spread, repeats, conditions, device and versions."""
    record = {
        "name": row.name,
        "digest": row.subject.architecture.digest,
        "latencies": [measured.to_dict(row.paths.get(measured.format)) for measured in rows],
    }
    write_text(path := folder / f"{row.name}{SUFFIX}", json.dumps(record, indent=2) + "\n")
    return path
