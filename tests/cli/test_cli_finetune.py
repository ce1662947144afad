"""`nas finetune` as a user meets it: one network, a front, what is refused, and going on after an interruption."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_cli import nas_
from make_run import make_run
from safetensors.torch import load_file, save_file

from nas.cli.commands.finetune import POLICIES
from nas.networks.architecture import Architecture
from nas.runs.run import load_run
from nas.training.transfer import AUTO, KINDS

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = """\
name: small
resolution: 8
channels: 1
stem: {kind: cifar, width: 4}
stages:
- {depth: 1, width: 4, branch: basic}
- {depth: 1, width: 8, stride: 2, branch: basic}
head: {kind: linear, classes: 10}
"""

CPU = ["--device", "cpu", "--precision", "fp32"]


def digits(file: Path, labels: list[int], *, each: int | None = None, seed: int = 0) -> str:
    """The digits of these labels as an npz file; the data set's name.

    each: so many training images a class, drawn by seed, and all others to test on; None: the data set's own two parts.
    """
    from nas.data import load

    data = load("digits")
    x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    train = np.arange(len(y)) < len(data.y_train)
    if each is not None:
        random = np.random.default_rng(seed)
        train[:] = False
        for label in labels:
            train[random.choice(np.flatnonzero(y == label), each, replace=False)] = True
    parts = {}
    for part, chosen in (("train", train), ("test", ~train)):
        index = np.flatnonzero(chosen & np.isin(y, labels))
        parts |= {f"x_{part}": x[index], f"y_{part}": np.searchsorted(labels, y[index])}
    np.savez(file, **parts, flip=False, classes=np.array([str(label) for label in labels]))
    return f"npz:{file}"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `small.yaml`, the data sets `old.npz` (0 to 5) and `new.npz` (6 to 9), and `trained` on the old one."""
    folder = tmp_path_factory.mktemp("transfer")
    (folder / "small.yaml").write_text(SMALL)
    digits(folder / "new.npz", [6, 7, 8, 9], each=20)
    old = digits(folder / "old.npz", [0, 1, 2, 3, 4, 5], each=30)
    done = nas_("train", folder / "small.yaml", "--dataset", old, "--epochs", 2, "--out", folder / "trained", *CPU)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def finetune(place, tmp_path, monkeypatch):
    """`nas finetune SOURCE --dataset new.npz` for two epochs, in an empty folder; more arguments may follow."""
    monkeypatch.chdir(tmp_path)

    def run(source, *arguments, dataset="new.npz", epochs=2):
        named = ["--dataset", f"npz:{place / dataset}", "--epochs", epochs, *CPU]
        return nas_("finetune", source, *named, *arguments)

    return run


def last_line(result, code: int = 2) -> str:
    assert result.exit_code == code, result.output
    return result.stderr.splitlines()[-1]


def test_policies_are_those_of_transfer():
    assert set(POLICIES) == {AUTO, *KINDS}


def test_a_trained_folder_is_fine_tuned_from_its_own_weights(finetune, place):
    result = finetune(place / "trained", "--out", "out")
    assert result.exit_code == 0, result.output
    found = json.loads(Path("out/result.json").read_text())
    assert found["dataset"]["classes"] == ["6", "7", "8", "9"]
    assert found["weights"]["source"] == str(place / "trained" / "weights.safetensors")
    assert Architecture.from_yaml("out/config.yaml").head.classes == 4
    assert load_file("out/weights.safetensors")["head.2.weight"].shape[0] == 4
    assert f"test accuracy {100 * found['test']['accuracy']:.2f} %" in result.stdout
    assert "the classifier starts fresh" in result.stderr
    again = finetune(place / "trained", "--out", "out", "--json")
    assert "fine-tuned and tested already" in again.stderr
    assert json.loads(again.stdout) == found


def test_the_policy_is_said_in_one_line_and_kept(finetune, place):
    result = finetune(place / "trained", "--out", "out")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("policy: ")]
    kind, why, told = re.fullmatch(r"policy: (\S+) \((.*)\); (head × 1.*)", line).groups()
    assert why.startswith("72 training images, 18 a class")
    kept = json.loads(Path("out/plan.json").read_text())["policy"]
    assert kept == {"kind": kind, "backbone_lr_scale": 0.3, "unfreeze_every": 0, "head": "fresh"}
    assert json.loads(Path("out/result.json").read_text())["policy"] == kept
    assert "stage2 × 0.3" in told


