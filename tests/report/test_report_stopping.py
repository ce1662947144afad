"""The report's section on early stopping, and the options of the command line that belong to it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from helpers_cli import nas_, output, refusal
from helpers_report import Page, searched_run
from helpers_stopping import searched
from make_run import make_run

from nas.report.run.page import page
from nas.report.run.stopping_section import calibration, seconds_saved, stopping
from nas.runs.run import Run, load_run
from nas.runs.settings import Settings
from nas.stopping.curves import Decision

HOSTILE = "</table><script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped some of its 60 trials, with half of them in the share that always runs."""
    made = tmp_path_factory.mktemp("runs") / "cut"
    searched(made, "pareto:least=6,epsilon=0.4,share=0.5,quota=0", trials=60, baselines=("resnet20",))
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def rows_of(html: str, caption: str) -> list[list[str]]:
    table = next(own for own in re.findall(r"<table>.*?</table>", html) if caption in own)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]


def test_the_section_says_what_was_stopped_why_and_what_it_saved(run):
    section = "".join(stopping(run))
    stopped = [trial for trial in run.trials if trial.state == "stopped"]
    assert stopped and section in page(run)
    saved = sum(3 - len(trial.epochs) for trial in stopped)
    spent = sum(len(trial.epochs) for trial in run.trials)
    assert f"{len(stopped)} of 61 trials were stopped. That saved {saved} of {saved + spent} epochs" in words(section)
    assert "predicted as 0.4 or less" in words(section) and "50% of the trials were never stopped" in words(section)
    rows = rows_of(section, "Each stopped trial")
    assert [row[0] for row in rows[1:]] == [str(trial.number) for trial in stopped]
    for row, trial in zip(rows[1:], stopped, strict=True):
        decision = trial.decisions[-1]
        assert row[1] == str(decision.epoch) == str(len(trial.epochs))
        assert float(row[3]) == pytest.approx(decision.probability, rel=0.06)
        assert row[4] == f"{100 * decision.bar:.2f}"
        assert "P(final accuracy &gt;" in row[-1]
    by_epoch = rows_of(section, "by the epoch")[1:]
    assert sum(int(row[1]) for row in by_epoch) == len(stopped) and sum(int(row[2]) for row in by_epoch) == saved
    assert sum(seconds_saved(trial, 3) for trial in stopped) == pytest.approx(0.5 * saved)


def test_calibration_is_of_trials_that_were_to_run_anyway(run):
    found = list(calibration(run))
    chosen = {
        t.number
        for t in run.trials
        if t.label or (t.decisions and Settings.load(run.path).stopping.always(0, str(t.number)))
    }
    expected = [
        own for t in run.trials if t.number in chosen for own in t.decisions if own.bar is not None and own.probability is not None
    ]  # fmt: skip
    assert [decision for decision, _ in found] == expected and len(found) > 20
    rows = rows_of("".join(stopping(run)), "Calibration")[1:]
    assert sum(int(row[1]) for row in rows) == len(found)
    came_true = sum(true for _, true in found)
    assert sum(int(row[1]) * int(row[3].rstrip("%")) / 100 for row in rows) == pytest.approx(came_true, abs=1)


def test_nothing_is_said_where_nothing_was_stopped_unless_asked(tmp_path):
    made = load_run(make_run(tmp_path / "whole", trials=4))
    assert stopping(made) == [] and "Early stopping" not in page(made)
    asked = words("".join(stopping(made, asked=True)))
    assert "Every trial was to be trained in full" in asked and "Nothing was stopped." in asked
    assert "Early stopping" in page(made, stopping=True)


def test_every_text_is_escaped(run):
    decision = Decision(1, True, HOSTILE, 0.1, 0.5)
    trials = [
        dataclasses.replace(t, reason=HOSTILE, decisions=(decision,)) if t.state == "stopped" else t for t in run.trials
    ]
    html = page(dataclasses.replace(run, trials=tuple(trials)))
    assert "alert(1)" in html and HOSTILE not in html and "<script>alert" not in html


@pytest.mark.parametrize(
    ("policy", "said"), [("asha:eta=3", "best 1/3 so far, by accuracy"), ("mo-asha:eta=3", "non-dominated")]
)
def test_other_policies_are_named(tmp_path, policy, said):
    searched(tmp_path / "run", policy, trials=8)
    section = "".join(stopping(load_run(tmp_path / "run")))
    assert said in words(section) and "A(c), %" in section and "Calibration" not in section


def test_the_command_line_says_it_too(folder, tmp_path):
    run = load_run(folder)
    stopped = run.count("stopped")
    assert f"60 of 60 trials trained ({stopped} of them stopped early)" in output("front", folder)
    path = tmp_path / "page.html"
    output("report", folder, "--out", path)
    assert "Early stopping" in path.read_text()
    whole = make_run(tmp_path / "whole", trials=3)
    output("report", whole, "--out", path)
    assert "Early stopping" not in path.read_text()
    output("report", whole, "--out", path, "--stopping-report")
    assert "Early stopping" in path.read_text()
    for more in ((folder,), ("--format", "md")):  # where it would be of no effect
        assert "only for the page of one run" in refusal("report", whole, *more, "--stopping-report")


def test_a_search_keeps_its_policy(tmp_path):
    slip = nas_("search", "--stopping", "paretto", "--out", tmp_path / "no")
    assert slip.exit_code == 2 and "did you mean 'pareto'" in slip.stderr
    assert not (tmp_path / "no").exists()
    space = tmp_path / "space.yaml"
    space.write_text(
        "space: pocket\nstages: 1\nvalues:\n  stem_width: 4\n  block: basic\n  depth: [1, 2]\n  width: [4, 8]\n"
    )
    options = ("--executor", "local", "--max-images", "60", "--epochs", "3", "--trials", "3", "--device", "cpu")
    done = nas_(
        "search", "--space", space, *options, "--stopping", "mo-asha:eta=99", "--out", tmp_path / "run", "--quiet"
    )
    assert done.exit_code == 0, done.output
    settings = Settings.load(tmp_path / "run")
    assert (settings.stopping.name, settings.stopping.eta) == ("mo-asha", 99.0)
    assert nas_("resume", tmp_path / "run", "--trials", "4", "--quiet").exit_code == 0
    again = load_run(tmp_path / "run")
    assert again.config["stopping"] == settings.stopping.to_dict()
    assert again.count("stopped") + again.count("complete") == 4 and again.count("stopped") > 0


def test_of_thousands_that_were_stopped_the_closest_are_listed(monkeypatch):
    run = searched_run(60)
    stopped = [trial for trial in run.trials if trial.state == "stopped"]
    monkeypatch.setattr("nas.report.run.stopping_section.MOST", 5)
    rows = Page(page(run)).rows(f"The 5 of {len(stopped)} stopped trials that came closest")[1:]
    best = sorted(stopped, key=lambda trial: trial.epochs[-1].accuracy)[-5:]
    assert [row[0] for row in rows] == [str(trial.number) for trial in sorted(best, key=lambda trial: trial.number)]
