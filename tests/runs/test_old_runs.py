"""A run of an earlier commit opens as it did there, and can be resumed.

`old_runs/4adc603` was written at that commit by `nas search --space pocket.yaml --trials 3 --epochs 3 --stopping pareto --max-params 3k
--baseline resnet20 --executor local --max-images 300 --out run`; its page was deleted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from helpers_cli import output

from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.runs.doctor import examine, healthy
from nas.runs.run import load_run

OLD = Path(__file__).parents[1] / "old_runs"
# As that commit read them: digest, params, multiply-adds, accuracy in %.
TRIALS = {
    "0": ("068182f469336dcf", 894, 25_464, 3.33),
    "1": ("28d7dde23c1429b6", 934, 24_224, 11.67),
    "2": ("837a613ae67c8176", 610, 26_256, 10.0),
    "resnet20": ("7f652f1103725a61", 269_434, 2_516_608, 60.0),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "4adc603", tmp_path / "run"))


def test_its_trials_are_read(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.status == "done"
    assert {
        trial.label or str(trial.number): (
            trial.digest,
            trial.cost.params,
            trial.cost.macs,
            round(100 * (trial.accuracy or 0), 2),
        )
        for trial in loaded.trials
    } == TRIALS
    assert healthy(examine(run))


def test_its_configs_are_read(run: Path) -> None:
    digests = {trial.digest for trial in load_run(run).trials}
    for path in (run / "front").iterdir():
        architecture, provenance = Architecture.from_yaml(path), yaml.safe_load(path.read_text())["provenance"]
        assert architecture.digest in digests
        cost = cost_of(architecture)
        assert provenance["cost"] == {"params": cost.params, "macs": cost.macs, "activations": cost.activations}


def test_its_front_and_its_page_are_made(run: Path, tmp_path: Path) -> None:
    assert "269" in output("front", run)
    output("report", run, "--out", tmp_path / "page.html")
    output("export", run, "--top", 2, "--out", tmp_path / "models")
    assert (tmp_path / "page.html").stat().st_size > 100_000
    assert len(list((tmp_path / "models").glob("*.yaml"))) == 2


def test_it_is_resumed_and_keeps_what_it_had(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("result.json")}
    output("resume", run, "--trials", 4)
    assert load_run(run).count("complete") == 4
    assert {path: path.read_bytes() for path in before} == before
