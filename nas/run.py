"""A run, read from its folder: its trials, its front, its best networks. Reading changes nothing and needs no lock."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from nas import limits
from nas.architecture import Architecture
from nas.cost import Cost
from nas.errors import NasError, UsageError
from nas.files import read_json
from nas.latency import Latency
from nas.locks import held
from nas.network import cost_of
from nas.pareto import Objective, hypervolume_history
from nas.pareto import front as pareto_front
from nas.plausible import (
    Check,
    among,
    brief,
    list_of,
    mapping,
    number,
    optional,
    reading,
    require,
    share,
    text,
    whole,
)
from nas.records import LATENCY, Epoch, Execution, State, Trial
from nas.settings import Settings
from nas.stopping import Decision
from nas.storage import JOURNAL as JOURNAL
from nas.storage import STUDY_NAME as STUDY_NAME
from nas.storage import journal as journal
from nas.storage import of_storage, open_storage, redacted, resolved, said, study_name, there

if TYPE_CHECKING:
    import optuna
    import pandas

LOCK, TRIALS, BASELINES, SESSIONS = "run.lock", "trials", "baselines", "sessions.json"
DECISIONS = "stopping.json"  # in a trial's folder: what early stopping has decided about it
CONFIG = "config.yaml"  # in the folder of a trial that failed: its network, to be looked into
ATTRIBUTE = "nas"  # the Optuna user attribute that holds a trial's digest, cost and architecture


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its folder says it is at the moment of reading.

    `trials` holds every trial by number, known networks trained as baselines with the numbers -1, -2, ...
    `reference` is the hypervolume's, in the order of `objectives`: chance accuracy and the space's largest costs.
    """

    path: Path
    config: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    reference: tuple[float, ...]
    trials: tuple[Trial, ...]
    active: bool  # a driver holds the run's lock
    sessions: tuple[
        Mapping[str, Any], ...
    ] = ()  # time accounting of each driver that ended in order: see nas.searching

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(objective.direction for objective in self.objectives)

    def complete(self) -> list[Trial]:
        """Trials trained to the end, baselines first."""
        return [trial for trial in self.trials if trial.values is not None]

    def front(self) -> list[Trial]:
        """Non-dominated complete trials by rising first cost; of several with equal values all are kept."""
        complete = self.complete()
        if not complete:
            return []
        return [complete[k] for k in pareto_front(self._values(complete), self.directions)]

    def asked(self) -> list[Trial]:
        """All trials in the order in which they were asked for, baselines first.

        Not by the time at which they ended: clocks are set while a run goes on, and differ between machines.
        """
        baselines = sorted(self.baselines(), key=lambda trial: -trial.number)
        return [*baselines, *(trial for trial in self.trials if not trial.label)]

    def baselines(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.label]

    def trial(self, number: int) -> Trial:
        """The trial with this number; UsageError if the run has none such."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise UsageError(f"{self.path}: no trial {number}; the run has {len(self.trials)} so far")

    def best(
        self, max_params: float | None = None, max_macs: float | None = None, max_latency_ms: float | None = None
    ) -> Trial:
        """The complete trial of the highest validation accuracy within the bounds, the cheaper one if two are equal."""
        fitting = [
            trial
            for trial in self.complete()
            if (max_params is None or trial.cost.params <= max_params)
            and (max_macs is None or trial.cost.macs <= max_macs)
            and (max_latency_ms is None or trial.price(LATENCY) <= max_latency_ms)
        ]
        if not fitting:
            named = (("params", max_params), ("macs", max_macs), (LATENCY, max_latency_ms))
            bounds = [
                f"{name} <= {value:,g}" if name == LATENCY else f"{name} <= {value:,.0f}"
                for name, value in named
                if value is not None
            ]
            raise UsageError(
                f"{self.path}: no complete trial {'with ' if bounds else ''}{' and '.join(bounds)}".rstrip()
            )
        return max(fitting, key=lambda trial: (trial.accuracy or 0.0, -trial.cost.macs))

    def count(self, state: State) -> int:
        """Trials of the search (not baselines) in this state."""
        return sum(trial.state == state for trial in self.trials if not trial.label)

    @property
    def status(self) -> str:
        """`running`, `done`, or `unfinished` (`nas resume` goes on)."""
        if self.active:
            return "running"
        # A space that holds no further network within the budgets is done with fewer trials.
        trained = self.count("complete") + self.count("stopped")
        waiting = self.count("running") + sum(trial.state == "running" for trial in self.baselines())
        exhausted = bool(self.sessions) and self.sessions[-1].get("exhausted", False)
        return "done" if (exhausted or trained >= self.config["trials"]) and not waiting else "unfinished"

    def hypervolume_history(self) -> NDArray[np.float64]:
        """Hypervolume after each complete trial, in the order of `asked`: accuracy, and log10 of the costs."""
        complete = [trial for trial in self.asked() if trial.values is not None]
        if not complete:
            return np.zeros(0)
        values, reference = self._values(complete), np.array(self.reference, dtype=np.float64)
        values[:, 1:], reference[1:] = np.log10(values[:, 1:]), np.log10(reference[1:])
        return hypervolume_history(values, reference, self.directions)

    def dataframe(self) -> pandas.DataFrame:
        """One row a trial: number, state, label, accuracy, exact costs, training seconds, reason, digest, and each choice.

        latency_ms: where the run measures it.
        executed_macs: the mean measured on the validation images for dynamic networks, NaN for static ones.
        """
        import pandas

        rows = []
        for trial in self.trials:
            row = {
                "number": trial.number,
                "state": trial.state,
                "label": trial.label,
                "accuracy": trial.accuracy,
                "params": trial.cost.params,
                "macs": trial.cost.macs,
                "activations": trial.cost.activations,
                **({"latency_ms": trial.price("latency_ms")} if self.config["latency"] else {}),
                "executed_macs": trial.executed.macs if trial.executed else math.nan,
                "epochs": len(trial.epochs),
                "seconds": trial.seconds,
                "reason": trial.reason,
                "cause": trial.cause,
                "attempts": trial.attempts,
                "digest": trial.digest,
            }
            rows.append({**row, **trial.choices})
        return pandas.DataFrame(rows)

    @staticmethod
    def _values(trials: list[Trial]) -> NDArray[np.float64]:
        return np.array([trial.values for trial in trials], dtype=np.float64)


def load_run(path: str | Path, storage: str | None = None) -> Run:
    """The run in a folder: done, still going, or died. UsageError if the folder holds none.

    storage: the whole URL of its study's database, where `run.yaml` may not keep the password; else that in $NAS_STORAGE.
    """
    folder = Path(path).absolute()
    settings = Settings.load(folder)
    objectives = settings.parsed_objectives()
    trials = [*read_baselines(folder, settings, objectives), *read_trials(folder, settings, storage)]
    return Run(
        folder,
        dataclasses.asdict(settings),
        objectives,
        tuple(settings.reference),
        tuple(trials),
        locked(folder),
        tuple(read_sessions(folder)),
    )


def open_study(folder: Path, settings: Settings, url: str | None) -> optuna.Study | None:
    """The run's Optuna study for reading, at this whole URL or in the journal; None if no trial was ever asked for."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not there(url, folder):
        check_begun(folder, url)
        return None
    if url is None:
        check_journal(folder / JOURNAL)
    with reading_study(folder, url):
        storage = open_storage(url, folder)
    try:
        return optuna.load_study(
            study_name=study_name(settings.storage), storage=storage, sampler=optuna.samplers.RandomSampler()
        )
    except KeyError:
        check_begun(folder, url)
        return None


