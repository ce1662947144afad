"""nas refine: what goes is what the evidence speaks against, never what the front has; the file is a space to search."""

from __future__ import annotations

import dataclasses
import json

import pytest
from helpers_analysis import lawful_run
from helpers_cli import nas_, output, refusal
from test_analysis import KNOBS, synthetic

from nas.analysis import refine
from nas.analysis.space_yaml import write_out
from nas.runs.run import Run, load_run
from nas.spaces.space import load_space


def worth(choices):
    """Projections are bad, a wide stem a little."""
    return -0.08 * (choices["shortcut"] == "projection") - 0.03 * (choices["stem_width"] == 32)


@pytest.fixture(scope="module")
def run() -> Run:
    return lawful_run(220, worth=worth, noise=0.006, seed=5)


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Makes `nas refine` read this run, in a folder of its own."""

    def use(run: Run) -> None:
        here = dataclasses.replace(run, path=tmp_path)
        monkeypatch.setattr("nas.cli.commands.inputs.read_run", lambda path: here)

    return use


def test_what_is_worse_at_its_cost_goes(run):
    found = refine.refine(run)
    zero = next(narrowing for narrowing in found.narrowings if narrowing.knob == "shortcut")
    assert [drop.row.value for drop in zero.dropped] == ["projection"]
    assert "points worse at matched cost" in zero.dropped[0].reason
    assert "van Elteren" in zero.dropped[0].reason
    stays = refine.kept(found.narrowings)
    for trial in run.front():
        assert all(trial.choices[key] in values for key, values in stays.items() if key in trial.choices)
    before, after, held_out = found.before_after.curves
    assert (before.name, after.name, held_out.name) == (refine.ALL, refine.KEPT, refine.HELD_OUT)
    assert after.quantiles[0.5][0] < before.quantiles[0.5][0]
    assert held_out.quantiles[0.5][0] < before.quantiles[0.5][0]


def test_what_the_front_has_stays():
    found = synthetic(300, 0, effect=0.05)
    dropped = {(n.knob, d.row.value) for n in refine.narrow(found, KNOBS) for d in n.dropped}
    assert ("bad", 1) in dropped
    bad = found.knobs["bad"].codes == 0
    on_front = dataclasses.replace(found, front=found.front | (bad & (found.numbers == found.numbers[bad][0])))
    assert ("bad", 1) not in {(n.knob, d.row.value) for n in refine.narrow(on_front, KNOBS) for d in n.dropped}


def test_of_numbers_only_ends_go():
    assert refine._ends([True, False, True, False, False]) == [True, False, False, False, False]
    assert refine._ends([False, True, True]) == [False, True, True]
    assert refine._ends([False, True, False]) == [False, False, False]


@pytest.mark.parametrize("count", [0, 1, 25, 120])
def test_without_evidence_nothing_goes(count):
    found = refine.refine(lawful_run(count, noise=0.01))
    assert found.narrowings == ()
    assert found.inside == found.trials == count


def test_the_file_is_the_old_space_without_what_went(run, tmp_path):
    found = refine.refine(run)
    made = write_out(run, found, "refined.yaml")
    assert (made.base, made.extends) == ("", "resnext")
    path = tmp_path / "refined.yaml"
    path.write_text(made.text)
    new = load_space(path, resolution=8, channels=1, classes=10)
    old = load_space("resnext", resolution=8, channels=1, classes=10)
    stays = refine.kept(found.narrowings)
    assert new.name == "resnext-refined"
    assert {key: knob.values for key, knob in new.knobs.items()} == {
        key: stays.get(key, knob.values) for key, knob in old.knobs.items() if len(stays.get(key, knob.values)) > 1
    }
    assert new.size() < old.size()
    for trial in run.front():
        choices = {key: value for key, value in trial.choices.items() if key in new.knobs}
        assert new.architecture(choices).digest == trial.digest
    for line in made.text.splitlines():
        if line.strip().startswith("shortcut:"):
            above = made.text[: made.text.index(line)].splitlines()[-3:]
            assert any("projection is dropped" in text for text in above)
    assert "Retrospective" in made.text
    other = load_space(path, resolution=224, channels=3, classes=10)  # the space's other variant is left alone
    assert other.knobs["shortcut"].values == load_space("resnext", resolution=224).knobs["shortcut"].values


def test_a_space_that_is_no_shipped_one_lies_beside(run, tmp_path):
    text = run.config["space"]["text"].replace("space: resnext", "space: mine")
    mine = dataclasses.replace(
        run, config={**run.config, "space": {**run.config["space"], "name": "mine", "text": text}}
    )
    made = write_out(mine, refine.refine(mine), "second.yaml")
    assert made.extends == "second.base.yaml"
    (tmp_path / "second.yaml").write_text(made.text)
    (tmp_path / made.extends).write_text(made.base)
    assert "projection" not in load_space(tmp_path / "second.yaml", resolution=8, channels=1).knobs["shortcut"].values


def test_bounds_of_the_run_go_along(run):
    bounded = dataclasses.replace(run, config={**run.config, "budgets": {"params": [None, 500000.0]}})
    assert "params: {max: 500000.0}" in write_out(bounded, refine.refine(bounded), "refined.yaml").text


def test_the_command(run, read, tmp_path):
    read(run)
    said = output("refine", "somewhere")
    assert "projection" in said
    assert "flatters" in said
    assert (tmp_path / "refined.yaml").read_text().startswith("# Narrowed by `nas refine` from 220 complete trials")
    assert "exists" in refusal("refine", "somewhere")
    data = json.loads(output("refine", "somewhere", "--force", "--json"))
    assert data["written"] == [str(tmp_path / "refined.yaml")]
    dropped = {(n["knob"], d["value"]) for n in data["narrowings"] for d in n["dropped"]}
    assert ("shortcut", "projection") in dropped
    assert [entry["set"] for entry in data["error"]] == [refine.ALL, refine.KEPT, refine.HELD_OUT]


def test_nothing_to_narrow_writes_nothing(read, tmp_path):
    read(lawful_run(20))
    assert "nothing to narrow" in output("refine", "somewhere")
    read(lawful_run(1))
    assert "No evidence against any value in 1 complete trial (0 tested)." in output("refine", "somewhere")
    assert json.loads(output("refine", "somewhere", "--json"))["written"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("out", "words"), [("here.txt", "name a YAML file"), (".", "a folder")])
def test_a_wrong_place_is_refused(read, tmp_path, out, words, run):
    read(run)
    assert words in refusal("refine", "somewhere", "--out", tmp_path / out)


@pytest.mark.slow
def test_the_narrowed_space_is_searched(run, read, tmp_path):
    read(run)
    output("refine", "somewhere", "--out", tmp_path / "second.yaml")
    arguments = ("--trials", 2, "--epochs", 1, "--max-images", 200, "--executor", "local", "--quiet")
    result = nas_("search", "--space", tmp_path / "second.yaml", *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 0
    trials = load_run(tmp_path / "run").trials
    assert len(trials) >= 2
    assert all(trial.choices["shortcut"] != "projection" for trial in trials)
