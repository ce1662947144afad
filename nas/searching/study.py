"""The driver of a run: it owns the run folder, asks the sampler for candidates and reports their results.

The run's Optuna study is the single source of truth. If a driver dies, the next one takes over its unfinished trials under the same
numbers and records the results that were written but not recorded (`nas.searching.recovery`). Nothing is trained twice.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from nas.errors import NasError, UsageError
from nas.execution import fencing
from nas.execution.job import Job
from nas.execution.job_queue import JobQueue, Told
from nas.execution.trial_results import Counts
from nas.runs.attempts import frequent
from nas.runs.layout import ATTRIBUTE, JOURNAL, SESSIONS, TRIALS
from nas.runs.records import Candidate, TrialResult
from nas.runs.settings import FILE, Settings
from nas.runs.storage import failed, of_storage, redacted, resolved, together
from nas.runs.study_access import cut_torn_line, drive_study
from nas.runs.study_claim import Claim, claim
from nas.runs.trial_reader import read_baselines, read_sessions
from nas.samplers import SAMPLERS, Problem, suggest
from nas.samplers.optuna_internals import storage_of
from nas.searching.candidate_gate import Gate
from nas.searching.recovery import baseline_jobs, unfinished_trials
from nas.searching.run_latency import run_meter, with_measurements
from nas.searching.session_clock import session_clock
from nas.searching.telling import Outcomes
from nas.spaces.knobs import Choices
from nas.utils.files import make_folder, write_json
from nas.utils.text import shown

if TYPE_CHECKING:
    import optuna

FAILURES_AT_FIRST = 5  # so many failures before any success are not the fault of the candidates
LEAST_FAILURES = 20  # that end a search in which trials have succeeded; twice the number of trials, if that is more
REJECTIONS_IN_A_ROW = 100  # after which the sampler is given a random candidate that fits and is new
TRIES_FOR_NEW = 2000  # random candidates before a space counts as exhausted


class Study(JobQueue):
    """A run with its driver. As a context manager it takes the run's lock and recovers what the last driver left.

    storage: the whole URL of the study's database, if the settings may not keep its password. An error of the database leaves the
    context as a NasError.
    """

    def __init__(self, folder: Path, settings: Settings, storage: str | None = None) -> None:
        super().__init__()
        self.folder = folder.absolute()
        self.settings = settings
        self.url = resolved(settings.storage, storage, self.folder)
        self.space = settings.search_space()
        self.objectives = settings.parsed_objectives()
        self.counts = Counts()
        self.exhausted = False  # whether the space holds no further candidate
        self.clock = session_clock(self.folder, settings)
        self.meter = run_meter(self.folder, settings, self.space)
        self.gate = Gate(self.space.budget, self.meter, self.most_ms)
        self._failed_before = 0  # failures of earlier sessions; the user may have fixed their cause
        self._study: optuna.Study | None = None
        self._outcomes: Outcomes | None = None
        self._claim: Claim | None = None  # on a study outside the run folder

    def _enter(self) -> None:
        make_folder(self.folder)
        super()._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.meter is not None:
            self.meter.close()
        super().__exit__(kind, error, trace)
        if error is not None and of_storage(error):
            raise failed(error, self.url) from None

    @property
    def study(self) -> optuna.Study:
        assert self._study is not None, "use `with Study(...)`"
        return self._study

    @property
    def outcomes(self) -> Outcomes:
        assert self._outcomes is not None, "use `with Study(...)`"
        return self._outcomes

    @property
    def most_ms(self) -> float | None:
        """The latency budget."""
        return self.settings.latency.max_ms if self.settings.latency else None

    @property
    def _where(self) -> str:
        """The study's place, for messages."""
        return redacted(self.url) if self.url else str(self.folder / JOURNAL)

    def check_mine(self) -> None:
        super().check_mine()
        if self._claim is not None:
            self._claim.check()

    # -- handing out jobs ----------------------------------------------------------------------------------------------

    def ask(self, on_ended: Told = lambda job, result: None) -> Job | None:
        """The next candidate to train, within the budgets and not trained before; None if no more are needed for now.

        Sets `exhausted` if the space holds no further candidate. `on_ended` is called for waiting trials that turn out to have ended
        already. NasError if trials keep failing.
        """
        self.check_mine()
        if (waiting := self._next_waiting(on_ended)) is not None:
            return waiting
        if self._complete_or_late():
            return None
        self._check_failures()
        if (job := self._next_new()) is None:
            self.exhausted = True
            return None
        return self._hand_out(job)

    def _complete_or_late(self) -> bool:
        """Whether no further trial should begin: enough are trained or in flight, or the time budget is used up."""
        begun = self.counts.trained + sum(not job.baseline for job in self._flying.values())
        if self.exhausted or begun >= self.settings.trials:
            return True
        if self.clock is None or not begun or self.clock.room():
            return False
        self.keep(dataclasses.replace(self.settings, trials=begun))  # until the user asks for more
        return True

    def _check_failures(self) -> None:
        failures = self.counts.failed - self._failed_before
        most = max(LEAST_FAILURES, 2 * self.settings.trials) if self.counts.trained else FAILURES_AT_FIRST
        if failures >= most:
            raise NasError(f"{failures} trials failed, {frequent(self.outcomes.failures)}; see {self.folder / TRIALS}")

    def _next_new(self) -> Job | None:
        """The first proposal that passes the gate; None if the sampler and random draws find none."""
        for attempt in range(10 * REJECTIONS_IN_A_ROW):
            if attempt and attempt % REJECTIONS_IN_A_ROW == 0 and not self._enqueue_new():
                break
            with together(storage_of(self.study)):
                job = self._propose()
            if job is not None:
                return job
        return None

    def _propose(self) -> Job | None:
        """Ask the sampler for one more trial; None if the gate rejects its network."""
        trial = self.study.ask()
        try:
            choices = self.space.suggest(lambda key, knob: suggest(trial, key, knob))
        except ValueError as error:
            if "dynamic value space" not in str(error):
                raise
            raise UsageError(
                f"{self._where}: its trials are of another space than that of the run's settings"
            ) from error
        candidate, violation = self.gate.check(Candidate.of(self.space.architecture(choices)))
        if self.gate.bounded:
            trial.set_constraint("budget", violation)
        if candidate.outcome:
            self.outcomes.close(trial.number, candidate)
            return None
        # Written last: a trial with this attribute is a complete proposal.
        trial.set_user_attr(ATTRIBUTE, candidate.to_dict())
        self.gate.register(candidate.digest, f"trial {trial.number}")
        return self._job(trial.number, candidate)

    def _enqueue_new(self) -> bool:
        """Give the sampler a random candidate that fits and is new; False if `TRIES_FOR_NEW` draws find none."""
        rng = random.Random(f"{self.settings.seed}:{len(self.study.get_trials(deepcopy=False))}")
        for _ in range(TRIES_FOR_NEW):
            choices: Choices = self.space.sample(rng.randrange(1 << 60))
            if self.gate.may_pass(self.space.architecture(choices)):
                self.study.enqueue_trial(choices)
                return True
        return False

    def _job(self, number: int, candidate: Candidate) -> Job:
        folder = self.folder / TRIALS / str(number)
        return Job(str(number), folder, candidate.architecture, self.settings.seed, latency=candidate.latency)

    def _hand_out(self, job: Job) -> Job:
        if self.meter is not None and not job.latency:  # a baseline, or a trial of a repaired run
            job = dataclasses.replace(job, latency=self.meter.measured(job.architecture))
        if self.clock is not None:
            self.clock.begins(job.key)
        return super()._hand_out(job)

    def _record(self, job: Job, result: TrialResult) -> None:
        if self.clock is not None and not result.failed:
            self.clock.ended(job.key, result.seconds)
        self.outcomes.tell(job, result)
        fencing.end(job)

    # -- what executors and displays read and write --------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether nothing is in flight or waiting, and the run has as many trained trials as it was asked for."""
        return not self._flying and not self._queue and (self.exhausted or self.counts.trained >= self.settings.trials)

    @property
    def again(self) -> str:
        return f"nas resume {shown(self.folder)}"

    @property
    def begun(self) -> bool:
        return self.counts.trained > 0

    def known(self) -> list[tuple[str, tuple[float, ...]]]:
        """Keys and values of the complete trials, baselines first."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        baselines = read_baselines(self.folder, self.settings, self.objectives)
        finished = [(f"baseline:{trial.label}", trial.values) for trial in baselines if trial.values is not None]
        return finished + [(str(trial.number), tuple(trial.values)) for trial in trials]

    def prepare(self, say: Callable[[str], None]) -> None:
        """Measure what latencies are predicted from, before the first trial and while nothing trains. UsageError for another device."""
        if self.meter is not None:
            self.keep(with_measurements(self.settings, self.meter, self.folder, say))

    def keep(self, settings: Settings) -> None:
        """Use these settings from now on. They are saved in `run.yaml` and in the study's copy."""
        self.settings = settings
        settings.save(self.folder)
        self.study.set_user_attr(ATTRIBUTE, _plain(settings))

    def account(self, entry: Mapping[str, object]) -> None:
        sessions = [*read_sessions(self.folder), {**entry, "exhausted": self.exhausted}]
        write_json(self.folder / SESSIONS, sessions)

    # -- opening -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if cut := cut_torn_line(self.folder):
            self.recovered.append(f"cut {cut} off {JOURNAL}")
        self._study = drive_study(self.folder, self.settings, self.url)
        self._check_settings()
        if (self.folder / FILE).exists() and (upgrade := Settings.migrate(self.folder)):
            self.recovered.append(upgrade)
        if self._study.metric_names != (metrics := [objective.name for objective in self.objectives]):
            self._study.set_metric_names(metrics)
        self._outcomes = Outcomes(
            self._study,
            self.counts,
            self.objectives,
            epochs=self.settings.recipe.epochs,
            curves=self.settings.stopping.name != "none",
        )
        trials = self._study.get_trials(deepcopy=False)
        problem = Problem(
            self.space, self.objectives, self.settings.seed, self._predicted_ms(), self.most_ms, before=len(trials)
        )
        self._study.sampler = SAMPLERS.find(self.settings.sampler)(problem)
        self._recover(trials)

    def _recover(self, trials: list[optuna.trial.FrozenTrial]) -> None:
        """Queue the baselines and the unfinished trials of earlier sessions, and record the results that were written."""
        for job in baseline_jobs(self.folder, self.settings, self.gate):
            self._reopen(job, job.key)
        for number, candidate in unfinished_trials(trials, self._where, self.gate, self.outcomes, self.recovered):
            job = self._job(number, candidate)
            if (result := job.result) is not None:
                self._record(job, result)
                self.recovered.append(f"took over the result of trial {number}, which was written but not recorded")
            elif self._reopen(job, f"trial {number}"):
                self.recovered.append(f"resumed trial {number}")
        self._failed_before = self.counts.failed

    def _predicted_ms(self) -> Callable[[Choices], float] | None:
        meter, space = self.meter, self.space
        return None if meter is None else lambda choices: meter.predicted(space.architecture(choices))

    def _check_settings(self) -> None:
        """UsageError if `run.yaml` differs from the study's copy of the settings in what must not change. Then the copy is renewed."""
        copy = self.study.user_attrs.get(ATTRIBUTE)
        if copy is not None:
            self.settings.check_unchanged(Settings.from_dict(copy, self._where), self.folder, self.url is None)
        if copy != (now := _plain(self.settings)):
            self.study.set_user_attr(ATTRIBUTE, now)
        if self.url is not None:
            self._claim = claim(self.folder, self.study)


def _plain(settings: Settings) -> dict[str, object]:
    """The settings in the form in which they are read back from the study."""
    return json.loads(json.dumps(settings.to_dict()))  # type: ignore[no-any-return]
