"""Trials of a run to files, one a network, with names that sort by their place on the front and say what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.architecture import MAX_NAME, Architecture
from nas.errors import UsageError
from nas.export.formats import Exporter
from nas.files import write_text
from nas.records import Trial
from nas.run import Run
from nas.text import format_count, format_percent


def export_trials(
    run: Run, trials: Sequence[Trial], folder: Path, exporter: Exporter, *, force: bool = False
) -> list[Path]:
    """Write one file a trial, each whole or not at all; the paths.

    UsageError, before anything is written, if a file of the same name holds something else and `force` is not given.
    """
    front = [trial.number for trial in run.front()]
    texts: dict[Path, str] = {}
    for trial in {trial.number: trial for trial in trials}.values():
        rank = front.index(trial.number) + 1 if trial.number in front else None
        name = file_name(trial, rank, digits=max(2, len(str(len(front)))))
        text = exporter(_named(run, trial), provenance(run, trial))
        path, k = folder / f"{name}{exporter.suffix}", 2
        while texts.get(path, text) != text:  # two labels that differ only in what no name of a file has
            path, k = folder / f"{name}-{k}{exporter.suffix}", k + 1
        texts[path] = text
    different = [path for path, text in texts.items() if path.exists() and not _holds(path, text)]
    if different and not force:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UsageError(
            f"{different[0]}{more}: holds something else; --force overwrites it, another --out leaves it alone"
        )
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def provenance(run: Run, trial: Trial) -> dict[str, Any]:
    """Where a network comes from: run, trial, what was measured on which data, and with which release."""
    data = run.config["dataset"]
    return {
        "run": run.config["name"],
        "trial": trial.label or trial.number,
        "state": trial.state,
        **({"reason": trial.reason} if trial.reason else {}),
        "accuracy": trial.accuracy,
        "accuracy_on": "validation",
        "epochs": len(trial.epochs),
        "cost": {"params": trial.cost.params, "macs": trial.cost.macs, "activations": trial.cost.activations},
        **({"latency": trial.latency.to_dict()} if trial.latency else {}),
        "dataset": {"name": data["name"], "fingerprint": data["fingerprint"]},
        "objectives": list(run.config["objectives"]),
        "nas": run.config["versions"]["nas"],
    }


def file_name(trial: Trial, rank: int | None, digits: int = 2) -> str:
    """Name without suffix: `01-trial12-93.12acc-0.21Mparams`; no rank off the front, no accuracy without a measurement."""
    who = re.sub(r"[^\w.-]+", "-", trial.label, flags=re.ASCII).strip("-.") if trial.label else f"trial{trial.number}"
    parts = [] if rank is None else [f"{rank:0{digits}}"]
    parts.append(who or "unnamed")
    if trial.accuracy is not None:
        parts.append(f"{format_percent(trial.accuracy)}acc")
    parts.append(f"{format_count(trial.cost.params).replace(' ', '')}params")
    return "-".join(parts)


def _named(run: Run, trial: Trial) -> Architecture:
    """The trial's architecture with a name that still says what it is once the file lies elsewhere."""
    if trial.architecture.name:
        return trial.architecture
    name = "".join(c for c in f"{run.config['name']} {trial.name}" if c.isprintable())
    return replace(trial.architecture, name=name[-MAX_NAME:])


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
