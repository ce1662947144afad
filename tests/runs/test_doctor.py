"""`nas doctor`: what can be wrong with run.yaml and around a run is found, and repaired where that loses nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from helpers_cli import nas_, output, refusal
from helpers_doctor import cut, facts, levels, repaired
from helpers_doctor import made as made  # a fixture
from helpers_doctor import run as run  # a fixture
from helpers_search import finish
from make_run import changed

from nas.runs.doctor import examine
from nas.runs.layout import JOURNAL, LOCK
from nas.runs.settings import FILE, Settings
from nas.runs.settings_formats import FORMAT
from nas.searching.study import Study


def test_a_healthy_run_is_healthy(run):
    assert examine(run) == examine(run, repair=True) == []
    assert output("doctor", run).endswith("healthy.\n")
    assert json.loads(output("doctor", run, "--json")) == {"run": str(run), "healthy": True, "findings": []}


def test_no_run_is_bad_usage(tmp_path):
    assert "not a run folder" in refusal("doctor", tmp_path)
    assert "name its folder" in refusal("doctor", "--repair")


# -- run.yaml ----------------------------------------------------------------------------------------------------------


def other_space(path: Path) -> None:
    path.write_text(path.read_text().replace("stage*.width: [4, 8]", "stage*.width: [4, 8, 16]"))


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text("[1]"),
        Path.unlink,
        other_space,
    ],
    ids=["cut", "noise", "a list", "gone", "another space"],
)
def test_run_yaml_is_put_back_from_the_study(run, damage, faults):
    before, text = facts(run), (run / FILE).read_text()
    damage(run / FILE)
    harmed = (run / FILE).read_bytes() if (run / FILE).exists() else None
    assert [line for line in repaired(run)["repaired"] if line.startswith(FILE)]
    assert yaml.safe_load((run / FILE).read_text()) == yaml.safe_load(text)
    assert [path.read_bytes() for path in run.glob(f"{FILE}.broken-*")] == ([] if harmed is None else [harmed])
    assert facts(run) == before
    with Study(run, Settings.load(run)) as study:
        assert finish(study) == []
    faults.record(
        "torn or edited run.yaml", made="truncated, random bytes, another document, removed, its space edited",
        lost=0, trained_twice=0, epochs_twice=0,
        then="refused (2); `nas doctor --repair` restores the copy in the study, and keeps the damaged file",
    )  # fmt: skip


def test_a_run_that_was_begun_before_the_study_kept_settings(run):
    """Of format 1: nothing to put back, nothing to compare with."""
    lines = (run / JOURNAL).read_bytes().split(b"\n")
    (run / JOURNAL).write_bytes(b"\n".join(line for line in lines if b'"user_attr":{"nas":{"name"' not in line))
    assert examine(run) == []
    cut(run / FILE)
    assert "put it back from a copy" in nas_("doctor", run, "--repair").stdout
    assert levels(examine(run, repair=True)).keys() == {"needs you"}


# -- around the run ----------------------------------------------------------------------------------------------------


def test_permissions(run):
    run.chmod(0o777)
    (run / FILE).chmod(0o666)
    found = levels(examine(run))
    assert found == {
        "warning": [
            "permissions: everybody on this machine may write into the run's folder",
            f"permissions: {FILE}: may be written by everybody",
        ]
    }
    if os.getuid() == 0:
        os.chown(run / JOURNAL, 12345, -1)
        assert f"permissions: {JOURNAL}: belongs to another user than the folder" in levels(examine(run))["warning"]


def test_a_driver_that_did_not_give_its_lock_back(run):
    (run / LOCK).write_text("process 77 on elsewhere, boot 0000")
    (finding,) = examine(run)
    assert finding.level == "note" and "process 77 on elsewhere" in finding.what


def test_formats(run):
    data = yaml.safe_load((run / FILE).read_text())
    for name in ("id", "engine", "proxy", "packing"):
        del data[name]
    (run / FILE).write_text(yaml.safe_dump({**data, "version": 1}))
    (finding,) = [finding for finding in examine(run) if finding.where == FILE]
    assert finding.level == "note" and f"of format 1; this nas writes format {FORMAT}" in finding.what


def test_versions_are_compared(run):
    settings = Settings.load(run)
    changed(settings, versions={"torch": "1.0.0"}).save(run)
    (finding,) = examine(run)
    assert finding.level == "note" and "begun with torch 1.0.0 (now " in finding.what
