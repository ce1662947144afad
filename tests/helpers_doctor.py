"""A run to harm, and what the doctor finds in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers_search import TINY, contents, finish, settings_of, space_of

from nas.runs.doctor import examine, healthy
from nas.runs.run import load_run
from nas.searching.study import Study

TRIALS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run with a budget: complete, failed, rejected, duplicate trials, none in flight."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    space = space_of(TINY)
    limit = sorted(space.cost(space.sample(seed)).params for seed in range(40))[25]
    settings = settings_of(TINY, trials=TRIALS, budgets={"params": [None, limit]}, seed=3)
    folder.mkdir()
    settings.save(folder)
    with Study(folder, settings) as study:
        failing = iter([False, True])
        finish(study, fails=lambda job: next(failing, False))
        counts = study.counts
    assert counts.rejected and counts.failed and counts.duplicate
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A copy of it to harm."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def levels(findings) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.level, []).append(f"{finding.where}: {finding.what}")
    return found


def repaired(folder: Path) -> dict[str, list[str]]:
    """Repair, after a look that must change nothing and find the same; a second look finds nothing left to repair."""
    before = contents(folder)
    look = examine(folder)
    assert contents(folder) == before, "a look changes nothing"
    assert not healthy(look)
    found = examine(folder, repair=True)
    assert {f.where for f in found if f.level == "repaired"} == {f.where for f in look if f.level == "repairable"}
    assert "repairable" not in levels(found) | levels(examine(folder))
    return levels(found)


def facts(folder: Path) -> list[tuple]:
    """What readers are told of the trials."""
    return [
        (
            t.number,
            t.state,
            t.digest,
            t.accuracy,
            t.values,
            dict(t.choices),
            len(t.epochs),
            t.reason if t.state == "failed" else "",
        )
        for t in load_run(folder).trials
    ]


def complete(run: Path) -> Path:
    """The folder of a complete trial."""
    return run / "trials" / str(next(t.number for t in load_run(run).trials if t.state == "complete"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
