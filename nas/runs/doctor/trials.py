"""Each trial of the journal against its folder: results there and equal, epochs in a row, checkpoints that load."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import NasError, reason_of
from nas.networks.build import cost_of
from nas.runs.doctor._base import Finding
from nas.runs.doctor.mending import Reading
from nas.runs.layout import ATTRIBUTE, BASELINES, TRIALS
from nas.runs.records import Candidate, Ended, TrialResult
from nas.runs.run import locked
from nas.runs.settings import Settings
from nas.training.records import CHECKPOINT, EPOCHS, PREVIOUS, RESULT
from nas.utils.files import read_json

if TYPE_CHECKING:
    import optuna

WHILE_TRAINING = (CHECKPOINT, PREVIOUS, EPOCHS)
STATES: Mapping[str, Ended] = {
    "COMPLETE": "complete",
    "PRUNED": "stopped",
    "FAIL": "failed",
}  # of Optuna's trials, as results call them
MOST = 20  # trials that are named of one complaint


def check(folder: Path, settings: Settings, reading: Reading, repair: bool) -> list[Finding]:
    """Findings about the trials. With `repair`, results that are gone are written again from the study."""
    active = not repair and locked(folder)
    findings: list[Finding] = []
    trained: dict[str, int] = {}
    for trial in reading.trials:
        facts = trial.user_attrs.get(ATTRIBUTE)
        if facts is None:
            if trial.state.name == "RUNNING" and not active:
                text = "was being asked for when the driver died"
                findings.append(Finding("note", f"trial {trial.number}", text, "`nas resume` closes it"))
            continue
        where, place = f"trial {trial.number}", folder / TRIALS / str(trial.number)
        try:
            candidate = Candidate.from_dict(facts, where)
            real = Candidate.of(candidate.architecture)
        except Exception as error:  # whatever is wrong with it
            text = f"its network can't be built: {reason_of(error).removeprefix(f'{where}: ')}"
            findings.append(Finding("needs you", where, text, "the journal was changed"))
            continue
        if candidate.outcome:
            continue
        wrong = [name for name in ("digest", "cost") if getattr(real, name) != getattr(candidate, name)]
        findings += [
            Finding("needs you", where, f"another {name} than its network has", "the journal was changed")
            for name in wrong
        ]
        if trial.state.name == "RUNNING":
            findings += [] if active else _open(where, candidate.digest, place)
            continue
        earlier = trained.setdefault(candidate.digest, trial.number) if trial.state.name == "COMPLETE" else trial.number
        if earlier != trial.number:
            findings.append(Finding("warning", where, f"the network of trial {earlier}, trained again"))
        findings += _ended(trial, candidate, place, settings, repair)
    findings += _baselines(folder, settings, active)
    findings += _strangers(folder, len(reading.trials))
    return findings


def _baselines(folder: Path, settings: Settings, active: bool) -> list[Finding]:
    """Known networks: their results are in their folders alone."""
    findings = []
    for entry in settings.baselines:
        path = folder / BASELINES / entry.name / RESULT
        result = read_json(path)
        digest = entry.network().digest
        if isinstance(result, dict) and result.get("digest") == digest:
            continue
        where, again = f"baseline {entry.name}", "`nas resume` trains it"
        if path.exists():
            findings.append(Finding("warning", where, f"{RESULT} is {_ailment(path, result)}", f"{again} again"))
        elif not active:
            findings.append(Finding("note", where, "not trained yet", again))
    return findings


def _ended(
    trial: optuna.trial.FrozenTrial, candidate: Candidate, place: Path, settings: Settings, repair: bool
) -> list[Finding]:
    where = f"trial {trial.number}"
    state = STATES[trial.state.name]
    result = read_json(place / RESULT)
    if not isinstance(result, dict) or result.get("digest") != candidate.digest:
        text = f"{RESULT} is {_ailment(place / RESULT, result)}"
        if not repair:
            return [Finding("repairable", where, text, "--repair writes it again from the study, without its epochs")]
        _from_study(trial, candidate.digest, state).write(place)
        return [Finding("repaired", where, f"{text}: written again from the study; its epochs are lost")]
    findings = []
    if result.get("state") != state:
        findings.append(
            Finding("needs you", where, f"{state} in the study, {result.get('state')} in {RESULT}", "see both")
        )
    elif state == "complete":
        findings += _values(trial, candidate, result, settings)
        numbers = [epoch.get("number") for epoch in result.get("epochs", []) if isinstance(epoch, dict)]
        wanted = list(range(1, settings.recipe.epochs + 1))
        if numbers != wanted and not result.get("rewritten"):
            text = f"its epochs are {numbers[:3]}... ({len(numbers)}), not 1 to {len(wanted)}"
            findings.append(Finding("needs you", where, text, "its curve is not whole"))
    if "torn" in result:
        findings.append(Finding("note", where, str(result["torn"])))
    left = [name for name in WHILE_TRAINING if (place / name).exists()]
    if left:
        text = f"{', '.join(left)} left by a worker that died at its end"
        if repair:
            for name in left:
                (place / name).unlink()
        findings.append(
            Finding("repaired" if repair else "repairable", where, f"{text}{': removed' if repair else ''}")
        )
    return findings


def _values(
    trial: optuna.trial.FrozenTrial, candidate: Candidate, result: Mapping[str, Any], settings: Settings
) -> list[Finding]:
    honest = dataclasses.replace(candidate, cost=cost_of(candidate.architecture))
    try:
        wanted = honest.values(result["accuracy"], settings.parsed_objectives())
    except NasError as error:
        return [Finding("needs you", f"trial {trial.number}", str(error), "the journal was changed")]
    if list(trial.values) == list(wanted):
        return []
    text = f"the study says {list(trial.values)}, its result and network {list(wanted)}"
    return [Finding("needs you", f"trial {trial.number}", text, "one of them was changed by hand")]


def _from_study(trial: optuna.trial.FrozenTrial, digest: str, state: Ended) -> TrialResult:
    return TrialResult(
        str(trial.number),
        digest,
        state,
        trial.user_attrs.get("reason", ""),
        accuracy=trial.values[0] if state == "complete" else None,
        finished=trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0,
        rewritten="by nas doctor, from the study: the trial's own result was gone",
    )


def _open(where: str, digest: str, place: Path) -> list[Finding]:
    """A trial in flight whose driver is gone: what the next one will find of it."""
    result = read_json(place / RESULT)
    if isinstance(result, dict) and result.get("digest") == digest:
        return [Finding("note", where, "has ended, and is not recorded yet", "`nas resume` records it")]
    findings = []
    if (place / RESULT).exists():
        findings.append(
            Finding("warning", where, f"{RESULT} is {_ailment(place / RESULT, result)}", "`nas resume` trains it again")
        )
    usable = {name: _loads(place / name, digest) for name in (CHECKPOINT, PREVIOUS) if (place / name).exists()}
    if usable and not usable.get(CHECKPOINT, False):
        again = "resumes from the previous checkpoint" if usable.get(PREVIOUS) else "starts over"
        findings.append(Finding("warning", where, f"{CHECKPOINT} can't be used", f"`nas resume` {again}"))
    elif usable.get(CHECKPOINT) and not isinstance(read_json(place / EPOCHS), list):
        findings.append(Finding("note", where, f"{EPOCHS} can't be read", "its checkpoint holds them too"))
    return findings or [Finding("note", where, "in flight when its driver ended", "`nas resume` continues it")]


def _loads(path: Path, digest: str) -> bool:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return bool(state["digest"] == digest)
    except Exception:  # whatever a file that is torn, or of something else, raises
        return False


def _strangers(folder: Path, trials: int) -> list[Finding]:
    """Folders of trials that the study doesn't know: of a journal that lost its end, or put there by hand."""
    known = {str(number) for number in range(trials)}
    strangers = sorted(path.name for path in (folder / TRIALS).glob("*") if path.name not in known)
    if not strangers:
        return []
    names = f"{', '.join(strangers[:MOST])}{' ...' if len(strangers) > MOST else ''}"
    return [Finding("warning", f"{TRIALS}/", f"{names}: of no trial in the study", "left alone; nothing reads it")]


def _ailment(path: Path, result: object) -> str:
    if not path.exists():
        return "missing"
    return "that of another network" if isinstance(result, dict) and "digest" in result else "torn"