def check_begun(folder: Path, url: str | None) -> None:
    """UsageError if the run has trained trials, so that a database without its study is another one than it began with."""
    if url is not None and any((folder / TRIALS).glob("*")):
        raise UsageError(f"{folder}: {redacted(url)} holds no study of this run; it began in another database")


def check_journal(path: Path) -> None:
    """UsageError for a journal that would fill the memory: Optuna reads all of it, a line at a time."""
    if (size := path.stat().st_size) > limits.JOURNAL_BYTES:
        raise UsageError(f"{path}: {size:,} bytes are too many for a journal (at most {limits.JOURNAL_BYTES:,})")
    most = limits.JOURNAL_LINE_BYTES
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(most + 1), b""), 1):
            if len(line) > most:
                raise UsageError(f"{path}: line {number:,} has more than {most:,} bytes; no entry of a journal has")


@contextlib.contextmanager
def reading_journal(path: Path) -> Iterator[None]:
    """Turns whatever Optuna raises on a damaged journal, which is nearly any type, into a UsageError that names the file."""
    try:
        yield
    except NasError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200] or "no reason given"
        raise UsageError(f"{path}: damaged, or no journal of a study: {type(error).__name__}: {said}") from error


def reading_study(folder: Path, url: str | None) -> AbstractContextManager[None]:
    """`reading_journal` where the study is in the run's journal; a database has errors of its own."""
    return contextlib.nullcontext() if url else reading_journal(folder / JOURNAL)


