"""Time and size scales in runs that are short, or on few images: averages warm up, and what makes no sense is said at once."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from helpers_cli import SMALL, nas_
from helpers_search import TINY
from helpers_train import equal, saved, training, weights
from torch import nn

from nas.data import load
from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.stopping.policies import Policy
from nas.training.comparison import Comparison
from nas.training.full_training import FullTraining, adapted
from nas.training.full_training_folder import PLAN
from nas.training.optimizer import Average
from nas.training.recipe import Recipe
from nas.training.trainer import check_norms
from nas.training.transfer import Policy as Transfer
from nas.utils.files import read_json, write_json

pytestmark = pytest.mark.usefixtures("one_thread")

AVERAGED = Recipe(epochs=4, batch_size=16, learning_rate=0.05, warmup_epochs=0.4, ema=0.999)


# -- averages of weights ----------------------------------------------------------------------------------------------


def test_the_decay_of_an_average_warms_up():
    """By hand: min(0.9, (1 + t) / (10 + t)); update 0 takes the weights as they are."""
    network = nn.Linear(1, 1, bias=False)
    average = Average(network, 0.9)
    expected = None
    for update, (weight, decay) in enumerate([(1.0, None), (2.0, 2 / 11), (4.0, 3 / 12), (8.0, 4 / 13)]):
        nn.init.constant_(network.weight, weight)
        average.update_parameters(network)
        expected = weight if decay is None else decay * expected + (1 - decay) * weight
        assert average.module.weight.item() == pytest.approx(expected)
        assert decay is None or average.decay_at(update) == pytest.approx(decay)
    assert average.decay_at(79) == pytest.approx(80 / 89) and average.decay_at(81) == average.decay_at(10**6) == 0.9


def test_an_average_of_a_short_training_is_near_its_weights():
    """12 steps: with a decay of 0.999 from the first step on, 99 % of the average would be the weights after that step."""
    job, old = training(AVERAGED), training(dataclasses.replace(AVERAGED, ema_warmup=False))
    begun = flat(job.network)
    for each in (job, old):
        while each.done < each.recipe.epochs:
            each.epoch()
    last = flat(job.network)
    assert torch.equal(flat(old.network), last)  # the average changes nothing that is trained
    moved = (last - begun).norm()
    assert (flat(job.result) - last).norm() < moved / 2 < (flat(old.result) - last).norm()


def flat(network: nn.Module) -> torch.Tensor:
    """All parameters, in one row."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()]).clone()


def test_a_resumed_average_goes_on_warming_up():
    whole, first, second = (training(AVERAGED) for _ in range(3))
    for _ in range(4):
        whole.epoch()
    for _ in range(2):
        first.epoch()
    second.load(saved(first.state()))
    for _ in range(2):
        second.epoch()
    assert equal(weights(second.result), weights(whole.result))


def test_recipes_from_before_the_warm_up_keep_their_rule():
    old = {name: value for name, value in AVERAGED.to_dict().items() if name != "ema_warmup"}
    assert Recipe.from_dict(old) == dataclasses.replace(AVERAGED, ema_warmup=False)
    assert Recipe.from_dict({**old, "ema": 0.0}) == dataclasses.replace(AVERAGED, ema=0.0)  # nothing to average
    with pytest.raises(UsageError, match="ema_warmup must be true or false"):
        Recipe.from_dict({**old, "ema_warmup": "yes"})


@pytest.fixture(scope="module")
def digits():
    return load("digits", max_images=120)


def small(digits) -> Architecture:
    return adapted(Architecture.from_yaml(SMALL), digits)[0]


def test_a_training_that_was_begun_without_the_warm_up_goes_on_without(tmp_path, digits):
    recipe = Recipe(epochs=2, batch_size=32, learning_rate=0.05, warmup_epochs=0.2, ema=0.9)
    options = {"device": "cpu", "precision": "fp32"}
    with FullTraining(tmp_path, small(digits), digits, recipe, **options) as job:
        next(job.epochs())
    plan = read_json(tmp_path / PLAN)
    assert plan["recipe"].pop("ema_warmup") is True
    write_json(tmp_path / PLAN, plan)
    with FullTraining(tmp_path, small(digits), digits, recipe, **options) as job:
        assert not job.recipe.ema_warmup and job.result is not None
        list(job.epochs())
        assert job.result()["recipe"]["ema_warmup"] is False


def test_a_comparison_from_before_the_recipe_had_all_its_fields_goes_on(tmp_path, digits):
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.05, warmup_epochs=0.1)
    with Comparison(tmp_path, [small(digits)], digits, recipe, device="cpu", precision="fp32"):
        pass
    plan = read_json(tmp_path / PLAN)
    for name in ("ema_warmup", "cutout", "randaugment"):
        del plan[name]
    write_json(tmp_path / PLAN, plan)
    with Comparison(tmp_path, [small(digits)], digits, recipe, device="cpu", precision="fp32") as comparison:
        assert comparison.missing()


