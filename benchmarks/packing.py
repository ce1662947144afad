"""Several trainings at once on one device: total images a second by number of processes, for narrow and wide networks.

uv run python benchmarks/packing.py [--device cuda] [--nets resnet20 wrn_16_4] [--sizes 1 2 4 8] [--repeats 3] [--seconds 3]

This is the probe of `nas search --gpus-per-trial auto` (`nas.profiling.throughput`), repeated: each process trains by the engine on random
images of 32 pixels, all after a warm-up and during the same seconds. The sizes alternate, so that other work on the machine
affects all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from pathlib import Path

import torch

from nas.profiling.throughput import throughput
from nas.training.trainer import pick_device, pick_precision

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    from train import NETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["resnet20", "wrn_16_4"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    device, cores = pick_device(args.device), os.cpu_count() or 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{name}, {cores} cores; torch {torch.__version__}; {' '.join(sys.argv)}\n")
    print("| network | precision | processes | images/s, all together | over one |\n|---|---|---:|---:|---:|")
    for net in args.nets:
        architecture = NETS[net]()
        precision = pick_precision("auto", device, architecture)
        rates: dict[int, list[float]] = {size: [] for size in args.sizes}
        for _ in range(args.repeats):
            for size, found in rates.items():
                threads = max(1, cores // size)
                options = {"device": str(device), "precision": precision, "threads": threads, "seconds": args.seconds}
                found.append(throughput(architecture, size, args.batch_size, **options))
        for size, found in rates.items():
            spread = statistics.stdev(found) if len(found) > 1 else 0.0
            over = statistics.mean(b / a if a else 0.0 for a, b in zip(rates[args.sizes[0]], found, strict=True))
            mean = statistics.mean(found)
            print(f"| {net} | {precision} | {size} | {mean:,.0f} ± {spread:,.0f} | {over:.2f} |", flush=True)


if __name__ == "__main__":
    main()
