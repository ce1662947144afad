"""The worked example of CONTRIBUTING.md is a block: its text is run as a file and held against PyTorch's count."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from oracles import measured
from strategies import variants

from nas import build, cost_of
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, SHORTCUTS, STEMS
from nas.spaces.space import space_from_text

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")

SPACE = """
space: example
stages: 2
values: {block: [basic, pyramid], convolutions: [1, 2, 3], stage*.depth: [1, 2], width: 8, stem_width: 8}
"""


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    path = tmp_path_factory.mktemp("blocks") / "pyramid.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("pyramid", path)
    module = sys.modules["pyramid"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.Pyramid
    del BRANCHES._entries["pyramid"], sys.modules["pyramid"]


def test_example_is_a_block_whose_cost_is_pytorchs(pyramid):
    for branch in variants(pyramid):
        stages = (Stage(branch, 2, 8, 1, SHORTCUTS["projection"]()), Stage(branch, 1, 12, 2, SHORTCUTS["avg_pool"]()))
        network = Architecture(STEMS["cifar"](8), stages, HEADS["linear"](10), 16)
        with torch.device("meta"):
            module = build(network)
        assert measured(module, (3, 16, 16))[0] == cost_of(network)
        assert Architecture.from_yaml(network.to_yaml()) == network


def test_example_can_be_searched_at_once(pyramid):
    space = space_from_text(SPACE, resolution=8, channels=1, classes=10)
    kinds = {space.architecture(space.sample(seed)).stages[0].branch.kind for seed in range(20)}
    assert kinds == {"basic", "pyramid"}
    assert space.size() == 4 * (1 + 3)
