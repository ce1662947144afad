"""The page's section on early stopping: what was stopped and why, what it saved, and the calibration of its predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nas.report.html.markup import Html, table, tag
from nas.runs.records import Trial
from nas.stopping.curves import Decision
from nas.stopping.policies import Policy
from nas.utils.text import format_count, format_percent, format_seconds

if TYPE_CHECKING:
    from nas.runs.run import Run

MOST = 200  # rows of the table of stopped trials: thousands make the page slow to open
EDGES = (0.05, 0.25, 0.5, 0.75)  # of the bins of predicted probability


def stopping(run: Run, asked: bool = False) -> list[Html]:
    """The section's content; empty if nothing was stopped, unless it is asked for."""
    stopped = [trial for trial in run.trials if trial.state == "stopped" and trial.epochs]
    if not stopped and not asked:
        return []
    whole = int(run.config["recipe"]["epochs"])
    parts = [tag("p", _policy(run)), tag("p", _saved(run, stopped, whole))]
    if stopped:
        parts += [_by_epoch(stopped, whole), _each(stopped, whole)]
    parts.append(_calibration(run))
    return parts


def policy_of(run: Run) -> Policy:
    return Policy.from_dict(run.config.get("stopping") or {})


def seconds_saved(trial: Trial, epochs: int) -> float:
    """Estimated seconds of the epochs that were not trained, from the mean of those that were."""
    return trial.seconds / len(trial.epochs) * (epochs - len(trial.epochs)) if trial.epochs else 0.0


def _policy(run: Run) -> str:
    policy = policy_of(run)
    if policy.name == "none":
        late = (
            " Trials that were running when the time budget was exhausted were stopped after an epoch."
            if run.config.get("plan")
            else ""
        )
        return f"Every trial was to be trained in full (--stopping none).{late}"
    if policy.name == "pareto":
        return (
            "A trial was stopped where the probability that its final accuracy exceeds A(c), the best of any complete network that is"
            f" as cheap in every cost, was predicted as {policy.epsilon:g} or less, from the learning curves of this run;"
            f" {policy.share:.0%} of the trials were never stopped, nor were {policy.quota} in each bin of a factor of 4 in a cost."
        )
    by = "accuracy" if policy.name == "asha" else "non-dominated sorting of accuracy and costs"
    return f"At each rung a trial continued if it was among the best 1/{policy.eta:g} so far, by {by} (--stopping {policy.name})."


def _saved(run: Run, stopped: Sequence[Trial], whole: int) -> str:
    if not stopped:
        return "Nothing was stopped."
    trained = [trial for trial in run.trials if trial.epochs]
    epochs = sum(len(trial.epochs) for trial in trained)
    saved = sum(whole - len(trial.epochs) for trial in stopped)
    spent, spared = sum(trial.seconds for trial in trained), sum(seconds_saved(trial, whole) for trial in stopped)
    return (
        f"{len(stopped):,} of {len(trained):,} trials were stopped. That saved {saved:,} of {saved + epochs:,} epochs, and about"
        f" {format_seconds(spared)} of {format_seconds(spared + spent)} on the workers, by the stopped trials' own seconds an epoch."
        " A stopped trial has no accuracy, and is on no front."
    )


def _by_epoch(stopped: Sequence[Trial], whole: int) -> Html:
    reached = sorted({len(trial.epochs) for trial in stopped})
    rows = []
    for epoch in reached:
        ended = [trial for trial in stopped if len(trial.epochs) == epoch]
        seconds = sum(seconds_saved(trial, whole) for trial in ended)
        rows.append((str(epoch), f"{len(ended):,}", f"{(whole - epoch) * len(ended):,}", format_seconds(seconds)))
    head = ("After epoch", "Trials", "Epochs saved", "Time saved")
    return table(f"Stopped trials by the epoch, of {whole}, that they reached.", head, rows, numbers=(1, 2, 3))


def _each(stopped: Sequence[Trial], whole: int) -> Html:
    rows = []
    shown = stopped if len(stopped) <= MOST else sorted(sorted(stopped, key=_closeness)[-MOST:], key=lambda t: t.number)
    for trial in shown:
        last = _last(trial)
        rows.append(
            (
                str(trial.number),
                str(len(trial.epochs)),
                format_percent(trial.epochs[-1].accuracy),
                _share(last.probability if last else None),
                "–" if last is None or last.bar is None else format_percent(last.bar),
                format_count(trial.cost.params),
                format_count(trial.cost.macs),
                str(whole - len(trial.epochs)),
                format_seconds(seconds_saved(trial, whole)),
                trial.reason,
            )
        )
    head = (
        *("Trial", "After epoch", "Accuracy then, %", "Probability", "A(c), %", "Parameters", "MACs"),
        *("Epochs saved", "Time saved", "Reason"),
    )
    which = "Each stopped trial"
    if len(shown) < len(stopped):
        which = f"The {MOST} of {len(stopped):,} stopped trials that came closest (`nas report --format csv` has all)"
    caption = f"{which}; probability is that of a final accuracy above A(c)."
    content = table(caption, head, rows, numbers=tuple(range(1, 9)), words=(9,))
    return tag("details", tag("summary", f"Show {len(rows):,} stopped trials"), content)


def _last(trial: Trial) -> Decision | None:
    """The decision that stopped the trial, if it was recorded."""
    return next((decision for decision in reversed(trial.decisions) if decision.stop), None)


def _closeness(trial: Trial) -> tuple[float, float]:
    """Sort key of how close the trial was to continuing: its probability, then its accuracy at that epoch."""
    last = _last(trial)
    probability = last.probability if last and last.probability is not None else 0.0
    return (probability if math.isfinite(probability) else 0.0, trial.epochs[-1].accuracy)


def calibration(run: Run) -> Iterator[tuple[Decision, bool]]:
    """Predictions about trials that are never stopped, each with whether it came true."""
    policy = policy_of(run)
    for trial in run.trials:
        if trial.accuracy is not None and (trial.label or policy.always(int(run.config["seed"]), str(trial.number))):
            for decision in trial.decisions:
                if decision.probability is not None and decision.bar is not None:
                    yield decision, trial.accuracy > decision.bar


def _calibration(run: Run) -> Html:
    predictions = list(calibration(run))
    if not predictions:
        return Html("")
    rows = []
    for low, high in zip((0.0, *EDGES), (*EDGES, 1.0), strict=True):
        inside = [
            (float(d.probability or 0), true) for d, true in predictions if low < (d.probability or 1e-300) <= high
        ]
        if inside:
            predicted, observed = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            rows.append((f"{low:.0%} to {high:.0%}", f"{len(inside):,}", f"{predicted:.0%}", f"{observed:.0%}"))
    known = [decision.correlation for decision, _ in predictions if decision.correlation is not None]
    ranks = (
        f" Rank correlation of the accuracies at the rung and at the end: {min(known):.2f} to {max(known):.2f}."
        if known
        else ""
    )
    caption = (
        "Calibration: predictions at each rung for the trials that are never stopped, and how often they"
        f" came true.{ranks}"
    )
    return table(caption, ("Predicted", "Predictions", "Mean", "Came true"), rows, numbers=(1, 2, 3))


def _share(probability: float | None) -> str:
    if probability is None or not math.isfinite(probability):
        return "–"
    return f"{probability:.2g}"