def test_a_config_with_weights_of_its_own_choice(finetune, place):
    weights = place / "trained" / "weights.safetensors"
    result = finetune(place / "small.yaml", "--weights", weights, "--json", "--quiet", "--policy", "full")
    assert (result.exit_code, result.stderr) == (0, "")
    (folder,) = Path("results").iterdir()
    assert json.loads((folder / "result.json").read_text()) == json.loads(result.stdout)
    assert finetune(place / "small.yaml", "--weights", weights.parent, "--quiet").exit_code == 0


def test_head_alone_leaves_the_rest_as_it_was(finetune, place):
    result = finetune(place / "trained", "--policy", "head", "--out", "out")
    assert "policy: head (as asked); head × 1; frozen: stage2, stage1, stem" in result.stderr
    before, after = load_file(place / "trained" / "weights.safetensors"), load_file("out/weights.safetensors")
    for name, tensor in before.items():
        assert name.startswith("head.") or tensor.equal(after[name]), name


def test_keep_head_goes_on_with_the_classifier_of_the_same_classes(finetune, place):
    still = ["--dataset", f"npz:{place / 'old.npz'}", "--epochs", 1, "--lr", 1e-12, "--policy", "head", *CPU]
    assert nas_("finetune", place / "trained", *still, "--out", "kept", "--keep-head").exit_code == 0
    assert nas_("finetune", place / "trained", *still, "--out", "fresh").exit_code == 0
    before = load_file(place / "trained" / "weights.safetensors")["head.2.weight"]
    assert load_file("kept/weights.safetensors")["head.2.weight"].allclose(before, atol=1e-6)
    assert not load_file("fresh/weights.safetensors")["head.2.weight"].allclose(before, atol=1e-2)


def test_keep_head_refuses_other_classes(finetune, place, tmp_path):
    line = last_line(finetune(place / "trained", "--keep-head", "--out", "out"))
    assert "has 6 classes (0, 1, 2, ...), " in line
    assert "has 4 (6, 7, 8, ...); without --keep-head" in line
    digits(tmp_path / "six.npz", [1, 2, 3, 4, 5, 6], each=10)
    line = last_line(finetune(place / "trained", "--keep-head", "--out", "out", dataset=tmp_path / "six.npz"))
    assert "has 6 classes (0, 1, 2, ...), " in line
    assert "has 6 (1, 2, 3, ...)" in line
    save_file(load_file(place / "trained" / "weights.safetensors"), tmp_path / "bare.safetensors")
    named = ("--weights", tmp_path / "bare.safetensors", "--keep-head", "--out", "out")
    assert "another number of classes" in last_line(finetune(place / "small.yaml", *named))
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "some"], "'some' is not one of"),
        (["--backbone-lr-scale", 0], "backbone-lr-scale must be a number above 0"),
        (["--stage-decay", 2], "stage-decay must be"),
        (["--stage-decay", 0.5, "--backbone-lr-scale", 0.1], "--backbone-lr-scale and --stage-decay: choose one"),
        (["--unfreeze-every", -1], "unfreeze-every must be"),
        (["--policy", "head", "--unfreeze-every", 1], "nothing for unfreeze-every to unfreeze"),
        (["--policy", "head", "--stage-decay", 0.5], "--policy head trains the head alone: --stage-decay sets"),
        (["--policy", "head", "--backbone-lr-scale", 0.3], "--policy head trains the head alone: --backbone-lr-scale"),
        (["--train-epochs", 3], "--train-epochs: for a search's folder without --weights"),
        (["--epochs", 0], "epochs must be a whole number from 1"),
        (["--batch-size", 0], "batch_size must be a whole number from 1"),
        (["--lr", "nan"], "learning_rate must be a number from 0"),
        (["--weights", "missing.pth"], "no such file"),
        (["--weights", "."], "holds no weights.safetensors"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(finetune, place, arguments, message):
    assert message in last_line(finetune(place / "trained", *arguments))
    assert list(Path().iterdir()) == []


def test_a_config_without_weights_is_refused(finetune, place, tmp_path):
    assert "name them with --weights" in last_line(finetune(place / "small.yaml"))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text(SMALL)
    assert "the training there has not ended" in last_line(finetune("begun"))


def test_weights_of_another_network_are_refused(finetune, place, tmp_path):
    (tmp_path / "wide.yaml").write_text(SMALL.replace("width: 8", "width: 12"))
    line = last_line(finetune("wide.yaml", "--weights", place / "trained", "--out", "out"))
    assert "this network's" in line
    assert not Path("out").exists()


# -- going on ----------------------------------------------------------------------------------------------------------


def interrupt_after(epochs: int, monkeypatch):
    """Ctrl-C in the epoch behind so many."""
    from nas.training.trainer import Training

    epoch = Training.epoch

    def interrupted(self):
        if self.done == epochs:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", interrupted)


def test_an_interrupted_fine_tuning_goes_on_by_the_same_policy(finetune, place, monkeypatch):
    options = (place / "trained", "--policy", "full", "--unfreeze-every", 1, "--stage-decay", 0.5)
    assert finetune(*options, "--out", "through", epochs=4).exit_code == 0
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        stopped = finetune(*options, "--out", "out", epochs=4)
        assert "interrupted after epoch 2 of 4; the same command continues from there" in last_line(stopped, code=130)
    assert not Path("out/result.json").exists()
    for changed in (
        (place / "trained", "--policy", "full"),
        (*options[:-1], 0.9),
        (*options[:-3], 2, *options[-2:]),
        (place / "trained", "--policy", "last-stages", *options[3:]),
    ):
        line = last_line(finetune(*changed, "--out", "out", epochs=4))
        assert "out: holds another training: " in line
        assert "its pieces learn as {'kind': 'full', 'stage_decay': 0.5, 'unfreeze_every': 1, 'head': 'fresh'}" in line
        assert "choose another folder with --out" in line
    gone_on = finetune(*options, "--out", "out", epochs=4)
    assert gone_on.exit_code == 0, gone_on.output
    assert "continues after epoch 2" in gone_on.stderr
    ours, theirs = (load_file(f"{name}/weights.safetensors") for name in ("out", "through"))
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())


