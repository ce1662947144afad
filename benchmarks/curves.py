"""Learning curves of random networks, each trained to the end once by the proxies' recipe, for replaying early stopping.

A row an epoch of each network goes to a CSV (`benchmarks/curves-*.csv`): costs, validation accuracy and loss, training loss,
seconds. Networks are uniform samples of the space, each digest once. The file is continued where it ends, so that a recording
can be cut into pieces:

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
    """Train until the file holds `networks` of them or `seconds` have passed; how many it holds."""
    from nas.execution.trial_training import TrialTraining

    _, settings, data = preparation.plan(request, lambda text: None)
    space, epochs = settings.search_space(), settings.training_recipe().epochs
    known = {row["digest"] for row in csv.DictReader(path.open())} if path.exists() else set()
    bench = TrialTraining(data, settings.training_recipe(), device="cpu", precision="fp32", threads=1)
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
    parser.add_argument("--max-macs", type=float, help="of the networks, so that a core gets through them")
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first sample, so that several can record at once"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="stop behind the network in hand")
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
