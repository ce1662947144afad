"""`nas confirm`: trains the networks of a run's front again from further seeds, in the run's folder.

Only the seed of weights and batches differs from the search: recipe, proxy, data, split, device, precision and executor are the same. The
networks are those of the front as searched, the run's baselines and, on request, networks near the front.

`RUN/confirmed/NAME/seedK/` is the folder of one training (`nas.training.workspace`): it has a checkpoint while it trains, and
`result.json` at its end. No other state is kept. A training with a result is not repeated, and an interrupted one continues after its
last epoch. The study is only read. The run's lock is held, so that neither a search nor another confirmation works on the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas.errors import NasError, UsageError
from nas.execution import fencing
from nas.execution.executor import check as check_executor
from nas.execution.executor import execute
from nas.execution.job import Job
from nas.execution.job_queue import JobQueue, Told
from nas.execution.trial_results import Counts
from nas.runs.attempts import Cause, frequent
from nas.runs.layout import ATTRIBUTE
from nas.runs.records import Trial, TrialResult
from nas.runs.repeats import does, repeat_folder
from nas.runs.run import Run, load_run
from nas.runs.settings import FILE, Settings
from nas.runs.storage import resolved
from nas.runs.study_access import open_study, reading_study
from nas.searching.conclusion import concluded, finished_run
from nas.searching.disk_space import check_room
from nas.searching.preparation import load_again, training_data
from nas.searching.progress import Tally, say_and_display
from nas.searching.request import executor_options
from nas.searching.search import imported, other_versions
from nas.stopping.policies import Policy
from nas.utils.text import Say, counted, format_seconds, shown

SEEDS = 3
LEAST, MOST = 2, 1000  # seeds; one alone gives no spread
FAILURES_AT_FIRST = 5  # so many failures before any success are not the fault of the networks


class Confirmation(JobQueue):
    """The trainings that confirm a run's front, as a queue for executors. As a context manager it takes the run's lock.

    seeds: number of further seeds: the run's seed + 1, + 2, ... All networks are trained from one seed before the next seed begins.
    within: networks are included whose accuracy is at most this share below the front. storage: the whole URL of the study's
    database, if the settings may not keep its password.
    """

    def __init__(
        self, folder: Path, settings: Settings, seeds: int = SEEDS, within: float = 0.0, storage: str | None = None
    ) -> None:
        super().__init__()
        self.folder = folder
        self.seeds, self.within, self.storage = seeds, within, storage
        self.objectives = settings.parsed_objectives()
        self.url = resolved(settings.storage, storage, folder)
        # Each training runs to its end, even with a search that stopped trials early.
        self.settings = dataclasses.replace(settings, stopping=Policy(), plan={})
        self.counts = Counts()
        self.trials: list[Trial] = []
        self.front: list[Trial] = []  # as searched
        self._trial_of: dict[str, Trial] = {}
        self._accuracies: dict[int, list[float]] = {}
        self._failures: list[str] = []  # their reasons

    @property
    def _does(self) -> str:
        return does(self.seeds, self.within)

    def _open(self) -> None:
        run = load_run(self.folder, self.storage)  # after the lock is taken: no other process adds trials from now on
        self._check_settings()
        self.front = run.searched_front()
        if not self.front:
            raise NasError(f"{self.folder}: {run.no_front('to confirm')}")
        self.trials = run.to_confirm(self.within)
        seeds = range(self.settings.seed + 1, self.settings.seed + 1 + self.seeds)
        for job, trial in ((self._job(trial, seed), trial) for seed in seeds for trial in self.trials):
            self._trial_of[job.key] = trial
            self._adopt(job)
        self.settings = dataclasses.replace(self.settings, trials=len(self._trial_of))

    def _check_settings(self) -> None:
        """UsageError if `run.yaml` differs from the study's settings in what must not change: results could not be compared."""
        study = open_study(self.folder, self.settings, self.url)
        with reading_study(self.folder, self.url):
            copy = None if study is None else study.user_attrs.get(ATTRIBUTE)
        if copy is not None:
            now = Settings.load(self.folder)
            now.check_unchanged(Settings.from_dict(copy, str(self.folder / FILE)), self.folder, self.url is None)

    def _job(self, trial: Trial, seed: int) -> Job:
        folder = repeat_folder(self.folder, trial, seed)
        return Job(f"{folder.parent.name}/{folder.name}", folder, trial.architecture, seed, latency=trial.latency)

    def _adopt(self, job: Job) -> None:
        result = job.result
        if result is not None and result.failed and result.cause != Cause.DIVERGED:
            job.result_path.unlink()  # the machine may have been the cause, and may be repaired by now
            result = None
        if result is not None:
            self._record(job, result)
        else:
            self._reopen(job, job.key)

    def trial_of(self, job: Job) -> Trial:
        return self._trial_of[job.key]

    def accuracies(self, trial: Trial) -> list[float]:
        """Accuracies from the further seeds so far."""
        return self._accuracies.get(trial.number, [])

    @property
    def finished(self) -> bool:
        return not self._flying and not self._queue

    @property
    def again(self) -> str:
        within = f" --within {100 * self.within:g}" if self.within else ""
        return f"nas confirm {shown(self.folder)} --seeds {self.seeds}{within}"

    @property
    def begun(self) -> bool:
        return True

    @property
    def waiting_seconds(self) -> float:
        """Predicted training time that is left: what the search spent on the same networks."""
        return sum(self.trial_of(job).seconds for job in self._queue)

    def ask(self, on_ended: Told = lambda job, result: None) -> Job | None:
        self.check_mine()
        if not self.counts.complete and self.counts.failed >= FAILURES_AT_FIRST:
            raise NasError(f"{self.counts.failed} trainings failed, {frequent(self._failures)}")
        return self._next_waiting(on_ended)

    def known(self) -> list[tuple[str, tuple[float, ...]]]:
        return []

    def prepare(self, say: Callable[[str], None]) -> None:
        """Nothing to measure: latencies are those of the search."""

    def keep(self, settings: Settings) -> None:
        """Use these settings for this confirmation. `run.yaml` keeps those of the search."""
        self.settings = settings

    def account(self, entry: Mapping[str, object]) -> None:
        """Nothing to record: a confirmation is not a session of the search, and each result has its own time."""

    def _record(self, job: Job, result: TrialResult) -> None:
        if result.accuracy is None:
            self.counts.failed += 1
            self._failures.append(result.reason)
        else:
            self.counts.complete += 1
            self._accuracies.setdefault(self.trial_of(job).number, []).append(result.accuracy)
        fencing.end(job)


