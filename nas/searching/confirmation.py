"""The networks of a run's front trained again from further seeds, in the run's folder: what `nas confirm` does.

Everything but the seed of weights and batches is the search's: recipe, proxy, data, split, device, precision, executor. What is
trained is the front as searched, the known networks that the run has as baselines and, if asked for, what is near the front.

`RUN/confirmed/NAME/seedK/` is a trial's folder (`nas.training.workspace`): a checkpoint while it trains, `result.json` at its end.
Nothing else is kept: what has a result is not trained again, what was in flight goes on behind its last epoch. The study is only read. The
run's lock is held, so that neither a search nor another confirmation works on the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas.errors import Interrupted, NasError, UsageError, WriteError
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
from nas.searching.conclusion import concluded
from nas.searching.disk_space import check_room
from nas.searching.preparation import load_again, training_data
from nas.searching.progress import Tally, chosen
from nas.searching.request import check_asked, going_on
from nas.searching.search import imported, other_versions
from nas.utils.text import Say, counted, format_seconds, shown

SEEDS = 3
LEAST, MOST = 2, 1000  # seeds: one alone says nothing about the spread
FAILURES_AT_FIRST = 5  # that many with nothing trained, and it is not the networks' fault


class Confirmation(JobQueue):
    """The trainings that confirm a run's front, as executors take them. A context manager: entering takes the run's lock.

    seeds: how many further ones, the run's own + 1, + 2, ... They are gone through one after the other, so that all networks have
    equally many behind each pass. within: how much accuracy, as a share, networks may lack to the front and be trained too. storage: the
    whole URL of the study's database, where the settings may not keep its password.
    """

    def __init__(
        self, folder: Path, settings: Settings, seeds: int = SEEDS, within: float = 0.0, storage: str | None = None
    ) -> None:
        super().__init__()
        self.folder = folder
        self.seeds, self.within, self.storage = seeds, within, storage
        self.objectives = settings.parsed_objectives()
        self.url = resolved(settings.storage, storage, folder)
        # Each is trained to its end, whatever the search stopped early.
        self.settings = dataclasses.replace(settings, stopping={}, plan={})
        self.counts = Counts()
        self.trials: list[Trial] = []
        self.front: list[Trial] = []  # as searched
        self._trial_of: dict[str, Trial] = {}
        self._accuracies: dict[int, list[float]] = {}
        self._failures: list[str] = []  # why

    @property
    def _does(self) -> str:
        return does(self.seeds, self.within)

    def _open(self) -> None:
        run = load_run(self.folder, self.storage)  # behind the lock: nobody adds to it from now on
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
        """UsageError if the study was begun with other settings than `run.yaml` now says: what follows could not be compared."""
        study = open_study(self.folder, self.settings, self.url)
        with reading_study(self.folder, self.url):
            kept = None if study is None else study.user_attrs.get(ATTRIBUTE)
        if kept is not None:
            now = Settings.load(self.folder)
            now.check_unchanged(Settings.from_dict(kept, str(self.folder / FILE)), self.folder, self.url is None)

    def _job(self, trial: Trial, seed: int) -> Job:
        folder = repeat_folder(self.folder, trial, seed)
        return Job(f"{folder.parent.name}/{folder.name}", folder, trial.architecture, seed, latency=trial.latency)

    def _adopt(self, job: Job) -> None:
        result = job.result
        if result is not None and result.failed and result.cause != Cause.DIVERGED:
            job.result_path.unlink()  # for the machine's sake, maybe, which was mended since
            result = None
        if result is not None:
            self._record(job, result)
        else:
            self._reopen(job, job.key)

    def trial_of(self, job: Job) -> Trial:
        return self._trial_of[job.key]

    def accuracies(self, trial: Trial) -> list[float]:
        """Those of the further seeds so far."""
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
        """Training that is left, by what the search spent on the same networks."""
        return sum(self.trial_of(job).seconds for job in self._queue)

    def ask(self, told: Told = lambda job, result: None) -> Job | None:
        self.check_mine()
        if not self.counts.complete and self.counts.failed >= FAILURES_AT_FIRST:
            raise NasError(f"{self.counts.failed} trainings failed, {frequent(self._failures)}")
        return self._next_waiting(told)

    def known(self) -> list[tuple[str, tuple[float, ...]]]:
        return []

    def prepare(self, say: Callable[[str], None]) -> None:
        """Latencies are those that the search measured."""

    def keep(self, settings: Settings) -> None:
        """For this time; `run.yaml` says what the search went by."""
        self.settings = settings

    def account(self, entry: Mapping[str, Any]) -> None:
        """It is no session of the search; each result says how long it took."""

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
    """Train the networks of a run's front from so many further seeds, leave report and front anew; the run, with their means.

    within: how many points of accuracy (1 is a hundredth) other networks may lack to the front and be trained too. What else may
    be given is as for `nas.resume`. UsageError for what can't be done as asked; Interrupted if the user stopped it: the same call goes on.
    """
    executor = going_on(options, "nas.confirm")
    say, display = chosen(say, display, quiet)
    check_seeds(seeds, "--seeds")
    if not 0 <= within <= 100:
        raise UsageError(f"--within {within:g}: points of accuracy, from 0 to 100")
    folder = Path(path).absolute()
    begun = Settings.load(folder)
    check_asked({"kind": begun.executor["kind"], **executor})
    if text := other_versions(begun):
        say(text)
    settings = imported(dataclasses.replace(begun, executor={**begun.executor, **executor}), folder)
    confirmation = Confirmation(folder, settings, seeds, within / 100, storage)
    try:
        stopped, run = _drive(confirmation, say, display, download, dataset)
    except WriteError as error:
        raise WriteError(
            f"{error}; everything that was saved is kept. When it can be written again, go on with: {confirmation.again}"
        ) from error
    except KeyboardInterrupt:  # once more, or while the report of a confirmation that is done was written
        stopped = True
    if stopped:
        raise Interrupted(f"stopped; everything so far is kept. Go on with: {confirmation.again}")
    return run


def check_seeds(seeds: int, option: str) -> None:
    """UsageError for a number of seeds that can't be meant."""
    if not LEAST <= seeds <= MOST:
        raise UsageError(f"{option} {seeds}: from {LEAST}, since the spread of one can't be told, to {MOST}")


