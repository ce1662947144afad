"""The recipe's learning rate against PyTorch's own schedulers, and what a recipe may not say."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.training.recipe import Recipe, default_batch_size


def rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    return [recipe.learning_rate_at(step, steps_per_epoch) for step in range(recipe.epochs * steps_per_epoch)]


def rates_of_pytorch(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    """Linear warm-up by `LambdaLR`, then `CosineAnnealingLR` over the steps that are left."""
    total, warmup = recipe.epochs * steps_per_epoch, round(recipe.warmup_epochs * steps_per_epoch)
    found: list[float] = []
    for steps, make in (
        (warmup, lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / warmup)),
        (total - warmup, lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup)),
    ):
        if not steps:
            continue
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
        scheduler = make(optimizer)
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 1), (1, 7), (2, 1), (3, 45), (10, 45), (10, 1), (49, 3), (50, 3), (60, 5), (200, 2)]
)
@pytest.mark.parametrize("rate", [0.1, 0.025, 1.7])
def test_the_learning_rate_is_what_pytorchs_schedulers_give(epochs, steps, rate):
    recipe = Recipe.of(epochs, 64, rate)
    assert rates(recipe, steps) == pytest.approx(rates_of_pytorch(recipe, steps), rel=1e-9, abs=1e-12)


@given(
    st.builds(
        lambda epochs, share, rate: Recipe(epochs=epochs, warmup_epochs=share * epochs, learning_rate=rate),
        st.integers(1, 12),
        st.floats(0, 1),
        st.floats(1e-3, 10),
    ),
    st.integers(1, 20),
)
def test_the_learning_rate_rises_from_0_to_its_peak_and_falls_to_0(recipe, steps):
    found = rates(recipe, steps)
    warmup = round(recipe.warmup_epochs * steps)
    assert found == pytest.approx(rates_of_pytorch(recipe, steps), rel=1e-9, abs=1e-12)
    assert all(0 < rate <= recipe.learning_rate * (1 + 1e-12) for rate in found)
    assert found[:warmup] == sorted(found[:warmup]) and found[warmup:] == sorted(found[warmup:], reverse=True)
    if warmup:
        assert found[0] == pytest.approx(recipe.learning_rate / warmup)  # one step above 0
        assert found[warmup - 1] == pytest.approx(recipe.learning_rate)
    left = len(found) - warmup
    if left:
        assert found[warmup] == pytest.approx(recipe.learning_rate)
        assert found[-1] == pytest.approx(recipe.learning_rate / 2 * (1 + math.cos(math.pi * (left - 1) / left)))
    assert recipe.learning_rate_at(len(found), steps) == pytest.approx(0 if left else recipe.learning_rate, abs=1e-12)


def test_a_proxy_is_the_same_curve_over_fewer_steps():
    """Up to 50 epochs the curve depends on the share of the run alone."""
    short, long = rates(Recipe.of(5, 128), 20), rates(Recipe.of(50, 128), 2)
    assert short == pytest.approx(long)


def test_the_documented_recipe():
    full = Recipe()
    assert full == Recipe.of(200, 128)
    assert (full.epochs, full.momentum, full.weight_decay, full.warmup_epochs, full.label_smoothing) == (
        200,
        0.9,
        1e-4,
        5.0,
        0.1,
    )
    assert (
        Recipe.of(10, 128).warmup_epochs == 1.0
        and Recipe.of(50, 128).warmup_epochs == 5.0 == Recipe.of(90, 128).warmup_epochs
    )
    assert Recipe.of(10, 32).learning_rate == pytest.approx(0.025)  # linear in the batch size
    assert Recipe.of(10, 256).learning_rate == pytest.approx(0.2)
    assert Recipe.of(10, 256, 0.05).learning_rate == 0.05
    assert Recipe.of(10, 256, 0.0).learning_rate == 0.0


def test_a_recipe_is_frozen_and_survives_json():
    recipe = Recipe.of(3, 16, 0.3)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 2.0}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"epochs": 100_001}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": -4}, "batch_size"),
        ({"batch_size": "32"}, "batch_size"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"learning_rate": "0.1"}, "learning_rate"),
        ({"learning_rate": None}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"epochs": 3, "warmup_epochs": 4}, "4 epochs of warm-up don't fit into 3"),
        ({"warmup_epochs": math.nan}, "warmup_epochs"),
        ({"warmup_epochs": "5"}, "warmup_epochs"),
        ({"momentum": True}, "momentum"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        Recipe(**options)
    with pytest.raises(UsageError, match="epochs"):
        Recipe.of(0, 128)


@pytest.mark.parametrize(
    ("images", "size"),
    [(1, 16), (100, 16), (511, 16), (512, 32), (1023, 32), (1024, 64), (2047, 64), (2048, 128), (10**6, 128)],
)
def test_default_batch_size(images, size):
    assert default_batch_size(images) == size
    assert size == 16 or images // size >= 16
