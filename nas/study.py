"""The driver's side of a run: owns the run folder, asks the sampler for candidates, tells it what became of them.

The Optuna study in the run folder is the single source of truth. What is in flight when a driver dies is adopted by the
next one under the same number; results that were written but not told are told; nothing is trained twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import time
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from nas.architecture import Architecture
from nas.errors import NasError, UsageError
from nas.files import write_json
from nas.jobs import Job
from nas.knobs import Choices
from nas.network import cost_of
from nas.plausible import reading
from nas.run import (
    ATTRIBUTE,
    BASELINES,
    JOURNAL,
    LOCK,
    STUDY_NAME,
    TRIALS,
    check_facts,
    check_journal,
    journal,
    objective_values,
    read_result,
    reading_journal,
)
from nas.samplers import SAMPLERS, Problem, suggest
from nas.settings import Settings

if TYPE_CHECKING:
    import optuna

MAX_ATTEMPTS = 3  # a candidate that takes its worker down with it is given up then
FAILURES_AT_FIRST = 5  # that many with nothing trained, and it is not the candidates' fault
REJECTIONS_IN_A_ROW = 100  # then the sampler is handed a candidate that fits and is new
TRIES_FOR_NEW = 2000  # random candidates, before a space counts as exhausted


@dataclass(slots=True)
class Counts:
    """How the run's candidates ended so far; the baselines are not among them."""

    complete: int = 0
    stopped: int = 0
    failed: int = 0
    rejected: int = 0
    duplicate: int = 0

    @property
    def trained(self) -> int:
        return self.complete + self.stopped


