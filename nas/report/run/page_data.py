"""The data of the page's scripts: a run as compact JSON, in columns, with each text and network stored once.

About 0.5 kB a trial. Accuracies and costs are exact, so that the page's results agree with `nas front`. Learning curves are
rounded to a hundredth of a point and thinned to `POINTS` epochs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.networks.build import costs_by_piece
from nas.networks.describe import describe, describe_stages
from nas.report.figures.gradients import flow_of
from nas.report.html import theme
from nas.report.run import summary
from nas.report.run.summary import COUNTS, NOUNS
from nas.runs.records import LATENCY
from nas.utils.text import shown

if TYPE_CHECKING:
    from nas.runs.records import Trial
    from nas.runs.run import Run

POINTS = 60  # epochs of a learning curve
EXECUTED = "executed"  # the mean MACs that dynamic networks have executed


class Table:
    """Distinct values, each stored once and referred to by its place."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, key: str) -> int:
        return self.places.setdefault(key, len(self.places))


def compact(run: Run) -> str:
    """The JSON. Trials are in the order of the run; `front` and `knee` are places in it."""
    states, reasons = Table(), Table()
    nets: dict[str, Trial] = {}
    for trial in run.trials:
        nets.setdefault(trial.digest, trial)
    place_of_net = {digest: place for place, digest in enumerate(nets)}
    place_of = {trial.number: place for place, trial in enumerate(run.trials)}
    knee = summary.knee(run)
    costs = [*COUNTS, *timed(run), *([EXECUTED] if any(trial.executed for trial in run.trials) else [])]
    data = {
        "name": run.config["name"],
        "path": shown(run.path),
        "train": train_options(run),
        "epochs": run.config["recipe"].get("epochs", 0),
        "images": run.config["dataset"]["validation_images"] or 1,
        "costs": costs,
        "objectives": summary.costs(run),
        "nouns": {name: NOUNS[name] for name in costs},
        "front": [place_of[trial.number] for trial in run.front()],
        "byMeans": run.by_means,
        "repeats": {place: _repeats(trial) for place, trial in enumerate(run.trials) if trial.repeats},
        "knee": None if knee is None else place_of[knee.number],
        "template": theme.template().layout.to_plotly_json(),
        "flows": flows(run, place_of),
        "labels": {place: trial.label for place, trial in enumerate(run.trials) if trial.label},
        "columns": {
            "number": [trial.number for trial in run.trials],
            "state": [states.place(trial.state) for trial in run.trials],
            "reason": [reasons.place(trial.reason) for trial in run.trials],
            "accuracy": [trial.accuracy for trial in run.trials],
            **{cost: [_count(trial, cost) for trial in run.trials] for cost in costs},
            "epochs": [len(trial.epochs) for trial in run.trials],
            "seconds": [round(trial.seconds, 1) for trial in run.trials],
            "net": [place_of_net[trial.digest] for trial in run.trials],
            "curve": [_curve(trial) for trial in run.trials],
        },
        "states": list(states.places),
        "reasons": [reason[:MAX_REASON] for reason in reasons.places],
        "nets": [_net(trial) for trial in nets.values()],
    }
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


MAX_FLOWS = 60  # trials whose gradient norms are on the page


def flows(run: Run, place_of: Mapping[int, int]) -> dict[int, list[list[object]]]:
    """Gradient norms of the front and the baselines: depths of the main path's layers, and (epoch, norms) for each moment.

    Keys are places of trials; the norms are those of dL/dy. Epoch 0 stands for the first steps.
    """
    if not run.config.get("gradient_steps"):
        return {}
    flow_by_place: dict[int, list[list[object]]] = {}
    for trial in [*run.baselines(), *run.front()][:MAX_FLOWS]:
        flow = flow_of(run, trial)
        if flow is not None:
            path = [k for k, layer in enumerate(flow.layers) if layer.on_path]
            moments: list[object] = [[moment.epoch, [moment.outputs[k] for k in path]] for moment in flow.moments]
            flow_by_place[place_of[trial.number]] = [[flow.layers[k].depth for k in path], moments]
    return flow_by_place


MAX_REASON = 500  # characters of a failure's reason in the table; the failures section shows more


def train_options(run: Run) -> str:
    """The options with which `nas train` trains on the run's images."""
    data = run.config["dataset"]
    words = ["--dataset", shlex.quote(data["name"])]
    if data.get("root"):
        words += ["--data-root", shlex.quote(str(data["root"]))]
    return " ".join(words)


def timed(run: Run) -> list[str]:
    """[LATENCY] if the run measured latency, else []."""
    return [LATENCY] if any(trial.latency for trial in run.trials) else []


def _repeats(trial: Trial) -> dict[str, object]:
    """Accuracies over further seeds, with their mean if there are two or more."""
    confirmed = trial.confirmed
    mean = {"mean": confirmed.mean, "error": confirmed.std_error} if confirmed else {}
    accuracies = [repeat.accuracy for repeat in trial.repeats if repeat.accuracy is not None]
    return {**mean, "accuracies": accuracies, "failed": len(trial.repeats) - len(accuracies)}


def _count(trial: Trial, cost: str) -> float | None:
    if cost == EXECUTED:
        return round(trial.executed.macs) if trial.executed else trial.cost.macs
    if cost == LATENCY and trial.latency is None:
        return None
    return trial.price(cost)


def _curve(trial: Trial) -> list[list[float]]:
    """(epoch, accuracy) pairs, at most `POINTS`, the last epoch included."""
    epochs = trial.epochs
    step = max(1, -(-len(epochs) // POINTS))
    kept = epochs[(len(epochs) - 1) % step :: step] if epochs else ()
    return [[epoch.number, round(epoch.accuracy, 4)] for epoch in kept]


def _net(trial: Trial) -> dict[str, object]:
    """A network for its diagram: each piece's depth, width, side of its output in pixels, texts and costs."""
    architecture = trial.architecture
    costs = costs_by_piece(architecture)
    stages = zip(architecture.stages, describe_stages(architecture), strict=True)
    texts = [
        (1, architecture.stem.width, f"{architecture.stem.kind} stem {architecture.stem.width}", ""),
        *((stage.depth, stage.width, block, around) for stage, (block, around) in stages),
        (1, architecture.stages[-1].width, f"{architecture.head.kind} head", ""),
    ]
    pieces = [
        [depth, width, piece.output.height, block, around, piece.cost.params, piece.cost.macs, piece.cost.activations]
        for (depth, width, block, around), piece in zip(texts, costs, strict=True)
    ]
    return {
        "digest": trial.digest,
        "about": describe(architecture),
        "images": [architecture.resolution, architecture.channels, architecture.head.classes],
        "pieces": pieces,
    }
