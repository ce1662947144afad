"""Progress of a confirmation: a live display on a terminal, one line for each training elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from nas.execution.job import Job
from nas.runs.records import Estimate, Trial, TrialResult, format_estimate
from nas.searching.confirmation import Confirmation
from nas.searching.progress import Lines, Live, Tally
from nas.utils.text import format_percent, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class Trainings(Tally):
    """Counts trainings; the front does not change."""

    noun = "trainings"
    study: Confirmation

    def ended(self, job: Job, result: TrialResult) -> None:
        self.running.pop(job.key, None)
        if result.torn:
            self.note(f"{self._name(job)}: {result.torn}")

    def _name(self, job: Job) -> str:
        return f"{self.study.trial_of(job).name}, seed {job.seed}"

    def _mean(self, trial: Trial) -> str:
        accuracies = self.study.accuracies(trial)
        return format_estimate(Estimate.of(accuracies)) if len(accuracies) > 1 else ""


class TrainingLines(Trainings, Lines):
    """A line for each training that ends."""

    def __init__(self, confirmation: Confirmation, out: TextIO) -> None:
        Lines.__init__(self, confirmation, out)

    def ended(self, job: Job, result: TrialResult) -> None:
        super().ended(job, result)
        trial = self.study.trial_of(job)
        if result.failed:
            self.note(f"{self._name(job)}: FAILED: {result.reason}  [{self.summary()}]")
            return
        mean = self._mean(trial)
        searched = f"in the search {format_percent(trial.accuracy or 0.0)} %{f', now {mean}' if mean else ''}"
        accuracy = format_percent(result.accuracy or 0.0)
        self.note(f"{self._name(job)}: {accuracy} % val accuracy ({searched})  [{self.summary()}]")


class TrainingsLive(Trainings, Live):
    """A live display: progress, the running trainings and the means so far."""

    def __init__(self, confirmation: Confirmation, console: Console) -> None:
        Live.__init__(self, confirmation, console)

    def ended(self, job: Job, result: TrialResult) -> None:
        Trainings.ended(self, job, result)
        if result.failed:
            self.note(f"{self._name(job)} failed: {result.reason}")

    def _results(self) -> list[RenderableType]:
        from rich.table import Table

        table = Table(title="Networks", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("", "in the search %", "further seeds"):
            table.add_column(column, justify="left" if not column else "right")
        ranked = sorted(self.study.trials, key=lambda trial: -(trial.accuracy or 0.0))
        for trial in ranked[: self.SHOWN]:
            table.add_row(printable(trial.name), format_percent(trial.accuracy or 0.0), self._mean(trial))
        return [table]
