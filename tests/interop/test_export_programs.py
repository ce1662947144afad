"""Graphs and folders with weights: other programs give our logits, at several sizes of batch, without this package."""

from __future__ import annotations

import json
import math
from datetime import date

import pytest
import torch
import yaml
from helpers_export import far, images_for, logits_of, small_designs, subject_of, without_package
from safetensors.torch import load_file
from torch import nn

from nas.errors import NasError
from nas.interop.export import EXPORTERS, MissingPackage, NotExpressible, Subject, programs
from nas.interop.export.huggingface import card
from nas.interop.export.programs import excess
from nas.networks.build import build

pytestmark = pytest.mark.usefixtures("one_thread")

DESIGNS = small_designs()
MIXED = ("mixture", "condconv")  # a kernel for each image
RUN = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession({path!r})
run = lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])
""",
    "torchscript": "run = torch.jit.load({path!r})",
    "pt2": "run = torch.export.load({path!r}).module()",
    "huggingface": """
sys.path.insert(0, {path!r})
import modeling
run = modeling.from_pretrained()
""",
}


@pytest.mark.slow
def test_another_process_gives_our_logits_at_two_sizes_of_batch(tmp_path):
    """By each format that is run without us."""
    subject = subject_of(DESIGNS["bottleneck"], run="a run")
    images = {f"x{count}": images_for(subject.architecture, count) for count in (2, 5)}
    script = "from safetensors.torch import load_file, save_file\nlogits = {}\n"
    for name, code in RUN.items():
        path = tmp_path / f"network{EXPORTERS[name].suffix}"
        EXPORTERS[name].write(subject, path)
        script += code.replace("{path!r}", repr(str(path)))
        script += f"""
with torch.inference_mode():
    logits |= {{"{name} " + key: run(x).contiguous() for key, x in load_file("tensors.safetensors").items()}}
"""
    script += 'save_file(logits, "logits.safetensors")\n'
    without_package(script, tmp_path, **images)
    logits = load_file(tmp_path / "logits.safetensors")
    assert len(logits) == len(RUN) * len(images)
    for name in RUN:
        for key, x in images.items():
            assert far(logits[f"{name} {key}"], logits_of(subject, x)) < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("design", list(DESIGNS))
@pytest.mark.parametrize("name", ["onnx", "torchscript", "pt2"])
def test_every_design_is_a_program_or_refused(name, design, tmp_path):
    """The exporter itself holds the logits against PyTorch's."""
    path = tmp_path / f"network{EXPORTERS[name].suffix}"
    if design in MIXED:
        with pytest.raises(NotExpressible, match=f"as {name} because stage 1 mixes a kernel for each image"):
            EXPORTERS[name].write(subject_of(DESIGNS[design]), path)
        assert not path.exists()
    else:
        EXPORTERS[name].write(subject_of(DESIGNS[design]), path)
        assert path.stat().st_size > 1000


