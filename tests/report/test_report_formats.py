"""A run as CSV, JSON, Markdown and images: they say what `nas front` says, to the digit, and run nothing in a spreadsheet."""

from __future__ import annotations

import csv
import dataclasses
import gc
import io
import json
from pathlib import Path

import pytest
from browsing import CHROMIUM
from helpers_analysis import lawful_run
from helpers_cli import output, refusal
from helpers_report import HOSTILE, hostile_run
from make_run import make_run

from nas.report.run import formats, tables
from nas.runs.run import load_run
from nas.utils.text import format_count, format_percent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "made", trials=8, fails=("3",))


def test_csv_is_what_front_says(folder, tmp_path):
    output("report", folder, "--format", "csv", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.csv", "trials.csv"]
    assert (tmp_path / "front.csv").read_text() == output("front", folder, "--csv")
    run = load_run(folder)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_text())))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in run.trials]
    for row, trial in zip(rows, run.trials, strict=True):
        assert row["accuracy"] == ("" if trial.accuracy is None else repr(trial.accuracy))
        assert int(row["macs"]) == trial.cost.macs
        assert row["state"] == trial.state
        for key, value in trial.choices.items():
            assert row[key] == str(value)


def test_json_is_what_front_says(folder):
    path = Path(output("report", folder, "--format", "json").strip())
    data = json.loads((Path.cwd() / path).read_text())
    front = json.loads(output("front", folder, "--json"))
    assert {key: data[key] for key in front} == front
    run = load_run(folder)
    assert len(data["all_trials"]) == len(run.trials)
    assert data["all_trials"][1]["curve"] == [epoch.accuracy for epoch in run.trials[1].epochs]
    assert data["config"]["dataset"]["fingerprint"] == run.config["dataset"]["fingerprint"]


def test_markdown_is_what_front_says(folder, tmp_path):
    output("report", folder, "--format", "md", "--out", tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    for trial in load_run(folder).front():
        costs = " | ".join(format_count(getattr(trial.cost, name)) for name in ("params", "macs", "activations"))
        assert f"| {format_percent(trial.accuracy)} | {costs} |" in text
    assert "## Reproducibility" in text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_is_a_formula(text):
    rows = list(csv.reader(io.StringIO(tables.to_csv([{"a": text, "b": -1.5, "c": "plain = 3"}]), newline="")))
    shown = text.replace("\r", "\n")
    assert rows[1] == [f"'{shown}", "-1.5", "plain = 3"]


def test_hostile_texts_stay_texts():
    run = hostile_run()
    text = formats.as_markdown(run)
    assert "<script" not in text
    assert "<img" not in text
    assert json.loads(formats.as_json(run).encode("utf-8", "replace"))["run"] == HOSTILE
    label = dataclasses.replace(run.trials[0], label="a|b`c](x)")
    assert "a\\|b\\`c\\](x)" in formats.as_markdown(dataclasses.replace(run, trials=(label, *run.trials[1:])))


@pytest.mark.parametrize("count", [0, 1])
def test_runs_without_a_front(count, tmp_path):
    run = dataclasses.replace(lawful_run(count), path=tmp_path)
    for kind in ("csv", "json", "md"):
        for path in formats.write_as(run, kind):
            assert path.is_file()


def test_wrong_options_are_refused(folder, tmp_path):
    assert "did you mean 'edf'" in refusal("report", folder, "--format", "png", "--figure", "edff")
    assert "goes with --format png or svg" in refusal("report", folder, "--figure", "edf")
    assert "goes with --format png or svg" in refusal("report", folder, "--format", "csv", "--figure", "edf")
    assert "a folder" in refusal("report", folder, "--format", "json", "--out", tmp_path)
    (tmp_path / "file").touch()
    assert "writes several" in refusal("report", folder, "--format", "csv", "--out", tmp_path / "file")
    assert "--open" in refusal("report", folder, "--format", "csv", "--open")


def test_a_missing_kaleido_is_said(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    assert "pip install 'nas[images]'" in refusal("report", folder, "--format", "png", "--figure", "edf")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("kind", formats.IMAGES)
def test_images(folder, tmp_path, kind):
    pytest.importorskip("kaleido")
    if not CHROMIUM.is_file():
        pytest.skip(f"images need {CHROMIUM} (Debian's package chromium)")
    path = tmp_path / f"edf.{kind}"
    output("report", folder, "--format", kind, "--figure", "accuracy_params", "--out", path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<svg")
    if kind == "png":
        from PIL import Image

        with Image.open(path) as image:
            assert image.size == (formats.WIDTH * formats.SCALE, formats.HEIGHT * formats.SCALE)


def test_the_collector_of_garbage_rests_for_the_command_alone(folder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(formats, "write_as", lambda *_: seen.append(gc.isenabled()) or [])
    output("report", folder, "--format", "md", "--out", tmp_path / "run.md")
    assert seen == [False]
    refusal("report", folder, "--figure", "edf")
    assert gc.isenabled()
