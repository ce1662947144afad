"""Early stopping replayed on recorded learning curves: training spent, hypervolume reached, members of the true front stopped.

`benchmarks/curves.py` trained each network of a file to the end once. Here, policies get the networks in a random order, with a
few in training at once; the duration of an epoch is proportional to its multiply-adds. The true front is
that of all networks of the file by their final accuracies. The hypervolume (accuracy and log10 of the costs, from chance accuracy
and the largest costs) of the completed networks is a fraction of that of all. Seeds shuffle the order, equally for each policy.
`none@0.5` trains the first half of the networks to the end, and never sees the others: half of the training without early
stopping.

uv run python benchmarks/stopping.py benchmarks/curves-digits.csv benchmarks/curves-cifar10.csv --seeds 20
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import heapq
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.pareto.dominance import front
from nas.pareto.volume import hypervolume
from nas.stopping.curves import Curve, Point
from nas.stopping.policies import Policy, Stopping

POLICIES = (
    "none",
    "none@0.5",
    "asha",
    "mo-asha",
    "pareto",
    "pareto:epsilon=0.2",
    "pareto:epsilon=0.1",
    "pareto:epsilon=0.05",
)
OBJECTIVES = ("params", "macs")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A network that was trained to the end."""

    costs: tuple[float, ...]
    macs: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one replay, as fractions of training everything to the end."""

    epochs: float
    macs: float
    hypervolume: float
    lost: int  # members of the true front that were stopped or never seen
    members: int
    stopped: int


def read(path: Path, objectives: tuple[str, ...]) -> list[Recorded]:
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["digest"], []).append(row)
    found = []
    for own in rows.values():
        points = tuple(Point(*(float(row[name]) for name in ("accuracy", "val_loss", "train_loss"))) for row in own)
        found.append(Recorded(tuple(float(own[0][name]) for name in objectives), float(own[0]["macs"]), points))
    return found


def replay(networks: list[Recorded], policy: Policy, seed: int, parallel: int, part: float = 1.0) -> Outcome:
    """One replay over the first `part` of the networks, in the order that the seed gives."""
    epochs = len(networks[0].points)
    order = np.random.default_rng(seed).permutation(len(networks)).tolist()[: round(part * len(networks))]
    state = Stopping(policy, epochs, seed)
    heap: list[tuple[float, int]] = []

    def begin(now: float) -> None:
        if order:
            number = order.pop(0)
            state.add(str(number), Curve(networks[number].costs))
            heapq.heappush(heap, (now + networks[number].macs, number))

    for _ in range(parallel):
        begin(0.0)
    while heap:
        now, number = heapq.heappop(heap)
        key, network = str(number), networks[number]
        curve = state.curves[key]
        curve = dataclasses.replace(curve, points=network.points[: len(curve.points) + 1])
        if len(curve.points) == epochs:
            curve = dataclasses.replace(curve, standing="complete")
        state.add(key, curve)
        decision = None if curve.standing == "complete" else state.decide(key)
        if decision is not None and decision.stop:
            state.add(key, dataclasses.replace(curve, standing="stopped"))
        if state.curves[key].standing == "running":
            heapq.heappush(heap, (now + network.macs, number))
        else:
            begin(now)
    return _outcome(networks, state)


def _outcome(networks: list[Recorded], state: Stopping) -> Outcome:
    directions = ["maximize"] + ["minimize"] * len(networks[0].costs)
    values = np.array([[n.points[-1].accuracy, *np.log10(n.costs)] for n in networks])
    reference = np.array([0.1, *(values[:, 1:].max(axis=0) + 1e-9)])
    curves = [state.curves.get(str(k), Curve(own.costs)) for k, own in enumerate(networks)]
    complete = [k for k, own in enumerate(curves) if own.standing == "complete"]
    members = set(front(values, directions).tolist())
    spent = np.array([len(own.points) for own in curves])
    macs = np.array([n.macs for n in networks])
    volume = hypervolume(values[complete], reference, directions) / hypervolume(values, reference, directions)
    return Outcome(
        float(spent.sum() / (len(networks) * state.epochs)),
        float((spent * macs).sum() / (macs.sum() * state.epochs)),
        volume,
        len(members - set(complete)),
        len(members),
        sum(own.standing == "stopped" for own in curves),
    )


def table(networks: list[Recorded], policies: list[str], seeds: int, parallel: int) -> list[str]:
    """One row for each policy: mean and standard deviation over the seeds."""
    lines = [
        "| policy | trials stopped | epochs less | multiply-adds less | hypervolume kept, % | true front lost, of {} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    members = 0
    for text in policies:
        name, _, part = text.partition("@")
        found = [replay(networks, Policy.parse(name), seed, parallel, float(part or 1)) for seed in range(seeds)]
        members = found[0].members
        epochs, macs = ([1 / getattr(own, share) for own in found] for share in ("epochs", "macs"))
        columns = [
            f"{np.mean([own.stopped for own in found]):.1f}",
            f"{np.mean(epochs):.2f} ± {np.std(epochs):.2f}x",
            f"{np.mean(macs):.2f} ± {np.std(macs):.2f}x",
            f"{100 * np.mean([own.hypervolume for own in found]):.2f} ± {100 * np.std([own.hypervolume for own in found]):.2f}",
            f"{np.mean([own.lost for own in found]):.2f} ± {np.std([own.lost for own in found]):.2f}",
        ]
        lines.append(f"| {text} | {' | '.join(columns)} |")
    lines[0] = lines[0].format(members)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="+")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    args = parser.parse_args()
    for path in args.curves:
        networks = read(path, tuple(args.objectives))
        print(
            f"\n{path.name}: {len(networks)} networks of {len(networks[0].points)} epochs, accuracy, {', '.join(args.objectives)}"
        )
        print(f"n = {args.seeds} orders, {args.parallel} at once; mean ± standard deviation\n")
        print("\n".join(table(networks, args.policies, args.seeds, args.parallel)))


if __name__ == "__main__":
    main()
