"""Small spaces and what the tests of searches share: enumerating a space, settings of a run, results without training."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from make_run import changed, make_settings, result_of

from nas.data import split
from nas.data.training_data import TrainingData
from nas.execution.job import Job
from nas.runs.layout import ATTRIBUTE, JOURNAL
from nas.runs.settings import Settings
from nas.runs.specification import BaselineSpec
from nas.searching.study import Study
from nas.spaces.knobs import Choices
from nas.spaces.space import SearchSpace, space_from_text

# 2 x 2 x 2 x 2 = 16 networks of a few hundred to a few thousand parameters.
TINY = """\
space: tiny
stages: 2
values:
  stem_width: 4
  block: basic
  stage*.depth: [1, 2]
  stage*.width: [4, 8]
  stage2.stride: 2
"""

# Shared, per-stage and conditional knobs, words and numbers, an arithmetic and a geometric range.
ONE = "space: one\nstages: 1\nvalues: {block: basic, depth: 1, width: 4, stem_width: 4}\n"
CONDITIONAL = """\
space: conditional
stages: 2
values:
  stem_width: {from: 4, to: 8, step: 2}
  block: [basic, bottleneck]
  shortcut: [projection, zero_pad]
  stage*.depth: {from: 1, to: 2}
  stage*.width: {from: 4, to: 16, factor: 2}
  stage2.stride: 2
  stage*.cardinality: {values: [1, 2], when: {block: bottleneck}}
  stage2.group_width: {values: [2, 4, 8], when: {block: bottleneck, depth: 2}}
  group_width: 4
"""


def space_of(text: str, *, resolution: int = 8, channels: int = 1, classes: int = 10) -> SearchSpace:
    return space_from_text(text, resolution=resolution, channels=channels, classes=classes)


def write_space(folder: Path, text: str = TINY, name: str = "space.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def every_choice(space: SearchSpace) -> Iterator[Choices]:
    """All choices that `suggest` can give, by asking it again and again with the next branch of the tree of picks."""
    picks: list[int] = []
    while True:
        sizes: list[int] = []

        def pick(key, knob, sizes=sizes):
            place = len(sizes)
            sizes.append(len(knob.values))
            if place == len(picks):
                picks.append(0)
            return knob.values[picks[place]]

        yield space.suggest(pick)
        while picks and picks[-1] == sizes[len(picks) - 1] - 1:
            picks.pop()
        if not picks:
            return
        picks[-1] += 1


def settings_of(text: str = TINY, **options: Any) -> Settings:
    """Settings of a search on digits over the space of this text: options of `make_settings` and any field of `Settings`."""
    fields = {name: options.pop(name) for name in list(options) if name in ("budgets", "executor", "recipe", "device")}
    options.setdefault("baselines", ())
    return changed(make_settings(**options), space={"name": space_of(text).name, "variant": "", "text": text}, **fields)


CLASSES, SIZE = 4, 8  # of the images below; pixels


def images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images that can be told apart: noise with stripes across, stripes down, a chequerboard or nothing on it."""
    random = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    row, column = np.indices((SIZE, SIZE)) % 2
    patterns = np.stack([row, column, row ^ column, np.zeros_like(row)])
    x = random.integers(0, 60, (count, SIZE, SIZE)) + 160 * patterns[y]
    return x[..., None].astype(np.uint8), y.astype(np.int64)


def training_data(count: int = 60) -> TrainingData:
    """What a search on such images gives to its workers."""
    x, y = images(count)
    return TrainingData(x, y, *split(y, 0.2, 0), mean=(0.4,), std=(0.25,), flip=False, crop_padding=1)


def finish(study: Study, *, fails: Callable[[Job], bool] = lambda job: False, most: int = 10_000) -> list[Job]:
    """Ask, leave a result as a worker would, tell; until the study asks for no more. The jobs that were handed out."""
    jobs: list[Job] = []
    while len(jobs) < most and (job := study.ask()) is not None:
        jobs.append(job)
        result_of(job, failed=fails(job)).write(job.folder)
        study.tell(job.key)
    return jobs


def open_optuna(folder: Path) -> optuna.Study:
    """The journal opened by Optuna alone, as anybody might."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    return optuna.load_study(study_name=None, storage=storage)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def environment() -> dict[str, str]:
    """For a process of Python that imports these helpers."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


@contextmanager
def holding(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of Python that runs this code, from when it has printed "holds"; killed at the end."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "holds\n"
            yield process
        finally:
            process.kill()


def begin(folder: Path, settings: Settings | None = None, **options) -> Study:
    """A study on a new run folder, not entered yet."""
    settings = settings or settings_of(**options)
    folder.mkdir(parents=True, exist_ok=True)
    settings.save(folder)
    return Study(folder, settings)


def again(folder: Path) -> Study:
    return Study(folder, Settings.load(folder))


def told(folder: Path) -> dict[int, optuna.trial.FrozenTrial]:
    """The trials by number, as Optuna alone reads them."""
    return {trial.number: trial for trial in open_optuna(folder).get_trials()}


def digests(trials) -> list[str]:
    """Of the trials that were handed out."""
    facts = [trial.user_attrs[ATTRIBUTE] for trial in trials.values() if ATTRIBUTE in trial.user_attrs]
    return [fact["digest"] for fact in facts if "outcome" not in fact]


def baseline_of(text: str, name: str = "known") -> BaselineSpec:
    return BaselineSpec(name, space_of(text).architecture(next(every_choice(space_of(text)))).to_dict())
