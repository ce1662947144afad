"""One small network, whose weights are torchvision's by their names, and what programs save beside such weights."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.networks.weights import Weights, fit
from nas.networks.weights.names import FAMILIES, names

TINY = Architecture.from_yaml(
    """
name: tiny
resolution: 16
stem: {kind: imagenet, width: 8}
stages: [{depth: 1, width: 8, branch: basic}, {depth: 1, width: 16, stride: 2, branch: basic}]
head: {kind: linear, classes: 5}
"""
)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Random weights of TINY under torchvision's names."""
    network = build(TINY, seed=3)
    ours = network.state_dict()
    return {theirs: ours[name].clone() for name, theirs in names(network, TINY, next(iter(FAMILIES))).items()}


def tiny(state, architecture=TINY, source="file.pth"):
    return fit(Weights.of(source, state), architecture)


ARGUMENTS = argparse.Namespace(lr=np.float64(0.1), output=Path("runs"), epochs=90, device=torch.device("cpu"))
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": np.float32(0.1), "params": [0]}]}
