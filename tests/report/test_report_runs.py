"""Several runs on one page: what is drawn is theirs, and what can't be compared is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from browsing import CHARTS, NARROW, WIDE
from click.testing import CliRunner
from helpers_report import HOSTILE, Page, data_of, make_run, searched_run
from make_run import make_run as make_folder

from nas.cli.main import cli
from nas.report.several import page as runs
from nas.utils.text import format_percent


@pytest.fixture(scope="module")
def pair():
    first = searched_run(40, seed=1, name="tpe")
    second = searched_run(30, seed=2, name="random", sampler="random", baselines=("resnet20",))
    return [first, second]


@pytest.fixture(scope="module")
def html(pair) -> str:
    return runs.page(pair)


def test_points_and_staircases_are_the_runs(pair, html):
    page = Page(html)
    charts = {figure["id"]: figure for figure in data_of(page)}
    assert list(charts) == ["fronts-params", "fronts-macs", "progress-trials", "progress-hours"]
    for run in pair:
        traces = [trace for trace in charts["fronts-macs"]["data"] if trace["name"] == run.config["name"]]
        points = [pair for trace in traces[:2] for pair in zip(trace["x"], trace["y"], strict=True)]
        assert sorted(points) == sorted((trial.cost.macs, trial.accuracy) for trial in run.complete())
        for x, y in zip(traces[2]["x"], traces[2]["y"], strict=True):
            assert y == run.best(max_macs=x).accuracy


def test_progress_ends_at_the_hypervolume_from_the_common_reference(pair):
    from nas.pareto.volume import hypervolume

    named = runs.names(pair)
    corner = runs.reference(pair, ["params", "macs"])
    assert corner == [0.1, 2e7, 3e9]
    for one, found in zip(named, runs.progress(named), strict=True):
        values = [(t.accuracy, np.log10(t.cost.params), np.log10(t.cost.macs)) for t in one.run.complete()]
        exact = hypervolume(values, [0.1, *np.log10(corner[1:])], ["maximize", "minimize", "minimize"])
        assert found.volume[-1] == pytest.approx(exact)
        assert (np.diff(found.hours) >= 0).all()


def test_hours_count_the_trials_that_were_stopped_too(pair):
    run = pair[0]
    found = runs.progress(runs.names([run]))[0]
    asked = run.asked()
    last = max(place for place, trial in enumerate(asked) if trial.values is not None)
    assert found.hours[-1] == pytest.approx(sum(trial.seconds for trial in asked[: last + 1]) / 3600)
    assert found.hours[-1] > sum(t.seconds for t in run.complete()) / 3600


def test_the_best_within_each_budget(pair, html):
    rows = Page(html).rows("The most accurate network of each run within a budget")
    assert rows[0] == ["At most", "tpe", "random"]
    last = [run.best() for run in pair]
    for cell, trial in zip(rows[-1][1:], last, strict=True):
        assert cell.startswith(f"{format_percent(trial.accuracy)} ±")
        assert trial.name in cell
        assert cell.endswith("◀") is (trial.accuracy == max(one.accuracy for one in last))


def test_settings_that_differ_are_listed_and_those_alone(html):
    rows = {row[0]: row[1:] for row in Page(html).rows("Settings that differ between")}
    assert rows["sampler"] == ["tpe", "random"]
    assert "recipe.epochs" not in rows


def test_what_cannot_be_compared_is_said(pair):
    alike = runs.names(pair)
    assert runs.warnings(alike) == []
    assert "simply be compared" not in Page(runs.page(pair)).words
    for key, value, said in (
        ("dataset", {**pair[1].config["dataset"], "fingerprint": "f" * 64}, "different images"),
        ("dataset", {**pair[1].config["dataset"], "validation_images": 99}, "different validation images"),
        ("seed", 7, "different validation images"),
        ("recipe", {**pair[1].config["recipe"], "epochs": 99}, "different recipes"),
        ("proxy", {"width": 0.5}, "different proxies"),
    ):
        other = dataclasses.replace(pair[1], config={**pair[1].config, key: value})
        (warning,) = runs.warnings(runs.names([pair[0], other]))
        assert said in warning
        assert warning.endswith("tpe | random.")
        assert warning in Page(runs.page([pair[0], other])).words


def test_networks_that_both_trained(pair):
    trial = pair[0].best()
    again = dataclasses.replace(trial, number=500, accuracy=trial.accuracy - 0.01)
    other = dataclasses.replace(pair[1], trials=(*pair[1].trials, again))
    assert "networks were trained by more than one run" in Page(runs.page([pair[0], other])).words
    searched = tuple(one for one in pair[1].trials if not one.label)
    words = Page(runs.page([pair[0], dataclasses.replace(pair[1], trials=(*searched, again))])).words
    assert "1 network was trained by more than one run; in %. The accuracies differ by 1.00 points." in words
    assert format_percent(again.accuracy) in words


def test_runs_of_one_name_empty_runs_and_hostile_ones(pair):
    assert [one.name for one in runs.names([pair[0], pair[0], pair[0]])] == ["tpe", "tpe (2)", "tpe (3)"]
    empty = Page(runs.page([make_run([]), make_run([])]))
    assert not data_of(empty) if empty.find("script") else True
    hostile = Page(runs.page([searched_run(10, name=HOSTILE), searched_run(10, name=HOSTILE, sampler=HOSTILE)]))
    assert not hostile.find("img")
    assert len(hostile.find("script")) == 3
    assert runs.page([pair[0], make_run([])])


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = make_folder(tmp_path / "a", told=5), make_folder(tmp_path / "b", told=5, seed=3)
    out = tmp_path / "both.html"
    done = CliRunner().invoke(cli, ["report", str(first), str(second), "--out", str(out)], standalone_mode=False)
    assert done.exit_code == 0, done.output
    assert "2 runs compared" in out.read_text(encoding="utf-8")
    twice = CliRunner().invoke(cli, ["report", str(first), str(first)])
    assert twice.exit_code != 0


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [pytest.param(WIDE, marks=pytest.mark.slow), NARROW], ids=["1280", "390"])
def test_in_a_browser(open_page, html, tmp_path, viewport):
    path = tmp_path / "both.html"
    path.write_text(html, encoding="utf-8")
    page = open_page(path.as_uri(), viewport)
    page.wait_for_function(CHARTS)
    assert page.locator(".chart").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
