"""`nas export` beyond configs: any network, any format, weights, and the table of a whole front."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

import pytest
import torch
from helpers_cli import nas_, output, refusal
from helpers_export import far, images_for, logits_of, small_designs, subject_of
from make_run import make_run
from safetensors.torch import load_file, save_file

from nas.interop.export import Subject
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.runs.run import load_run

DESIGN = small_designs()["bottleneck"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "done", trials=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Subject]:
    """A folder as `nas train` leaves it, but for its result."""
    said = {
        "dataset": "shapes",
        "classes": json.dumps(list("abcdefg")),
        "mean": "[0.1, 0.2, 0.3]",
        "std": "[0.4, 0.5, 0.6]",
        "test_accuracy": "0.75",
    }
    folder, subject = tmp_path_factory.mktemp("trained"), subject_of(DESIGN)
    (folder / "plan.json").write_text("{}")
    (folder / "config.yaml").write_text(DESIGN.to_yaml())
    save_file(dict(subject.weights), folder / "weights.safetensors", said)
    return folder, subject


def test_a_whole_front_comes_with_a_table(run, tmp_path):
    result = nas_("export", run, "--format", "python", "--format", "torchvision", "--out", tmp_path)
    assert result.exit_code == 0
    front = load_run(run).front()
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert [path.suffix for path in paths] == [".py"] * len(front)
    rows = list(csv.DictReader((tmp_path / "index.csv").open()))
    assert [row["format"] for row in rows] == ["python", "torchvision"] * len(front)
    for trial, written, refused in zip(front, rows[::2], rows[1::2], strict=True):
        assert (tmp_path / written["file"]).is_file()
        assert written["digest"] == trial.digest
        assert int(written["params"]) == trial.cost.params
        assert float(written["accuracy"]) == trial.accuracy
        assert written["state"] == "written"
        assert refused["file"] == ""
        assert refused["state"].startswith("not expressible as torchvision because ")
    page = (tmp_path / "index.md").read_text()
    assert page.count("\n| ") == 2 * len(front)
    assert f"({rows[0]['file']})" in page
    assert "not expressible as torchvision because" in result.stderr
    assert output("export", run, "--top", 1, "--out", tmp_path / "one")
    assert not (tmp_path / "one" / "index.md").exists()


def test_nothing_expressible_is_an_error(run, tmp_path):
    assert "not expressible as torchvision because" in refusal(
        "export", run, "--format", "torchvision", "--out", tmp_path
    )


def test_a_published_network_goes_into_the_file_that_is_said(tmp_path):
    line = output("export", "resnet20", "--format", "python", "--out", tmp_path / "net.py")
    assert Path(line.strip()) == tmp_path / "net.py"
    assert "Network" in runpy.run_path(str(tmp_path / "net.py"))
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_a_config_keeps_its_provenance(run, tmp_path):
    (path,) = output("export", run, "--top", 1, "--out", tmp_path).splitlines()
    (again,) = output("export", path, "--format", "json", "--out", tmp_path).splitlines()
    assert Path(again).stem == Path(path).stem
    facts = json.loads(Path(again).read_text())["provenance"]
    assert facts["run"] == "done"
    assert facts["recipe"]["epochs"] >= 1
    assert Architecture.from_yaml(again) == Architecture.from_yaml(path)


@pytest.mark.parametrize("by", ["folder", "option", "file"])
def test_trained_weights_come_along(trained, tmp_path, by):
    folder, subject = trained
    (tmp_path / "c.yaml").write_text(DESIGN.to_yaml())
    arguments = {
        "folder": [folder],
        "option": [tmp_path / "c.yaml", "--weights", folder],
        "file": [tmp_path / "c.yaml", "--weights", folder / "weights.safetensors"],
    }[by]
    (path,) = output("export", *arguments, "--format", "python", "--out", tmp_path).splitlines()
    network = runpy.run_path(path)["Network"]()
    network.load_state_dict(load_file(Path(path).with_suffix(".safetensors")))
    images = images_for(DESIGN)
    with torch.inference_mode():
        assert far(network.eval()(images), logits_of(subject, images)) < 1e-6


@pytest.mark.parametrize("where", ["folder", "file", "another training"])
def test_weights_bring_the_mean_and_the_classes_of_their_training(trained, tmp_path, where):
    """timm would scale images by ImageNet's mean instead; and another training's accuracy is not theirs."""
    (tmp_path / "c.yaml").write_text(DESIGN.to_yaml() + "provenance: {accuracy: 0.5, dataset: {name: other}}\n")
    given = trained[0] if where == "folder" else trained[0] / "weights.safetensors"
    source = trained[0] if where == "another training" else tmp_path / "c.yaml"
    options = ["--format", "huggingface", "--format", "yaml", "--weights", given]
    result = nas_("export", source, *options, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "yaml: written without the weights, which the format can't contain." in result.stderr
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    config = json.loads((folder / "config.json").read_text())
    assert (config["image_mean"], config["image_std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert config["id2label"]["6"] == "g"
    assert config["provenance"]["weights"]["source"] == given.name
    card = (folder / "README.md").read_text()
    assert "| accuracy, test split | 75.00 % |" in card and "Trained on shapes." in card and "50.00" not in card


def test_timm_gets_the_mean_of_the_weights(tmp_path):
    pytest.importorskip("timm")
    design = zoo.get("resnet18").adapted(classes=7, resolution=32, channels=3)
    (tmp_path / "c.yaml").write_text(design.to_yaml())
    said = {"dataset": "shapes", "mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]"}
    save_file(build(design, seed=0).state_dict(), tmp_path / "w.safetensors", said)
    options = ["--weights", tmp_path / "w.safetensors", "--format", "timm", "--out", tmp_path]
    (path,) = output("export", tmp_path / "c.yaml", *options).splitlines()
    config = json.loads((Path(path) / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


def test_a_table_of_somebody_else_is_left_alone(run, tmp_path):
    (tmp_path / "index.md").write_text("# My notes\n")
    said = refusal("export", run, "--out", tmp_path)
    assert "index.md: is no table of an export; --force overwrites it" in said
    assert [path.name for path in tmp_path.iterdir()] == ["index.md"], "nothing is written"
    assert output("export", run, "--out", tmp_path, "--force")
    assert (tmp_path / "index.md").read_text().startswith("| file | format |")
    assert output("export", run, "--top", 2, "--format", "json", "--out", tmp_path), "a choice has no table"
    assert output("export", run, "--format", "json", "--out", tmp_path), "our own is written anew"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet20", "--out", "net.json"], "--out net.json: the file names of --format yaml end with .yaml"),
        (["resnet20", "--out", "net.py", "--format", "onnx"], "the file names of --format onnx end with .onnx"),
        (["resnet20", "--out", "net.yaml", "--format", "yaml", "--format", "json"], "1 network in 2 formats go into"),
    ],
)
def test_a_file_of_another_format_is_not_made_a_folder(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal("export", *arguments)
    assert not any(tmp_path.iterdir())


def test_files_and_folders_are_told_apart(run, tmp_path):
    assert "networks in 1 format go into a folder" in refusal("export", run, "--out", tmp_path / "all.yaml")
    (tmp_path / "v1.py").mkdir()
    (path,) = output("export", "resnet20", "--out", tmp_path / "v1.py").splitlines()
    assert Path(path) == tmp_path / "v1.py" / "resnet20.yaml"
    for name in ("net.yml", "release-1.2"):
        (path,) = output("export", "resnet20", "--out", tmp_path / name).splitlines()
    assert (tmp_path / "net.yml").is_file() and Path(path) == tmp_path / "release-1.2" / "resnet20.yaml"


def test_folders_are_replaced_as_a_whole_if_forced(trained, tmp_path):
    folder, _ = trained
    (path,) = output("export", folder, "--format", "huggingface", "--out", tmp_path).splitlines()
    assert output("export", folder, "--format", "huggingface", "--out", tmp_path)
    (Path(path) / "old.bin").write_text("")
    (Path(path) / "config.json").write_text("mine")
    assert "config.json and 1 more: holds something else" in refusal(
        "export", folder, "--format", "huggingface", "--out", tmp_path
    )
    output("export", folder, "--format", "huggingface", "--out", tmp_path, "--force")
    assert not (Path(path) / "old.bin").exists()
    assert json.loads((Path(path) / "config.json").read_text())["digest"] == DESIGN.digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet21"], "neither a run's folder nor a network's name (did you mean 'resnet"),
        (["resnet20", "--top", "1"], "is one network; --top and --trial choose among a run's"),
        (["resnet20", "--weights", "nothing.pth", "--format", "python"], "weights nothing.pth: no such file"),
        (["resnet20", "--weights", "nothing.pth"], "--weights: yaml can't contain weights; choose a format"),
        (
            ["resnet20", "--weights", "x.pth", "--format", "json", "--format", "pycls"],
            "json, pycls can't contain weights",
        ),
        (["resnet20", "--format", "tensorflow"], "unknown format 'tensorflow'"),
    ],
)
def test_wrong_exports(arguments, message, tmp_path):
    assert message in refusal("export", *arguments, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_weights_are_of_one_network_and_its_classes(run, trained, tmp_path):
    options = ["--weights", trained[0], "--format", "python"]
    assert "--weights are one network's" in refusal("export", run, *options, "--out", tmp_path)
    text = DESIGN.to_yaml().replace("classes: 7", "classes: 8")
    (tmp_path / "c.yaml").write_text(text)
    message = refusal("export", tmp_path / "c.yaml", *options, "--out", tmp_path / "new")
    assert "has other classes than the network's 8" in message


def test_a_training_that_is_not_done_has_no_weights(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    assert "its training has not ended" in refusal("export", tmp_path, "--out", tmp_path, code=1)
