"""The package from Python: what `import nas` offers, what calls refuse and in which words, what a run and a trial look like in a line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.errors import Interrupted
from nas.spaces.budget import Budget
from nas.spaces.space import space_from_text

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
QUICK = {"dataset": "digits", "epochs": 1, "executor": "local", "max_images": 200}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> nas.Run:
    return nas.search(
        space="resnet", trials=2, out=tmp_path_factory.mktemp("api") / "run", baselines=["resnet20"], **QUICK
    )


def test_every_public_name_is_there():
    assert {"NasError", "Request", "UsageError", "resume", "search"} <= set(nas.__all__) <= set(dir(nas))
    for name in dir(nas):
        assert getattr(nas, name) is not None
    assert issubclass(nas.UsageError, nas.NasError) and issubclass(Interrupted, nas.NasError)


@pytest.mark.slow
def test_the_page_is_one_script_that_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    script = tmp_path / "script.py"
    script.write_text("\n".join(blocks))
    where = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "done, 4 of 4 trials complete" in done.stdout and "ETA" in done.stderr
    assert list((tmp_path / "models").glob("*.py")) and len(list((tmp_path / "results").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": "x"}, r"trials='x': must be a whole number"),
        ({"trials": 2.5}, r"trials=2.5: must be a whole number"),
        ({"trials": True}, r"trials=True: must be a whole number"),
        ({"seed": None}, r"seed=None: must be a whole number"),
        ({"space": 5}, r"space=5: must be text or a path or a SearchSpace"),
        ({"baselines": "resnet20"}, r"baselines='resnet20': must be a list of names"),
        ({"batch_size": "64"}, r"batch_size='64': must be a whole number or None"),
        ({"overrides": ["depth"]}, r"overrides=\['depth'\]: must be a Mapping"),
        ({"max_params": "2M"}, r"max_params='2M': must be a number"),
        ({"min_params": 9, "max_params": 5}, r"lower bound 9 is above the upper bound 5"),
        ({"executor": "slurm"}, r"unknown executor 'slurm'; known: ray, local"),
    ],
)
def test_a_wrong_value_is_said_before_anything_is_made(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nas.UsageError, match=words):
        nas.search(**options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nas.search(trails=3), r"nas.search has no option 'trails' \(did you mean 'trials'\?\)"),
        (lambda: nas.search(max_param=3), r"no option 'max_param' \(did you mean 'max_params'\?\)"),
        (lambda: nas.resume("run", worker=3), r"nas.resume has no option 'worker' \(did you mean 'workers'\?\)"),
        (lambda: nas.confirm("run", trials=3), r"nas.confirm has no option 'trials'"),
    ],
)
def test_an_option_that_there_is_not_is_a_type_error(call, words):
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": "two"}, "workers='two': must be a whole number"),
        ({"trials": 2.5}, "trials=2.5: must be a whole number"),
        ({"executor": "slurm"}, "unknown executor 'slurm'"),
    ],
)
def test_a_resumed_run_refuses_wrong_values(run, options, words):
    with pytest.raises(nas.UsageError, match=words):
        nas.resume(run.path, **options)


def test_a_run_and_a_trial_are_a_line_each(run):
    assert re.fullmatch(
        rf"<Run {re.escape(str(run.path))}: done, 2 of 2 trials complete, best accuracy \d+\.\d\d%, \d on the front>",
        repr(run),
    )
    baseline, first = repr(run.trials[0]), repr(run.trials[1])
    assert re.fullmatch(r"<Trial -1 resnet20: complete, accuracy \d+\.\d\d%, 269,434 params, 2,516,608 MACs>", baseline)
    assert first.startswith("<Trial 0: complete, accuracy ") and len(first) < 100


@pytest.mark.parametrize("call", [nas.cost_of, nas.build])
def test_a_name_in_place_of_an_architecture_is_told_where_it_leads(call):
    with pytest.raises(TypeError, match=r"not 'resnet50'; nas\.zoo\.get\(name\)"):
        call("resnet50")


def test_a_space_is_searched_as_it_is(tmp_path):
    space = nas.load_space("resnet").narrowed({"stage*.depth": [1, 2], "block": "basic"})
    budgeted = space.within(Budget({"params": (None, 200_000)}))
    run = nas.search(space=budgeted, trials=3, out=tmp_path / "run", max_macs=3_000_000, **QUICK)
    assert run.config["budgets"] == {"params": [None, 200_000], "macs": [None, 3_000_000]}
    kept = space_from_text(run.config["space"]["text"], resolution=8, channels=1, classes=10)
    assert kept.knob("stage1.depth").values == (1, 2) and "block" not in kept.knobs
    again = nas.resume(run.path, trials=4, workers=None, executor=None, quiet=True)
    assert len(again.complete()) == 4
    for trial in again.complete():
        assert {trial.choices[f"stage{k}.depth"] for k in (1, 2, 3)} <= {1, 2}
        assert trial.cost.params <= 200_000 and trial.cost.macs <= 3_000_000


def test_progress_goes_to_stderr_unless_quiet(run, tmp_path, capfd):
    nas.search(space="resnet", trials=1, out=tmp_path / "loud", **QUICK)
    loud = capfd.readouterr()
    assert "val accuracy" in loud.err and "ETA" in loud.err and not loud.out
    nas.search(space="resnet", trials=1, out=tmp_path / "quiet", quiet=True, **QUICK)
    quiet = capfd.readouterr()
    assert "val accuracy" not in quiet.err and not quiet.out
