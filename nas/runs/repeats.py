"""Where the networks of a run that were trained again lie, and what became of them: written by `nas confirm`, read by all."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nas.runs.layout import CONFIRMED
from nas.runs.records import Repeat, Trial, TrialResult

_DOES = re.compile(r"confirms by (\d{1,4}) seeds within ([\d.e-]{1,24})", re.ASCII)
_SEED = re.compile(r"seed(\d+)", re.ASCII)


def does(seeds: int, within: float) -> str:
    """What the lock of a run says while it is confirmed."""
    return f"confirms by {seeds} seeds within {within!r}"


def asked(text: str) -> tuple[int, float] | None:
    """The seeds, and the share of accuracy within which, that a lock's words say a run is being confirmed by; None if it is not."""
    match = _DOES.fullmatch(text)
    try:
        return (int(match[1]), float(match[2])) if match else None
    except ValueError:
        return None


def folder_name(number: int, label: str) -> str:
    """The name of a trial's folder below `RUN/confirmed`."""
    return f"baseline-{label}" if label else f"trial-{number}"


def repeat_folder(folder: Path, trial: Trial, seed: int) -> Path:
    """Where a run's trial is trained again from this seed."""
    return folder / CONFIRMED / folder_name(trial.number, trial.label) / f"seed{seed}"


def seed_folders(place: Path) -> Iterator[tuple[int, Path]]:
    """The seeds that a network was trained from, or begun to be, and their folders, by seed."""
    seeds = [(int(match[1]), path) for path in place.glob("seed*") if (match := _SEED.fullmatch(path.name))]
    yield from sorted(seeds)


def with_repeats(folder: Path, trials: Iterable[Trial]) -> list[Trial]:
    """The trials of the run in `folder`, with their trainings from further seeds. UsageError for results that no training writes."""
    if not (folder / CONFIRMED).is_dir():
        return list(trials)
    there = {path.name for path in (folder / CONFIRMED).iterdir()}
    return [
        dataclasses.replace(trial, repeats=tuple(_repeats(folder / CONFIRMED / name, trial.digest)))
        if (name := folder_name(trial.number, trial.label)) in there
        else trial
        for trial in trials
    ]


def _repeats(place: Path, digest: str) -> Iterator[Repeat]:
    for seed, path in seed_folders(place):
        result = TrialResult.read(path, digest)
        if result is not None and result.state != "stopped":
            yield Repeat(seed, result.state, result.accuracy, result.reason, result.seconds)