def locked(folder: Path) -> bool:
    """Whether a driver holds the run's lock."""
    return held(folder / LOCK)


def facts_of(architecture: Architecture, latency: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the study keeps of a candidate's network; latency: as measured, if it was."""
    cost = cost_of(architecture)
    costs = [cost.params, cost.macs, cost.activations]
    timed = {"latency": dict(latency)} if latency else {}
    return {"digest": architecture.digest, "cost": costs, "architecture": architecture.to_dict(), **timed}


def read_sessions(folder: Path) -> list[Mapping[str, Any]]:
    """Time accounting of each driver that ended in order; none where the file is damaged."""
    found = read_json(folder / SESSIONS)
    entries = found if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _is_session(entry)]


def read_trials(folder: Path, settings: Settings, storage: str | None = None) -> list[Trial]:
    """Trials of the search by number; those that were never fully asked for are left out."""
    url = resolved(settings.storage, storage, folder)
    try:
        study = open_study(folder, settings, url)
        with reading_study(folder, url):
            every = [] if study is None else study.get_trials(deepcopy=False)
    except Exception as error:
        if of_storage(error):
            raise NasError(said(error, url)) from None
        raise
    objectives = settings.parsed_objectives()
    found = []
    for frozen in every:
        if ATTRIBUTE in frozen.user_attrs:
            with reading(f"{folder / JOURNAL}: trial {frozen.number}"):
                found.append(_trial(folder, frozen, check_facts(frozen, objectives)))
    return found


def check_facts(frozen: optuna.trial.FrozenTrial, objectives: tuple[Objective, ...]) -> Mapping[str, Any]:
    """What a trial's attribute says of its network; UsageError unless it, and the trial's values, are such as are written."""
    facts, where = frozen.user_attrs[ATTRIBUTE], f"trial {frozen.number}"
    require({ATTRIBUTE: facts}, {ATTRIBUTE: mapping}, where)
    require(facts, _OF_FACTS, where)
    more = {"outcome": optional(among("rejected", "duplicate")), "reason": text, "latency": mapping}
    require(facts, more, where, missing=True)
    _latency(facts)
    require(dict(frozen.user_attrs), {"reason": text}, where, missing=True)
    for name, value in frozen.params.items():
        if wrong := text(name) or (text(value) if isinstance(value, str) else ""):
            raise UsageError(f"{where}: a choice must be {wrong}, not {brief(name if text(name) else value)}")
    if frozen.state.name == "COMPLETE":
        values = list(frozen.values or ())
        require({"values": values}, {"values": list_of(number)}, where)
        if len(values) != len(objectives) or share(values[0]) or min(values[1:]) <= 0:
            raise UsageError(f"{where}: values must be an accuracy from 0 to 1 and costs above 0, not {brief(values)}")
    return facts  # type: ignore[no-any-return]


def read_baselines(folder: Path, settings: Settings, objectives: tuple[Objective, ...]) -> list[Trial]:
    """Known networks of the run; those not yet trained are `running`."""
    found = []
    for position, entry in enumerate(settings.baselines, 1):
        architecture = Architecture.from_dict(entry["architecture"])
        cost = cost_of(architecture)
        result = read_result(folder / BASELINES / entry["name"], architecture.digest)
        accuracy = result.get("accuracy")
        epochs = tuple(Epoch.from_dict(epoch) for epoch in result.get("epochs", []))
        found.append(
            Trial(
                number=-position,
                state=result.get("state", "running"),
                label=entry["name"],
                choices={},
                architecture=architecture,
                digest=architecture.digest,
                cost=cost,
                accuracy=accuracy,
                values=None if accuracy is None else objective_values(accuracy, cost, objectives, _ms(result)),
                epochs=epochs,
                reason=result.get("reason", ""),
                cause=result.get("cause", ""),
                attempts=result.get("attempts", 1),
                started=result["finished"] - result["seconds"] if result else None,
                seconds=result.get("seconds", 0.0),
                finished=result.get("finished"),
                executed=_executed(result),
                decisions=_decisions(folder / BASELINES / entry["name"]) if result else (),
                latency=_latency(result),
            )
        )
    return found


