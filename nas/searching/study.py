"""The driver's side of a run: owns the run folder, asks the sampler for candidates, tells it what became of them.

The Optuna study in the run folder is the single source of truth. What is in flight when a driver dies is adopted by the
next one under the same number; results that were written but not told are told; nothing is trained twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nas.errors import NasError, UsageError, WriteError
from nas.execution import fencing
from nas.execution.clock import Clock
from nas.execution.job import Job
from nas.execution.job_queue import JobQueue, Told
from nas.execution.trial_results import Counts
from nas.networks.architecture import Architecture
from nas.profiling.latency.meter import Meter
from nas.runs.attempts import frequent
from nas.runs.layout import ATTRIBUTE, BASELINES, ELAPSED, JOURNAL, SESSIONS, TRIALS
from nas.runs.records import LATENCY, Candidate, TrialResult
from nas.runs.settings import FILE, Settings
from nas.runs.storage import failed, of_storage, redacted, resolved, together
from nas.runs.study_access import cut_torn_line, drive_study
from nas.runs.study_claim import Claim, claim
from nas.runs.trial_reader import read_baselines, read_candidate, read_elapsed, read_sessions
from nas.samplers import SAMPLERS, Problem, suggest
from nas.samplers.optuna_internals import storage_of
from nas.searching.telling import Outcomes
from nas.spaces.knobs import Choices
from nas.spaces.space import SearchSpace
from nas.utils.files import make_folder, write_json
from nas.utils.text import format_ms, shown
from nas.utils.validation import reading

if TYPE_CHECKING:
    import optuna

FAILURES_AT_FIRST = 5  # that many with nothing trained, and it is not the candidates' fault
UNMEASURED = "its latency could not be measured"  # the one rejection that is not the budgets'
REJECTIONS_IN_A_ROW = 100  # then the sampler is handed a candidate that fits and is new
TRIES_FOR_NEW = 2000  # random candidates, before a space counts as exhausted


class Study(JobQueue):
    """A run being driven. A context manager: entering takes the run's lock and recovers what the last driver left.

    storage: the whole URL of the study's database, where the settings may not keep its password. An error of the database
    leaves the context as a NasError.
    """

    def __init__(self, folder: Path, settings: Settings, storage: str | None = None) -> None:
        super().__init__()
        self.folder = folder.absolute()
        self.settings = settings
        self.url = resolved(settings.storage, storage, self.folder)
        self.space = settings.search_space()
        self.objectives = settings.parsed_objectives()
        self.counts = Counts()
        self.exhausted = False
        self._failed_before = 0  # whatever it was, a user who resumes may have mended it
        self._digests: dict[str, str] = {}  # digest -> who trains or trained it
        self._study: optuna.Study | None = None
        self._outcomes: Outcomes | None = None
        self._claim: Claim | None = None  # on a study that lies outside the folder
        # Of hours that were promised.
        self.clock = (
            Clock(settings.plan, time.monotonic, read_elapsed(self.folder), self._keep_elapsed)
            if settings.plan
            else None
        )
        self.meter = _meter(self.folder, settings, self.space)  # of latencies; None where the run measures none

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

    # -- handing out -------------------------------------------------------------------------------------------------

    def ask(self, told: Told = lambda job, result: None) -> Job | None:
        """The next candidate to train, within the budgets and not trained before; None if no more are needed for now.

        Sets `exhausted` where the space holds no further candidate. `told` hears of trials that are found to be at their end
        already. NasError if trials keep failing.
        """
        self.check_mine()
        if (waiting := self._next_waiting(told)) is not None:
            return waiting
        searching = sum(not job.baseline for job in self._flying.values())
        if self.exhausted or self.counts.trained + searching >= self.settings.trials:
            return None
        if self.clock is not None and self.counts.trained + searching and not self.clock.room():
            self._out_of_time(self.counts.trained + searching)
            return None
        failed = self.counts.failed - self._failed_before
        if failed >= (FAILURES_AT_FIRST if not self.counts.trained else max(20, 2 * self.settings.trials)):
            raise NasError(f"{failed} trials failed, {frequent(self.outcomes.failures)}; see {self.folder / TRIALS}")
        for attempt in range(10 * REJECTIONS_IN_A_ROW):
            if attempt and attempt % REJECTIONS_IN_A_ROW == 0 and not self._enqueue_new():
                break
            with together(storage_of(self.study)):
                job = self._propose()
            if job is not None:
                return self._hand_out(job)
        self.exhausted = True
        return None

    def keep(self, settings: Settings) -> None:
        """Go on by these settings, in `run.yaml` and in the copy that the study has of it."""
        self.settings = settings
        settings.save(self.folder)
        self.study.set_user_attr(ATTRIBUTE, _plain(settings))

    def _out_of_time(self, trials: int) -> None:
        """The promised hours are over: what has begun is all that the run wants, until somebody asks for more."""
        if trials < self.settings.trials:
            self.keep(dataclasses.replace(self.settings, trials=trials))

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

    def account(self, entry: Mapping[str, Any]) -> None:
        sessions = [*read_sessions(self.folder), {**entry, "exhausted": self.exhausted}]
        write_json(self.folder / SESSIONS, sessions)

    def known(self) -> list[tuple[str, tuple[float, ...]]]:
        """Keys and values of what is complete, baselines first."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        baselines = read_baselines(self.folder, self.settings, self.objectives)
        found = [(f"baseline:{trial.label}", trial.values) for trial in baselines if trial.values is not None]
        return found + [(str(trial.number), tuple(trial.values)) for trial in trials]

    def prepare(self, say: Callable[[str], None]) -> None:
        """Measure, before the first trial and while nothing trains, what latencies are predicted from; kept in the run's folder.

        UsageError if the run's latencies were measured on another device: they could not be compared.
        """
        if self.meter is None:
            return
        latency, meter = self.settings.latency, self.meter
        device = meter.identified()
        known = latency.get("measured_on", device)
        if known != device:
            raise UsageError(
                f"{self.folder}: its latencies were measured on {known}, and this machine has {device}; go on there"
            )
        meter.prepare(say)
        facts = {**latency, "measured_on": device, "quiet_ms": meter.quiet_ms, **meter.lookup.said()}
        # Behind the first trial it stays: hypervolumes of one run are from one point.
        worst = [
            1.1 * meter.largest_ms if own.name == LATENCY and "measured_on" not in latency else before
            for own, before in zip(self.objectives, self.settings.reference, strict=True)
        ]
        self.keep(dataclasses.replace(self.settings, latency=facts, reference=worst))

    def _hand_out(self, job: Job) -> Job:
        if self.meter is not None and not job.latency:  # a baseline, or a trial of a run that was mended
            job = dataclasses.replace(job, latency=self.meter.measured(job.architecture))
        if self.clock is not None:
            self.clock.begins(job.key)
        return super()._hand_out(job)

    def _propose(self) -> Job | None:
        """One more trial of the Optuna study; None if its network is outside the budget or a duplicate."""
        trial = self.study.ask()
        try:
            choices = self.space.suggest(lambda key, knob: suggest(trial, key, knob))
        except ValueError as error:
            if "dynamic value space" not in str(error):
                raise
            raise UsageError(
                f"{self._where}: its trials are of another space than that of the run's settings"
            ) from error
        candidate, violation = self._gated(Candidate.of(self.space.architecture(choices)))
        if self.space.budget.bounds or self.most_ms is not None:
            trial.set_constraint("budget", violation)
        if candidate.outcome:
            self.outcomes.close(trial.number, candidate)
            return None
        trial.set_user_attr(
            ATTRIBUTE, candidate.to_dict()
        )  # last: its presence says that the trial was asked for to the end
        self._digests[candidate.digest] = f"trial {trial.number}"
        return self._job(trial.number, candidate)

    def _gated(self, candidate: Candidate) -> tuple[Candidate, float]:
        """The candidate, with its latency or the reason why it is not trained; and by how much it violates the budgets."""
        budget = self.space.budget
        violation = budget.violation(candidate.cost)
        if reason := budget.reason(candidate.cost):
            return dataclasses.replace(candidate, outcome="rejected", reason=reason), violation
        if (known := self._digests.get(candidate.digest)) is not None:
            return dataclasses.replace(candidate, outcome="duplicate", reason=f"the same network as {known}"), violation
        if self.meter is not None:
            candidate, excess = self._timed(self.meter, candidate)
            violation += excess
        return candidate, violation

    def _timed(self, meter: Meter, candidate: Candidate) -> tuple[Candidate, float]:
        """The candidate with its latency, and log(latency / bound) where that is too long. One far too slow by prediction is not run."""
        if reason := meter.too_slow(candidate.architecture, self.most_ms):
            assert self.most_ms is not None
            excess = math.log(meter.predicted(candidate.architecture) / self.most_ms)
            return dataclasses.replace(candidate, outcome="rejected", reason=reason), excess
        try:
            latency = meter.measured(candidate.architecture)
        except WriteError:
            raise
        except NasError as error:
            return dataclasses.replace(candidate, outcome="rejected", reason=f"{UNMEASURED}: {error}"), 1.0
        candidate = dataclasses.replace(candidate, latency=latency)
        if self.most_ms is None or latency.median_ms <= self.most_ms:
            return candidate, 0.0
        reason = f"a latency of {format_ms(latency.median_ms)} is above the budget of {format_ms(self.most_ms)}"
        excess = math.log(latency.median_ms / self.most_ms)
        return dataclasses.replace(candidate, outcome="rejected", reason=reason), excess

    @property
    def most_ms(self) -> float | None:
        """The budget of latency."""
        return self.settings.latency.get("max_ms")

    def _job(self, number: int, candidate: Candidate) -> Job:
        folder = self.folder / TRIALS / str(number)
        return Job(str(number), folder, candidate.architecture, self.settings.seed, latency=candidate.latency)

    def _enqueue_new(self) -> bool:
        """Give the sampler a random candidate that fits and is new; False if thousands of draws show none."""
        rng = random.Random(f"{self.settings.seed}:{len(self.study.get_trials(deepcopy=False))}")
        for _ in range(TRIES_FOR_NEW):
            choices: Choices = self.space.sample(rng.randrange(1 << 60))
            network = self.space.architecture(choices)
            if self.meter is not None and self.meter.too_slow(network, self.most_ms):
                continue
            if network.digest not in self._digests:
                self.study.enqueue_trial(choices)
                return True
        return False

    def _record(self, job: Job, result: TrialResult) -> None:
        if self.clock is not None and not result.failed:
            self.clock.ended(job.key, result.seconds)
        self.outcomes.tell(job, result)
        fencing.end(job)

    def _keep_elapsed(self, seconds: float) -> None:
        with contextlib.suppress(WriteError):  # a full disk is for what has to be kept to say
            write_json(self.folder / ELAPSED, {"seconds": seconds})

    # -- opening and recovering --------------------------------------------------------------------------------------

    @property
    def study(self) -> optuna.Study:
        assert self._study is not None, "use `with Study(...)`"
        return self._study

    @property
    def outcomes(self) -> Outcomes:
        assert self._outcomes is not None, "use `with Study(...)`"
        return self._outcomes

    @property
    def _where(self) -> str:
        """Where the study lies, to be read."""
        return redacted(self.url) if self.url else str(self.folder / JOURNAL)

    def check_mine(self) -> None:
        super().check_mine()
        if self._claim is not None:
            self._claim.check()

    def _open(self) -> None:
        if cut := cut_torn_line(self.folder):
            self.recovered.append(f"cut {cut} off {JOURNAL}")
        self._study = drive_study(self.folder, self.settings, self.url)
        self._check_settings()
        if (self.folder / FILE).exists() and (done := Settings.migrate(self.folder)):
            self.recovered.append(done)
        if self._study.metric_names != (metrics := [objective.name for objective in self.objectives]):
            self._study.set_metric_names(metrics)
        self._outcomes = Outcomes(
            self._study,
            self.counts,
            self.objectives,
            epochs=self.settings.training_recipe().epochs,
            curves=self.settings.stopping_policy().name != "none",
        )
        trials = self._study.get_trials(deepcopy=False)
        problem = Problem(
            self.space, self.objectives, self.settings.seed, self._predicted_ms(), self.most_ms, before=len(trials)
        )
        self._study.sampler = SAMPLERS.find(self.settings.sampler)(problem)
        self._adopt_baselines()
        for trial in trials:
            self._adopt(trial)
        self._failed_before = self.counts.failed

    def _predicted_ms(self) -> Callable[[Choices], float] | None:
        meter, space = self.meter, self.space
        return None if meter is None else lambda choices: meter.predicted(space.architecture(choices))

    def _check_settings(self) -> None:
        """UsageError if the study was begun with other settings than `run.yaml` now says; the study keeps those of the last start."""
        kept = self.study.user_attrs.get(ATTRIBUTE)
        if kept is not None:
            self.settings.check_unchanged(Settings.from_dict(kept, self._where), self.folder, self.url is None)
        if kept != (now := _plain(self.settings)):
            self.study.set_user_attr(ATTRIBUTE, now)
        if self.url is not None:
            self._claim = claim(self.folder, self.study)

    def _adopt_baselines(self) -> None:
        for entry in self.settings.baselines:
            architecture = Architecture.from_dict(entry["architecture"])
            folder = self.folder / BASELINES / entry["name"]
            job = Job(f"baseline:{entry['name']}", folder, architecture, self.settings.seed)
            self._digests[architecture.digest] = f"baseline {entry['name']}"
            if job.result is None:
                self._reopen(job, job.key)

    def _adopt(self, frozen: optuna.trial.FrozenTrial) -> None:
        from optuna.trial import TrialState

        number = frozen.number
        with reading(self._where):
            candidate = read_candidate(frozen, self.objectives) if ATTRIBUTE in frozen.user_attrs else None
        if frozen.state == TrialState.RUNNING and (candidate is None or candidate.outcome):
            self.outcomes.tell_untrained(number, candidate.outcome if candidate else "")
            self.recovered.append(f"closed trial {number}, which was being asked for when the driver died")
        if candidate is None:
            return
        if candidate.outcome:
            self.counts.count(candidate.outcome)
            return
        self._digests.setdefault(candidate.digest, f"trial {number}")
        if frozen.state != TrialState.RUNNING:
            self.counts.count({"COMPLETE": "complete", "PRUNED": "stopped"}.get(frozen.state.name, "failed"))
            return
        job = self._job(number, candidate)
        if (result := job.result) is not None:
            self._record(job, result)
            self.recovered.append(f"took over the result of trial {number}, which was written but not recorded")
        elif self._reopen(job, f"trial {job.key}"):
            self.recovered.append(f"resumed trial {number}")


def _plain(settings: Settings) -> dict[str, Any]:
    """The settings as they are read back from the study."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return plain


def _meter(folder: Path, settings: Settings, space: SearchSpace) -> Meter | None:
    conditions = settings.latency_conditions()
    if conditions is None:
        return None
    known = tuple(Architecture.from_dict(entry["architecture"]) for entry in settings.baselines)
    return Meter(folder, conditions, space, settings.seed, known)
