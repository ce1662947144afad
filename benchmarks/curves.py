"""Learning curves of random networks, each trained to the end once by the proxies' recipe, for replaying early stopping.

A CSV (`benchmarks/curves-*.csv`) gets one row for each epoch of each network: costs, validation accuracy and loss, training loss,
seconds. Networks are uniform samples of the space, each digest once. New rows are appended to an existing file, so a recording
can be split into several runs:

uv run python benchmarks/curves.py benchmarks/curves-digits.csv --networks 120 --max-macs 2.5e6
uv run python benchmarks/curves.py benchmarks/curves-cifar10.csv --networks 70 --max-macs 6e6 --epochs 9 \
    --dataset npz:cifar10.npz --resolution 16 --max-images 1875
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

from nas.execution.job import Job
from nas.networks.build import cost_of
from nas.searching import preparation
from nas.searching.request import Request
from nas.spaces.budget import Budget

COLUMNS = (
    "network",
    "digest",
    "params",
    "macs",
    "activations",
    "epoch",
    "accuracy",
    "val_loss",
    "train_loss",
    "seconds",
)


def record(path: Path, request: Request, networks: int, seconds: float, first: int = 0) -> int:
    """Train until the file has `networks` networks or `seconds` have passed; return the number of networks."""
    from nas.execution.trial_training import TrialTraining

    _, settings, data = preparation.plan(request, lambda text: None)
    space, epochs = settings.search_space(), settings.recipe.epochs
    known = {row["digest"] for row in csv.DictReader(path.open())} if path.exists() else set()
    bench = TrialTraining(data, settings.recipe, device="cpu", precision="fp32", threads=1)
    begun, draw = time.monotonic(), first
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        while len(seen) < networks and time.monotonic() - begun < seconds:
            architecture, draw = space.architecture(space.sample(draw)), draw + 1
            digest, cost = architecture.digest[:12], cost_of(architecture)
            if digest in seen:
                continue
            seen.add(digest)
            if digest in known:
                continue
            curve = list(bench.run(Job(str(draw), Path(folder) / str(draw), architecture, request.seed)))
            if len(curve) < epochs:
                continue  # it diverged
            new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(COLUMNS)
                costs = (len(seen) - 1, digest, cost.params, cost.macs, cost.activations)
                writer.writerows(
                    (
                        *costs,
                        e.number,
                        f"{e.accuracy:.4f}",
                        f"{e.val_loss:.4f}",
                        f"{e.train_loss:.4f}",
                        f"{e.seconds:.3f}",
                    )
                    for e in curve
                )
    return len(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=int, default=120)
    parser.add_argument("--space", default="resnext")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--max-macs", type=float, help="bound on the networks, so that one core can train them")
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first sample, so that several processes can record at once"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after the current network")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        budget = Budget({"macs": (None, args.max_macs)} if args.max_macs else {})
        request = Request(
            space=args.space,
            dataset=args.dataset,
            epochs=args.epochs,
            resolution=args.resolution,
            max_images=args.max_images,
            budget=budget,
            executor="local",
            device="cpu",
            precision="fp32",
            out=Path(folder) / "run",
        )
        print(record(args.out, request, args.networks, args.seconds, args.first), "networks")


if __name__ == "__main__":
    main()
