"""What was lost with damaged lines of a journal, put back: from the other lines, from the space, from the trials' results."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas.errors import NasError, UsageError
from nas.profiling.latency import Latency
from nas.runs.doctor._base import digest_of
from nas.runs.journal import Journal
from nas.runs.journal_repair import CREATE_TRIAL, SET_ATTRIBUTE, SET_PARAM, SET_STATE, Line, Salvage
from nas.runs.layout import ATTRIBUTE, JOURNAL, STUDY_NAME, TRIALS
from nas.runs.records import Candidate
from nas.runs.settings import Settings
from nas.samplers import suggest
from nas.spaces.knobs import Choices
from nas.spaces.space import SearchSpace
from nas.training.records import RESULT
from nas.utils.files import read_json

if TYPE_CHECKING:
    import optuna

TRIES = 4000  # random values for what is missing of a trial's choices, until they make its network
RUNNING = 0  # Optuna's code of the state


@dataclass(frozen=True, slots=True)
class Reading:
    """What a journal says: its trials by number."""

    trials: tuple[optuna.trial.FrozenTrial, ...]


@dataclass(frozen=True, slots=True)
class Mending:
    """A repaired journal, a description of what was saved, and the trials whose state is lost."""

    data: bytes
    saved: str
    lost: tuple[int, ...]


def opened(data: bytes) -> Reading | None:
    """What a journal with these bytes says; None if it holds no study of a run. NasError if a line is damaged.

    Read from a copy: the run may lie on a read-only disk, or a driver may be at work.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="nas-doctor-") as folder:
        copy = Path(folder) / JOURNAL
        copy.write_bytes(data)
        store = Journal(copy)
        if STUDY_NAME not in optuna.get_all_study_names(store):
            return None
        study = optuna.load_study(study_name=STUDY_NAME, storage=store, sampler=optuna.samplers.RandomSampler())
        return Reading(tuple(study.get_trials(deepcopy=False)))


def mended(salvage: Salvage, settings: Settings, folder: Path) -> Mending:
    """The salvaged lines with the choices and facts of trials put back that were lost. NasError if nothing can be read."""
    reading = opened(salvage.text())
    if reading is None:
        raise NasError(f"{folder / JOURNAL}: nothing can be saved of it")
    space = settings.search_space()
    lines = list(salvage.lines)
    filled, lost = 0, []
    for trial in reading.trials:
        result = read_json(folder / TRIALS / str(trial.number) / RESULT)
        result = result if isinstance(result, dict) else {}
        more = _missing(trial, result, space)
        if more is None:
            lost.append(trial.number)
            continue
        filled += bool(more)
        place = _end_of(trial.number, lines)
        lines[place:place] = more
    parts = [
        f"{len(reading.trials)} trials are kept",
        *([f"{len(salvage.remade)} begun again in the file"] if salvage.remade else []),
        *([f"{filled} filled in from their results and the space"] if filled else []),
        *([f"{len(lost)} lost"] if lost else []),
    ]
    return Mending(Salvage(tuple(lines), 0, (), ()).text(), ", ".join(parts), tuple(lost))


def _missing(trial: optuna.trial.FrozenTrial, result: Mapping[str, Any], space: SearchSpace) -> list[Line] | None:
    """The lines that a trial lacks; None if they can't be known."""
    facts = trial.user_attrs.get(ATTRIBUTE)
    trained = trial.state.name == "COMPLETE" or bool(result)
    if facts is None and not trained:
        return []  # never asked for to the end, or closed untrained: no reader looks at it
    if isinstance(facts, Mapping) and "outcome" in facts:
        return []
    choices = _choices(trial.params, digest_of(trial) if facts else result.get("digest"), space)
    if choices is None:
        return None if facts is None else []  # the network is known, only not which choices made it
    lines = _params(trial, choices, space)
    if facts is None:
        latency = Latency.from_dict(result["latency"]) if result.get("latency") else None
        candidate = Candidate.of(space.architecture(choices), latency)
        lines.append(_line(trial, SET_ATTRIBUTE, user_attr={ATTRIBUTE: candidate.to_dict()}))
    if trial.state.name == "FAIL" and "reason" not in trial.user_attrs and result.get("reason"):
        lines.append(_line(trial, SET_ATTRIBUTE, user_attr={"reason": result["reason"]}))
    return lines


def _choices(params: Mapping[str, Any], digest: str | None, space: SearchSpace) -> Choices | None:
    """The choices that these are a part of and that make the network of this digest; None if none is found."""
    try:
        whole = space.architecture(dict(params))
        if digest is None or whole.digest == digest:
            return dict(params)
    except UsageError:
        pass
    if digest is None:
        return None
    rng = random.Random(digest)
    for _ in range(TRIES):
        choices = space.completed(dict(params), rng)
        if space.architecture(choices).digest == digest:
            return choices
    return None


def _params(trial: optuna.trial.FrozenTrial, choices: Choices, space: SearchSpace) -> list[Line]:
    """Lines for the choices that the study lacks, with the distributions that it would have asked for."""
    import optuna

    fixed = optuna.trial.FixedTrial(dict(choices))
    space.suggest(lambda key, knob: suggest(cast("optuna.Trial", fixed), key, knob))
    lines = []
    for key, distribution in fixed.distributions.items():
        if key not in trial.params:
            lines.append(
                _line(
                    trial,
                    SET_PARAM,
                    param_name=key,
                    param_value_internal=distribution.to_internal_repr(choices[key]),
                    distribution=optuna.distributions.distribution_to_json(distribution),
                )
            )
    return lines


def _line(trial: optuna.trial.FrozenTrial, code: int, **fields: Any) -> Line:
    return {"op_code": code, "worker_id": "doctor", "trial_id": trial.number, **fields}


def _end_of(number: int, lines: list[Line]) -> int:
    """The index of the line that ended a trial, the last that may concern it; after all lines if it has not ended."""
    begun = -1
    for place, line in enumerate(lines):
        if line["op_code"] == CREATE_TRIAL:
            begun += 1
            if begun == number and line.get("state", RUNNING) not in (RUNNING, 4):
                return len(lines)
        if line["op_code"] == SET_STATE and line["trial_id"] == number and line["state"] not in (RUNNING, 4):
            return place
    return len(lines)