# -- a front -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(place) -> Path:
    """`run`, a search of small networks, and `front`, in which each network of its front has been trained for an epoch."""
    run = make_run(place / "run", trials=3, baselines=(), objectives=("accuracy", "params"), max_params=300_000)
    assert nas_("export", run, "--out", place / "configs").exit_code == 0
    for config in sorted((place / "configs").glob("*.yaml")):
        data = yaml.safe_load(config.read_text())
        assert data["head"]["classes"] == 10
        options = ["--dataset", f"npz:{place / 'old.npz'}", "--epochs", 1, "--out", place / "front" / config.stem]
        assert nas_("train", config, *options, *CPU, "--quiet").exit_code == 0
    return run


def test_a_front_is_fine_tuned_network_by_network(finetune, place, searched):
    result = finetune(searched, "--weights", place / "front", "--out", "out", "--policy", "head")
    assert result.exit_code == 0, result.output
    names = sorted(config.stem for config in (place / "configs").glob("*.yaml"))
    assert sorted(folder.name for folder in Path("out").iterdir()) == names
    assert len(names) == len(load_run(searched).front())
    for name in names:
        found = json.loads(Path("out", name, "result.json").read_text())
        assert found["weights"]["source"] == str(place / "front" / name / "weights.safetensors")
        assert re.search(rf"^{re.escape(name)} +{100 * found['test']['accuracy']:.2f} ", result.stdout, re.MULTILINE)
    again = json.loads(
        finetune(searched, "--weights", place / "front", "--out", "out", "--policy", "head", "--json").stdout
    )
    assert [Path(one["folder"]).name for one in again] == names


def test_a_kept_head_is_that_of_the_weights_and_not_of_the_search(finetune, place, searched):
    kept = finetune(searched, "--weights", place / "front", "--keep-head", "--out", "out", dataset="old.npz", epochs=1)
    assert kept.exit_code == 0, kept.output
    assert len(load_run(searched).config["dataset"]["classes"]) == 10


def test_a_network_that_diverges_does_not_keep_the_others(finetune, place, searched, monkeypatch):
    from nas.training.trainer import Diverged, Training

    epoch, first = Training.epoch, []

    def diverges(self):
        first.append(self)
        if len(first) == 1:
            raise Diverged("the training loss became nan in epoch 1")
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", diverges)
    result = finetune(searched, "--weights", place / "front", "--out", "out", "--policy", "head")
    networks = len(load_run(searched).front())
    assert last_line(result, code=1).startswith(f"error: 1 of {networks} networks failed: 01-")
    assert "the training loss became nan" in result.stderr
    assert len(list(Path("out").glob("*/result.json"))) == networks - 1


def test_trainings_that_a_front_needs_are_named(finetune, place, searched, tmp_path):
    line = last_line(finetune(searched, "--weights", "torchvision:resnet50"))
    assert (
        "for a run, the folder that holds the trainings of its front; without --weights its networks are trained first"
        in line
    )
    some = sorted((place / "front").iterdir())
    (tmp_path / "some").mkdir()
    for folder in some[1:]:
        (tmp_path / "some" / folder.name).symlink_to(folder)
    line = last_line(finetune(searched, "--weights", "some"))
    assert f"holds no trained weights of {some[0].name}, 1 of {len(some)} on the front" in line
    for name in ("a", "b"):
        (tmp_path / "some" / name).symlink_to(some[0])
    line = last_line(finetune(searched, "--weights", "some"))
    assert f"both hold weights of {some[0].name}" in line


