"""`nas train` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_cli import SMALL, nas_, process, signalled

from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.training.full_training import FullTraining


@pytest.fixture
def train(monkeypatch, tmp_path, one_thread):
    """`nas train small.yaml --dataset digits` with two quick epochs, in an empty folder; more arguments may follow."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    common = ["--dataset", "digits", "--epochs", 2, "--device", "cpu", "--precision", "fp32"]
    return lambda *arguments, config="small.yaml": nas_("train", config, *common, *arguments)


def test_train_writes_weights_and_reports_the_test_once(train):
    first = train()
    assert first.exit_code == 0, first.output
    folder = Path("results/train-small-digits-2epochs-seed0")
    assert {"weights.safetensors", "config.yaml", "result.json"} <= {path.name for path in folder.iterdir()}
    result = json.loads((folder / "result.json").read_text())
    assert f"test accuracy {100 * result['test']['accuracy']:.2f} % on 359 images" in first.stdout
    assert str(folder) in first.stdout
    assert "1,294 to train on, 144 for validation, 359 for the test" in first.stderr
    assert "Optical recognition of handwritten digits" in first.stderr
    assert re.search(
        r"^epoch 1/2: loss [\d.]+, validation [\d.]+ %, [\d,]+ images/s, .* left$", first.stderr, re.MULTILINE
    )
    assert "adapted" not in first.stderr
    again = train("--json")
    assert again.exit_code == 0
    assert "trained and tested already" in again.stderr
    assert json.loads(again.stdout) == result


def test_steps_are_told_within_slow_epochs(train, monkeypatch):
    from nas.cli.commands import training_display

    monkeypatch.setattr(training_display, "STEP_LINE_SECONDS", 0.0)
    result = train("--batch-size", 128)
    assert result.exit_code == 0
    for epoch in (1, 2):
        assert re.search(rf"^epoch {epoch}/2: 4 of 10 steps, [\d.]+ \w+( \d+ s)? left$", result.stderr, re.MULTILINE)


def test_train_quietly_as_json(train):
    result = train("--json", "--quiet", "--out", "here")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert json.loads(result.stdout)["recipe"]["epochs"] == 2
    assert Path("here/weights.safetensors").is_file()


def test_an_ended_training_gives_its_event_files_when_they_are_asked_for(train):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert train("--out", "here", "--quiet").exit_code == 0
    assert not Path("here/tensorboard").exists()
    again = train("--out", "here", "--tensorboard")
    assert again.exit_code == 0 and "trained and tested already" in again.stderr
    events = accumulators.EventAccumulator("here/tensorboard")
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy/validation")] == [1, 2]


def test_weights_may_be_a_folder_of_another_training(train, tmp_path):
    assert train("--out", "first", "--quiet").exit_code == 0
    assert train("--out", "second", "--quiet", "--weights", "first").exit_code == 0
    told = json.loads(Path("second/result.json").read_text())["weights"]
    assert told["source"] == "first/weights.safetensors"
    (tmp_path / "begun").mkdir()
    assert "begun: holds no weights.safetensors" in train("--weights", "begun").stderr
    (tmp_path / "begun" / "config.yaml").write_text(SMALL)
    assert "the training there has not ended" in train("--weights", "begun").stderr


def test_the_bar_of_a_training_that_goes_on_counts_the_epochs_before(monkeypatch):
    from nas.cli.commands.training_display import _Display

    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    training = SimpleNamespace(recipe=SimpleNamespace(epochs=9), records=(None,) * 3)
    (task,) = _Display(training, quiet=False).reporter._bar.tasks
    assert (task.completed, task.total, task.fields["figures"]) == (3, 9, "epoch 4 is running")


def test_train_adapts_a_published_network_and_says_so(train):
    result = train("--resolution", 12, "--out", "here", config="resnet20")
    assert result.exit_code == 0, result.output
    assert "adapted to the data: pixels 32 → 12, channels 3 → 1" in result.stderr
    built = Architecture.from_yaml("here/config.yaml")
    assert built.digest == zoo.get("resnet20").adapted(classes=10, resolution=12, channels=1).digest