def _drive(
    confirmation: Confirmation,
    say: Say,
    display: Callable[[Confirmation], Tally],
    download: bool,
    dataset: str | None,
) -> tuple[bool, Run]:
    """Train, and leave report and front; whether the user stopped it, and the run."""
    with confirmation:
        for text in confirmation.recovered:
            say(f"recovered: {text}")
        say(_planned(confirmation))
        stopped = not confirmation.finished and _train(confirmation, say, display, download, dataset)
        return stopped, concluded(confirmation, confirmation.storage)


def _train(
    confirmation: Confirmation,
    say: Say,
    display: Callable[[Confirmation], Tally],
    download: bool,
    dataset: str | None,
) -> bool:
    """Train what is left; whether the user stopped it."""
    settings = confirmation.settings
    check_executor(settings)
    if dataset is not None:
        settings = dataclasses.replace(settings, dataset={**settings.dataset, "name": dataset})
    loaded = load_again(confirmation.folder, settings, say, download=download)
    check_room(confirmation.folder, settings, say, begun=True)
    try:
        execute(confirmation, training_data(loaded, settings.seed, settings.training_proxy()), say, display)
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
    pace = f", about {format_seconds(confirmation.waiting_seconds)} of training by the search's pace" if left else ""
    done = f"{wanted - left} of them done already" if wanted > left else "none of them done yet"
    return (
        f"Confirming {counted(len(confirmation.trials), 'network')} ({', '.join(parts)}) from {confirmation.seeds} further seeds "
        f"each: {counted(wanted, 'training')}, {done}{pace}."
    )
