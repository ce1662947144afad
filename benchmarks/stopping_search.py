"""Early stopping in real searches on digits: what each policy trains, and the hypervolume that it ends with.

The default sampler proposes, so that what was stopped changes what comes next; one search after another in this process, on
one thread. Afterwards each stopped network is trained to its end, outside of the run: it was stopped wrongly if it then belongs
on the front of the run's complete trials. Rows go to a CSV, which is continued where it ends. Hypervolume: accuracy and log10
of the costs.

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
from nas.budget import Budget
from nas.data import load as load_data
from nas.jobs import Job, TrainingData
from nas.pareto import front
from nas.run import Run, objective_values
from nas.searching import _training_data
from nas.settings import Settings
from nas.work import Bench

POLICIES = ("none", "asha", "mo-asha", "pareto")
COLUMNS = ("policy", "seed", "epochs", "macs", "seconds", "wall", "hypervolume", "complete", "stopped", "wrong", "best")
HEAD = (
    *("policy", "n", "complete", "stopped", "epochs less", "multiply-adds less", "seconds less"),
    *("hypervolume, of none's, %", "wrongly stopped"),
)
OPTIONS = {
    "space": "resnext",
    "max_images": 500,
    "batch_size": 32,
    "executor": "local",
    "device": "cpu",
    "precision": "fp32",
}


def searched(policy: str, seed: int, trials: int, epochs: int, max_macs: float, check: bool) -> dict[str, object]:
    """A row: epochs, multiply-adds (those of an image, times epochs) and seconds of training, and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run = nas.search(
            trials=trials,
            epochs=epochs,
            seed=seed,
            stopping=policy,
            budget=Budget({"macs": (None, max_macs)}),
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
            "wrong": wrongly_stopped(run, Path(folder)) if check else "",
            "best": run.best().accuracy,
        }


def wrongly_stopped(run: Run, folder: Path) -> int:
    """Stopped trials that, trained to their end, are on the front of what is complete."""
    settings = Settings.load(run.path)
    bench = Bench(data_of(settings), settings.training_recipe(), device="cpu", precision="fp32", threads=1)
    complete = [trial.values for trial in run.complete() if trial.values is not None]
    wrong = 0
    for trial in run.trials:
        if trial.state != "stopped":
            continue
        job = Job(str(trial.number), folder / "again" / str(trial.number), trial.architecture, settings.seed)
        *_, last = bench.run(job)
        own = objective_values(last.accuracy, trial.cost, run.objectives)
        wrong += len(complete) in front(np.array([*complete, own]), run.directions)
    return wrong


def data_of(settings: Settings) -> TrainingData:
    facts = settings.dataset
    dataset = load_data(facts["name"], max_images=facts["max_images"])
    return _training_data(dataset, settings.seed, settings.training_proxy())


def table(rows: list[dict[str, str]]) -> list[str]:
    """A row a policy; how much less is trained is the ratio to no stopping of the same seed."""
    lines = [
        f"| {' | '.join(HEAD)} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    base = {row["seed"]: row for row in rows if row["policy"] == "none"}
    for policy in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == policy and row["seed"] in base]

        def said(values: list[float], digits: int = 2) -> str:
            return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"

        less = [
            said([float(base[row["seed"]][name]) / float(row[name]) for row in own])
            for name in ("epochs", "macs", "seconds")
        ]
        kept = said([100 * float(row["hypervolume"]) / float(base[row["seed"]]["hypervolume"]) for row in own])
        wrong = said([float(row["wrong"]) for row in own]) if all(row["wrong"] for row in own) else "not checked"
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
    parser.add_argument("--max-macs", type=float, default=1e6)
    parser.add_argument("--no-check", action="store_true", help="don't train what was stopped to its end")
    args = parser.parse_args()
    rows = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    done = {(row["policy"], int(row["seed"])) for row in rows}
    for seed in range(args.seeds):
        for policy in args.policies:
            if (policy, seed) in done:
                continue
            row = searched(policy, seed, args.trials, args.epochs, args.max_macs, not args.no_check)
            new = not args.out.exists()
            with args.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
    print("\n".join(table(list(csv.DictReader(args.out.open())))))


if __name__ == "__main__":
    main()
