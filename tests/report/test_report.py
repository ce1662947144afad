"""The report: one page from a run alone, whatever state the run is in and whatever its texts hold."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re

import pytest
from helpers_report import (
    HOSTILE,
    Page,
    confirmed_run,
    data_of,
    epochs_to,
    hostile_run,
    make_run,
    make_trial,
    searched_run,
)
from helpers_reported import EXACT
from helpers_reported import run as run  # a fixture

from nas.analysis.accounting import account
from nas.errors import NasError
from nas.networks import zoo
from nas.networks.describe import describe
from nas.report import figures, write
from nas.report.run import summary as answer
from nas.report.run.analysis_sections import ANALYSIS
from nas.report.run.formats import as_markdown
from nas.report.run.page import page
from nas.utils.text import format_count, format_percent, format_seconds


@pytest.fixture(scope="module")
def html(run) -> str:
    return page(run)


# The page


def test_structure(run, html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert page.find("html")[0][0]["lang"] == "en"
    assert page.find("title")[0][1] == f"{run.config['name']}: architecture search"
    assert [text for _, text in page.find("h1")] == [run.config["name"]]
    headings = [text for _, text in page.find("h2")]
    assert headings == ["Accuracy against cost", "Uncertainty", "Pareto front", "Learning curves",
                        "Hypervolume over trials", *(title for _, title, _ in ANALYSIS if title != "Narrower search space"),
                        "Early stopping", "Failures", "Training time", "All trials", "Reproducibility"]  # fmt: skip
    charts = page.find("div", role="img")
    assert [attributes["id"] for attributes, _ in charts] == [figure["id"] for figure in data_of(page)]
    assert all(len(attributes["aria-label"]) > 20 for attributes, _ in charts)
    assert len(page.find("table")) == len(page.find("caption"))
    assert all(attributes.get("scope") in ("col", "row") for attributes, _ in page.find("th"))
    assert html.count("plotly.js v") == 1


def test_the_front_table_is_the_front(run, html):
    rows = Page(html).rows("Pareto-optimal networks")
    for row, trial in zip(rows[1:], run.front(), strict=True):
        costs = [format_count(n) for n in (trial.cost.params, trial.cost.macs, trial.cost.activations)]
        assert row[:6] == [
            trial.label or str(trial.number),
            format_percent(trial.accuracy),
            *costs,
            describe(trial.architecture),
        ]
    assert "nas export results/resnext-cifar10 --trial" in Page(html).words


def run_data(page: Page) -> dict:
    return json.loads(page.find("script", id="run")[0][1])


def test_the_scripts_are_given_every_trial(run, html):
    data = run_data(Page(html))
    columns = data["columns"]
    assert columns["number"] == [trial.number for trial in run.trials]
    assert [data["states"][place] for place in columns["state"]] == [trial.state for trial in run.trials]
    assert columns["accuracy"] == [trial.accuracy for trial in run.trials]
    for cost in EXACT:
        assert columns[cost] == [getattr(trial.cost, cost) for trial in run.trials]
    assert [run.trials[place] for place in data["front"]] == run.front()
    assert run.trials[data["knee"]] in run.front()
    for trial, place, curve in zip(run.trials, columns["net"], columns["curve"], strict=True):
        net = data["nets"][place]
        assert (net["digest"], net["about"]) == (trial.digest, describe(trial.architecture))
        assert [sum(counts) for counts in zip(*(piece[-3:] for piece in net["pieces"]), strict=True)] == [
            trial.cost.params,
            trial.cost.macs,
            trial.cost.activations,
        ]
        assert curve == [[epoch.number, round(epoch.accuracy, 4)] for epoch in trial.epochs]
    assert len(data["nets"]) == len({trial.digest for trial in run.trials})


def test_long_curves_are_thinned_and_keep_their_end(run):
    long = dataclasses.replace(run.trials[0], epochs=epochs_to(0.9, 301))
    data = run_data(Page(page(dataclasses.replace(run, trials=(long,)))))
    curve = data["columns"]["curve"][0]
    assert 30 < len(curve) <= 60
    assert curve[-1] == [301, 0.9]


def test_budgets_in_words_are_the_best_within_them(run):
    for limit, trial in answer.within_budgets(run):
        assert trial == run.best(max_params=limit)
    rows = Page(page(run)).rows("The most accurate network within some budgets")
    assert [row[1] for row in rows[1:]] == [trial.name for _, trial in answer.within_budgets(run)]


def test_the_answer_comes_first(run, html):
    words = Page(html).words
    assert "resnext was searched on cifar10 (45,000 training and 5,000 validation images" in words
    assert (
        f"Done: 60 trials trained ({run.count('complete')} to the end, {run.count('stopped')} stopped early)" in words
    )
    for state, said in (("failed", "failed"), ("rejected", "rejected for"), ("duplicate", "duplicates of")):
        assert f"{run.count(state)} {said}" in words
    best = max(run.complete(), key=lambda trial: trial.accuracy)
    assert f"{best.name}: {format_percent(best.accuracy)} %" in words
    assert "validation accuracy after proxy training of 10 epochs" in words
    assert words.count("what the ResNet paper calls FLOPs") == 1
    assert html.index("Best trade-off") < html.index("<h2>Accuracy against cost")


def test_time_is_accounted_for(run, html):
    rows = {row[0]: row for row in Page(html).rows("Worker time")}
    assert rows["all"][1:4] == [
        "62",
        f"{sum(len(t.epochs) for t in run.trials)}",
        format_seconds(sum(t.seconds for t in run.trials)),
    ]
    assert Page(html).rows("Sessions")[1] == [
        "1",
        "2027-01-15 08:00 UTC",
        "4",
        "7.0 s",
        "13 min 20 s",
        "48 min 20 s",
        "91%",
    ]


def test_the_time_of_a_confirmation_is_accounted_for():
    run = confirmed_run()
    again = [repeat.seconds for trial in run.trials for repeat in trial.repeats]
    trained = sum(trial.seconds for trial in run.trials)
    found = Page(page(run))
    rows = {row[0]: row for row in found.rows("Worker time")}
    assert rows["further seeds"][1:4] == [str(len(again)), "–", format_seconds(sum(again))]
    assert rows["the search"][1:4] == ["62", str(sum(len(t.epochs) for t in run.trials)), format_seconds(trained)]
    assert rows["all"][3] == format_seconds(trained + sum(again))
    bars = {name: x for bar in figures.time_spent(run).data for name, x in zip(bar.y, bar.x, strict=True)}
    assert bars["further seeds"] * 60 == pytest.approx(sum(again))
    assert account(run).unaccounted is account(run.as_searched()).unaccounted is False
    assert f"Of {format_seconds(account(run).seconds)} of worker time" in found.words


def test_provenance_is_there(run, html):
    words = Page(html).words
    for fact in (
        run.config["command"],
        run.config["dataset"]["fingerprint"],
        "bfloat16",
        "2.9.0",
        "tpe",
        "at most 5.000 M",
    ):
        assert fact in words


def test_settings_are_written_without_the_tails_of_floats(run):
    recipe = {**run.config["recipe"], "warmup_epochs": 0.1 * 3}
    odd = dataclasses.replace(run, config={**run.config, "recipe": recipe})
    for text in (Page(page(odd)).words, as_markdown(odd)):
        assert "0.3" in text
        assert "0.3000" not in text


def test_an_empty_run_says_so_and_draws_nothing():
    page_ = Page(page(make_run([])))
    assert "No trial has been trained to the end yet" in page_.words
    assert "Not finished: 0 of 60 trials trained" in page_.words
    assert not page_.find("script")
    assert not page_.find("div", role="img")


def test_a_run_that_is_going_on(run):
    going = dataclasses.replace(run, active=True, trials=run.trials[:12])
    last = make_trial(99, "running", run.trials[5].architecture, 0.9)
    waiting = make_trial(-3, "running", zoo.get("resnet32"), 0.9, label="resnet32")
    words = Page(
        page(dataclasses.replace(going, trials=(*going.trials, last, dataclasses.replace(waiting, epochs=()))))
    ).words
    assert "Still going:" in words
    assert "1 in training" in words
    assert "Baselines not trained yet: resnet32." in words


def test_a_run_that_died_says_how_to_go_on(run):
    died = dataclasses.replace(run, trials=run.trials[:12], sessions=())
    words = Page(page(died)).words
    assert "no process is working on it" in words
    assert "nas resume results/resnext-cifar10" in words


def test_a_run_of_stopped_trials_alone(run):
    stopped = tuple(trial for trial in run.trials if trial.state == "stopped")
    page_ = Page(page(dataclasses.replace(run, trials=stopped)))
    assert "No trial has been trained to the end yet" in page_.words
    assert [figure["id"] for figure in data_of(page_)] == ["curves", "time-spent"]


def test_failures_are_grouped_by_reason():
    network_ = zoo.get("resnet20")
    failed = [
        make_trial(k, "failed", network_, 0.5, reason="loss is NaN" if k < 3 else "out of memory") for k in range(4)
    ]
    page_ = Page(page(make_run(failed)))
    assert page_.rows("Failed trials")[1:] == [["3", "0, 1, 2", "–", "loss is NaN"], ["1", "3", "–", "out of memory"]]


@pytest.mark.parametrize("names", [("accuracy", "params"), ("accuracy", "macs"), ("accuracy", "activations", "params")])
def test_other_objectives(names):
    run = searched_run(objectives=list(names), reference=[0.1, *[1e9] * (len(names) - 1)])
    trials = [
        dataclasses.replace(t, values=t.values and (t.accuracy, *(float(getattr(t.cost, name)) for name in names[1:])))
        for t in run.trials
    ]
    page_ = Page(page(dataclasses.replace(run, trials=tuple(trials))))
    chosen = [name for name, text in page_.find("option") if "selected" in name and name["value"] in figures.COSTS]
    assert [option["value"] for option in chosen] == [names[1], names[1]]  # of the chart and of the budget


def test_hostile_texts_stay_texts():
    run = hostile_run()
    page_ = Page(page(run))
    assert len(page_.find("script")) == 4
    assert not page_.find("img")
    assert not [name for _, attributes in page_.elements for name in attributes if name.startswith("on")]
    assert [text for _, text in page_.find("h1")] == [HOSTILE]
    assert page_.words.count(HOSTILE) > 20
    for figure in data_of(page_):  # Plotly reads a little HTML in its texts, links among it
        for trace in figure["data"]:
            for text in [
                trace["name"],
                *trace.get("hovertext", []),
                *trace.get("text", []),
                *trace.get("customdata", []),
            ]:
                assert not re.search(r"<(?!/?b>|br>)", str(text))


def test_nothing_is_fetched(html):
    page_ = Page(html)
    for _, attributes in page_.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    style = page_.find("style")[0][1]
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_pages_own_scripts_may_run(html):
    page_ = Page(html)
    policy = next(attributes["content"] for attributes, _ in page_.find("meta") if "http-equiv" in attributes)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    scripts = [text for attributes, text in page_.find("script") if attributes.get("type") != "application/json"]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts]
    assert rules["script-src"].split() == hashes


def test_size_of_200_trials(tmp_path):
    path = write(searched_run(200), tmp_path / "page.html")
    assert path.stat().st_size < 6_000_000 + 200 * 1000


def test_write(run, tmp_path):
    here = dataclasses.replace(run, path=tmp_path)
    assert write(here) == tmp_path / "report.html"
    other = tmp_path / "a" / "page.html"
    assert write(here, other) == other
    assert other.read_text(encoding="utf-8") == (tmp_path / "report.html").read_text(encoding="utf-8") == page(here)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "page.html", "report.html"]


def test_a_page_that_cannot_be_written(run, tmp_path):
    with pytest.raises(NasError, match="can't be written"):
        write(run, tmp_path)  # a folder


def test_imports_are_light(python):
    code = "import sys, nas.report, nas.report.figures, nas.utils.text; print([m for m in ('torch', 'ray', 'plotly') if m in sys.modules])"
    assert python(code).strip() == "[]"