def read_result(place: Path, digest: str) -> dict[str, Any]:
    """What the worker left in a trial's folder, if it is of this network; else empty. UsageError for what none writes."""
    path = place / "result.json"
    result = read_json(path)
    if not isinstance(result, dict) or result.get("digest") != digest:
        return {}
    require(result, _OF_RESULT, str(path))
    require(result, {"epochs": list_of(mapping), "executed": mapping, "latency": mapping}, str(path), missing=True)
    if result["state"] == "complete" and result.get("accuracy") is None:
        raise UsageError(f"{path}: a complete training has an accuracy")
    return result


def _cost(value: object) -> str:
    return list_of(whole(), 3)(value) or ("" if len(value) == 3 else "three counts")  # type: ignore[arg-type]


def _executed(result: Mapping[str, Any]) -> Execution | None:
    """What a dynamic network has executed; None for a static one, and in results of releases that did not measure it."""
    return Execution.from_dict(result["executed"]) if "executed" in result else None


def _latency(data: Mapping[str, Any]) -> Latency | None:
    """The latency that a trial's facts or its result hold; None if its run measured none."""
    return Latency.from_dict(data["latency"]) if data.get("latency") else None


def _ms(data: Mapping[str, Any]) -> float | None:
    found = _latency(data)
    return found.median_ms if found else None


def objective_values(
    accuracy: float, cost: Cost, objectives: tuple[Objective, ...], latency_ms: float | None = None
) -> tuple[float, ...]:
    """A candidate's values in the order of the objectives: accuracy, then exact costs, or its latency as it was measured.

    NasError where latency is an objective and was not measured.
    """
    if latency_ms is None and any(objective.name == LATENCY for objective in objectives):
        raise NasError("latency is an objective of this run, and this network's was not recorded")
    costs = (latency_ms if own.name == LATENCY else getattr(cost, own.name) for own in objectives[1:])
    return (accuracy, *map(float, costs))  # type: ignore[arg-type]  # checked above


def _trial(folder: Path, frozen: optuna.trial.FrozenTrial, facts: Mapping[str, Any]) -> Trial:
    place = folder / TRIALS / str(frozen.number)
    state: State = facts.get("outcome") or _STATES[frozen.state.name]
    trained = state in ("complete", "stopped", "failed", "running")
    result = read_result(place, facts["digest"]) if trained else {}
    records = result.get("epochs") or (read_json(place / "epochs.json") if state == "running" else None) or []
    require({"epochs": records}, {"epochs": list_of(mapping)}, str(place))
    epochs = tuple(Epoch.from_dict(record) for record in records)
    values = tuple(frozen.values) if state == "complete" else None
    attempts = frozen.user_attrs.get("attempts", {})
    return Trial(
        number=frozen.number,
        state=state,
        label="",
        choices=dict(frozen.params),
        architecture=Architecture.from_dict(facts["architecture"]),
        digest=facts["digest"],
        cost=Cost(*facts["cost"]),
        accuracy=values[0] if values else None,
        values=values,
        epochs=epochs,
        reason=frozen.user_attrs.get("reason", facts.get("reason", "")),
        cause=attempts.get("cause", ""),
        attempts=attempts.get("attempts", 1),
        started=frozen.datetime_start.timestamp() if frozen.datetime_start else None,
        seconds=sum(epoch.seconds for epoch in epochs),
        finished=frozen.datetime_complete.timestamp() if frozen.datetime_complete else None,
        executed=_executed(result),
        decisions=_decisions(place) if trained else (),
        latency=_latency(facts),
    )


def _decisions(place: Path) -> tuple[Decision, ...]:
    found = read_json(place / DECISIONS)
    return tuple(Decision.from_dict(own) for own in found) if isinstance(found, list) else ()


_OF_FACTS: Mapping[str, Check] = {"digest": text, "cost": _cost, "architecture": mapping}
_OF_RESULT: Mapping[str, Check] = {
    "state": among(*get_args(State)),
    "accuracy": optional(share),
    "seconds": number,
    "finished": number,
    "reason": text,
}
_OF_SESSION: Mapping[str, Check] = {
    **dict.fromkeys(("begun", "startup_seconds", "search_seconds", "training_seconds"), number),
    "workers": whole(),
}


def _is_session(entry: Mapping[str, Any]) -> bool:
    return entry.keys() >= _OF_SESSION.keys() and not any(check(entry[key]) for key, check in _OF_SESSION.items())


_STATES: Mapping[str, State] = {
    "COMPLETE": "complete",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "running",
}