def test_train_warns_of_stages_that_see_one_pixel():
    from nas.cli.commands.training_display import _single_pixel_warning

    assert "after its stage2 the features are 1 × 1 px" in _single_pixel_warning(
        zoo.get("resnet18").adapted(classes=10, resolution=8, channels=1)
    )
    assert _single_pixel_warning(zoo.get("resnet18")) == _single_pixel_warning(Architecture.from_yaml(SMALL)) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "epochs must be a whole number from 1"),
        (["--batch-size", "0"], "batch_size must be a whole number from 1"),
        (["--lr", "nan"], "learning_rate must be a number from 0"),
        (["--lr", "fast"], "'fast' is not a valid float"),
        (["--precision", "fp16"], "'fp16' is not one of"),
        (["--device", "quantum"], "device 'quantum' can't be used here: known are auto, cpu, cuda, cuda:N and mps"),
        (["--cutout", "9"], "--cutout 9: the images have 8 pixels"),
        (["--dataset", "digit"], "did you mean 'digits'?"),
        (["--dataset", "npz:missing.npz"], "does not exist"),
        (["--dataset", "cifar10", "--data-root", "nowhere"], "--download gets it"),
        (["--resolution", "1"], "it must be at least 4"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--out", "small.yaml"], "is a file, not a folder"),
        (
            ["other.yaml"],
            "train takes one CONFIG|NAME, and got 2: small.yaml, other.yaml; `nas compare` trains several",
        ),
    ],
)
def test_wrong_trainings_are_refused_before_anything_is_made(train, arguments, message):
    result = train(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_train_refuses_a_folder_of_another_training(train):
    assert train("--out", "here", "--quiet").exit_code == 0
    result = train("--out", "here", "--seed", 1)
    assert result.exit_code == 2
    assert "here: holds another training: seed is 0, not 1; choose another folder with --out" in result.stderr


def test_a_training_that_fails_is_an_error_of_the_work(train, monkeypatch):
    import torch

    from nas.training.trainer import Diverged, Training

    for error, message in (
        (Diverged("the training loss became nan in epoch 1"), "error: the training loss became nan in epoch 1"),
        (
            torch.OutOfMemoryError("no more\nwith details"),
            "error: out of memory on cpu, with one image at a time: a smaller resolution or network needs less: no more",
        ),
    ):

        def fails(self, error=error):
            raise error

        monkeypatch.setattr(Training, "epoch", fails)
        result = train("--out", "here")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1] == message


def test_a_log_and_a_page_are_left_and_made_again(train):
    options = ("--out", "here", "--micro-batch", "16", "--ema", "0.9", "--decay", "weights")
    assert train(*options).exit_code == 0
    folder = Path("here")
    result = json.loads((folder / "result.json").read_text())
    assert result["micro_batch"] == 16 and (result["recipe"]["ema"], result["recipe"]["decay"]) == (0.9, "weights")
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + len(result["epochs"])
    (folder / "report.html").unlink()
    assert train(*options).exit_code == 0
    assert "<html" in (folder / "report.html").read_text()
    other = train("--out", "here")
    assert other.exit_code == 2 and "ema is 0.9, not 0.0" in other.stderr


def test_memory_that_is_short_is_said(train, monkeypatch):
    import torch

    from nas.training.trainer import Training

    epoch = Training.epoch

    def short(self):
        if (self.micro_batch or 99) > 8:
            raise torch.OutOfMemoryError("no more")
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", short)
    result = train("--out", "here")
    assert result.exit_code == 0
    assert "memory of cpu is short: 8 images at once from here on" in result.stderr


def test_memory_that_is_predicted_to_be_short_is_said(train, monkeypatch):
    from nas.training import workspace

    monkeypatch.setattr(workspace, "free_bytes", lambda device: 1)
    monkeypatch.setattr(workspace, "largest_micro_batch", lambda *_, **__: 8)
    result = train("--out", "here")
    assert result.exit_code == 0
    assert "memory of cpu is short: 8 images at once from here on" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path):
    """As a process: interrupted behind its first epoch, gone on with, and equal to the epochs that were saved."""
    (tmp_path / "small.yaml").write_text(SMALL)
    options = [
        "small.yaml",
        "--dataset",
        "digits",
        "--epochs",
        "3",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--out",
        "t",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "t" / "checkpoint.pt"
    ended = signalled(signal.SIGINT, checkpoint, "train", *options, cwd=tmp_path, env=environment)
    assert ended.returncode == 130, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last == "interrupted after epoch 1 of 3; the same command continues from there"
    assert "Traceback" not in ended.stderr
    gone_on = process("train", *options, cwd=tmp_path, env=environment, timeout=250)
    assert gone_on.returncode == 0, gone_on.stderr
    assert re.search(r"^continues after epoch 1$", gone_on.stderr, flags=re.MULTILINE)
    epochs = json.loads((tmp_path / "t" / "result.json").read_text())["epochs"]
    assert [epoch["number"] for epoch in epochs] == [1, 2, 3]


def test_an_epoch_that_was_not_saved_is_not_counted(train, monkeypatch):
    save, calls = FullTraining._save, []

    def interrupted(self, training):
        calls.append(training.done)
        if len(calls) == 2:
            raise KeyboardInterrupt  # while the second epoch's checkpoint is written
        save(self, training)

    monkeypatch.setattr(FullTraining, "_save", interrupted)
    ended = train("--out", "t")
    assert ended.exit_code == 130
    assert ended.stderr.splitlines()[-1] == "interrupted after epoch 1 of 2; the same command continues from there"
    again = train("--out", "t")
    assert again.exit_code == 0 and "continues after epoch 1\n" in again.stderr
    assert calls == [1, 2, 2]


def test_train_from_weights(train):
    assert train("--out", "first").exit_code == 0
    source = "first/weights.safetensors"
    result = train("--weights", source)
    assert result.exit_code == 0, result.output
    assert f"weights: {source}, by our names" in result.stderr
    folder = Path("results/train-small-digits-2epochs-seed0-from-first-weights.safetensors")
    assert json.loads((folder / "result.json").read_text())["weights"]["source"] == source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.safetensors", "weights missing.safetensors: no such file"),
        ("torchvision:resnet5", "did you mean 'resnet50'"),
    ],
)
def test_train_refuses_weights_that_are_not_there(train, source, message):
    result = train("--weights", source)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("results").exists()