def test_a_front_is_trained_and_fine_tuned_by_one_command(finetune, place, monkeypatch):
    monkeypatch.chdir(place)
    searched = nas_("search", "--dataset", "npz:old.npz", "--trials", 2, "--epochs", 1, "--executor", "local", "--set",
                    "block=basic", "--max-params", "20k", "--out", "found", "--seed", 3, "--objectives", "accuracy,params",
                    *CPU)  # fmt: skip
    assert searched.exit_code == 0, searched.output
    arguments = ("found", "--train-epochs", 2, "--out", "both")
    result = finetune(*arguments, epochs=1)
    assert result.exit_code == 0, result.output
    front = load_run("found").front()
    assert result.stderr.count("since a search keeps no weights") == len(front)
    for folder in Path("both/trained").iterdir():
        before, after = (
            json.loads((place / folder / "result.json").read_text()) for folder in (folder, Path("both", folder.name))
        )
        assert len(before["epochs"]) == 2 and len(after["epochs"]) == 1
        assert before["dataset"]["name"].endswith("old.npz") and after["dataset"]["name"].endswith("new.npz")
        assert after["weights"]["source"] == str(folder / "weights.safetensors")
    assert len(list(Path("both/trained").iterdir())) == len(front)
    assert "epoch 1/" not in finetune(*arguments, epochs=1).stderr  # all of it is there
    with np.load("old.npz") as arrays:
        changed = dict(arrays)
    changed["x_train"] = 255 - changed["x_train"]
    np.savez("old.npz", **changed)
    assert "has changed since the run began" in last_line(finetune("found", "--out", "other", epochs=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", 0], "batch_size must be a whole number from 1"),
        (["--keep-head"], "done has 10 classes (0, 1, 2, ...)"),
        (["--weights", "front", "--train-epochs", 3], "--train-epochs: for a search's folder without --weights"),
    ],
)
def test_what_is_wrong_is_said_before_a_front_is_trained(finetune, tmp_path, arguments, message):
    run = make_run(tmp_path / "done", trials=2)
    assert message in last_line(finetune(run, *arguments, "--out", "out"))
    assert not Path("out").exists()


def test_a_run_without_a_front_has_nothing_to_fine_tune(finetune, place):
    empty = make_run(place / "empty", told=0, trials=5)
    assert "no trial is complete yet" in last_line(finetune(empty), code=1)


# -- what it is for ----------------------------------------------------------------------------------------------------

RESNET = """\
name: resnet8
resolution: 8
channels: 1
stem: {kind: cifar, width: 16}
stages:
- {depth: 1, width: 16, branch: basic}
- {depth: 1, width: 32, stride: 2, branch: basic}
- {depth: 1, width: 64, stride: 2, branch: basic}
head: {kind: linear, classes: 6}
"""


@pytest.mark.slow
def test_few_images_learn_more_from_trained_weights(tmp_path, monkeypatch):
    """Digits 0 to 5, then 6 to 9 with 8 images a class, 30 epochs: trained weights against random ones, all else equal.

    docs/transfer.md has what longer trainings, and other rates, give.
    """
    monkeypatch.chdir(tmp_path)
    Path("resnet8.yaml").write_text(RESNET)
    old = digits(tmp_path / "old.npz", [0, 1, 2, 3, 4, 5])
    transferred, scratch = [], []
    for seed in range(3):
        new = digits(tmp_path / f"new{seed}.npz", [6, 7, 8, 9], each=8, seed=seed)
        common = ["--seed", seed, *CPU, "--quiet", "--json"]
        train = nas_("train", "resnet8.yaml", "--dataset", old, "--epochs", 15, "--out", f"old{seed}", *common)
        assert json.loads(train.stdout)["test"]["accuracy"] > 0.95
        few = ["--dataset", new, "--epochs", 30, *common]
        tuned = json.loads(nas_("finetune", f"old{seed}", "--backbone-lr-scale", 1, *few).stdout)
        begun = json.loads(nas_("train", "resnet8.yaml", "--out", f"scratch{seed}", *few).stdout)
        assert tuned["recipe"] == begun["recipe"]
        assert tuned["test"]["images"] > 600
        transferred.append(tuned["test"]["accuracy"])
        scratch.append(begun["test"]["accuracy"])
    assert statistics.mean(transferred) > statistics.mean(scratch) + 0.05, (transferred, scratch)