class Cancelling(nn.Module):
    """Logits of about 1 that are the difference of two of about `size`: single precision leaves little of them."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(size))

    def forward(self, images):
        return (images.flatten(1) + self.size) - self.size


def test_another_network_is_told_from_another_order_of_additions():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    good, poor = Cancelling(1.0), Cancelling(1e4)
    logits = good(images).detach()
    assert excess(good, images, logits * (1 + 9e-6)) == 0.0
    assert excess(good, images, logits * (1 + 2e-5)) == pytest.approx(2e-5, rel=0.02)
    # 1e4 in single precision is known to 1e-3: the images themselves are a better answer, and another one is not.
    assert excess(poor, images, images.flatten(1)) == 0.0
    assert excess(poor, images, images.flatten(1) + 0.01) == pytest.approx(0.01, rel=0.2)
    # In double precision there is no excuse.
    assert excess(poor, images, images.flatten(1), lambda x: x.flatten(1)) == 0.0
    assert excess(poor, images, images.flatten(1), lambda x: x.flatten(1) * (1 + 1e-7)) == pytest.approx(1e-7, rel=0.1)

    def single(x):
        raise RuntimeError("single precision is written into this graph")

    assert excess(poor, images, images.flatten(1), single) == 0.0
    assert excess(poor, images, images.flatten(1) + 0.01, single) > 0.0


@pytest.mark.parametrize("name", ["torchscript", "pt2"])
def test_a_program_of_another_network_is_not_kept(name, tmp_path, monkeypatch):
    loaded = getattr(programs, f"load_{name}")

    class Other(nn.Module):
        def __init__(self, program):
            super().__init__()
            self.program = program

        def forward(self, x):
            return self.program(x) * (1 + 1e-4)

    monkeypatch.setattr(programs, f"load_{name}", lambda path, threads: Other(loaded(path, threads)))
    with pytest.raises(NasError, match=r"differ from the network's by \d\.\de-0[45] of the greatest"):
        EXPORTERS[name].write(subject_of(DESIGNS["basic"]), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_onnx_that_computes_something_else_is_not_kept_quiet(tmp_path, monkeypatch):
    subject = subject_of(DESIGNS["basic"])
    monkeypatch.setattr("nas.interop.export.onnx.excess", lambda *_: 0.5)
    with pytest.raises(NasError, match="differ from PyTorch's by"):
        EXPORTERS["onnx"].write(subject, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingPackage, match=r'^the format onnx needs a package that is missing: pip install "nas\[onnx\]"$'
    ):
        EXPORTERS["onnx"].write(subject_of(DESIGNS["basic"]), tmp_path / "x.onnx")


def test_onnx_says_where_it_comes_from(tmp_path):
    import onnx

    subject = subject_of(DESIGNS["basic"], trial=3)
    EXPORTERS["onnx"].write(subject, tmp_path / "x.onnx")
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert facts["digest"] == subject.architecture.digest
    assert json.loads(facts["provenance"]) == {"trial": 3}


def test_a_folder_for_the_hub_says_what_it_holds(tmp_path):
    architecture = DESIGNS["basic"]
    data = {"name": "shapes", "classes": list("abcdefg"), "mean": [0.5] * 3, "std": [0.2] * 3}
    subject = subject_of(architecture, accuracy=0.9312, accuracy_on="test", dataset=data)
    EXPORTERS["huggingface"].write(subject, tmp_path / "x")
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        *("config.json", "model.safetensors", "README.md", "modeling.py")
    }
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["id2label"]["6"] == "g"
    assert (config["digest"], config["image_mean"], config["trained"]) == (architecture.digest, [0.5] * 3, True)
    text = (tmp_path / "x" / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["pipeline_tag"] == "image-classification"
    assert "| accuracy, test split | 93.12 % |" in text
    assert "random" not in text


@pytest.mark.parametrize("weights", [None, {}])
def test_what_a_search_found_is_not_said_of_other_weights(weights):
    data = {"name": "shapes", "fingerprint": "0" * 64}
    facts = {"run": "mine", "trial": 3, "accuracy": 0.9312, "accuracy_on": "validation", "epochs": 10, "dataset": data}
    text = card(Subject(DESIGNS["basic"], facts, weights))
    assert "| accuracy, validation split after 10 epochs of the search | 93.12 % |" in text
    assert "\nThe search trained it on shapes.\n" in text and "\nTrained on" not in text


def test_weights_given_beside_a_design_of_a_search_speak_for_themselves(tmp_path):
    """The search's accuracy and data are the design's; names, mean and deviation must be those of the weights' training."""
    architecture = DESIGNS["basic"]
    own = {"name": "photos", "classes": list("abcdefg"), "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    weights = {"source": "w", "fingerprint": "1", "accuracy": 0.5, "accuracy_on": "test", "dataset": own}
    facts = {"run": "mine", "accuracy": 0.25, "epochs": 3, "dataset": {"name": "shapes"}, "weights": weights}
    subject = subject_of(architecture, **facts)
    text = card(subject)
    assert "| accuracy, validation split after 3 epochs of the search | 25.00 % |" in text
    assert "| accuracy, test split | 50.00 % |" in text
    assert "The search trained it on shapes. Trained on photos. Images are scaled by" in text
    EXPORTERS["huggingface"].write(subject, tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert (config["image_mean"], config["image_std"]) == (own["mean"], own["std"])
    assert config["id2label"]["0"] == "a"


@pytest.mark.parametrize("name", ["yaml", "json", "python", "huggingface", "torchscript"])
def test_a_provenance_may_say_anything(name, tmp_path):
    """It is what a config's file says, and YAML has dates."""
    facts = {
        "run": "mine",
        "date": date(2026, 5, 1),
        date(2026, 5, 2): [math.nan, {1}],
        "accuracy": 0.9,
        "epochs": "many",
        "dataset": {"name": 3, "classes": 7, "mean": "grey", "std": [None]},
    }
    subject = Subject(DESIGNS["basic"], facts)
    EXPORTERS[name].write(subject, tmp_path / f"x{EXPORTERS[name].suffix}")
    if name in ("yaml", "json"):
        said = yaml.safe_load((tmp_path / f"x.{name}").read_text())["provenance"]
        assert said["date"] == "2026-05-01" and said["2026-05-02"] == ["nan", "{1}"]


def test_weights_that_were_not_given_are_random_ones_and_said_so(tmp_path):
    subject = Subject(DESIGNS["basic"])
    EXPORTERS["huggingface"].write(subject, tmp_path / "x")
    assert "**The weights are random**" in (tmp_path / "x" / "README.md").read_text()
    weights = load_file(tmp_path / "x" / "model.safetensors")
    assert all(
        torch.equal(weights[name], tensor) for name, tensor in build(DESIGNS["basic"], seed=0).state_dict().items()
    )
