"""Latency predicted from parts, compared with measured latency: rank correlation and error over networks that the lookup never saw.

uv run python benchmarks/latency.py [--spaces resnext mbconv] [--networks 24] [--resolution 32] [--batch 1] [--threads 1]
    [--device cpu] [--load 0]

For each space: the measurements that a search makes before its first trial (`nas.profiling.latency.meter`: frequent parts, a few
whole networks), then `--networks` random networks, each measured as a whole. MACs and activations, the alternatives for ranking,
are compared with the same measurements. "Repeated" measures the same networks once more; no prediction can be better. With
--load N, N processes train during the second measurement, as the workers of a search do. It is given relative to the
reference network, and not corrected.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.profiling.latency import Conditions
from nas.profiling.latency.lookup import spearman
from nas.profiling.latency.meter import Meter
from nas.spaces.space import load_space

TRAIN = """
import sys, torch
torch.set_num_threads(1)
network = torch.nn.Sequential(*(torch.nn.Conv2d(32, 32, 3, padding=1) for _ in range(8)))
print("trains", flush=True)
while True:
    network(torch.randn(32, 32, 32, 32)).sum().backward()
"""


def row(name: str, predicted: np.ndarray, times: np.ndarray, *, ms: bool) -> str:
    error = f"{np.sqrt(np.mean((predicted / times - 1) ** 2)):.1%} | {np.median(np.abs(predicted / times - 1)):.1%}"
    return f"{name} | {spearman(predicted, times):.3f} | {error if ms else ' | '}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["resnext", "mbconv"])
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--load", type=int, default=0)
    args = parser.parse_args()
    print(
        "| space | ms, from to | parts timed | preparing, s | compared with the measured latency | rank correlation | RMS error | "
        "median error |"
    )
    print("|---|---|---:|---:|---|---:|---:|---:|")
    for name in args.spaces:
        space = load_space(name, resolution=args.resolution, channels=3, classes=10)
        with tempfile.TemporaryDirectory() as folder:
            meter = Meter(Path(folder), Conditions(args.device, args.batch, args.threads), space, seed=0)
            begun = time.monotonic()
            meter.prepare(lambda text: print(text, file=sys.stderr))
            prepared = time.monotonic() - begun
            networks = [space.architecture(space.sample(1000 + k)) for k in range(args.networks)]
            report(name, meter, networks, prepared, args.load)
            meter.close()


def report(name: str, meter: Meter, networks: list[Architecture], prepared: float, load: int) -> None:
    found = [meter.measured(own) for own in networks]
    times = np.array([own.median_ms for own in found])
    trainings = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for _ in range(load)
    ]
    for training in trainings:
        assert training.stdout is not None
        training.stdout.readline()
    again = [meter._child.networks([own], meter.reference, meter.quiet_ms)[0] for own in networks]
    for training in trainings:
        training.kill()
        training.communicate()
    predicted = np.array([meter.lookup.predicted(own) for own in networks])
    costs = [cost_of(own) for own in networks]
    share = np.mean([meter.lookup.timed_share(own) for own in networks])
    condition = f"during {load} trainings" if load else "repeated"
    rows = [
        row("predicted from parts", predicted, times, ms=True),
        row("MACs", np.array([float(cost.macs) for cost in costs]), times, ms=False),
        row("activations", np.array([float(cost.activations) for cost in costs]), times, ms=False),
        row(f"{condition}, relative to the reference", np.array([own.median_ms for own in again]), times, ms=True),
        row(f"{condition}, not corrected", np.array([own.median_ms * own.load for own in again]), times, ms=True),
    ]
    for own in rows:
        print(f"| {name} | {times.min():.2f} to {times.max():.2f} | {share:.0%} | {prepared:.0f} | {own} |", flush=True)
    left_out = np.mean([own.disturbed / (own.disturbed + own.repeats) for own in again])
    spread = np.median([own.spread_ms / own.median_ms for own in found])
    print(
        f"{name}: stated error {meter.lookup.error:.1%}; spread (IQR over median) {spread:.1%}; {left_out:.0%} of the second "
        f"run's repeats left out, load {np.median([own.load for own in again]):.2f}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
