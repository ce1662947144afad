"""The stand-alone file: it gives the network again where this package is not, and reads as if a person had written it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from helpers_export import (
    far,
    few_classes,
    images_for,
    lively,
    logits_of,
    small_designs,
    space_designs,
    subject_of,
    without_package,
    zoo_designs,
)
from hypothesis import given, settings
from safetensors.torch import load_file
from strategies import architectures

from nas.interop.export import EXPORTERS, NotExpressible
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.blocks._base import BRANCHES, MERGES, Convolutional, Merge
from nas.networks.blocks.primitives import Conv
from nas.networks.build import build, cost_of

pytestmark = pytest.mark.usefixtures("one_thread")

AS_PYTHON = EXPORTERS["python"]


def executed(architecture: Architecture) -> dict:
    names: dict = {"__name__": "exported"}
    exec(compile(AS_PYTHON(architecture, {}), "exported.py", "exec"), names)
    return names


def shapes(network) -> list[tuple]:
    return [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in network.state_dict().items()]


def test_weights_give_the_same_logits_in_a_process_without_this_package(tmp_path):
    """Every branch, merge, shortcut, stem and head; `main` counts what the docstring says."""
    images, subjects = {}, {name: subject_of(a, run="a run") for name, a in small_designs().items()}
    for name, subject in subjects.items():
        AS_PYTHON.write(subject, tmp_path / f"{name}.py")
        images[name] = images_for(subject.architecture)
    without_package(
        """
import contextlib, io, json, pathlib, runpy
from safetensors.torch import load_file, save_file
images, logits, said = load_file("tensors.safetensors"), {}, {}
for name, x in images.items():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        names = runpy.run_path(name + ".py", run_name="__main__")
    network = names["Network"]()
    network.load_state_dict(load_file(name + ".safetensors"))
    with torch.inference_mode():
        logits[name] = network.eval()(x).contiguous()
    said[name] = out.getvalue()