# -- what makes no sense for a run of its size -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "facts", "says"),
    [
        (Recipe.of(10, 64), (1150, 288, 8), []),
        (Recipe.of(200, 128), (45_000, 5_000, 32), []),
        (Recipe.of(200, 128, cutout=20), (45_000, 5_000, 32), []),
        (Recipe.of(10, 1150), (1150, 288, 8), ["10 steps in all, of 1,150 images each"]),
        (Recipe.of(1, 4096), (1150, 288, 8), ["1 step in all, of 1,150 images each"]),
        (Recipe.of(100, 700), (1150, 288, 8), ["1 step of 700 images and leaves 450 of 1,150 out"]),
        (Recipe.of(10, 4), (1150, 288, 8), ["batch norms see 4 images at once"]),
        (Recipe.of(10, 64), (1150, 25, 8), ["validation has 25 images: the standard error of an accuracy is up to 10"]),
        (Recipe.of(10, 64, cutout=8), (1150, 288, 8), ["--cutout 8 hides 56% of an image of 8 pixels"]),
    ],
)
def test_what_makes_little_sense_for_so_many_images_is_said(recipe, facts, says):
    remarks = recipe.remarks(*facts)
    assert len(remarks) == len(says) and all(text in line for text, line in zip(says, remarks, strict=True))
    assert all(line.startswith("note: ") and "\n" not in line for line in remarks)


def test_images_that_pass_in_parts_count_for_the_norms():
    (remark,) = Recipe.of(10, 64).remarks(1150, 288, 8, at_once=1)
    assert "batch norms see 1 image at once" in remark


def test_a_batch_is_at_most_all_images_and_the_rate_goes_by_it():
    assert Recipe.for_images(100, 10, 6400) == Recipe.of(10, 100)
    assert Recipe.for_images(100, 10, 6400, 0.3).learning_rate == 0.3
    assert Recipe.for_images(1150, 10) == Recipe.of(10, 64)
    assert Recipe.for_images(5, 10) == Recipe.of(10, 5)


@pytest.mark.parametrize(
    ("policy", "epochs", "trials", "says"),
    [
        ("none", 1, 1, ""),
        ("pareto", 10, 7, ""),
        ("asha", 2, 1, ""),
        ("asha", 1, 50, "with 1 epoch there is no earlier epoch"),
        ("pareto", 10, 6, "first needs 6 complete trials, and the run has 6"),
        ("pareto:share=1", 10, 50, "all trials run to the end"),
    ],
)
def test_a_policy_that_can_stop_nothing_says_so(policy, epochs, trials, says):
    idle = Policy.parse(policy).idle(epochs, trials)
    assert says in idle and bool(says) == bool(idle)


def test_unfreezing_that_never_comes_is_refused():
    Transfer(3, unfreeze_every=9).check_epochs(10)
    Transfer(3).check_epochs(1)
    with pytest.raises(UsageError, match="--unfreeze-every 10: 10 epochs end before a stage is added"):
        Transfer(3, unfreeze_every=10).check_epochs(10)


def test_a_batch_of_one_image_is_refused_where_a_pixel_is_left_of_it(tmp_path, digits):
    network = dataclasses.replace(small(digits), resolution=1)
    check_norms(network, 2)
    check_norms(small(digits), 1)
    with pytest.raises(UsageError, match="a batch of one image: after stem of small one pixel is left"):
        check_norms(network, 1)
    recipe = Recipe.of(1, 16)
    job = FullTraining(tmp_path / "new", network, digits, recipe, device="cpu", precision="fp32", micro_batch=1)
    with pytest.raises(UsageError, match="a batch of one image"), job:
        pass
    with pytest.raises(UsageError, match="a batch of one image"):
        Comparison(tmp_path / "new", [network], digits, Recipe.of(1, 1), device="cpu", precision="fp32")
    assert not (tmp_path / "new").exists()


def test_a_search_says_it_before_it_trains(tmp_path, monkeypatch):
    """And trains; `--cutout` is of the images, not of those that a proxy sees."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    asked = (
        *(
            "--space",
            "tiny.yaml",
            "--trials",
            1,
            "--epochs",
            1,
            "--max-images",
            60,
            "--batch-size",
            512,
            "--ema",
            0.999,
        ),
        *("--cutout", 5, "--proxy-resolution", 4, "--stopping", "asha", "--sampler", "nsga2", "--executor", "local"),
    )
    result = nas_("search", *asked, "--device", "cpu", "--out", "run")
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    for text in ("1 step in all, of 48 images each", "validation has 12", "asha stops nothing", "first 50 trials"):
        assert any(text in note for note in notes), text
    assert not any("cutout" in note for note in notes)
    assert result.stdout.index("note: ") < result.stdout.index("nas front")
    assert "ema_warmup: true" in (tmp_path / "run" / "run.yaml").read_text()


def test_a_training_says_it_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    common = ("small.yaml", "--dataset", "digits", "--epochs", 1, "--device", "cpu", "--precision", "fp32")
    result = nas_("train", *common, "--batch-size", 4096, "--out", "here")
    assert result.exit_code == 0, result.output
    assert "note: 1 step in all, of 1,294 images each" in result.stderr
    recipe = json.loads((tmp_path / "here" / "result.json").read_text())["recipe"]
    assert recipe["batch_size"] == 1294 and recipe["learning_rate"] == pytest.approx(0.1 * 1294 / 128)
