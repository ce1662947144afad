"""The trials of a run, read from its study and the folders of its workers. What is read is checked; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.networks.cost import Cost
from nas.pareto.objectives import Objective
from nas.profiling.latency import Latency
from nas.runs.layout import ATTRIBUTE, BASELINES, DECISIONS, ELAPSED, JOURNAL, SESSIONS, TRIALS
from nas.runs.records import LATENCY, State, Trial
from nas.runs.settings import Settings
from nas.runs.storage import of_storage, resolved, said
from nas.runs.study_access import open_study, reading_study
from nas.stopping.curves import Decision
from nas.training.records import Epoch, Execution
from nas.utils.files import read_json
from nas.utils.validation import (
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

if TYPE_CHECKING:
    import optuna


def facts_of(architecture: Architecture, latency: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the study keeps of a candidate's network; latency: as measured, if it was."""
    cost = cost_of(architecture)
    costs = [cost.params, cost.macs, cost.activations]
    timed = {"latency": dict(latency)} if latency else {}
    return {"digest": architecture.digest, "cost": costs, "architecture": architecture.to_dict(), **timed}


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


def read_sessions(folder: Path) -> list[Mapping[str, Any]]:
    """Time accounting of each driver that ended in order; none where the file is damaged."""
    found = read_json(folder / SESSIONS)
    entries = found if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _is_session(entry)]


def read_elapsed(folder: Path) -> float:
    """Seconds that a run's drivers took so far, up to the last sign of life of one that was killed."""
    ended = sum(float(own["startup_seconds"] + own["search_seconds"]) for own in read_sessions(folder))
    found = read_json(folder / ELAPSED)
    seconds = found.get("seconds") if isinstance(found, dict) else None
    return ended if number(seconds) else max(ended, float(seconds))  # type: ignore[arg-type]  # it is one


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


def _executed(result: Mapping[str, Any]) -> Execution | None:
    """What a dynamic network has executed; None for a static one, and in results of releases that did not measure it."""
    return Execution.from_dict(result["executed"]) if "executed" in result else None


def _latency(data: Mapping[str, Any]) -> Latency | None:
    """The latency that a trial's facts or its result hold; None if its run measured none."""
    return Latency.from_dict(data["latency"]) if data.get("latency") else None


def _ms(data: Mapping[str, Any]) -> float | None:
    found = _latency(data)
    return found.median_ms if found else None


def _cost(value: object) -> str:
    return list_of(whole(), 3)(value) or ("" if len(value) == 3 else "three counts")  # type: ignore[arg-type]


def _is_session(entry: Mapping[str, Any]) -> bool:
    return entry.keys() >= _OF_SESSION.keys() and not any(check(entry[key]) for key, check in _OF_SESSION.items())


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
_STATES: Mapping[str, State] = {
    "COMPLETE": "complete",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "running",
}