save_file(logits, "logits.safetensors")
pathlib.Path("said.json").write_text(json.dumps(said))
""",
        tmp_path,
        **images,
    )
    logits, said = load_file(tmp_path / "logits.safetensors"), json.loads((tmp_path / "said.json").read_text())
    for name, subject in subjects.items():
        assert far(logits[name], logits_of(subject, images[name])) < 1e-5, name
        cost = cost_of(subject.architecture)
        assert said[name] == f"logits: (1, 7)\nparameters: {cost.params:,}\nmultiply-adds: {cost.macs:,}\n"
        docstring = ast.get_docstring(ast.parse((tmp_path / f"{name}.py").read_text()))
        assert f"{cost.params:,} parameters; {cost.macs:,} multiply-adds" in docstring.replace("\n", " ")
        assert subject.architecture.digest in docstring
        assert "run: a run" in docstring


def check_tensors(designs: dict[str, Architecture]) -> None:
    for name, architecture in designs.items():
        names = executed(architecture)
        with torch.device("meta"):
            ours, theirs = build(architecture), names["Network"]()
        assert shapes(theirs) == shapes(ours), name


@pytest.mark.parametrize("name", ["resnext50_32x4d", "efficientnet_b0", "res2net50_26w_4s", "convnext_tiny"])
def test_published_networks_have_our_tensors(name):
    check_tensors({name: zoo.get(name)})


def test_samples_of_every_space_have_our_tensors_and_logits():
    designs = space_designs(1)
    check_tensors(designs)
    for name, architecture in designs.items():
        if cost_of(architecture).params < 500_000:
            subject, theirs = subject_of(architecture), executed(architecture)["Network"]()
            theirs.load_state_dict(subject.weights)
            images = images_for(architecture)
            with torch.inference_mode():
                assert far(theirs.eval()(images), logits_of(subject, images)) < 1e-5, name


@pytest.mark.slow
def test_every_published_network_and_many_samples_have_our_tensors():
    check_tensors(zoo_designs() | space_designs(20))


@pytest.mark.slow
def test_published_networks_have_our_logits():
    for name, architecture in zoo_designs().items():
        if cost_of(architecture).params < 9_000_000:
            architecture = few_classes(architecture)
            subject, theirs = subject_of(architecture), executed(architecture)["Network"]()
            theirs.load_state_dict(subject.weights)
            images = images_for(architecture, pixels=64)
            with torch.inference_mode():
                assert far(theirs.eval()(images), logits_of(subject, images)) < 1e-5, name


@given(architecture=architectures())
@settings(max_examples=20)
def test_any_design_is_written_or_refused_with_a_reason(architecture):
    try:
        check_tensors({"drawn": architecture})
    except NotExpressible as error:
        assert str(error).startswith("not expressible as python because stage ")


def test_training_starts_as_ours_does():
    """Kinds of start: Kaiming's spread, gates at their bias, stochastic depth that grows."""
    designs = small_designs()
    for name in ("highway", "skip", "condconv", "res2net", "scaled matching"):
        ours, theirs = build(designs[name], seed=0), executed(designs[name])["Network"]()
        for (key, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            if mine.is_floating_point() and mine.numel() > 500:
                assert float(other.std()) == pytest.approx(float(mine.std()), rel=0.25), key
            elif mine.is_floating_point() and bool((mine == mine.flatten()[0]).all()):
                assert torch.equal(mine, other), key
    ours = build(designs["res2net"])
    theirs = executed(designs["res2net"])["Network"]()
    mine = [module.rate for module in ours.modules() if type(module).__name__ == "Dropped"]
    drops = [module.rate for module in theirs.modules() if type(module).__name__ == "StochasticDepth"]
    assert drops == pytest.approx(mine)
    assert len(set(drops)) == 6


def test_gradients_reach_every_parameter():
    for name in ("skip", "mixture", "convnext"):
        architecture = small_designs()[name]
        network = executed(architecture)["Network"]().train()
        network.load_state_dict(lively(network))
        network(images_for(architecture)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_files_are_formatted_typed_and_use_all_that_they_hold(tmp_path):
    for name, architecture in small_designs().items():
        (tmp_path / f"{name.replace(' ', '_').replace('-', '_')}.py").write_text(
            AS_PYTHON(architecture, {"run": 'a "quoted" \\ name', "trial": 3})
        )
    for columns in ("88", "120"):
        ruff(["format", "--check", "--isolated", "--line-length", columns, "."], tmp_path)
    ruff(["check", "--isolated", "--select", "E,F,W,I,UP,B,C4,SIM,RUF", "--line-length", "88", "."], tmp_path)
    for path in tmp_path.glob("*.py"):
        tree = ast.parse(path.read_text())
        defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert defined <= used | {"Network"}, path.name
        assert len(path.read_text().splitlines()) < 330


def ruff(arguments: list[str], folder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_files_pass_strict_type_checks(tmp_path):
    names = []
    for name, architecture in small_designs().items():
        names.append(f"{name.replace(' ', '_').replace('-', '_')}.py")
        (tmp_path / names[-1]).write_text(AS_PYTHON(architecture, {}))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_class_a_kind_and_a_line_a_stage():
    tree = ast.parse(AS_PYTHON(zoo.get("efficientnet_b0"), {}))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes == ["SqueezeExcite", "StochasticDepth", "MBConv", "MBConv2", "Network"]
    assert "Bottleneck" in executed(zoo.get("resnet152"))


def test_hostile_text_stays_text():
    architecture = Architecture.from_yaml(
        'name: \'""" + boom() #\'\nstem: cifar\nresolution: 8\nstages: [{depth: 1, width: 8, branch: basic}]\nhead: linear\n'
    )
    text = AS_PYTHON(architecture, {"reason": '"""\nimport os\nboom()\n\\', "x": "\\"})
    tree = ast.parse(text)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "boom"]


@dataclass(frozen=True, slots=True)
class Odd(Convolutional):
    """H(x): an inner width that no rule of its options gives."""

    kind = "odd"

    def layers(self, width_in, width_out, stride):
        return (Conv(width_out // 2 + 3, 3, stride, act=self.act), Conv(width_out, 1, act=""))


@dataclass(frozen=True, slots=True)
class Difference(Merge):
    """y = shortcut(x) - branch(x)."""

    kind = "difference"

    def module(self, width_in, width_out, stride):
        raise AssertionError("is refused before it is built")


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(BRANCHES._entries, "odd", Odd)
    monkeypatch.setitem(MERGES._entries, "difference", Difference)


def with_block(block: str) -> Architecture:
    stages = f"[{{depth: 2, width: 8, {block}}}, {{depth: 2, width: 16, stride: 2, {block}}}]"
    return Architecture.from_yaml(f"stem: cifar\nresolution: 8\nstages: {stages}\nhead: linear\n")


def test_anyones_block_is_written(registered):
    architecture = with_block("branch: odd")
    check_tensors({"odd": architecture})
    assert "stage(partial(Odd, inner=7), 2, 16, 8)" in AS_PYTHON(architecture, {})


def test_what_the_format_does_not_know_is_said(registered):
    with pytest.raises(
        NotExpressible, match=r"^not expressible as python because stage 1, a basic block: its merge difference"
    ):
        AS_PYTHON(with_block("branch: basic, merge: difference"), {})


def test_the_file_in_results_is_of_the_best_example():
    folder = Path(__file__).parents[2] / "results" / "example"
    front = sorted(folder.glob("front/*.yaml"))  # from the cheapest to the dearest
    best = max(front, key=accuracy_of)  # of equals the first
    config = Architecture.from_yaml(best)
    names: dict = {"__name__": "best"}
    exec(compile((folder / "best.py").read_text(), "best.py", "exec"), names)
    with torch.device("meta"):
        assert shapes(names["Network"]()) == shapes(build(config))
    assert config.digest in (folder / "best.py").read_text()


def accuracy_of(path: Path) -> float:
    return yaml.safe_load(path.read_text())["provenance"]["accuracy"]
