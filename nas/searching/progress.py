"""Progress of a search: a live display on a terminal, plain lines elsewhere, nothing if quiet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from nas.execution.job import Job
from nas.networks.build import cost_of
from nas.pareto.dominance import front
from nas.runs.layout import CONFIG
from nas.runs.records import LATENCY, TrialResult
from nas.training.records import Epoch
from nas.utils.text import format_count, format_ms, format_percent, format_price, format_seconds, printable, shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from nas.execution.job_queue import JobQueue


class Tally:
    """The state of a search: its front, its rate and its ETA. Shows nothing; the base class of the visible displays."""

    noun = "trials"

    def __init__(self, study: JobQueue) -> None:
        self.study = study
        self.settings = study.settings
        self.running: dict[str, tuple[Job, Epoch | None]] = {}
        self._best: list[tuple[str, tuple[float, ...]]] = []  # the front of the trials that were compared
        self._fresh: list[tuple[str, tuple[float, ...]]] = []  # trials that were not compared yet
        self.training_seconds = 0.0
        self.begun = time.monotonic()
        self._first_start: float | None = None
        self._trained_before = study.counts.trained

    def load(self, finished: list[tuple[str, tuple[float, ...]]]) -> None:
        """Results of earlier sessions of the same run."""
        self._best, self._fresh = [], list(finished)

    def started(self, job: Job) -> None:
        self._first_start = self._first_start or time.monotonic()
        self.running[job.key] = (job, None)

    def epoch(self, job: Job, epoch: Epoch) -> None:
        self.running[job.key] = (job, epoch)
        self.training_seconds += epoch.seconds

    def ended(self, job: Job, result: TrialResult) -> None:
        self.running.pop(job.key, None)
        if result.torn:
            self.note(f"{job.key}: {result.torn}")
        if result.accuracy is not None:
            self._fresh.append((job.key, job.candidate.values(result.accuracy, self.study.objectives)))

    def note(self, text: str) -> None: ...

    def _name(self, job: Job) -> str:
        return job.key.removeprefix("baseline:") if job.baseline else f"trial {job.key}"

    def front(self) -> list[tuple[str, tuple[float, ...]]]:
        """Keys and values of the front so far, by the first minimized objective."""
        if self._fresh:
            among, self._fresh = self._best + self._fresh, []
            directions = [objective.direction for objective in self.study.objectives]
            self._best = [among[k] for k in front(np.array([values for _, values in among]), directions)]
        return list(self._best)

    @property
    def aim(self) -> int:
        """The wanted number of trials. With a time budget: the planned number."""
        wanted = self.study.settings.trials
        return max(min(int(self.settings.plan.get("trials", wanted)), wanted), self.study.counts.trained)

    @property
    def rate(self) -> float | None:
        """Trials per second since the first one started, or None before any has ended."""
        done = self.study.counts.trained - self._trained_before
        if self._first_start is None or not done:
            return None
        return done / max(time.monotonic() - self._first_start, 1e-9)

    @property
    def eta_seconds(self) -> float | None:
        rate = self.rate
        return None if rate is None else (self.aim - self.study.counts.trained) / rate

    def summary(self) -> str:
        """`37/200 trials, 1 failed, 12 outside the budgets, 1.2 trials/s, ETA 2 min`."""
        counts = self.study.counts
        parts = [f"{counts.trained}/{self.aim} {self.noun}"]
        for number, kind in (
            (counts.stopped, "stopped"),
            (counts.failed, "failed"),
            (counts.rejected, "outside the budgets"),
            (counts.duplicate, "duplicates"),
        ):
            if number:
                parts.append(f"{number} {kind}")
        if self.rate is not None and self.eta_seconds is not None:
            parts += [f"{60 * self.rate:.1f} {self.noun}/min", f"ETA {format_seconds(self.eta_seconds)}"]
        return ", ".join(parts)

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None: ...


def failure(job: Job, result: TrialResult) -> str:
    """The reason why a trial failed, and the file of its network."""
    return f"{result.reason} (its network: {shown(job.folder / CONFIG)})"


class Lines(Tally):
    """One line for each trial that ends, for logs and pipes."""

    def __init__(self, study: JobQueue, out: TextIO | None) -> None:
        super().__init__(study)
        self.out = out

    def ended(self, job: Job, result: TrialResult) -> None:
        super().ended(job, result)
        cost = cost_of(job.architecture)
        name = self._name(job)
        if result.accuracy is not None:
            mark = "  * on the front" if job.key in {key for key, _ in self.front()} else ""
            slow = f", {format_ms(job.latency_ms)} latency" if job.latency_ms else ""
            costs = f"{format_count(cost.params)} params, {format_count(cost.macs)} MACs{slow}, {result.seconds:.1f} s"
            self.note(f"{name}: {format_percent(result.accuracy)} % val accuracy, {costs}{mark}  [{self.summary()}]")
        elif result.stopped:
            self.note(f"{name}: stopped {result.reason}  [{self.summary()}]")
        else:
            self.note(f"{name}: FAILED: {failure(job, result)}  [{self.summary()}]")

    def note(self, text: str) -> None:
        _print(text, self.out)


def _print(text: str, out: TextIO | None) -> None:
    """Print a message. A closed pipe, a full disk or a closed stream (None) must not end the search, so errors are ignored."""
    if out is None:
        return
    encoding = getattr(out, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
        print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=out, flush=True)


def say_and_display(
    say: Callable[[str], None] | None, display: Callable[[Any], Tally] | None, quiet: bool
) -> tuple[Callable[[str], None], Callable[[Any], Tally]]:
    """The callbacks that a caller from Python passed. Default: lines on stderr, or nothing if `quiet`."""
    if quiet:
        return say or (lambda text: None), display or Tally
    return say or _to_stderr, display or (lambda study: Lines(study, sys.stderr))


def _to_stderr(text: str) -> None:
    _print(text, sys.stderr)


class Live(Tally):
    """A live display: progress, the running trials and the front so far."""

    SHOWN = 10  # lines each of the front and of the running trials

    def __init__(self, study: JobQueue, console: Console) -> None:
        from rich.live import Live as RichLive

        super().__init__(study)
        self.console = console
        self._live = RichLive(get_renderable=self._draw, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def ended(self, job: Job, result: TrialResult) -> None:
        super().ended(job, result)
        if result.failed:
            self.note(f"{self._name(job)} failed: {failure(job, result)}")

    def note(self, text: str) -> None:
        self.console.print(printable(text), markup=False, highlight=False)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        running = [self._running_line(job, epoch) for job, epoch in list(self.running.values())[: self.SHOWN]]
        return Group(
            Text(""),
            ProgressBar(total=self.aim, completed=self.study.counts.trained, width=60),
            Text(self.summary()),
            Text("\n".join(running) if running else "starting workers ...", style="dim"),
            Text(""),
            *self._results(),
        )

    def _results(self) -> list[RenderableType]:
        """The front so far."""
        from rich.table import Table
        from rich.text import Text

        names = [objective.name for objective in self.study.objectives]
        columns = {"params": "params", "macs": "MACs", **({LATENCY: "latency"} if LATENCY in names else {})}
        table = Table(title="Front so far", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("", justify="left")
        for title in ("val accuracy %", *columns.values()):
            table.add_column(title, justify="right")
        members = self.front()
        for key, values in sorted(members, key=lambda member: -member[1][0])[: self.SHOWN]:
            name = f"trial {key}" if key.isdigit() else printable(key.removeprefix("baseline:"))
            value_of = dict(zip(names, values, strict=True))
            costs = [format_price(column, value_of[column]) if column in value_of else "" for column in columns]
            table.add_row(name, format_percent(values[0]), *costs)
        more = len(members) - self.SHOWN
        return [table, Text(f"and {more} more" if more > 0 else "", style="dim")]

    def _running_line(self, job: Job, epoch: Epoch | None) -> str:
        name = self._name(job)
        if epoch is None:
            return f"  {name}: started"
        total = self.settings.recipe.epochs
        return f"  {name}: epoch {epoch.number}/{total}, {format_percent(epoch.accuracy)} % val accuracy"
