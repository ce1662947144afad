"""The tables of `train.py`, from measured epochs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from floor import Rates, floor_seconds, trials_per_hour

from nas.networks.cost import Cost

HEADER = (
    "| network | method | images/s | seconds | seconds to the common accuracy | accuracy, % | ours/it: images/s | end to end | "
    "to accuracy |\n|---|---|---:|---:|---:|---:|---:|---:|---:|"
)
FLOOR = (
    "| network | arithmetic | floor of a step, ms | our step, ms | share reached, % | trials/h |\n"
    "|---|---|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Epoch:
    train_seconds: float
    seconds: float  # with validation
    accuracy: float


def spread(values: list[float], digits: int = 1) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):,.{digits}f} ± {deviation:.{digits}f}"


def speed(run: list[Epoch], images: int) -> float:
    """Images/s in training, without the first epoch if there are more."""
    later = run[1:] or run
    return images * len(later) / sum(epoch.train_seconds for epoch in later)


def table(name: str, runs: Mapping[str, Mapping[int, list[Epoch]]], images: int) -> str:
    """Means and standard deviations over the seeds; ratios of our images/s and of our time to a common accuracy.

    runs: by method and seed. Ratios and common accuracies use the seeds that both ours and the method have.
    """

    def until(run: list[Epoch], accuracy: float) -> float:
        seconds = 0.0
        for epoch in run:
            seconds += epoch.seconds
            if epoch.accuracy >= accuracy:
                return seconds
        return float("nan")

    rows = []
    for method, by_seed in runs.items():
        seeds = [seed for seed in by_seed if seed in runs.get("ours", {})]
        done = list(by_seed.values())
        goals = {seed: min(max(e.accuracy for e in r[seed]) for r in runs.values() if seed in r) for seed in by_seed}
        pairs = [(by_seed[seed], runs["ours"][seed], goals[seed]) for seed in seeds]
        ratios = [
            [speed(ours, images) / speed(run, images) for run, ours, _ in pairs],
            [sum(e.seconds for e in run) / sum(e.seconds for e in ours) for run, ours, _ in pairs],
            [until(run, goal) / until(ours, goal) for run, ours, goal in pairs],
        ]
        cells = [name, method, spread([speed(run, images) for run in done], 0)]
        cells += [spread([sum(e.seconds for e in run) for run in done])]
        cells += [spread([until(by_seed[seed], goal) for seed, goal in goals.items()])]
        cells += [spread([100 * run[-1].accuracy for run in done])]
        cells += [spread(ratio, 2) if ratio else "–" for ratio in ratios]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def floor_row(
    name: str, cost: Cost, batch: int, precision: str, rates: Rates, runs: list[list[Epoch]], data: tuple[int, int]
) -> str:
    """Our step compared with the minimum time on this device. data: training and validation images of these runs."""
    fastest = floor_seconds(cost, batch, rates, 2 if precision == "bf16" else 4)
    reached = [speed(run, data[0]) for run in runs]
    validation = [data[1] * len(run) / sum(e.seconds - e.train_seconds for e in run) for run in runs]
    trials = [trials_per_hour(train, other) for train, other in zip(reached, validation, strict=True)]
    steps = [1e3 * batch / images for images in reached]
    shares = [100 * fastest * images / batch for images in reached]
    cells = [name, precision, f"{1e3 * fastest:.3f}", spread(steps, 2), spread(shares), spread(trials)]
    return "| " + " | ".join(cells) + " |"


def merged(files: list[Path]) -> str:
    """The table of several files of `--out`, which must have the same data."""
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if len({(content["dataset"], content["images"], content["validation"]) for content in contents}) > 1:
        raise SystemExit("these files are of different data")
    nets: dict[str, dict[str, dict[int, list[Epoch]]]] = {}
    for content in contents:
        for run in content["runs"]:
            epochs = [Epoch(**epoch) for epoch in run["epochs"]]
            seeds = nets.setdefault(run["net"], {}).setdefault(run["method"], {})
            if run["seed"] in seeds:
                raise SystemExit(f"{run['net']}, {run['method']}, seed {run['seed']}: in two files")
            seeds[run["seed"]] = epochs
    about = [f"{content['machine']}; {content['command']}" for content in contents]
    rows = [table(name, runs, contents[0]["images"]) for name, runs in nets.items()]
    return "\n".join([*about, "", HEADER, *rows])
