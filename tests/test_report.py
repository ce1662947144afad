"""The report: one page from a run alone, whatever state the run is in and whatever its texts hold."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures

from nas import zoo
from nas.architecture import Architecture, Stage
from nas.blocks import BRANCHES, HEADS, SHORTCUTS, STEMS
from nas.errors import NasError, UsageError
from nas.network import cost_of
from nas.pareto import objectives
from nas.records import Epoch, State, Trial
from nas.report import answer, figures, write
from nas.report.analysis_sections import ANALYSIS
from nas.report.page import page
from nas.run import Run
from nas.text import describe, format_count, format_percent, format_seconds, points

EPOCHS = 10
RESNET50 = (
    "3×256 (1×64d), 4×512 (1×128d), 6×1024 (1×256d), 3×2048 (1×512d); bottleneck, projection shortcut; imagenet stem 64"
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&%{y}"


def network(rng: random.Random) -> Architecture:
    """A small ResNeXt-like net for 32 x 32 colour images and 10 classes."""
    stem = STEMS["cifar"].make({"width": 16})
    width = rng.choice([16, 24, 32, 48, 64, 96])
    cardinality, group = rng.choice([1, 2, 4, 8]), rng.choice([4, 8, 16])
    shortcut = SHORTCUTS[rng.choice(["projection", "zero_pad", "avg_pool"])]()
    stages = []
    for number in range(3):
        if cardinality == 1:
            branch = BRANCHES["basic"]()
        else:
            branch = BRANCHES["bottleneck"].make({"cardinality": cardinality, "group_width": group * 2**number})
        stages.append(Stage(branch, rng.randint(1, 6), width * 2**number, 2 if number else 1, shortcut))
    return Architecture(stem, tuple(stages), HEADS["linear"].make({"classes": 10}), 32).canonical()


def epochs_to(accuracy: float, number: int) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            k,
            2.0 / k,
            2.1 / k,
            0.1 + (accuracy - 0.1) * (1 - math.exp(-3 * k / number)) / (1 - math.exp(-3)),
            0.1,
            4.0,
            9000.0,
        )
        for k in range(1, number + 1)
    )


def make_trial(
    number: int, state: State, architecture: Architecture, accuracy: float, *, label: str = "", reason: str = ""
) -> Trial:
    cost = cost_of(architecture)
    reached = {"complete": EPOCHS, "stopped": 1 + number % 5, "running": 2}.get(state, 0)
    epochs = epochs_to(accuracy, EPOCHS)[:reached]
    final = epochs[-1].accuracy if state == "complete" else None
    values = None if final is None else (final, float(cost.params), float(cost.macs))
    choices = {"stage1.depth": architecture.stages[0].depth}
    return Trial(
        number=number,
        state=state,
        label=label,
        choices=choices,
        architecture=architecture,
        digest=architecture.digest,
        cost=cost,
        accuracy=final,
        values=values,
        epochs=epochs,
        reason=reason,
        started=1.8e9 + 40 * number,
        seconds=sum(epoch.seconds for epoch in epochs),
    )


def make_run(
    trials: list[Trial], *, active: bool = False, wanted: int = 60, name: str = "resnext-cifar10", **config: object
) -> Run:
    settings = {
        "version": 1,
        "name": name,
        "command": f"nas search --space resnext --dataset cifar10 --trials {wanted}",
        "created": "2027-01-15T08:00:00+00:00",
        "space": {"name": "resnext", "variant": "small", "text": "name: resnext\n"},
        "dataset": {
            "name": "cifar10",
            "source": "a folder",
            "root": None,
            "resolution": 32,
            "channels": 3,
            "classes": [f"class {k}" for k in range(10)],
            "train_images": 45_000,
            "validation_images": 5_000,
            "test_images": 10_000,
            "fingerprint": "0123456789abcdef" * 4,
        },
        "recipe": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 1e-4},
        "objectives": ["accuracy", "params", "macs"],
        "budgets": {"params": [None, 5_000_000.0]},
        "reference": [0.1, 2e7, 3e9],
        "sampler": "tpe",
        "trials": wanted,
        "seed": 0,
        "baselines": [],
        "executor": {"kind": "ray", "workers": 4, "cpus_per_trial": 1.0, "gpus_per_trial": 0.25, "address": None},
        "device": "cuda",
        "precision": "bfloat16",
        "versions": {"nas": "0.1.0", "python": "3.12.1", "torch": "2.9.0"},
        **config,
    }
    session = {
        "begun": 1.8e9,
        "startup_seconds": 7.0,
        "search_seconds": 800.0,
        "training_seconds": 2900.0,
        "workers": 4,
    }
    return Run(
        path=Path("results") / "resnext-cifar10",
        config=settings,
        objectives=objectives(",".join(settings["objectives"])),
        reference=tuple(settings["reference"]),
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        active=active,
        sessions=() if active else (session,),
    )


def searched_run(
    wanted: int = 60, seed: int = 0, *, baselines: tuple[str, ...] = ("resnet20", "resnet56"), **more: object
) -> Run:
    """A done run with trials of every fate; accuracy grows with the logarithm of the multiply-adds, plus noise."""
    rng = random.Random(seed)

    def accuracy(architecture: Architecture) -> float:
        return round(0.99 - 1.2 / math.log10(cost_of(architecture).macs) ** 1.3 + rng.gauss(0, 0.008), 4)

    trials = []
    for position, name in enumerate(baselines, 1):
        architecture = zoo.get(name)
        trials.append(make_trial(-position, "complete", architecture, accuracy(architecture), label=name))
    trained = number = 0
    while trained < wanted:
        state = rng.choices(["complete", "stopped", "failed", "rejected", "duplicate"], [60, 30, 3, 5, 2])[0]
        architecture = network(rng)
        reason = "CUDA out of memory: tried to allocate 2.00 GiB" if state == "failed" else ""
        trials.append(make_trial(number, state, architecture, accuracy(architecture), reason=reason))
        trained += state in ("complete", "stopped")
        number += 1
    return make_run(trials, wanted=wanted, **more)


@pytest.fixture(scope="module")
def run() -> Run:
    return searched_run()


@pytest.fixture(scope="module")
def html(run) -> str:
    return page(run)


class Page(HTMLParser):
    """Elements of a page with their attributes and text; fails on a tag that closes what isn't open."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts[len(self.elements) - 1] = ""
        if tag not in self.VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for index in self._open:
            self.texts[index] += data

    def find(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of all elements of this kind that have these attributes."""
        return [
            (found, self.texts[index])
            for index, (name, found) in enumerate(self.elements)
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    @property
    def words(self) -> str:
        return " ".join(text.replace("\u00a0", " ") for _, text in self.find("main"))

    def rows(self, caption: str) -> list[list[str]]:
        """The cells of the table whose caption begins with these words, its head first."""
        start = next(
            k for k, (tag, _) in enumerate(self.elements) if tag == "caption" and self.texts[k].startswith(caption)
        )
        rows: list[list[str]] = []
        for index in range(start + 1, len(self.elements)):
            tag = self.elements[index][0]
            if tag == "table":
                break
            if tag == "tr":
                rows.append([])
            elif tag in ("th", "td"):
                rows[-1].append(self.texts[index])
        return rows


def data_of(page: Page) -> list[dict]:
    return json.loads(page.find("script", id="figures")[0][1])


# Numbers and networks in words


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.000 k"), (9_999, "9.999 k"), (272_474, "272.5 k"), (999_949, "999.9 k"), (999_960, "1.000 M"),
     (25_557_032, "25.56 M"), (4_089_184_256, "4.089 G"), (3 * 10**15, "3000 T")],
)  # fmt: skip
def test_counts(number, text):
    assert format_count(number) == text


@given(st.integers(0, 10**14))
def test_counts_are_right_to_four_digits(number):
    figure, _, prefix = format_count(number).partition(" ")
    scale = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[prefix]
    assert float(figure) * scale == pytest.approx(number, rel=0.00051)
    assert float(figure) < 1000


def test_percent_and_points():
    assert [format_percent(share) for share in (0, 0.9312, 0.93125, 1)] == ["0.00", "93.12", "93.12", "100.00"]
    assert points(0.9312, 0.9172) == 1.4
    assert points(0.931249, 0.931151) == 0.0  # both are written 93.12


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (12, "12 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (97_200, "1 d 3 h"),
    ],
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet20", "3×16, 3×32, 3×64; basic, zero-pad shortcut; cifar stem 16"),
        ("plain20", "3×16, 3×32, 3×64; basic, no shortcut; cifar stem 16"),
        ("resnet50_v1", RESNET50.replace("bottleneck", "bottleneck").replace("shortcut;", "shortcut, stride on 1x1;")),
        ("resnet50", RESNET50),
        ("resnext29_8x64d", "3×256 (8×64d), 3×512 (8×128d), 3×1024 (8×256d); bottleneck, projection shortcut; cifar stem 64"),
        ("wrn_16_8", "2×128, 2×256, 2×512; basic, pre-activated, projection shortcut; cifar stem 16"),
    ],
)  # fmt: skip
def test_descriptions(name, text):
    assert describe(zoo.get(name)) == text


@settings(max_examples=60)
@given(st.lists(architectures(most_stages=2, most_depth=2, most_width=2), min_size=2, max_size=20))
def test_networks_are_described_alike_exactly_if_they_are_alike(networks):
    described: dict[str, str] = {}
    for drawn in networks:
        network = dataclasses.replace(drawn, resolution=8, channels=3, head=dataclasses.replace(drawn.head, classes=2))
        text = describe(network)
        assert described.setdefault(text, network.digest) == network.digest
        assert describe(network.canonical()) == text


# Figures


def shown_in(figure, name: str):
    return next((trace for trace in figure.data if trace.name == name), None)


@pytest.mark.parametrize("cost", figures.COSTS)
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


@pytest.mark.parametrize("cost", figures.COSTS)
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


def test_hypervolume_is_the_runs(run):
    trace = figures.hypervolume(run).data[0]
    assert list(trace.y) == list(run.hypervolume_history())
    assert list(trace.x) == list(range(1, len(run.complete()) + 1))


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


# The page


def test_structure(run, html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert page.find("html")[0][0]["lang"] == "en"
    assert page.find("title")[0][1] == f"{run.config['name']}: architecture search"
    assert [text for _, text in page.find("h1")] == [run.config["name"]]
    headings = [text for _, text in page.find("h2")]
    assert headings == ["Accuracy against cost", "How sure this is", "The front", "Learning curves",
                        "Progress of the search", *(title for _, title, _ in ANALYSIS if title != "A narrower space"),
                        "Early stopping", "Failures", "Time", "All trials", "How to repeat it"]  # fmt: skip
    charts = page.find("div", role="img")
    assert [attributes["id"] for attributes, _ in charts] == [figure["id"] for figure in data_of(page)]
    assert all(len(attributes["aria-label"]) > 20 for attributes, _ in charts)
    assert len(page.find("table")) == len(page.find("caption"))
    assert all(attributes.get("scope") in ("col", "row") for attributes, _ in page.find("th"))
    assert html.count("plotly.js v") == 1


def test_the_front_table_is_the_front(run, html):
    rows = Page(html).rows("Networks that no other")
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
    for cost in figures.COSTS:
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
    rows = {row[0]: row for row in Page(html).rows("Time on the workers")}
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


def compared(baseline: float, *others: tuple[str, float]) -> str:
    """The words on a run of resnet20 with this accuracy and of some networks with theirs."""

    def trained(number: int, name: str, accuracy: float, label: str = "") -> Trial:
        trial = make_trial(number, "complete", zoo.get(name), 0.5, label=label)
        return dataclasses.replace(trial, accuracy=accuracy, values=(accuracy, *trial.values[1:]))

    trials = [trained(k, name, accuracy) for k, (name, accuracy) in enumerate(others)]
    return Page(page(make_run([trained(-1, "resnet20", baseline, "resnet20"), *trials]))).words


def test_a_baseline_is_beaten_only_where_that_is_true():
    words = compared(0.9172, ("plain20", 0.9312), ("resnet56", 0.95))
    assert (
        "At the cost of resnet20 (no more parameters and MACs), trial 0 is 1.40 points better: 93.12 % against 91.72 %."
        in words
    )
    words = compared(0.9172, ("plain20", 0.9172), ("resnet56", 0.95))
    assert "No trial with no more parameters and MACs than resnet20 beats its 91.72 %." in words
    assert "better:" not in words
    words = compared(0.9172, ("resnet56", 0.95))
    assert "No complete trial has as few parameters and MACs as resnet20 (91.72 %)." in words
    assert "better:" not in words


def test_a_gain_that_may_be_chance_is_called_so():
    # Of 5,000 images each: sqrt(0.9 * 0.1 / 5000 * 2) is 0.6 points, so 1.1 points are less than two standard errors.
    assert "may be chance" in compared(0.90, ("plain20", 0.911))
    assert "may be chance" not in compared(0.90, ("plain20", 0.915))


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
    assert "no process is at work on it" in words
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
    assert page_.rows("Failed trials")[1:] == [
        ["3", "0, 1, 2", "–", "loss is NaN"],
        ["1", "3", "–", "out of memory"],
    ]


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


def hostile_run() -> Run:
    run = searched_run(20, name=HOSTILE, command=HOSTILE, sampler=HOSTILE, baselines=("resnet20",))
    data = {
        **run.config["dataset"],
        "name": HOSTILE,
        "classes": [HOSTILE] * 30,
        "fingerprint": HOSTILE,
        HOSTILE: HOSTILE,
    }
    config = {
        **run.config,
        "dataset": data,
        "space": {"name": HOSTILE, "text": HOSTILE},
        "versions": {HOSTILE: HOSTILE},
    }
    trials = [
        dataclasses.replace(t, label=HOSTILE if t.label else "", reason=HOSTILE if t.state == "failed" else "")
        for t in run.trials
    ]
    failed = make_trial(999, "failed", trials[0].architecture, 0.5, reason=HOSTILE)
    return dataclasses.replace(run, config=config, trials=(*trials, failed), path=Path("results") / "</script>\udcff")


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
    code = "import sys, nas.report, nas.report.figures, nas.text; print([m for m in ('torch', 'ray', 'plotly') if m in sys.modules])"
    assert python(code).strip() == "[]"
