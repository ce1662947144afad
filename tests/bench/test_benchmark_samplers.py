"""The kept studies of the comparison of samplers: what is written is read again, and a run adds only what is missing."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import foreign
import samplers
from samplers import Curves, Key, Study


@given(st.lists(st.integers(-50, samplers.UNIT), max_size=40))
def test_a_curve_is_kept_whole(curve: list[int]):
    assert list(samplers.unpacked(samplers.packed(curve), len(curve))) == curve


def test_the_changes_of_a_curve():
    assert samplers.packed([0, 0, 120, 120, 116]) == "3+120 2-4"


def test_studies_are_read_as_they_were_written(tmp_path):
    studies = {
        Key(samplers.MACRO, "both", 16, "known-cost:acquisition=ei", 1): Study((0, 500, 498), 4, 0.25),
        Key(samplers.CELLS, "MACs", 1, "tpe", 0): Study((), 0, 0.0),
    }
    samplers.save(tmp_path / "kept.csv", studies)
    assert samplers.load(tmp_path / "kept.csv") == studies


def test_networks_until_a_level_are_those_of_the_mean_as_far_as_all_studies_go():
    share = np.array([[10.0, 20.0, 40.0, 90.0], [20.0, 40.0, 60.0, np.nan]])
    assert samplers.until(share, 30.0) == 2
    assert samplers.until(share, 50.0) == 3
    assert samplers.until(share, 80.0) is None


def test_a_run_adds_what_is_missing_alone(tmp_path, capsys):
    kept, key = tmp_path / "kept.csv", Key(samplers.MACRO, "MACs", 1, "random", 0)
    before = Study((1,) * samplers.BUDGET, 150, 0.1)
    samplers.save(kept, {key: before})
    samplers.run(kept, ["random"], 1, 1, None, jobs=0)
    after = samplers.load(kept)
    assert after[key] == before  # not run again
    assert {own.costs for own in after} == {"MACs", "params", "both"}
    assert all(len(own.hypervolume) == samplers.BUDGET for own in after.values())
    assert capsys.readouterr().out.count("random, repeat 0") == 2


@pytest.mark.parametrize("table", [samplers.MACRO, samplers.CELLS])
def test_the_published_studies_are_whole(table: str):
    studies = samplers.load(samplers.KEPT)
    for costs in ("MACs", "params", "both"):
        for name in ("known-cost", "tpe", "nsga2-20", "random"):
            own = Curves(studies, table, costs, name)
            assert own.repeats[:20] == list(range(20))
            assert np.isfinite(own.share).all() and (own.share <= 100).all()


@pytest.mark.parametrize("name", foreign.STUDIES)
def test_made_up_functions_answer_every_candidate_and_leave_out_what_does_not_exist(name: str):
    made, rng = foreign.STUDIES[name], random.Random(0)
    for _ in range(200):
        one, other = foreign.Chance(rng), foreign.Chance(rng)
        made.ask(one)
        made.ask(other)
        mixed = foreign.Chance(rng, {**one.params, **other.params})
        made.ask(mixed)
        assert set(mixed.params) == set(other.params)  # conditions are those of the second, which overrides the first
        for params in (one.params, mixed.params):
            assert np.isfinite(made.quality(params))
            assert min(made.costs(params)) > 0
