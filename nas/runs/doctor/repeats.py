"""What `nas confirm` has left, against the trials of the run: results of the right networks, whole, and nothing of nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nas.runs.doctor._base import Finding, digest_of
from nas.runs.doctor.mending import Reading
from nas.runs.layout import CONFIRMED
from nas.runs.repeats import folder_name, seed_folders
from nas.runs.run import locked
from nas.runs.settings import Settings
from nas.training.records import CHECKPOINT, EPOCHS, PREVIOUS, RESULT
from nas.utils.files import read_json

WHILE_TRAINING = (CHECKPOINT, PREVIOUS, EPOCHS)
AGAIN = "`nas confirm` trains it again"


def check(folder: Path, settings: Settings, reading: Reading, repair: bool) -> list[Finding]:
    """Findings about further seeds. With `repair`, files that dead workers left next to their results are removed."""
    top = folder / CONFIRMED
    if not top.is_dir():
        return []
    active = not repair and locked(folder)
    known = {
        folder_name(number, label): (label or f"trial {number}", digest)
        for number, label, digest in _networks(settings, reading)
    }
    findings: list[Finding] = []
    for place in sorted(top.iterdir()):
        name, digest = known.get(place.name, ("", ""))
        if not name:
            text = f"{place.name}: of no trial of the run"
            findings.append(Finding("warning", f"{CONFIRMED}/", text, "left alone; nothing reads it"))
            continue
        for seed, path in seed_folders(place):
            where, epochs = f"{name}, seed {seed}", settings.recipe.epochs
            findings += _seed(path, where, digest, epochs, active) + ([] if active else _left(path, where, repair))
    return findings


def _networks(settings: Settings, reading: Reading) -> Iterator[tuple[int, str, str]]:
    """Number, label and digest of what may have been trained again."""
    for entry in settings.baselines:
        yield -1, entry.name, entry.network().digest
    for trial in reading.trials:
        if trial.state.name == "COMPLETE" and (digest := digest_of(trial)):
            yield trial.number, "", digest


def _seed(path: Path, where: str, digest: str, wanted: int, active: bool) -> list[Finding]:
    """A training of so many epochs, or one that was begun."""
    result = read_json(path / RESULT)
    if not (path / RESULT).exists():
        return [] if active else [Finding("note", where, "not trained to its end", "`nas confirm` continues it")]
    if not isinstance(result, dict):
        return [Finding("warning", where, f"{RESULT} is torn", AGAIN)]
    if result.get("digest") != digest:
        return [Finding("warning", where, f"{RESULT} is that of another network", AGAIN)]
    if result.get("state") == "failed":
        return [Finding("note", where, f"failed: {result.get('reason')}", "its network's mean is without it")]
    epochs = [epoch for epoch in result.get("epochs") or [] if isinstance(epoch, dict)]
    numbers = [epoch.get("number") for epoch in epochs]
    if numbers != list(range(1, wanted + 1)):
        text = f"its epochs are {numbers[:3]}... ({len(numbers)}), not 1 to {wanted}"
        return [Finding("needs you", where, text, "its curve is not whole")]
    if epochs[-1].get("accuracy") != result.get("accuracy"):
        text = f"its accuracy is {result.get('accuracy')}, that of its last epoch {epochs[-1].get('accuracy')}"
        return [Finding("needs you", where, text, "one of them was changed by hand")]
    return []


def _left(path: Path, where: str, repair: bool) -> list[Finding]:
    left = [name for name in WHILE_TRAINING if (path / name).exists()]
    if not left or not (path / RESULT).exists():
        return []
    text = f"{', '.join(left)} left by a worker that died at its end"
    if not repair:
        return [Finding("repairable", where, text)]
    for name in left:
        (path / name).unlink()
    return [Finding("repaired", where, f"{text}: removed")]
