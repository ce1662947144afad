"""`nas compare` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from helpers_cli import SMALL, nas_, process, signalled

DEEP = SMALL.replace("name: small", "name: deep").replace("depth: 1", "depth: 2")


@pytest.fixture
def compare(monkeypatch, tmp_path, one_thread):
    """`nas compare small.yaml deep.yaml --dataset digits` with two quick epochs, in an empty folder; more may follow."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "deep.yaml").write_text(DEEP)
    common = ["--dataset", "digits", "--epochs", 2, "--device", "cpu", "--precision", "fp32", "--max-images", 300]
    return lambda *arguments, networks=("small.yaml", "deep.yaml"): nas_("compare", *networks, *common, *arguments)


def test_compare_prints_a_table_and_writes_a_page(compare):
    first = compare("--gradients")
    assert first.exit_code == 0, first.output
    folder = Path("results/compare-digits-2epochs-seed0-gradients-small-deep")
    page = (folder / "comparison.html").read_text()
    assert f"page: {folder / 'comparison.html'}" in first.stdout
    for name in ("small", "deep"):
        assert re.search(rf"^{name} +[\d.]+ +[\d.]+ +[\d.]+ ?k? +[\d.]+ k +", first.stdout, re.MULTILINE)
        assert f">{name}</th>" in page
        assert {path.name for path in (folder / name / "seed0").iterdir()} == {"config.yaml", "result.json"}
    assert 'id="gradients-outputs"' in page
    assert "in the deeper network: deep at" in first.stdout
    assert "The test images are not used." in first.stdout
    lines = re.findall(
        r"^(\w+) \((\d)/2\): epoch (\d)/2: train error [\d.]+ %, .* images/s(.*)$", first.stderr, re.MULTILINE
    )
    assert [line[:3] for line in lines] == [
        ("small", "1", "1"),
        ("small", "1", "2"),
        ("deep", "2", "1"),
        ("deep", "2", "2"),
    ]
    assert ["left" in line[3] for line in lines] == [True, True, True, False]
    again = compare("--gradients", "--json")
    assert again.exit_code == 0
    assert "2 of 2 trainings are done already" in again.stderr
    assert json.loads(again.stdout)["networks"][1]["name"] == "deep"


def test_compare_quietly_as_json(compare):
    result = compare("--json", "--quiet", "--out", "here", "--repeats", 2)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    data = json.loads(result.stdout)
    assert (data["folder"], data["page"], data["repeats"]) == ("here", "here/comparison.html", 2)
    for network in data["networks"]:
        errors = [1 - training["points"][-1]["epoch"]["accuracy"] for training in network["trainings"]]
        assert [training["seed"] for training in network["trainings"]] == [0, 1]
        assert network["validation_error"] == pytest.approx(sum(errors) / 2)
        assert all(training["gradients"] == [] for training in network["trainings"])


def test_published_networks_are_adapted_and_said_so(compare):
    result = compare("--max-images", 100, "--epochs", 1, "--gradients", networks=("plain20",))
    assert result.exit_code == 0, result.output
    assert "adapted: pixels 32 → 8, channels 3 → 1" in result.stderr


def test_a_network_that_diverges_is_a_line(compare, monkeypatch):
    from nas.training.trainer import Diverged, Training

    epoch = Training.epoch

    def diverges(self):
        if len(self.network.stages[0]) == 2:
            raise Diverged("the training loss became nan in epoch 1")
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", diverges)
    result = compare("--out", "here", networks=("deep.yaml", "small.yaml"))
    assert result.exit_code == 0, result.output
    assert re.search(r"^deep +– +– .* the training loss became nan in epoch 1", result.stdout, re.MULTILINE)
    assert re.search(r"^small +\d", result.stdout, re.MULTILINE)
    assert "deep: diverged: the training loss became nan in epoch 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "networks", "message"),
    [
        ([], ("small.yaml", "resnet21"), "unknown network 'resnet21' (did you mean 'resnet"),
        ([], ("missing.yaml",), "missing.yaml"),
        ([], (), "Missing argument 'CONFIG|NAME...'"),
        ([], ("small.yaml", "./small.yaml"), "small and small are the same network"),
        (["--epochs", "0"], ("small.yaml",), "epochs must be a whole number from 1"),
        (["--repeats", "0"], ("small.yaml",), "0 is not in the range"),
        (["--lr", "nan"], ("small.yaml",), "learning_rate must be a number from 0"),
        (["--device", "quantum"], ("small.yaml",), "device 'quantum' can't be used here"),
        (["--dataset", "digit"], ("small.yaml",), "did you mean 'digits'?"),
        (["--out", "small.yaml"], ("small.yaml",), "is a file, not a folder"),
    ],
)
def test_wrong_comparisons_are_refused_before_anything_is_made(compare, arguments, networks, message):
    result = compare(*arguments, networks=networks)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert sorted(path.name for path in Path().iterdir()) == ["deep.yaml", "small.yaml"]


def test_a_folder_of_another_comparison_is_refused(compare):
    assert compare("--out", "here", "--quiet", "--epochs", 1).exit_code == 0
    result = compare("--out", "here")
    assert result.exit_code == 2
    assert "here: holds another comparison: epochs is 1, not 2" in result.stderr


def test_other_commands_know_a_comparisons_folder(compare):
    assert compare("--out", "here", "--quiet", "--epochs", 1).exit_code == 0
    train = ("train", "small.yaml", "--dataset", "digits", "--epochs", 1, "--out", "here", "--device", "cpu")
    assert "here: holds a comparison of `nas compare`; choose another folder" in nas_(*train).stderr
    said = nas_("export", "here").stderr
    assert "here: holds a comparison, which keeps no weights" in said
    config = re.search(r"as (here/\S+/config.yaml)$", said.strip())
    assert config and nas_("export", config[1], "--out", "configs").exit_code == 0


def test_steps_of_gradients_are_those_of_the_work():
    from nas.cli.commands.compare import GRADIENT_STEPS
    from nas.training.gradient_norms import STEPS

    assert GRADIENT_STEPS == STEPS


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_ended_goes_on(tmp_path, how):
    """As a process: ended behind the first epoch of the second network; the same command finishes what is missing."""
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "deep.yaml").write_text(DEEP)
    options = ["small.yaml", "deep.yaml", "--dataset", "digits", "--epochs", "3", "--precision", "fp32", "--out", "c"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "c" / "deep" / "seed0" / "checkpoint.pt"
    ended = signalled(how, checkpoint, "compare", *options, cwd=tmp_path, env=environment)
    assert ended.returncode == (130 if how == signal.SIGINT else -how), ended.stderr
    if how == signal.SIGINT:
        last = ended.stderr.splitlines()[-1]
        assert last == "interrupted after 1 of 2 trainings; the same command continues from there"
    assert "Traceback" not in ended.stderr
    assert checkpoint.exists()
    gone_on = process("compare", *options, "--json", cwd=tmp_path, env=environment, timeout=250)
    assert gone_on.returncode == 0, gone_on.stderr
    assert "1 of 2 trainings are done already" in gone_on.stderr
    assert "deep (1/1): epoch 1/3" not in gone_on.stderr
    for network in json.loads(gone_on.stdout)["networks"]:
        points = network["trainings"][0]["points"]
        assert [point["epoch"]["number"] for point in points] == [1, 2, 3]
