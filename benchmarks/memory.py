"""Memory of a training step: predicted from the architecture, and measured in real steps.

uv run python benchmarks/memory.py [--batches 32 128] [--precisions fp32 bf16] [--random 10] [--spaces resnet mbconv ...]

The networks are those of benchmarks/train.py, and random samples of the included spaces at 32 pixels, 10 classes. The measurement is an
epoch of two steps of `nas.training.trainer.Training` on random images, on the CPU. It records every allocation and release of PyTorch's
allocator, starting before the network is built (`torch.profiler`, profile_memory); the peak is the highest running sum. A GPU's
allocator would hand out the same memory, but the CUDA context, workspaces and fragmentation are not included; kernels
on a GPU may keep other tensors than those on a CPU. Validation has one image, so the peak is in a training step. The profiler's
own tensors are few; buffers that a CPU kernel allocates through PyTorch are included.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from nas.data.batches import Augment, Batches
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.spaces.space import load_space
from nas.training.memory import training_memory
from nas.training.recipe import Recipe
from nas.training.trainer import Training

sys.path.insert(0, str(Path(__file__).parent))

SPACES = ("resnet", "resnext", "mbconv", "regnet", "res2net", "mixed", "gated", "dynamic")
MIB = 1 << 20


def measured(architecture: Architecture, batch: int, precision: str, micro_batch: int | None = None) -> int:
    """Bytes at the peak of an epoch of two steps."""
    side, channels = architecture.resolution, architecture.channels
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (2 * batch, side, side, channels), dtype=np.uint8)
    y = generator.integers(0, architecture.head.classes, 2 * batch)
    common = {"mean": [0.5] * channels, "std": [0.25] * channels, "device": "cpu"}
    train = Batches(x, y, batch_size=batch, augment=Augment(4, True), drop_last=True, **common)
    validation = Batches(x[:1], y[:1], batch_size=1, **common)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        training = Training(
            build(architecture, seed=0), train, validation, Recipe.of(1, batch), precision, micro_batch=micro_batch
        )
        training.epoch()
    return peak(recorded)


def peak(recorded: profile) -> int:
    """The maximum over time of allocations minus releases, in bytes."""
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def row(name: str, architecture: Architecture, batch: int, precision: str) -> tuple[str, float]:
    found, predicted = measured(architecture, batch, precision), training_memory(architecture, batch, precision)
    activations = cost_of(architecture).activations
    ratio = predicted.total / found
    cells = [name, precision, f"{batch}", f"{predicted.total / MIB:,.1f}", f"{found / MIB:,.1f}", f"{ratio:.2f}"]
    cells.append(f"{predicted.activations / batch / activations:.1f}")
    return "| " + " | ".join(cells) + " |", ratio


def sampled(space: str, count: int) -> Iterator[Architecture]:
    loaded = load_space(space, resolution=32, channels=3, classes=10)
    for seed in range(count):
        yield loaded.architecture(loaded.sample(seed))


def machine() -> str:
    output = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    model = next((line.split(":", 1)[1].strip() for line in output.splitlines() if line.startswith("Model name")), "")
    return f"{model or platform.machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--nets", nargs="*")
    parser.add_argument("--random", type=int, default=10, help="networks of each space, at the smallest batch")
    parser.add_argument("--spaces", nargs="*", default=list(SPACES))
    args = parser.parse_args()
    from train import NETS

    print(f"{machine()}; {' '.join(sys.argv)}\n")
    print("| network | precision | batch | predicted, MiB | measured, MiB | ratio | activations: bytes an element |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in NETS if args.nets is None else args.nets:
        architecture = NETS[name]()
        architecture = architecture.adapted(classes=10, resolution=32, channels=3)
        for precision in args.precisions:
            for batch in args.batches:
                print(row(name, architecture, batch, precision)[0], flush=True)
    if not args.random:
        return
    print(
        "\n| space | precision | n | ratio: lowest | median | highest | within 25 % |\n|---|---|---:|---:|---:|---:|---:|"
    )
    batch = min(args.batches)
    for space in args.spaces:
        for precision in args.precisions:
            ratios = [row(space, net, batch, precision)[1] for net in sampled(space, args.random)]
            within = sum(0.75 <= ratio <= 1.25 for ratio in ratios)
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            text = f"| {space} | {precision} | {len(ratios)} | {low:.2f} | {middle:.2f} | {high:.2f} | {within} |"
            print(text, flush=True)


if __name__ == "__main__":
    main()
