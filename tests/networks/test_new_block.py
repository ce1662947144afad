"""A block, a merge and their PyTorch modules, defined in this file alone: they are exported, measured and trained as built-in ones."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers_export import far, images_for, logits_of, subject_of, without_package
from helpers_search import CLASSES, SIZE
from helpers_work import bench
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nas.execution.job import Job
from nas.interop.export import EXPORTERS, NotExpressible
from nas.networks.architecture import Architecture
from nas.networks.blocks import BRANCHES, MERGES, Convolutional, Layer, Merge, option
from nas.networks.blocks._base import MergeSource
from nas.networks.blocks.primitives import Conv
from nas.networks.blocks.source import Column, Expression, Term, Writer, call
from nas.networks.build import build, cost_of
from nas.networks.cost import Cost, Kept, Shape
from nas.training.memory import training_memory

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

FLOOR = 0.5


def above(x: Tensor) -> Tensor:
    return x.clamp(min=FLOOR)


class Roots(nn.Module):
    """y = scale * sqrt(max(x^2, 1/2)) with a scale per channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.start = start
        self.scale = nn.Parameter(torch.empty(width, 1, 1))
        self.initialise()

    def initialise(self) -> None:
        nn.init.constant_(self.scale, math.sqrt(self.start))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * above(x.square()).sqrt()


class Mix(nn.Module):
    """Shortcut and branch by a gate per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        return torch.lerp(shortcut, branch, F.sigmoid(self.gate))


@dataclass(frozen=True, slots=True)
class RootsLayer(Layer):
    start: float

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        return Cost(params=shape.channels), shape

    def kept(self, shape: Shape) -> Kept:
        return Kept(3 * shape.elements)  # the square, its bound and the root

    def module(self, width_in: int) -> nn.Module:
        return Roots(width_in, self.start)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        return call(write.module(Roots), before.text, write.option("start", uses.start)), before


@dataclass(frozen=True, slots=True)
class Rooted(Convolutional):
    """H(x) = W2 * roots(W1 * x)."""

    kind = "rooted"
    start: float = option(4.0, minimum=1, maximum=9)

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        return (Conv(width_out, 3, stride, act=""), RootsLayer(self.start), Conv(width_out, 1, act=""))


@dataclass(frozen=True, slots=True)
class Mixed(Merge):
    kind = "mixed"
    equation = "shortcut(x) + g (H(x) - shortcut(x)), g a gate a channel"

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        return Cost(params=width_out)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        return Mix(width_out)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        mix = call(write.module(Mix), "width")
        return MergeSource("self.merge({around}, {shortcut}, {branch})", (("merge", mix),))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setitem(BRANCHES._entries, "rooted", Rooted)
    monkeypatch.setitem(MERGES._entries, "mixed", Mixed)


def network(resolution: int = SIZE, width: int = 8, channels: int = 1) -> Architecture:
    stages = "".join(
        f"  - {{depth: 2, width: {width * k}, stride: {k}, branch: {{kind: rooted, start: {start}}}, merge: mixed}}\n"
        for k, start in ((1, 4.0), (2, 9.0))
    )
    return Architecture.from_yaml(
        f"resolution: {resolution}\nchannels: {channels}\nstem: {{kind: cifar, width: {width}}}\n"
        f"stages:\n{stages}head: {{kind: linear, classes: {CLASSES}}}\n"
    )


def test_it_is_exported_with_its_weights_and_the_source_of_its_modules(tmp_path):
    subject = subject_of(network(16))
    exporter = EXPORTERS["python"]
    exporter.write(subject, tmp_path / "network.py")
    text = (tmp_path / "network.py").read_text()
    assert "stage(partial(Rooted, start=9.0), 2, 8, 16, stride=2)" in text
    assert "def above(x: Tensor) -> Tensor:" in text and "FLOOR = 0.5" in text
    images = images_for(subject.architecture)
    without_package(
        """
import runpy
from safetensors.torch import load_file, save_file
names = runpy.run_path("network.py")
network = names["Network"]()
start = {name: tensor.clone() for name, tensor in network.state_dict().items() if "branch.1.scale" in name}
network.load_state_dict(load_file("network.safetensors"))
with torch.inference_mode():
    save_file({"logits": network.eval()(load_file("tensors.safetensors")["images"]), **start}, "out.safetensors")
""",
        tmp_path,
        images=images,
    )
    out = load_file(tmp_path / "out.safetensors")
    assert far(out.pop("logits"), logits_of(subject, images)) < 1e-5
    ours = build(subject.architecture, seed=0).state_dict()
    assert len(out) == 4 and all(torch.equal(tensor, ours[name]) for name, tensor in out.items())


def test_a_module_whose_source_is_not_in_a_file_is_refused(monkeypatch):
    made: dict = {"__name__": "nowhere"}
    exec("from torch import nn\nclass Roots(nn.Module): ...", made)
    monkeypatch.setattr(sys.modules[__name__], "Roots", made["Roots"])
    with pytest.raises(NotExpressible, match="the source code of Roots can't be read"):
        EXPORTERS["python"](network(), {})


def test_its_memory_is_estimated():
    from memory import measured  # benchmarks/memory.py

    architecture = network(16, 16, 3)
    assert training_memory(architecture, 32).total == pytest.approx(measured(architecture, 32, "fp32", None), rel=0.25)


def test_it_trains(tmp_path):
    architecture = network()
    params = sum(tensor.numel() for tensor in build(architecture).parameters())
    assert params == cost_of(architecture).params
    epochs = list(bench().run(Job("1", tmp_path, architecture, 0)))
    assert len(epochs) == 4 and epochs[-1].train_loss < epochs[0].train_loss
