"""What the report says in sentences: of the front's networks, of known networks beside them, and of chance."""

from __future__ import annotations

import dataclasses

from helpers_report import Page, confirmed_run, make_run, make_trial

from nas.networks import zoo
from nas.report.run import confirmed_section as confirmed
from nas.report.run.page import page
from nas.runs.ranking import contenders
from nas.runs.records import Trial


def test_one_network_is_no_networks():
    run = next(run for run in (confirmed_run(1, seed, baselines=()) for seed in range(9)) if run.front())
    words = " ".join(confirmed.sentences(run))
    assert "By means the front is that of the search, 1 network." in words
    once = [dataclasses.replace(trial, repeats=trial.repeats[:1]) for trial in run.trials]
    words = " ".join(confirmed.sentences(dataclasses.replace(run, trials=tuple(once))))
    assert "Of the front's 1 network 0 are trained" in words


def test_sentences_begin_with_a_capital_and_commands_are_code():
    run = confirmed_run(seed=1)
    rivals = contenders(run.complete(), run.front(), max(run.fall().mean, 0.0))
    assert rivals
    found = Page(page(run))
    assert f". Trial {rivals[0].number}" in found.words
    assert any(text.startswith("nas confirm") for _, text in found.find("code"))
    assert "`" not in found.words.partition("All trials")[2].partition("Reproducibility")[0]


def compared(baseline: float, *others: tuple[str, float], name: str = "resnet20") -> str:
    """The words on a run of a baseline with this accuracy and of some networks with theirs."""

    def trained(number: int, name: str, accuracy: float, label: str = "") -> Trial:
        trial = make_trial(number, "complete", zoo.get(name), 0.5, label=label)
        return dataclasses.replace(trial, accuracy=accuracy, values=(accuracy, *trial.values[1:]))

    trials = [trained(k, name, accuracy) for k, (name, accuracy) in enumerate(others)]
    return Page(page(make_run([trained(-1, name, baseline, name), *trials]))).words


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


def test_a_smaller_network_that_is_as_accurate_is_named():
    words = compared(0.9172, ("resnet20", 0.9172), name="resnet56")
    assert "No trial with no more parameters and MACs than resnet56 beats its 91.72 %." in words
    assert "Trial 0 is at least as accurate (91.72 %) with 32 % of the parameters (269.7 k against 853.0 k)." in words
    assert "It has 32 % of the parameters" in compared(0.9172, ("resnet20", 0.92), name="resnet56")


def test_a_small_share_keeps_its_digits():
    assert "It has 0.39 % of the parameters" in compared(0.3, ("resnet20", 0.92), name="wide_resnet50_2")


def test_a_gain_that_may_be_chance_is_called_so():
    # Of 5,000 images each: sqrt(0.9 * 0.1 / 5000 * 2) is 0.6 points, so 1.1 points are less than two standard errors.
    assert "may be chance" in compared(0.90, ("plain20", 0.911))
    assert "may be chance" not in compared(0.90, ("plain20", 0.915))
