"""Early stopping in real searches on digits: the training of each policy, and the hypervolume that it reaches.

The searches run one after another in this process, on one thread. With the same seed, the random sampler proposes the same networks to
each policy, and training gives the same numbers. So the search without stopping has the final accuracies of the networks that another
policy stopped, and shows which of them are on the true front. Rows are appended to a CSV. The hypervolume is over
accuracy and log10 of the costs.

uv run python benchmarks/stopping_search.py searches.csv --seeds 5
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np

import nas

POLICIES = ("none", "pareto", "asha", "mo-asha")
COLUMNS = ("policy", "seed", "epochs", "macs", "seconds", "wall", "hypervolume", "complete", "stopped", "front", "lost")
HEAD = (
    *("policy", "n", "complete", "stopped", "epochs less", "multiply-adds less", "seconds less"),
    *("hypervolume, of none's, %", "true front stopped"),
)
SMALL = {"stage*.depth": [1, 2], "stage1.width": [8, 16], "stage2.width": [16, 32], "stage3.width": [32, 64]}
OPTIONS = {
    "space": "resnext",
    "overrides": SMALL,  # so that one core can train them
    "max_images": 400,
    "batch_size": 32,
    "executor": "local",
    "device": "cpu",
    "precision": "fp32",
}


def searched(policy: str, seed: int, trials: int, epochs: int, sampler: str) -> dict[str, object]:
    """A row: epochs, multiply-adds (of an image, times epochs) and seconds of training, and the outcome."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run = nas.search(
            trials=trials,
            epochs=epochs,
            seed=seed,
            stopping=policy,
            sampler=sampler,
            out=Path(folder) / "run",
            **OPTIONS,
        )
        wall = time.perf_counter() - begun
        trained = [trial for trial in run.trials if trial.epochs]
        return {
            "policy": policy,
            "seed": seed,
            "epochs": sum(len(trial.epochs) for trial in trained),
            "macs": sum(len(trial.epochs) * trial.cost.macs for trial in trained),
            "seconds": round(sum(trial.seconds for trial in trained), 2),
            "wall": round(wall, 2),
            "hypervolume": float(run.hypervolume_history()[-1]),
            "complete": run.count("complete"),
            "stopped": run.count("stopped"),
            "front": " ".join(trial.digest[:12] for trial in run.front()),
            "lost": " ".join(trial.digest[:12] for trial in run.trials if trial.state == "stopped"),
        }


def table(rows: list[dict[str, str]]) -> list[str]:
    """One row for each policy; savings are ratios to the search without stopping with the same seed."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    base = {row["seed"]: row for row in rows if row["policy"] == "none"}
    for policy in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == policy and row["seed"] in base]

        def shown(values: list[float], digits: int = 2) -> str:
            return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"

        less = [
            shown([float(base[row["seed"]][name]) / float(row[name]) for row in own])
            for name in ("epochs", "macs", "seconds")
        ]
        kept = shown([100 * float(row["hypervolume"]) / float(base[row["seed"]]["hypervolume"]) for row in own])
        wrong = shown([len(set(base[row["seed"]]["front"].split()) & set(row["lost"].split())) for row in own])
        ends = [f"{np.mean([float(row[name]) for row in own]):.1f}" for name in ("complete", "stopped")]
        lines.append(f"| {policy} | {len(own)} | {' | '.join([*ends, *less, kept, wrong])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--sampler", default="random")
    args = parser.parse_args()
    rows = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    done = {(row["policy"], int(row["seed"])) for row in rows}
    for seed in range(args.seeds):
        for policy in args.policies:
            if (policy, seed) in done:
                continue
            row = searched(policy, seed, args.trials, args.epochs, args.sampler)
            new = not args.out.exists()
            with args.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
    print("\n".join(table(list(csv.DictReader(args.out.open())))))


if __name__ == "__main__":
    main()