class Study:
    """A run being driven. A context manager: entering takes the run's lock and recovers what the last driver left."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder.absolute()
        self.settings = settings
        self.space = settings.search_space()
        self.objectives = settings.parsed_objectives()
        self.counts = Counts()
        self.recovered: list[str] = []  # what recovery did, in words
        self.exhausted = False
        self._failed_before = 0  # whatever it was, a user who resumes may have mended it
        self._last_failure = ""
        self._queue: deque[Job] = deque()  # adopted, retried, and the baselines
        self._flying: dict[str, Job] = {}
        self._attempts: dict[str, int] = {}
        self._digests: dict[str, str] = {}  # digest -> who trains or trained it
        self._lock: BinaryIO | None = None
        self._study: optuna.Study | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(self.folder)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()  # the kernel releases the flock with it, and with this process however it ends

    # -- handing out -------------------------------------------------------------------------------------------------

    def ask(self) -> Job | None:
        """The next candidate to train, within the budgets and not trained before; None if no more are needed for now.

        Sets `exhausted` where the space holds no further candidate. NasError if trials keep failing.
        """
        if self._queue:
            return self._hand_out(self._queue.popleft())
        searching = sum(not job.baseline for job in self._flying.values())
        if self.exhausted or self.counts.trained + searching >= self.settings.trials:
            return None
        failed = self.counts.failed - self._failed_before
        if failed >= (FAILURES_AT_FIRST if not self.counts.trained else max(20, 2 * self.settings.trials)):
            raise NasError(
                f"{failed} trials failed, the last because: {self._last_failure}; see {self.folder / TRIALS}"
            )
        for attempt in range(10 * REJECTIONS_IN_A_ROW):
            if attempt and attempt % REJECTIONS_IN_A_ROW == 0 and not self._enqueue_new():
                break
            job = self._propose()
            if job is not None:
                return self._hand_out(job)
        self.exhausted = True
        return None

    @property
    def finished(self) -> bool:
        """Whether nothing is in flight or waiting, and the run has as many trained trials as it was asked for."""
        return not self._flying and not self._queue and (self.exhausted or self.counts.trained >= self.settings.trials)

    def _hand_out(self, job: Job) -> Job:
        self._flying[job.key] = job
        return job

    def _propose(self) -> Job | None:
        """One more trial of the Optuna study; None if its network is too dear, too cheap, or known."""
        trial = self.study.ask()
        try:
            choices = self.space.suggest(lambda key, knob: suggest(trial, key, knob))
        except ValueError as error:
            if "dynamic value space" not in str(error):
                raise
            raise UsageError(
                f"{self.folder / JOURNAL}: its trials are of another space than that of the run's settings"
            ) from error
        architecture = self.space.architecture(choices)
        cost, digest = cost_of(architecture), architecture.digest
        facts: dict[str, Any] = {
            "digest": digest,
            "cost": [cost.params, cost.macs, cost.activations],
            "architecture": architecture.to_dict(),
        }
        reason = self.space.budget.reason(cost)
        if self.space.budget.bounds:
            trial.set_constraint("budget", self.space.budget.violation(cost))
        if reason:
            self._close(trial.number, facts, "rejected", reason)
            return None
        if digest in self._digests:
            self._close(trial.number, facts, "duplicate", f"the same network as {self._digests[digest]}")
            return None
        trial.set_user_attr(ATTRIBUTE, facts)  # last: its presence says that the trial was asked for to the end
        self._digests[digest] = f"trial {trial.number}"
        return self._job(trial.number, architecture)

    def _job(self, number: int, architecture: Architecture) -> Job:
        return Job(str(number), self.folder / TRIALS / str(number), architecture, self.settings.seed)

    def _close(self, number: int, facts: Mapping[str, Any], outcome: str, reason: str) -> None:
        """End a trial that is not trained. A duplicate is told as FAIL, which no sampler learns from."""
        from optuna.trial import Trial, TrialState

        trial = Trial(self.study, self._trial_id(number))
        trial.set_user_attr(ATTRIBUTE, {**facts, "outcome": outcome, "reason": reason})
        self.study.tell(number, state=TrialState.PRUNED if outcome == "rejected" else TrialState.FAIL)
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)

    def _enqueue_new(self) -> bool:
        """Give the sampler a random candidate that fits and is new; False if thousands of draws show none."""
        rng = random.Random(f"{self.settings.seed}:{len(self.study.get_trials(deepcopy=False))}")
        for _ in range(TRIES_FOR_NEW):
            choices: Choices = self.space.sample(rng.randrange(1 << 60))
            if self.space.architecture(choices).digest not in self._digests:
                self.study.enqueue_trial(choices)
                return True
        return False

    # -- taking back -------------------------------------------------------------------------------------------------

    def tell(self, key: str) -> Mapping[str, Any]:
        """Record the result that a job's worker wrote, and return it. NasError if there is none."""
        job = self._flying[key]
        result = _result(job)
        if result is None:
            raise NasError(f"{job.result_path}: missing although the worker said that it was done")
        del self._flying[key]
        if not job.baseline:
            self._record(int(key), job.architecture, result)
        return result

    def ended(self, key: str) -> bool:
        """Whether a job's worker left its result, so that it can be told."""
        return _result(self._flying[key]) is not None

    def retry(self, key: str, reason: str) -> bool:
        """A job's worker died. It is queued again, to go on from its checkpoint, or given up after MAX_ATTEMPTS.

        Returns whether it is tried again. A result that the worker wrote before it died is told instead.
        """
        job = self._flying[key]
        if _result(job) is not None:
            self.tell(key)
            return False
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if self._attempts[key] < MAX_ATTEMPTS:
            del self._flying[key]
            self._queue.append(job)
            return True
        failure = {"key": key, "digest": job.architecture.digest, "state": "failed", "accuracy": None, "seconds": 0.0}
        text = f"the worker died {self._attempts[key]} times; last: {reason}"
        write_json(job.result_path, {**failure, "reason": text, "finished": time.time(), "epochs": []})
        self.tell(key)
        return False

    def put_back(self, key: str) -> None:
        """A job that its executor did not finish, for no fault of its own: it stays open for the next driver."""
        self._queue.appendleft(self._flying.pop(key))

    def _record(self, number: int, architecture: Architecture, result: Mapping[str, Any]) -> None:
        from optuna.trial import Trial, TrialState

        if result["state"] == "complete":
            self.study.tell(number, objective_values(result["accuracy"], cost_of(architecture), self.objectives))
            self.counts.complete += 1
        else:
            Trial(self.study, self._trial_id(number)).set_user_attr("reason", result["reason"])
            self.study.tell(number, state=TrialState.FAIL)
            self.counts.failed += 1
            self._last_failure = result["reason"]

    # -- opening and recovering --------------------------------------------------------------------------------------

    @property
    def study(self) -> optuna.Study:
        assert self._study is not None, "use `with Study(...)`"
        return self._study

    def _trial_id(self, number: int) -> int:
        return self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)

    def _open(self) -> None:
        import optuna

        # "Experimental" says nothing that a user of this program could act on.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._repair()
        directions = [objective.direction for objective in self.objectives]
        with reading_journal(self.folder / JOURNAL):
            self._study = optuna.create_study(
                study_name=STUDY_NAME, storage=journal(self.folder), directions=directions, load_if_exists=True
            )
        if [direction.name.lower() for direction in self._study.directions] != directions:
            raise UsageError(f"{self.folder}: its study has other objectives than its run.yaml")
        self._study.set_metric_names([objective.name for objective in self.objectives])
        trials = self._study.get_trials(deepcopy=False)
        # A resumed sampler must not repeat the random numbers of the first start.
        seed = (self.settings.seed + 7919 * len(trials)) % (1 << 31)
        self._study.sampler = SAMPLERS.find(self.settings.sampler)(Problem(self.space, self.objectives, seed))
        self._adopt_baselines()
        for trial in trials:
            self._adopt(trial)
        self._failed_before = self.counts.failed

    def _repair(self) -> None:
        """Cut a torn last line off the journal (Optuna would append to it, and could read nothing behind) and stale locks."""
        path = self.folder / JOURNAL
        if not path.is_file():
            return
        check_journal(path)
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        while whole and not _is_json(data[data.rfind(b"\n", 0, whole - 1) + 1 : whole]):
            whole = data.rfind(b"\n", 0, whole - 1) + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
            self.recovered.append(f"cut {len(data) - whole} bytes of a torn line off {JOURNAL}")
        for stale in self.folder.glob(f"{JOURNAL}.lock*"):
            stale.unlink(missing_ok=True)  # we hold the run's lock, so that nobody can be behind this one

    def _adopt_baselines(self) -> None:
        for entry in self.settings.baselines:
            architecture = Architecture.from_dict(entry["architecture"])
            folder = self.folder / BASELINES / entry["name"]
            job = Job(f"baseline:{entry['name']}", folder, architecture, self.settings.seed)
            self._digests[architecture.digest] = f"baseline {entry['name']}"
            if _result(job) is None:
                self._queue.append(job)

    def _adopt(self, frozen: optuna.trial.FrozenTrial) -> None:
        from optuna.trial import TrialState

        facts = frozen.user_attrs.get(ATTRIBUTE)
        outcome = facts.get("outcome") if isinstance(facts, Mapping) else None
        if frozen.state == TrialState.RUNNING and (facts is None or outcome is not None):
            self.study.tell(frozen.number, state=TrialState.PRUNED if outcome == "rejected" else TrialState.FAIL)
            self.recovered.append(f"closed trial {frozen.number}, which was being asked for when the driver died")
        if facts is None:
            return
        with reading(str(self.folder / JOURNAL)):
            check_facts(frozen, self.objectives)
        if outcome is not None:
            setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
            return
        self._digests.setdefault(facts["digest"], f"trial {frozen.number}")
        if frozen.state != TrialState.RUNNING:
            name = {"COMPLETE": "complete", "PRUNED": "stopped"}.get(frozen.state.name, "failed")
            setattr(self.counts, name, getattr(self.counts, name) + 1)
            return
        job = self._job(frozen.number, Architecture.from_dict(facts["architecture"]))
        result = _result(job)
        if result is not None:
            self._record(frozen.number, job.architecture, result)
            self.recovered.append(f"took over the result of trial {frozen.number}, which was written but not recorded")
        else:
            self._queue.append(job)
            self.recovered.append(f"goes on with trial {frozen.number}")


def _result(job: Job) -> dict[str, Any] | None:
    """What a worker left at a job's end; None if there is nothing, or it is of a network that had the number before."""
    return read_result(job.folder, job.architecture.digest) or None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _take_lock(folder: Path) -> BinaryIO:
    """The run's exclusive lock; UsageError naming the driver that holds it."""
    file = (folder / LOCK).open("a+b")
    for attempt in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == 9:
                file.seek(0)
                holder = file.read().decode(errors="replace").strip() or "unknown"
                file.close()
                raise UsageError(
                    f"{folder}: another driver works on this run ({holder}); wait for it or stop it first"
                ) from None
            time.sleep(0.05)  # a reader that looks whether the run is active holds the lock for an instant
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    file.flush()
    return file
