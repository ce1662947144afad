"""Trials of a run as networks to export, under names that sort by rank on the front and show accuracy and parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.interop.export.formats import EXPORTERS, Exporter, NotExpressible, Subject
from nas.interop.export.writing import write_networks
from nas.networks.architecture import MAX_NAME, Architecture
from nas.runs.records import Trial
from nas.runs.run import Run
from nas.utils.text import format_count, format_percent

if TYPE_CHECKING:
    from torch import Tensor


def export_trials(
    run: Run, trials: Sequence[Trial], folder: Path, exporter: Exporter, *, force: bool = False
) -> list[Path]:
    """Write one file for each trial, atomically; the paths.

    UsageError, before anything is written, if a file of the same name holds something else and `force` is not given.
    NotExpressible, after the others are written, for a trial that the format can't express.
    """
    name = next((name for name, each in EXPORTERS.items() if each is exporter), "this format")
    rows = write_networks(subjects(run, trials), folder, {name: exporter}, force=force)
    for row in rows:
        if row.reasons:
            raise NotExpressible(name, f"of {row.name}: {row.reasons[name]}")
    return [row.paths[name] for row in rows]


def subjects(
    run: Run, trials: Sequence[Trial], weights: Mapping[str, Tensor] | None = None
) -> list[tuple[str, Subject]]:
    """Each trial once, with the name of its files."""
    front = [trial.number for trial in run.front()]
    named = []
    for trial in {trial.number: trial for trial in trials}.values():
        rank = front.index(trial.number) + 1 if trial.number in front else None
        name = file_name(trial, rank, digits=max(2, len(str(len(front)))))
        named.append((name, Subject(_named(run, trial), provenance(run, trial), weights)))
    return named


def provenance(run: Run, trial: Trial) -> dict[str, object]:
    """Where a network comes from: run, trial, measurements, data, recipe and version of nas."""
    data = run.config["dataset"]
    return {
        "run": run.config["name"],
        "trial": trial.label or trial.number,
        "state": trial.state,
        **({"reason": trial.reason} if trial.reason else {}),
        "accuracy": trial.accuracy,
        "accuracy_on": "validation",
        **(
            {"accuracy_mean": confirmed.mean, "accuracy_std_error": confirmed.std_error, "accuracy_seeds": confirmed.n}
            if (confirmed := trial.confirmed)
            else {}
        ),
        "epochs": len(trial.epochs),
        "cost": {"params": trial.cost.params, "macs": trial.cost.macs, "activations": trial.cost.activations},
        **({"latency": trial.latency.to_dict()} if trial.latency else {}),
        "dataset": {"name": data["name"], "fingerprint": data["fingerprint"]},
        "objectives": list(run.config["objectives"]),
        "recipe": dict(run.config["recipe"]),
        "nas": run.config["versions"]["nas"],
    }


def file_name(trial: Trial, rank: int | None, digits: int = 2) -> str:
    """Name without suffix: `01-trial12-93.12acc-0.21Mparams`; off the front without rank, once confirmed with the mean accuracy."""
    who = re.sub(r"[^\w.-]+", "-", trial.label, flags=re.ASCII).strip("-.") if trial.label else f"trial{trial.number}"
    parts = [] if rank is None else [f"{rank:0{digits}}"]
    parts.append(who or "unnamed")
    accuracy = trial.confirmed.mean if trial.confirmed else trial.accuracy
    if accuracy is not None:
        parts.append(f"{format_percent(accuracy)}acc")
    parts.append(f"{format_count(trial.cost.params).replace(' ', '')}params")
    return "-".join(parts)


def _named(run: Run, trial: Trial) -> Architecture:
    """The trial's architecture, with a name that identifies it outside of the run's folder."""
    if trial.architecture.name:
        return trial.architecture
    name = "".join(c for c in f"{run.config['name']} {trial.name}" if c.isprintable())
    return replace(trial.architecture, name=name[-MAX_NAME:])
