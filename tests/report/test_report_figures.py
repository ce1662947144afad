"""Figures of the report: what they draw of a run."""

from __future__ import annotations

import dataclasses

import pytest
from helpers_report import EPOCHS, make_run, make_trial
from helpers_reported import EXACT
from helpers_reported import run as run  # a fixture

from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.describe import describe
from nas.report import figures
from nas.report.figures import trials as trial_figures
from nas.utils.text import format_count, format_percent

# Figures


def shown_in(figure, name: str):
    return next((trace for trace in figure.data if trace.name == name), None)


@pytest.mark.parametrize("cost", EXACT)
def test_every_complete_trial_is_a_point_with_its_own_numbers(run, cost):
    figure = figures.accuracy_against(run, cost)
    points_shown = [
        pair
        for name in ("trial", "front", "baseline")
        for trace in [shown_in(figure, name)]
        for pair in zip(trace.x, trace.y, strict=True)
    ]
    assert sorted(points_shown) == sorted((getattr(trial.cost, cost), trial.accuracy) for trial in run.complete())
    stopped = [trial for trial in run.trials if trial.state == "stopped"]
    assert list(shown_in(figure, "stopped").y) == [trial.epochs[-1].accuracy for trial in stopped]
    assert shown_in(figure, "stopped").marker.opacity < 0.6
    assert figure.layout.xaxis.type == "log"


@pytest.mark.parametrize("cost", EXACT)
def test_the_staircase_is_the_best_accuracy_at_each_cost_or_less(run, cost):
    stairs = shown_in(figures.accuracy_against(run, cost), "best at this cost")
    assert stairs.line.shape == "hv"
    for trial in run.complete():
        here = getattr(trial.cost, cost)
        height = [y for x, y in zip(stairs.x, stairs.y, strict=True) if x <= here][-1]
        assert height == max(other.accuracy for other in run.complete() if getattr(other.cost, cost) <= here)
    assert max(stairs.x) == max(getattr(trial.cost, cost) for trial in run.complete())


def test_the_runs_front_is_marked(run):
    figure = figures.accuracy_against(run, "params")
    front = run.front()
    assert set(shown_in(figure, "front").x) == {trial.cost.params for trial in front if not trial.label}
    baselines = shown_in(figure, "baseline")
    assert list(baselines.text) == [trial.label for trial in run.baselines()]
    filled = [symbol == "diamond" for symbol in baselines.marker.symbol]
    assert filled == [trial in front for trial in run.baselines()]
    assert next(iter(shown_in(figure, "knee").x)) in {trial.cost.params for trial in front}


def test_hover_text_says_the_trial_in_words(run):
    trial = next(trial for trial in run.front() if not trial.label)
    trace = shown_in(figures.accuracy_against(run, "macs"), "front")
    text = trace.hovertext[list(trace.x).index(trial.cost.macs)].replace("<br>", " ")
    assert text.startswith(f"<b>trial {trial.number}</b> {format_percent(trial.accuracy)} % validation accuracy")
    assert f"{format_count(trial.cost.params)} parameters, {format_count(trial.cost.macs)} MACs" in text
    assert describe(trial.architecture) in text
    stopped = next(trial for trial in run.trials if trial.state == "stopped")
    cut = shown_in(figures.accuracy_against(run, "macs"), "stopped").hovertext[0]
    assert f"stopped after epoch {stopped.epochs[-1].number} of {EPOCHS}" in cut


def test_learning_curves_hold_every_epoch(run):
    figure = figures.learning_curves(run)
    drawn = [
        (name, x, y)
        for trace in figure.data
        for name, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
        if x is not None
    ]
    known = [(trial.name, epoch.number, epoch.accuracy) for trial in run.trials for epoch in trial.epochs]
    assert sorted(drawn) == [
        (name, number, pytest.approx(accuracy, abs=1e-6)) for name, number, accuracy in sorted(known)
    ]
    assert len(figure.data) <= 4  # merged: a trace a trial is slow
    front = {trial.name for trial in run.front() if not trial.label}
    assert set(shown_in(figure, "front").customdata) - {None} == front


def test_a_single_point_has_no_axis_below_nothing_and_above_all():
    trial = make_trial(0, "complete", zoo.get("resnet20"), 0.3)
    once = dataclasses.replace(trial, epochs=(dataclasses.replace(trial.epochs[-1], number=1),))
    low, high = figures.learning_curves(make_run([once])).layout.yaxis.range
    assert 0 <= low < trial.accuracy < high <= 1


def test_hypervolume_is_the_runs(run):
    trace = figures.hypervolume(run).data[0]
    history = run.hypervolume_history()
    known = dict(zip(trace.x, trace.y, strict=True))
    told = [
        known[max(x for x in known if x <= count)] for count in range(1, len(history) + 1)
    ]  # a step lasts until the next
    assert told == list(history)
    assert max(known) == len(history)


def test_of_many_curves_some_are_drawn_and_the_legend_says_so(run, monkeypatch):
    monkeypatch.setattr(trial_figures, "MAX_CURVES", 5)
    front = {trial.number for trial in run.front()}
    others = [trial for trial in run.complete() if trial.number not in front and not trial.label]
    trace = shown_in(figures.learning_curves(run), f"trial (5 of {len(others)})")
    drawn = dict.fromkeys(name for name in trace.customdata if name)
    ends = [next(trial.accuracy for trial in others if trial.name == name) for name in drawn]
    assert len(drawn) == 5
    assert ends == sorted(ends)
    assert {ends[0], ends[-1]} == {extreme(trial.accuracy for trial in others) for extreme in (min, max)}


def test_figures_of_an_empty_run_say_so():
    empty = make_run([])
    for figure in (
        figures.accuracy_against(empty, "params"),
        figures.learning_curves(empty),
        figures.hypervolume(empty),
    ):
        assert not figure.data
        assert "yet" in figure.layout.annotations[0].text


def test_an_unknown_cost_is_refused(run):
    with pytest.raises(UsageError, match=r"latency.*params, macs, activations"):
        figures.accuracy_against(run, "latency")
