"""Statistics of runs: against brute force and other libraries, on data whose law is known, and on pure noise."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from helpers_analysis import lawful_run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas.analysis import edf, importance, pairs, refine, rungs, significance
from nas.analysis.accounting import account
from nas.analysis.marginals import findings, marginals
from nas.analysis.sample import ABSENT, Factor, Sample, sample
from nas.analysis.volume import progress
from nas.errors import UsageError
from nas.report import figures
from nas.report.run.analysis_sections import _verdict
from nas.spaces.knobs import Knob


def synthetic(n: int, seed: int, *, effect: float = 0.0, interaction: float = 0.0, noise: float = 0.01) -> Sample:
    """Trials whose accuracy follows their cost; `bad` 0 costs `effect`, and `a` and `b` are worth more where they are alike.

    `inner` exists only where `outer` is "on". All knobs but `wide` and `deep` leave the cost as it is.
    """
    rng = np.random.default_rng(seed)
    codes = {name: rng.integers(0, 4, n) for name in ("wide", "deep", "bad", "a", "b", "inner")}
    outer = rng.integers(0, 2, n)
    logs = 4 + 0.3 * codes["wide"] + 0.2 * codes["deep"] + 0.05 * rng.normal(size=n)
    accuracy = 0.6 + 0.1 * np.log(logs - 3) + noise * rng.normal(size=n)
    accuracy -= effect * (codes["bad"] == 0)
    accuracy += interaction * (codes["a"] == codes["b"])
    codes["inner"] = np.where(outer == 1, codes["inner"], ABSENT)
    knobs = {
        "outer": Factor(("off", "on"), outer),
        **{key: Factor((1, 2, 4, 8), value) for key, value in codes.items()},
    }
    found = Sample(np.arange(n), accuracy, {"params": 10**logs}, knobs, np.zeros(n, dtype=bool))
    return dataclasses.replace(found, front=found.gap == 0)


KNOBS = {
    "outer": Knob(("off", "on")),
    **{key: Knob((1, 2, 4, 8)) for key in ("wide", "deep", "bad", "a", "b", "inner")},
}


# Tests


def test_benjamini_hochberg():
    p = [0.01, 0.04, 0.03, 0.005, 0.8]
    assert significance.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert significance.benjamini_hochberg([]).shape == (0,)


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_membership_is_the_exact_distribution_over_all_assignments(seed):
    rng = np.random.default_rng(seed)
    bins = np.repeat([0, 1], [5, 4])
    member, has = rng.random(9) < 0.4, rng.random(9) < 0.5
    seen, mean, few, many = significance.membership(member, has, bins)
    counts = []
    ways = [list(itertools.combinations(np.flatnonzero(bins == b), int(has[bins == b].sum()))) for b in (0, 1)]
    for left, right in itertools.product(*ways):
        counts.append(int(member[list(left) + list(right)].sum()))
    assert seen == int((member & has).sum())
    assert mean == pytest.approx(np.mean(counts))
    assert few == pytest.approx(np.mean(np.array(counts) <= seen))
    assert many == pytest.approx(np.mean(np.array(counts) >= seen))


def test_shift_is_the_permutation_test_within_bins():
    rng = np.random.default_rng(1)
    bins = np.repeat([0, 1, 2], 12)
    scores, has = rng.normal(size=36), rng.random(36) < 0.4
    scores[has] -= 0.4

    def statistic(numbers: np.ndarray) -> float:
        return sum(float((stats.rankdata(numbers[bins == b])[has[bins == b]] - 6.5).sum()) / 13 for b in range(3))

    draws = []
    for _ in range(4000):
        shuffled = scores.copy()
        for b in range(3):
            shuffled[bins == b] = rng.permutation(shuffled[bins == b])
        draws.append(statistic(shuffled))
    low, high = significance.shift(scores, has, bins)
    assert low == pytest.approx(np.mean(np.array(draws) <= statistic(scores)), abs=0.02)
    assert low + high == pytest.approx(1)
    assert significance.shift(np.zeros(36), has, bins) == (1.0, 1.0)


# Values


def test_noise_makes_no_findings():
    """On data where no knob matters beside its cost, at most one run in twenty finds one; with 60 runs, 8 is beyond chance."""
    made = narrowed = 0
    for seed in range(60):
        found = synthetic(80, seed)
        rows = marginals(found)
        made += bool(findings(rows))
        narrowed += bool(refine.narrow(found, KNOBS, rows))
    assert made <= 8
    assert narrowed <= 8


def test_what_matters_is_found_and_called_by_its_size():
    found = synthetic(200, 0, effect=0.03)
    row = findings(marginals(found))[0]
    assert (row.knob, row.value) == ("bad", 1)
    assert row.worth == pytest.approx(-0.03, abs=0.006)
    assert row.near < row.near_expected / 2
    assert row.trials == int((found.knobs["bad"].codes == 0).sum())


def test_a_finding_is_told_only_where_ranks_and_means_agree():
    """`bad` 0 ranks lower; but one training of the others that came to nothing makes their mean the lower one."""
    found = synthetic(200, 0, effect=0.01, noise=0.005)
    assert next(row for row in findings(marginals(found)) if row.knob == "bad").better is False
    accuracy = found.accuracy.copy()
    accuracy[np.flatnonzero(found.knobs["bad"].codes == 1)[:4]] = 0.0
    rows = [row for row in marginals(dataclasses.replace(found, accuracy=accuracy)) if row.knob == "bad"]
    first = rows[0]
    assert first.q_worth < 0.05
    assert first.p_worse < first.p_better
    assert first.worth > 0
    assert first.better is None
    assert first not in findings(rows)


def test_a_knob_that_only_costs_is_no_finding():
    """`wide` decides the accuracy of these trials, but by nothing that its cost does not account for."""
    found = synthetic(300, 3)
    accuracies = [found.accuracy[found.knobs["wide"].codes == code].mean() for code in range(4)]
    assert accuracies[3] - accuracies[0] > 0.02
    assert not [row for row in findings(marginals(found)) if row.knob == "wide"]


def test_few_trials_are_not_tested():
    assert not any(row.tested for row in marginals(synthetic(29, 0, effect=0.5)))
    rare = [row for row in marginals(synthetic(40, 0, effect=0.5)) if row.trials < 8]
    assert all(not row.tested for row in rare)


def test_an_interaction_is_found_and_noise_makes_none():
    surest = pairs.interactions(synthetic(400, 0, interaction=0.02))[0]
    assert {surest.first, surest.second} == {"a", "b"}
    assert surest.q <= 0.05
    false = sum(any(pair.q <= 0.05 for pair in pairs.interactions(synthetic(120, seed))) for seed in range(10))
    assert false <= 2


# Importance


@pytest.mark.parametrize("method", importance.METHODS)
def test_the_knob_that_decides_is_the_most_important(method):
    found = importance.importance(synthetic(150, 0, effect=0.05), importance.GAP, method)
    assert next(iter(found.values)) == "bad"
    assert "bad" in found.telling
    assert len(found.telling) <= 2
    assert set(found.values) == set(KNOBS)


def test_importance_tells_the_knobs_that_cost_and_of_noise_none():
    found = synthetic(150, 1)
    assert set(importance.importance(found, "params").telling) == {"wide", "deep"}
    free = [synthetic(60, seed) for seed in range(8)]
    free = [dataclasses.replace(one, costs={"params": np.random.default_rng(k).permutation(one.costs["params"])})
            for k, one in enumerate(free)]  # fmt: skip
    assert sum(bool(importance.importance(one, "params").telling) for one in free) <= 2
    assert importance.importance(found, "params", noise=False).floor is None
    telling = [importance.importance(synthetic(60, seed), importance.GAP).telling for seed in range(5)]
    assert sum(map(bool, telling)) <= 2


def test_several_importances_at_once_are_those_of_one_after_the_other():
    """Floors are shared where the best quarters are as large; a shuffle picks others then, from the same distribution."""
    found = synthetic(120, 2, effect=0.03)
    wanted = [importance.GAP, "accuracy", "params"]
    together = importance.importances(found, wanted)
    alone = [importance.importance(found, target) for target in wanted]
    assert [one.values for one in together] == [one.values for one in alone]
    assert together[0].floor == alone[0].floor == together[2].floor
    assert together[2].telling == alone[2].telling
    tied = dataclasses.replace(found, accuracy=np.round(found.accuracy, 2))
    apart = importance.importances(tied, wanted)
    assert apart[1].floor == importance.importance(tied, "accuracy").floor


def test_importance_needs_trials_and_known_names():
    found = synthetic(importance.LEAST - 1, 0)
    assert importance.importance(found, "accuracy") is None
    with pytest.raises(UsageError, match=r"unknown target 'latency'; known: accuracy, distance to the front, params"):
        importance.importance(found, "latency")
    with pytest.raises(UsageError, match="unknown method"):
        importance.importance(found, "accuracy", "forest")  # type: ignore[arg-type]


# Distributions


def test_every_bin_has_the_same_weight():
    bins = np.array([0, 0, 0, 1, 2, 2])
    weights = edf.weights(bins)
    assert weights == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6])
    counts = np.array([[1, 1, 1, 1, 1, 1], [3, 0, 0, 0, 2, 0]], dtype=float)
    assert edf.weights(bins, counts) == pytest.approx(np.array([weights, [0.5, 0, 0, 0, 0.5, 0]]))


def test_matching_removes_what_cost_explains():
    """Two sets with one law of accuracy by cost, one of larger networks: their EDFs differ by cost alone."""
    rng = np.random.default_rng(0)
    logs = np.concatenate([rng.uniform(4, 6, 400) ** 1.0, 4 + 2 * rng.beta(4, 1.2, 400)])
    accuracy = 0.5 + 0.1 * (logs - 4) + 0.01 * rng.normal(size=800)
    found = Sample(np.arange(800), accuracy, {"params": 10**logs}, {}, np.zeros(800, dtype=bool))
    small = np.arange(800) < 400
    curves = edf.edf(found, {"small": small, "large": ~small}).curves
    plain = [np.median(1 - accuracy[mask]) for mask in (small, ~small)]
    assert abs(plain[0] - plain[1]) > 0.04
    assert abs(curves[0].quantiles[0.5][0] - curves[1].quantiles[0.5][0]) < 0.015


def test_of_one_set_nothing_is_matched_and_no_figure_says_so():
    found = synthetic(150, 0)
    curve = edf.edf(found).curves[0]
    assert curve.share == pytest.approx([np.mean(1 - found.accuracy <= error) for error in curve.errors])
    run = lawful_run(60)
    assert figures.edf(run).layout.title.text == "n = 60, 95 % band"
    assert "parameters matched in" in figures.edf(run, by="block").layout.title.text


def test_an_edf_is_one_and_its_band_holds_it():
    found = synthetic(100, 0)
    curve = edf.edf(found).curves[0]
    assert curve.share[0] == 0
    assert curve.share[-1] == pytest.approx(1)
    assert (np.diff(curve.share) >= -1e-12).all()
    assert (curve.low <= curve.share + 0.05).all()
    assert (curve.high >= curve.share - 0.05).all()
    median, low, high = curve.quantiles[0.5]
    assert low <= median <= high
    assert edf.edf(synthetic(edf.LEAST - 1, 0)) is None


# The search


def test_rung_correlations_are_scipys():
    run = lawful_run(60, noise=0.02, epochs=5)
    found = rungs.rung_correlation(run)
    assert [rung.epoch for rung in found.rungs] == [1, 2, 3, 4]
    curves = np.array([[epoch.accuracy for epoch in trial.epochs] for trial in run.trials])
    for rung in found.rungs:
        early = curves[:, rung.epoch - 1]
        assert rung.spearman[0] == pytest.approx(stats.spearmanr(early, curves[:, -1]).statistic)
        assert rung.kendall[0] == pytest.approx(stats.kendalltau(early, curves[:, -1]).statistic)
        assert rung.spearman[1] < rung.spearman[0] < rung.spearman[2]


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        (((0.1, 0.5), (0.6, 0.9), (0.85, 0.95)), "epoch 1, ρ is significantly below 0.8. From epoch 3 on, ρ is significantly above"),
        (((0.85, 0.95), (0.7, 0.9)), "There are too few trials to say whether ρ is above 0.8 before the last epoch."),
        (((0.08, 0.95),), "There are too few trials to say"),
        (((0.1, 0.3), (0.2, 0.4)), "Up to epoch 2, ρ is significantly below 0.8."),
        (((0.8, 0.9), (0.82, 0.9)), "From epoch 1 on, ρ is significantly above 0.8: stopping there loses little."),
    ],
)  # fmt: skip
def test_what_early_epochs_tell_is_said_as_surely_as_it_is_known(spans, said):
    rungs_ = [rungs.Rung(k, ((a + b) / 2, a, b), (0.5, 0.4, 0.6)) for k, (a, b) in enumerate(spans, 1)]
    assert said in _verdict(rungs_)


def test_rung_correlations_need_trials_and_count_the_stopped():
    assert rungs.rung_correlation(lawful_run(9)).rungs == ()
    assert rungs.rung_correlation(lawful_run(12, stopped=5)).stopped == 5


def test_the_account_adds_up():
    run = lawful_run(20, stopped=4)
    session = {
        **run.sessions[0],
        "training_seconds": 130.0,
        "search_seconds": 100.0,
        "startup_seconds": 5.0,
        "workers": 2,
    }
    items = {item.name: item for item in account(dataclasses.replace(run, sessions=(session,))).items}
    assert items["complete"].seconds == pytest.approx(sum(t.seconds for t in run.trials if t.state == "complete"))
    assert items["stopped"].trials == 4
    assert items["orchestration"].seconds == 2 * 100 - 130
    assert items["start-up"].seconds == 10
    assert account(lawful_run(0)).items == ()
    assert account(dataclasses.replace(run, sessions=())).unaccounted


def test_hypervolume_over_time_is_the_runs_own():
    run = lawful_run(30, stopped=6)
    found = progress(run)
    assert found.volume.tolist() == run.hypervolume_history().tolist()
    assert (np.diff(found.hours) > 0).all()
    assert found.hours[-1] == pytest.approx(sum(t.seconds for t in run.trials[:30]) / 3600)
    assert found.unit == "worker-hours"
    gpu = {**run.config, "device": "cuda", "executor": {**run.config["executor"], "gpus_per_trial": 0.25}}
    shared = progress(dataclasses.replace(run, config=gpu))
    assert shared.unit == "GPU-hours"
    assert shared.hours[-1] == pytest.approx(found.hours[-1] / 4)


# The sample


def test_a_sample_is_the_runs_complete_trials():
    run = lawful_run(40, stopped=5)
    found = sample(run)
    assert found.numbers.tolist() == list(range(40))
    assert found.accuracy.tolist() == [trial.accuracy for trial in run.trials[:40]]
    assert list(found.costs) == ["params", "macs"]
    assert set(found.numbers[found.front]) == {trial.number for trial in run.front()}
    grouped = found.knobs["stage1.cardinality"]
    for trial, code in zip(run.trials, grouped.codes, strict=False):
        assert (code == ABSENT) == ("stage1.cardinality" not in trial.choices)
        assert code == ABSENT or grouped.values[code] == trial.choices["stage1.cardinality"]
    assert list(found.knobs) == sorted(found.knobs, key=lambda key: key[:6] if key.startswith("stage") else "")


@pytest.mark.parametrize("n", [30, 40, 50, 60, 80, 100, 120, 200])
def test_near_the_front_is_a_quarter(n):
    assert synthetic(n, 0).near.mean() == pytest.approx(0.25, abs=0.02)


def test_residuals_know_the_law_of_cost():
    found = sample(lawful_run(200, noise=0.0, by_cost=0.05))
    assert np.abs(found.residual).max() < 0.002
    assert math.isclose(found.gap.min(), 0.0)
    assert len(np.unique(found.bins)) == 10
    assert sample(lawful_run(0)).residual.shape == (0,)


def test_allows_takes_a_missing_knob_for_no_offence():
    found = synthetic(50, 0)
    allowed = found.allows({"inner": (1, 2)})
    inner = found.knobs["inner"].codes
    assert allowed.tolist() == ((inner == ABSENT) | (inner <= 1)).tolist()
