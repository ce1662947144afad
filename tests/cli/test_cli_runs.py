"""`nas front`, `nas report` and `nas export` as a user meets them, on runs that are done, unfinished and empty."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from helpers_cli import nas_, output, refusal
from make_run import make_run

from nas.networks.architecture import Architecture
from nas.runs.run import load_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with runs: `done`, `unfinished` (with a budget), `empty`."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "done", trials=12, fails=("3",))
    make_run(folder / "unfinished", told=6, running=1, trials=30, max_params=300_000)
    make_run(folder / "empty", told=0, trials=5)
    return folder


# -- front ------------------------------------------------------------------------------------------------------------


def test_front_as_json(runs):
    found = json.loads(output("front", runs / "done", "--json"))
    run = load_run(runs / "done")
    assert [row["trial"] for row in found["front"]] == [trial.number for trial in run.front()]
    assert [row["rank"] for row in found["front"]] == list(range(1, len(run.front()) + 1))
    costs = [row["params"] for row in found["front"]]
    assert costs == sorted(costs)
    assert sum(row["knee"] for row in found["front"]) == 1
    assert found["status"] == "done"
    assert found["trials"]["failed"] == 1
    assert [baseline["label"] for baseline in found["baselines"]] == ["resnet20"]


def test_front_as_csv_is_the_same_front(runs):
    rows = list(csv.DictReader(io.StringIO(output("front", runs / "done", "--csv"))))
    found = json.loads(output("front", runs / "done", "--json"))["front"]
    assert [row["digest"] for row in rows] == [row["digest"] for row in found]
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in found]


def test_front_as_a_table(runs):
    text = output("front", runs / "done")
    rows = json.loads(output("front", runs / "done", "--json"))["front"]
    for row in rows:
        line = next(line for line in text.splitlines() if line.startswith(f"{row['rank']} "))
        assert f"trial {row['trial']} " in line
        assert f"{100 * row['accuracy']:.2f}" in line
        assert row["description"] in line
        assert (" knee " in line) == row["knee"]
    assert "The run is done: 12 of 12 trials trained, 1 failed." in text
    assert "validation split after 3 epochs" in text


def test_front_on_a_narrow_terminal_has_the_descriptions_below(runs):
    result = nas_("front", runs / "done", COLUMNS="80", FORCE_COLOR="1", NO_COLOR="1")
    before, after = result.stdout.split("Description", 1)
    assert "bottleneck" not in before
    assert "bottleneck" in after


def test_front_of_an_unfinished_run_says_so(runs):
    text = output("front", runs / "unfinished")
    assert re.search(
        r"The run is unfinished: 5 of 30 trials trained, \d+ rejected\. `nas resume \S*unfinished` continues", text
    )
    assert json.loads(output("front", runs / "unfinished", "--json"))["status"] == "unfinished"


@pytest.mark.parametrize("flags", [[], ["--json"], ["--csv"]])
def test_front_without_a_complete_trial(runs, flags):
    line = refusal("front", runs / "empty", *flags, code=1)
    assert "no trial is complete yet" in line
    assert "0 of 5 trials trained" in line


def test_a_baseline_on_or_off_the_front_is_named(runs):
    text = output("front", runs / "done")
    on_front = any(trial.label == "resnet20" for trial in load_run(runs / "done").front())
    assert ("Baseline resnet20 is not on the front" in text) == (not on_front)
    assert "resnet20" in text


def test_wrong_runs(runs, tmp_path):
    assert "did you mean 'done'?" in refusal("front", runs / "dnoe")
    assert "runs in " in refusal("front", runs)
    assert "not a run folder" in refusal("front", tmp_path / "nothing")
    assert "choose one" in refusal("front", runs / "done", "--json", "--csv")
    (tmp_path / "run.yaml").write_text("version: 99\n")
    assert "a run of format 99, written by nas unknown" in refusal("front", tmp_path)


# -- report -----------------------------------------------------------------------------------------------------------


def test_report_is_written_and_its_path_printed(runs, tmp_path):
    page = tmp_path / "new" / "page.html"
    path = Path(output("report", runs / "done", "--out", page).strip())
    assert path == page
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    output("report", runs / "unfinished")
    assert (runs / "unfinished" / "report.html").stat().st_size > 0


def test_report_opens_the_browser(runs, tmp_path, monkeypatch):
    import webbrowser

    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or len(opened) == 1)
    page = tmp_path / "page.html"
    output("report", runs / "done", "--out", page, "--open")
    assert opened == [page.as_uri()]
    without = nas_("report", runs / "done", "--out", page, "--open")
    assert without.exit_code == 0
    assert "no browser could be opened" in without.stderr


def test_report_in_a_wrong_place(runs, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in refusal("report", runs / "done", "--out", tmp_path / "file" / "page.html")
    assert "name the file" in refusal("report", runs / "done", "--out", tmp_path)


# -- export -----------------------------------------------------------------------------------------------------------


def test_export_of_the_whole_front_goes_into_the_run(runs):
    paths = [Path(line) for line in output("export", runs / "done").splitlines()]
    front = load_run(runs / "done").front()
    assert [Architecture.from_yaml(path).digest for path in paths] == [trial.digest for trial in front]
    assert {path.parent for path in paths} == {runs / "done" / "front"}


def test_export_of_the_most_accurate(runs, tmp_path):
    paths = [Path(line) for line in output("export", runs / "done", "--top", 2, "--out", tmp_path).splitlines()]
    front = load_run(runs / "done").front()
    best = sorted(front, key=lambda trial: trial.accuracy)[-2:]
    assert {Architecture.from_yaml(path).digest for path in paths} == {trial.digest for trial in best}
    assert paths == sorted(paths)
    everything = output("export", runs / "done", "--top", 999, "--out", tmp_path / "all").splitlines()
    assert len(everything) == len(front)


def test_export_of_single_trials(runs, tmp_path):
    arguments = ["--trial", 3, "--trial", "resnet20", "--trial", "-1", "--format", "json", "--out", tmp_path]
    paths = [Path(line) for line in output("export", runs / "done", *arguments).splitlines()]
    run = load_run(runs / "done")
    assert [Architecture.from_yaml(path).digest for path in paths] == [run.trial(3).digest, run.trial(-1).digest]
    assert all(json.loads(path.read_text())["provenance"]["run"] == "done" for path in paths)


def test_export_says_what_else_lies_there(runs, tmp_path):
    output("export", runs / "done", "--out", tmp_path)
    result = nas_("export", runs / "done", "--top", 1, "--out", tmp_path)
    count = len(load_run(runs / "done").front()) - 1
    assert f"holds {count} other configs, from before" in result.stderr


def test_export_overwrites_only_if_forced(runs, tmp_path):
    (path,) = output("export", runs / "done", "--top", 1, "--out", tmp_path).splitlines()
    Path(path).write_text("mine")
    assert "--force overwrites it" in refusal("export", runs / "done", "--top", 1, "--out", tmp_path)
    assert Path(path).read_text() == "mine"
    output("export", runs / "done", "--top", 1, "--out", tmp_path, "--force")
    assert Architecture.from_yaml(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trial", "99"], "no trial '99'"),
        (["--trial", "resnet21"], "baselines: resnet20"),
        (["--top", "0"], "0 is not in the range"),
        (["--top", "1", "--trial", "1"], "choose one"),
        (["--format", "yml"], "unknown format 'yml' (did you mean 'yaml'?)"),
    ],
)
def test_wrong_exports(runs, tmp_path, arguments, message):
    assert message in refusal("export", runs / "done", "--out", tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


def test_export_to_a_wrong_place(runs, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in refusal("export", runs / "done", "--out", tmp_path / "file")
    assert "no trial is complete yet" in refusal("export", runs / "empty", code=1)
    if Path("/proc/self").exists():
        assert "can't be written to" in refusal("export", runs / "done", "--out", "/proc/self/new")


# -- widths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_tables_keep_to_the_width_of_a_terminal(width, runs):
    arguments = ("resnet18", "resnet50", "resnext101_64x4d", "wrn_28_10")
    for command in (("profile", *arguments), ("front", runs / "done"), ("spaces",), ("spaces", "resnext")):
        result = nas_(*command, COLUMNS=str(width), FORCE_COLOR="1")
        assert result.exit_code == 0
        shown = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
        assert "…" not in shown, "nothing is cut"
        tables = [line for line in shown.splitlines() if re.search(r"\d|─", line)]
        assert max(map(len, tables)) <= width
