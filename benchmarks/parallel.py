"""Parallel trainings on the cores of one machine: the cost of OpenMP's waiting threads.

uv run python benchmarks/parallel.py [--seconds 8] [--net resnet20] [--settings none OMP_WAIT_POLICY=passive ...]

For each setting of the environment ("none": the libraries' defaults), one process trains alone, then two at once that don't know
of each other: each with as many threads as there are cores, or OMP_NUM_THREADS. A setting A/B gives the two processes different
settings; commas join several variables. The output is images/s of batches of 128 random images of 32 pixels, in
the arithmetic that `auto` selects, for each process. The settings alternate, `--repeats` times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

DEFAULT = ["none", "GOMP_SPINCOUNT=10000", "OMP_WAIT_POLICY=passive", "OMP_NUM_THREADS=1", "none/OMP_NUM_THREADS=1"]


def train(net: str, seconds: float) -> None:
    """Train for these seconds, and print images/s without the first epoch."""
    import numpy as np
    import torch

    from nas.data.batches import Augment, Batches
    from nas.networks import zoo
    from nas.networks.build import build
    from nas.training.recipe import Recipe
    from nas.training.trainer import Training, pick_precision

    device = torch.device("cpu")
    architecture = zoo.get(net)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (512, 32, 32, 3), np.uint8), random.integers(0, 10, 512)
    common = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "batch_size": 128, "device": device}
    batches = Batches(x, y, augment=Augment(4, flip=True), drop_last=True, **common)
    recipe = Recipe(epochs=1000, batch_size=128, learning_rate=0.01)
    training = Training(
        build(architecture, seed=0), batches, Batches(x[:8], y[:8], **common), recipe,
        pick_precision("auto", device, architecture),
    )  # fmt: skip
    training.epoch()
    begun, speeds = time.perf_counter(), []
    while time.perf_counter() - begun < seconds:
        speeds.append(training.epoch().images_per_second)
    print(statistics.harmonic_mean(speeds))


def started(setting: str, net: str, seconds: float) -> subprocess.Popen[str]:
    pairs = [part.split("=", 1) for part in setting.split(",") if part != "none"]
    environment = {**os.environ, **dict(pairs)}
    command = [sys.executable, __file__, "--train", "--net", net, "--seconds", str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--net", default="resnet20")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=DEFAULT)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(args.net, args.seconds)
        return
    print("| setting | alone, images/s | two at once, images/s each |\n|---|---|---|")
    rows: dict[str, tuple[list[float], list[float]]] = {setting: ([], []) for setting in args.settings}
    for _ in range(args.repeats):
        for setting, (alone, together) in rows.items():
            for count, found in ((1, alone), (2, together)):
                processes = [started(own, args.net, args.seconds) for own in (setting.split("/") * 2)[:count]]
                found += [float(process.communicate()[0]) for process in processes]
    for setting, columns in rows.items():
        cells = [", ".join(f"{speed:,.0f}" for speed in speeds) for speeds in columns]
        print(f"| {setting} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