def confirm(
    path: str | Path,
    *,
    seeds: int = SEEDS,
    within: float = 0.0,
    say: Say | None = None,
    display: Callable[[Confirmation], Tally] | None = None,
    quiet: bool = False,
    download: bool = False,
    storage: str | None = None,
    dataset: str | None = None,
    **options: Any,
) -> Run:
    """Train the networks of a run's front from further seeds and write the report and the front again; the run, with the means.

    within: networks at most so many percentage points of accuracy below the front are trained, too. The other options are those of
    `nas.resume`. UsageError for a request that can't be fulfilled. Interrupted if the user stopped it; the same call continues.
    """
    changes = executor_options(options, "nas.confirm")
    say, display = say_and_display(say, display, quiet)
    check_seeds(seeds, "--seeds")
    if not 0 <= within <= 100:
        raise UsageError(f"--within {within:g}: points of accuracy, from 0 to 100")
    folder = Path(path).absolute()
    begun = Settings.load(folder)
    changes.check(changes.executor or begun.executor.kind)
    if text := other_versions(begun):
        say(text)
    settings = imported(dataclasses.replace(begun, executor=changes.merged(begun.executor)), folder)
    confirmation = Confirmation(folder, settings, seeds, within / 100, storage)
    return finished_run(lambda: _drive(confirmation, say, display, download, dataset), confirmation.again)


def check_seeds(seeds: int, option: str) -> None:
    """UsageError for a number of seeds out of range."""
    if not LEAST <= seeds <= MOST:
        raise UsageError(f"{option} {seeds}: from {LEAST}, since one seed gives no spread, to {MOST}")


def _drive(
    confirmation: Confirmation, say: Say, display: Callable[[Confirmation], Tally], download: bool, dataset: str | None
) -> Run | None:
    """Train, then write the report and the front. The run; None if the user stopped it."""
    with confirmation:
        for text in confirmation.recovered:
            say(f"recovered: {text}")
        say(_planned(confirmation))
        stopped = not confirmation.finished and _train(confirmation, say, display, download, dataset)
        run = concluded(confirmation, confirmation.storage)
    return None if stopped else run


def _train(
    confirmation: Confirmation, say: Say, display: Callable[[Confirmation], Tally], download: bool, dataset: str | None
) -> bool:
    """Train what is left. Whether the user stopped it."""
    settings = confirmation.settings
    check_executor(settings)
    if dataset is not None:
        settings = dataclasses.replace(settings, dataset=dataclasses.replace(settings.dataset, name=dataset))
    loaded = load_again(confirmation.folder, settings, say, download=download)
    check_room(confirmation.folder, settings, say, begun=True)
    try:
        execute(confirmation, training_data(loaded, settings.seed, settings.proxy), say, display)
    except KeyboardInterrupt:
        return True
    return not confirmation.finished


def _planned(confirmation: Confirmation) -> str:
    members = {trial.number for trial in confirmation.front}
    others = [trial for trial in confirmation.trials if trial.number not in members]
    baselines = sum(bool(trial.label) for trial in others)
    near = len(others) - baselines
    parts = [f"{len(members)} on the front as searched"]
    parts += [f"{near} within {100 * confirmation.within:g} points of it"] if near else []
    parts += [counted(baselines, "baseline")] if baselines else []
    wanted, left = confirmation.settings.trials, len(confirmation._queue)
    pace = f", about {format_seconds(confirmation.waiting_seconds)} of training, as the search took" if left else ""
    done = f"{wanted - left} of them done already" if wanted > left else "none of them done yet"
    return (
        f"Confirming {counted(len(confirmation.trials), 'network')} ({', '.join(parts)}) from {confirmation.seeds} further seeds "
        f"each: {counted(wanted, 'training')}, {done}{pace}."
    )
