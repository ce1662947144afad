"""Cheaper proxies: what is trained is smaller, what is reported is the candidate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import nas_
from helpers_search import TINY, write_space

import nas
from nas.errors import UsageError
from nas.networks.build import build, cost_of
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.search import resume
from nas.spaces.space import load_space
from nas.spaces.yaml_format import names
from nas.training.proxy import Proxy


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("pixels", [32, 224])
def test_samples_of_every_space_have_a_smaller_proxy(name: str, pixels: int) -> None:
    space = load_space(name, resolution=pixels, channels=3, classes=10)
    proxy = Proxy(resolution=pixels // 2, width=0.5)
    for seed in range(20):
        candidate = space.architecture(space.sample(seed))
        small = proxy.of(candidate)
        assert (small.resolution, small.head.classes, len(small.stages)) == (pixels // 2, 10, len(candidate.stages))
        before, after = cost_of(candidate), cost_of(small)
        assert after.params < before.params and after.macs < before.macs
    with torch.device("meta"):
        build(small)


def test_no_proxy_is_the_candidate_itself() -> None:
    space = load_space("resnext", resolution=32, channels=3, classes=10)
    candidate = space.architecture(space.sample(0))
    assert Proxy().of(candidate) == candidate
    assert str(Proxy()) == ""


def test_the_share_of_images_is_even_over_the_classes_and_of_the_training_part() -> None:
    y = np.repeat(np.arange(4), [400, 200, 100, 40])
    index = np.arange(0, 740, 2)
    part = Proxy(train_fraction=0.25).images(y, index, seed=3)
    assert set(part) <= set(index) and len(part) == len(set(part)) == round(0.25 * len(index))
    for label in range(4):
        assert abs((y[part] == label).sum() - 0.25 * (y[index] == label).sum()) < 1
    np.testing.assert_array_equal(part, Proxy(train_fraction=0.25).images(y, index, seed=3))
    assert set(part) != set(Proxy(train_fraction=0.25).images(y, index, seed=4))
    np.testing.assert_array_equal(Proxy().images(y, index, 0), index)


@pytest.mark.parametrize(
    "wrong", [{"resolution": 0}, {"width": 0.0}, {"width": 1.5}, {"train_fraction": 0.0}, {"train_fraction": 1.01}]
)
def test_numbers_that_make_no_proxy_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--"):
        Proxy(**wrong)  # type: ignore[arg-type]


def test_a_search_trains_proxies_and_reports_candidates(tmp_path: Path, one_thread: None) -> None:
    out = tmp_path / "run"
    space = write_space(tmp_path, TINY.replace("[4, 8]", "[8, 16]"))
    options = {"trials": 2, "epochs": 2, "executor": "local", "device": "cpu", "max_images": 400, "seed": 1}
    run = nas.search(
        space=str(space),
        out=out,
        proxy_resolution=4,
        proxy_width=0.5,
        train_fraction=0.5,
        cutout=2,
        randaugment=6,
        **options,
    )
    settings = Settings.load(out)
    assert settings.proxy == Proxy(resolution=4, width=0.5, train_fraction=0.5)
    assert (settings.recipe.cutout, settings.recipe.randaugment) == (2, 6)
    assert settings.dataset.resolution == 8 and settings.dataset.train_images == 160
    plain = nas.search(space=str(space), out=tmp_path / "plain", **options)
    for trial, other in zip(run.complete(), plain.complete(), strict=True):
        assert trial.architecture == other.architecture and trial.architecture.resolution == 8
        assert trial.cost == cost_of(trial.architecture) == other.cost
        assert trial.accuracy != other.accuracy
    assert load_run(out).complete()[0].architecture.resolution == 8

    resumed = resume(out, trials=3)
    assert len(resumed.complete()) == 3 and Settings.load(out).proxy == settings.proxy


def test_upscaling_is_no_proxy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--proxy-resolution 16: at most the 8 pixels"):
        nas.search(space="resnext", executor="local", proxy_resolution=16, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cutout_of_more_than_the_images_is_refused_whatever_the_proxy_shows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cutout 9: the images have 8 pixels"):
        nas.search(space="resnext", executor="local", proxy_resolution=4, cutout=9, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_is_smaller(tmp_path: Path, one_thread: None) -> None:
    space = write_space(tmp_path)
    command = f"search --space {space} --trials 1 --epochs 1 --executor local --device cpu --max-images 300 --out {tmp_path / 'run'}"
    result = nas_(*command.split(), "--proxy-width", "0.5", "--train-fraction", "0.5", "--decay", "weights", "--json")
    assert result.exit_code == 0, result.stderr
    assert "0.5 of the width, 0.5 of the training images" in result.stderr
    assert json.loads(result.stdout)
    assert Settings.load(tmp_path / "run").recipe.decay == "weights"
