"""Every figure of a run, from every kind of run: it is made, it says its n, and no text of the user's becomes a tag."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from helpers_analysis import lawful_run
from helpers_report import HOSTILE, hostile_run, make_run, searched_run

import nas.report
from nas.analysis.rungs import rung_correlation
from nas.analysis.sample import sample
from nas.errors import UsageError
from nas.report import figures
from nas.report.figures import labels
from nas.report.figures.trials import PLOT
from nas.report.html.theme import LIGHT


def worth(choices):
    return 0.03 * (choices["block"] == "bottleneck") - 0.05 * (choices["shortcut"] == "projection")


RUNS = {
    "none": lambda: make_run([]),
    "one": lambda: lawful_run(1),
    "few": lambda: lawful_run(3),
    "some": lambda: lawful_run(60, worth=worth, stopped=7),
    "dead": lambda: dataclasses.replace(searched_run(30), sessions=()),
    "going": lambda: lawful_run(45, active=True),
    "stopped": lambda: dataclasses.replace(
        run := searched_run(30), trials=tuple(t for t in run.trials if t.state == "stopped")
    ),
    "hostile": lambda: hostile_run(),
}


@pytest.fixture(scope="module")
def runs():
    return {name: make() for name, make in RUNS.items()}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("name", figures.FIGURES)
def test_contract(runs, kind, name):
    figure = figures.FIGURES[name](runs[kind])
    data = json.loads(figure.to_json())
    assert data["data"] or data["layout"]["annotations"]
    for trace in data["data"]:
        assert trace["meta"] in LIGHT  # which the page paints it by
    assert not re.search(r"<(?!/?b>|br>)", json.dumps(data).replace("<extra></extra>", ""))
    title = data["layout"].get("title", {}).get("text", "")
    if data["data"] and not name.startswith(("accuracy", "learning")) and name != "hypervolume":
        assert re.search(r"\d", title), "no n in the title"


@pytest.fixture(scope="module")
def large():
    return lawful_run(10_000, worth=worth)


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.FIGURES)
def test_ten_thousand_trials(name, large):
    text = figures.FIGURES[name](large).to_json()
    assert len(text) < 10_000 * 350


def test_figures_are_reached_by_name():
    for name in ("accuracy_against", "learning_curves", "hypervolume", "hypervolume_over_time", "importance", "edf", "marginals",
                 "pairs", "parallel_coordinates", "rung_correlation", "time_spent", "refinement"):  # fmt: skip
        assert callable(getattr(nas.report.figures, name))


def test_an_edf_by_a_knob_has_a_curve_for_each_value():
    run = lawful_run(90, worth=worth)
    curves = [trace for trace in figures.edf(run, by="shortcut").data if trace.name and trace.name != "band"]
    counts = {
        value: sum(t.choices["shortcut"] == value for t in run.trials)
        for value in ("avg_pool", "projection", "zero_pad")
    }
    assert len({trace.line.dash for trace in curves}) == 3
    for trace, (value, count) in zip(curves, counts.items(), strict=True):
        assert trace.name.startswith(f"shortcut {value} (n = ")
        assert int(re.search(r"n = (\d+)", trace.name)[1]) <= count
    with pytest.raises(UsageError, match="did you mean 'shortcut'"):
        figures.edf(run, by="shortcuts")


def test_marginals_show_every_value_with_its_shares():
    run = lawful_run(120, worth=worth)
    found = sample(run)
    ring = next(trace for trace in figures.marginals(run).data if trace.name == "share of all trials")
    assert len(ring.x) == sum(len(factor.values) for factor in found.knobs.values())
    assert any("projection" in text and "of 120 trials" in text for text in ring.hovertext)
    worse = next(trace for trace in figures.marginals(run).data if trace.name == "near the front: worse")
    assert any("projection" in text for text in worse.hovertext)


def test_pairs_say_the_n_of_each_cell():
    run = lawful_run(80)
    heat = figures.pairs(run, "block", "shortcut").data[0]
    counts = [int(n) for row in heat.text for cell in row for n in re.findall(r"n = (\d+)", cell)]
    assert sum(counts) == 80
    with pytest.raises(UsageError, match="no knob 'blok'"):
        figures.pairs(run, "blok")


def test_lines_of_the_front_are_all_drawn():
    run = lawful_run(70)
    strong = next(trace for trace in figures.parallel_coordinates(run).data if trace.name == "front")
    assert strong.x.count(None) if isinstance(strong.x, list) else sum(x is None for x in strong.x) == len(run.front())


def test_the_interval_of_a_single_early_epoch_is_seen():
    run = lawful_run(30, noise=0.02, epochs=2)
    (rung,) = rung_correlation(run).rungs
    figure = figures.rung_correlation(run)
    drawn = [trace for trace in figure.data if trace.name != "band"]
    assert all(figure.layout.xaxis.range[0] < trace.x[0] < figure.layout.xaxis.range[1] - 0.01 for trace in drawn)
    for trace, (value, low, high) in zip(drawn, (rung.spearman, rung.kendall), strict=True):
        assert trace.error_y.array[0] == pytest.approx(high - value)
        assert trace.error_y.arrayminus[0] == pytest.approx(value - low)


def test_a_short_search_is_told_in_minutes():
    run = lawful_run(30)
    figure = figures.hypervolume_over_time(run)
    assert figure.layout.xaxis.title.text == "worker-minutes of training"
    assert figure.data[0].x[-1] == pytest.approx(sum(trial.seconds for trial in run.trials) / 60)
    long = tuple(dataclasses.replace(trial, seconds=3600.0) for trial in run.trials)
    figure = figures.hypervolume_over_time(dataclasses.replace(run, trials=long))
    assert figure.layout.xaxis.title.text == "worker-hours of training"
    assert figure.data[0].x[-1] == pytest.approx(30)


def test_time_spent_is_all_of_it():
    run = lawful_run(25, stopped=3)
    bars = figures.time_spent(run).data
    minutes = {name: value for bar in bars for name, value in zip(bar.y, bar.x, strict=True)}
    assert minutes["complete"] * 60 == pytest.approx(sum(t.seconds for t in run.trials if t.state == "complete"))
    assert minutes["stopped"] * 60 == pytest.approx(6)


def test_time_spent_of_trainings_that_took_no_time_is_said_to_be_unknown():
    run = lawful_run(3)
    still = [dataclasses.replace(epoch, seconds=0.0) for epoch in run.trials[0].epochs]
    trials = [dataclasses.replace(trial, seconds=0.0, epochs=tuple(still)) for trial in run.trials]
    figure = figures.time_spent(dataclasses.replace(run, trials=tuple(trials), sessions=()))
    assert not figure.data and "no time was measured" in figure.to_json()


def test_hostile_names_of_knobs_stay_text():
    run = lawful_run(60)
    trials = [dataclasses.replace(t, choices={**t.choices, HOSTILE: k % 3}) for k, t in enumerate(run.trials)]
    hostile = dataclasses.replace(run, trials=tuple(trials))
    for name in ("importance", "marginals", "parallel-coordinates"):
        assert "<script" not in figures.FIGURES[name](hostile).to_json()
    assert "<img" not in figures.pairs(hostile, HOSTILE, "block").to_json()


def test_labels_stand_neither_on_one_another_nor_on_a_staircase():
    names = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
    figure = figures.accuracy_against(searched_run(60, baselines=names), "params")
    trace = next(trace for trace in figure.data if trace.name == "baseline")
    (left, right), (bottom, top) = figure.layout.xaxis.range, figure.layout.yaxis.range
    wide, high = PLOT
    places = [
        (wide * (math.log10(x) - left) / (right - left), high * (top - y) / (top - bottom))
        for x, y in zip(trace.x, trace.y, strict=True)
    ]
    boxes = [labels.box(at, side, 60, 13) for at, side in zip(places, trace.textposition, strict=True)]
    for k, (a, b, c, d) in enumerate(boxes):
        assert all(not (a < g and e < c and b < h and f < d) for e, f, g, h in boxes[:k])


def test_a_label_avoids_what_is_there():
    size = (400.0, 300.0)
    assert labels.sides([(100, 100)], ["net"], [], size) == ["bottom right"]
    assert labels.sides([(350, 100)], ["net"], [], size) == ["bottom left"]
    assert labels.sides([(100, 295)], ["net"], [], size) == ["top right"]  # below would be outside
    line = labels.along([(0, 115), (200, 115)])
    assert labels.sides([(100, 100)], ["net"], line, size) == ["top right"]
    assert labels.sides([(100, 100), (104, 102)], ["one", "two"], [], size) == ["bottom right", "top right"]
    crowd = labels.sides([(200, 150)] * 9, ["a network"] * 9, [], size)
    assert len(set(crowd[:6])) == 6  # beside, above and below, on either side
    assert crowd[8] == ""
