"""The trials of a run, read from its study and the folders of its workers. What is read is checked; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import NasError, UsageError
from nas.pareto.objectives import Objective
from nas.runs.layout import ATTRIBUTE, BASELINES, DECISIONS, ELAPSED, JOURNAL, SESSIONS, TRIALS
from nas.runs.records import Candidate, State, Trial, TrialResult
from nas.runs.settings import Settings
from nas.runs.storage import of_storage, resolved, storage_reason
from nas.runs.study_access import open_study, reading_study
from nas.stopping.curves import Decision
from nas.training.records import EPOCHS, Epoch
from nas.utils.files import read_json
from nas.utils.validation import Check, brief, list_of, number, reading, require, share, text, whole

if TYPE_CHECKING:
    import optuna


def read_trials(folder: Path, settings: Settings, storage: str | None = None) -> list[Trial]:
    """Trials of the search by number; those that were never fully asked for are left out."""
    url = resolved(settings.storage, storage, folder)
    try:
        study = open_study(folder, settings, url)
        with reading_study(folder, url):
            every = [] if study is None else study.get_trials(deepcopy=False)
    except Exception as error:
        if of_storage(error):
            raise NasError(storage_reason(error, url)) from None
        raise
    objectives = settings.parsed_objectives()
    loaded = []
    for frozen in every:
        if ATTRIBUTE in frozen.user_attrs:
            with reading(f"{folder / JOURNAL}: trial {frozen.number}"):
                loaded.append(_trial(folder, frozen, read_candidate(frozen, objectives)))
    return loaded


def read_candidate(frozen: optuna.trial.FrozenTrial, objectives: tuple[Objective, ...]) -> Candidate:
    """What a trial's attribute says of its network; UsageError unless it, and the trial's values, are such as are written."""
    where = f"trial {frozen.number}"
    candidate = Candidate.from_dict(frozen.user_attrs[ATTRIBUTE], where)
    require(dict(frozen.user_attrs), {"reason": text}, where, missing=True)
    for name, value in frozen.params.items():
        if wrong := text(name) or (text(value) if isinstance(value, str) else ""):
            raise UsageError(f"{where}: a choice must be {wrong}, not {brief(name if text(name) else value)}")
    if frozen.state.name == "COMPLETE":
        values = list(frozen.values or ())
        require({"values": values}, {"values": list_of(number)}, where)
        if len(values) != len(objectives) or share(values[0]) or min(values[1:]) <= 0:
            raise UsageError(f"{where}: values must be an accuracy from 0 to 1 and costs above 0, not {brief(values)}")
    return candidate


def read_baselines(folder: Path, settings: Settings, objectives: tuple[Objective, ...]) -> list[Trial]:
    """Known networks of the run; those not yet trained are `running`."""
    trials = []
    for position, entry in enumerate(settings.baselines, 1):
        architecture, place = entry.network(), folder / BASELINES / entry.name
        result = TrialResult.read(place, architecture.digest)
        candidate = Candidate.of(architecture, result.latency if result else None)
        accuracy = result.accuracy if result else None
        trials.append(
            Trial(
                number=-position,
                state=result.state if result else "running",
                label=entry.name,
                choices={},
                architecture=architecture,
                digest=candidate.digest,
                cost=candidate.cost,
                accuracy=accuracy,
                values=None if accuracy is None else candidate.values(accuracy, objectives),
                epochs=result.epochs if result else (),
                reason=result.reason if result else "",
                cause=result.cause if result else "",
                attempts=result.attempts if result else 1,
                started=result.finished - result.seconds if result else None,
                seconds=result.seconds if result else 0.0,
                finished=result.finished if result else None,
                executed=result.executed if result else None,
                decisions=_decisions(place) if result else (),
                latency=candidate.latency,
            )
        )
    return trials


def read_sessions(folder: Path) -> list[Mapping[str, Any]]:
    """Time accounting of each driver that ended in order; none where the file is damaged."""
    loaded = read_json(folder / SESSIONS)
    entries = loaded if isinstance(loaded, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _is_session(entry)]


def read_elapsed(folder: Path) -> float:
    """Seconds that a run's drivers took so far, up to the last sign of life of one that was killed."""
    ended = sum(float(entry["startup_seconds"] + entry["search_seconds"]) for entry in read_sessions(folder))
    loaded = read_json(folder / ELAPSED)
    seconds = loaded.get("seconds") if isinstance(loaded, dict) else None
    return ended if number(seconds) else max(ended, float(seconds))  # type: ignore[arg-type]  # it is one


def _trial(folder: Path, frozen: optuna.trial.FrozenTrial, candidate: Candidate) -> Trial:
    place = folder / TRIALS / str(frozen.number)
    state: State = candidate.outcome or _STATES[frozen.state.name]
    result = None if candidate.outcome else TrialResult.read(place, candidate.digest)
    epochs = result.epochs if result else _epochs_so_far(place) if state == "running" else ()
    values = tuple(frozen.values) if state == "complete" else None
    attempts = frozen.user_attrs.get("attempts", {})
    return Trial(
        number=frozen.number,
        state=state,
        label="",
        choices=dict(frozen.params),
        architecture=candidate.architecture,
        digest=candidate.digest,
        cost=candidate.cost,
        accuracy=values[0] if values else None,
        values=values,
        epochs=epochs,
        reason=frozen.user_attrs.get("reason", candidate.reason),
        cause=attempts.get("cause", ""),
        attempts=attempts.get("attempts", 1),
        started=frozen.datetime_start.timestamp() if frozen.datetime_start else None,
        seconds=sum(epoch.seconds for epoch in epochs),
        finished=frozen.datetime_complete.timestamp() if frozen.datetime_complete else None,
        executed=result.executed if result else None,
        decisions=() if candidate.outcome else _decisions(place),
        latency=candidate.latency,
    )


def _epochs_so_far(place: Path) -> tuple[Epoch, ...]:
    records = read_json(place / EPOCHS)
    return tuple(Epoch.from_dict(record) for record in records) if isinstance(records, list) else ()


def _decisions(place: Path) -> tuple[Decision, ...]:
    loaded = read_json(place / DECISIONS)
    return tuple(Decision.from_dict(entry) for entry in loaded) if isinstance(loaded, list) else ()


def _is_session(entry: Mapping[str, object]) -> bool:
    return entry.keys() >= _OF_SESSION.keys() and not any(check(entry[key]) for key, check in _OF_SESSION.items())


_OF_SESSION: Mapping[str, Check] = {
    **dict.fromkeys(("begun", "startup_seconds", "search_seconds", "training_seconds"), number),
    "workers": whole(),
}
_STATES: Mapping[str, State] = {
    "COMPLETE": "complete",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "running",
}
