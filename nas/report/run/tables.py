"""A run's front and trials as rows of plain values and as CSV, shared by `nas front` and `nas report`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nas.networks.describe import describe
from nas.pareto.dominance import knee
from nas.report.html.chart import Json
from nas.utils.text import cell, format_percent

if TYPE_CHECKING:
    from nas.runs.records import State, Trial
    from nas.runs.run import Run

STATES: tuple[State, ...] = ("complete", "stopped", "failed", "rejected", "duplicate", "running")


def facts(trial: Trial) -> Json:
    """The columns of every list of networks. Accuracies are in [0, 1]: that of the search is None if the trial is not complete,
    that over further seeds is None if it is not confirmed.
    """
    return {
        "trial": trial.number,
        "label": trial.label,
        "accuracy": trial.accuracy,
        **estimated(trial),
        "params": trial.cost.params,
        "macs": trial.cost.macs,
        "activations": trial.cost.activations,
        **({"latency_ms": trial.latency.median_ms, "latency_iqr_ms": trial.latency.spread_ms} if trial.latency else {}),
        "epochs": len(trial.epochs),
        "digest": trial.digest,
        "description": describe(trial.architecture),
    }


def estimated(trial: Trial) -> Json:
    """The columns of the accuracy over further seeds."""
    confirmed = trial.confirmed
    return {
        "accuracy_mean": confirmed.mean if confirmed else None,
        "accuracy_std_error": confirmed.std_error if confirmed else None,
        "accuracy_seeds": confirmed.n if confirmed else 0,
    }


def mean_cell(row: Json) -> str:
    """`estimated` in percent: `93.12 ± 0.21 (3)`; a dash without a mean."""
    if not row["accuracy_seeds"]:
        return "–"
    mean, error = (format_percent(row[name]) for name in ("accuracy_mean", "accuracy_std_error"))
    return f"{mean} ± {error} ({row['accuracy_seeds']})"


def confirmation(run: Run) -> Json | None:
    """Progress and results of the confirmation of the search's front; None if no confirmation was begun.

    going_on: trainings that the running `nas confirm` has finished, and of how many; None if none is running.
    fall: mean over networks of the search's accuracy less the mean over further seeds.
    """
    so_far = run.confirmed_so_far()
    if so_far is None and not any(trial.repeats for trial in run.trials):
        return None
    searched, fall = run.searched_front(), run.fall()
    return {
        "going_on": None if so_far is None else {"done": so_far[0], "wanted": so_far[1]},
        "searched_front": [trial.number for trial in searched],
        "confirmed": sum(trial.confirmed is not None for trial in searched),
        "networks": sum(trial.confirmed is not None for trial in run.trials),
        "trainings": sum(len(trial.repeats) for trial in run.trials),
        "failed": [
            {"trial": trial.number, "label": trial.label, "seed": repeat.seed, "reason": repeat.reason}
            for trial in run.trials
            for repeat in trial.repeats
            if repeat.state == "failed"
        ],
        "fall": None if fall is None else {"mean": fall.mean, "std_error": fall.std_error, "networks": fall.n},
    }


def front_rows(run: Run) -> list[Json]:
    """The front from its cheapest network to its most expensive; empty if no trial is complete."""
    trials = run.front()
    if not trials:
        return []
    bend = knee([run.values(trial) for trial in trials], run.directions)
    return [
        {"rank": rank, "knee": rank - 1 == bend, **facts(trial), "choices": dict(trial.choices)}
        for rank, trial in enumerate(trials, 1)
    ]


def front_data(run: Run) -> Json:
    """A run's state and its front as plain data."""
    return {
        "run": run.config["name"],
        "path": str(run.path),
        "status": run.status,
        "dataset": run.config["dataset"]["name"],
        "objectives": list(run.config["objectives"]),
        "trials": {state: run.count(state) for state in STATES},
        "ranked_by": "mean" if run.by_means else "search",
        "confirmation": confirmation(run),
        "front": front_rows(run),
        "failures": [
            {
                "trial": trial.number,
                "label": trial.label,
                "cause": trial.cause,
                "attempts": trial.attempts,
                "reason": trial.reason,
            }
            for trial in run.trials
            if trial.state == "failed"
        ],
        "baselines": [facts(trial) for trial in run.baselines()],
    }


def trial_rows(run: Run) -> list[Json]:
    """Every trial by number, baselines first: facts, state, reason, seconds, choices and learning curve."""
    front = {trial.number for trial in run.front()}
    return [
        {
            **facts(trial),
            "state": trial.state,
            "front": trial.number in front,
            "seconds": trial.seconds,
            "executed_macs": trial.executed.macs if trial.executed else None,
            "reason": trial.reason,
            "cause": trial.cause,
            "attempts": trial.attempts,
            "choices": dict(trial.choices),
            "curve": [epoch.accuracy for epoch in trial.epochs],
        }
        for trial in run.trials
    ]


def front_csv(run: Run) -> str:
    return to_csv(_columns(front_rows(run)))


def trials_csv(run: Run) -> str:
    """A row for each trial, a column for each knob; empty where a trial does not have the knob."""
    rows = trial_rows(run)
    knobs = dict.fromkeys(key for row in rows for key in row["choices"])
    flat = [{**row, **{key: row["choices"].get(key) for key in knobs}} for row in rows]
    return to_csv(_columns(flat))


def _columns(rows: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    flat = [{key: value for key, value in row.items() if key not in ("choices", "curve")} for row in rows]
    # Trials that were rejected for a budget have no latency.
    names = dict.fromkeys(key for row in sorted(flat, key=len, reverse=True) for key in row)
    return [{key: row.get(key) for key in names} for row in flat]


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """CSV with a header line, "" without rows. Texts can't become formulas: see `nas.utils.text.cell`."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([cell(key) for key in rows[0]])
    writer.writerows([cell(value) for value in row.values()] for row in rows)
    return file.getvalue()
