"""Small networks that are compared on small data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers_squares import NETWORK, make_dataset

from nas.data import Dataset
from nas.networks.architecture import Architecture
from nas.training.comparison import Comparison
from nas.training.comparison_records import Findings
from nas.training.recipe import Recipe

DATA = make_dataset()


RECIPE = Recipe.of(3, 16)


def deeper(depth: int, name: str, merge: str = "add") -> Architecture:
    first, *rest = NETWORK.stages
    stage = Architecture.from_dict(
        {**NETWORK.to_dict(), "stages": [{**first.to_dict(), "depth": depth, "merge": {"kind": merge}}]}
    ).stages[0]
    return dataclasses.replace(NETWORK, stages=(stage, *rest), name=name)


SMALL, DEEP, PLAIN = deeper(1, "small"), deeper(2, "deep"), deeper(2, "plain", "none")


def comparison(folder: Path, networks=(SMALL, DEEP), dataset: Dataset = DATA, recipe: Recipe = RECIPE, **options):
    return Comparison(folder, networks, dataset, recipe, **{"device": "cpu", "precision": "fp32", **options})


def finish(folder: Path, *arguments, **options) -> Findings:
    with comparison(folder, *arguments, **options) as job:
        for _ in job.train():
            pass
        return job.findings()


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, Findings]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("done")
    return folder, finish(folder, gradient_steps=2)
