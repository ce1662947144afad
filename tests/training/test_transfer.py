"""Policies of transfer: what they train, at what rate, from which epoch on; and that what they freeze stays as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.data.batches import Batches
from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.training.optimizer import pieces
from nas.training.recipe import Recipe
from nas.training.trainer import Training
from nas.training.transfer import KINDS, Policy, choose, recipe

NETWORK = Architecture.from_yaml(
    """
resolution: 8
channels: 1
stem: {kind: cifar, width: 4}
stages:
- {depth: 1, width: 4, branch: basic}
- {depth: 1, width: 8, stride: 2, branch: basic}
- {depth: 1, width: 8, branch: basic}
head: {kind: linear, classes: 3}
"""
)


@st.composite
def policies(draw) -> Policy:
    kind = draw(st.sampled_from(KINDS))
    return Policy(
        stages=draw(st.integers(1, 8)),
        kind=kind,
        backbone_scale=draw(st.floats(0.001, 1)),
        stage_decay=draw(st.none() | st.floats(0.1, 1)),
        unfreeze_every=0 if kind == "head" else draw(st.integers(0, 6)),
    )


# -- policies ----------------------------------------------------------------------------------------------------------


def test_pieces_are_those_of_the_optimiser():
    assert set(Policy(3).pieces()) == {name for name, _ in pieces(build(NETWORK))}
    assert Policy(3).pieces() == ("head", "stage3", "stage2", "stage1", "stem")


@pytest.mark.parametrize(
    ("policy", "trained"),
    [
        (Policy(4, "full"), "head stage4 stage3 stage2 stage1 stem"),
        (Policy(4, "last-stages"), "head stage4 stage3"),
        (Policy(3, "last-stages"), "head stage3"),
        (Policy(1, "last-stages"), "head stage1"),
        (Policy(4, "head"), "head"),
    ],
)
def test_what_a_kind_trains(policy, trained):
    assert [piece for piece in policy.pieces() if policy.rates(piece, 0)] == trained.split()


def test_rates_by_depth():
    scaled, decayed = Policy(3, backbone_scale=0.2), Policy(3, stage_decay=0.5)
    assert [scaled.rates(piece, 0) for piece in scaled.pieces()] == [1, 0.2, 0.2, 0.2, 0.2]
    assert [decayed.rates(piece, 0) for piece in decayed.pieces()] == [1, 0.5, 0.25, 0.125, 0.0625]


def test_unfreezing_adds_a_piece_at_a_time():
    policy = Policy(4, "last-stages", unfreeze_every=3)
    counts = [sum(policy.rates(piece, epoch) > 0 for piece in policy.pieces()) for epoch in range(12)]
    assert counts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3]


@given(policies(), st.integers(0, 100))
def test_rates_fall_with_depth_and_never_freeze_again(policy, epoch):
    now = [policy.rates(piece, epoch) for piece in policy.pieces()]
    later = [policy.rates(piece, epoch + 1) for piece in policy.pieces()]
    assert now[0] == 1
    assert all(0 <= rate <= 1 for rate in now)
    assert now == sorted(now, reverse=True)
    assert all(after in (before, after) and after >= before for before, after in zip(now, later, strict=True))


@given(policies(), st.integers(1, 60))
def test_what_is_told_is_what_happens(policy, epochs):
    trained, _, frozen = policy.told(epochs).partition("; frozen: ")
    ever = [piece for piece in policy.pieces() if any(policy.rates(piece, epoch) for epoch in range(epochs))]
    assert [part.split(" ")[0] for part in trained.split(", ")] == ever
    assert [piece for piece in frozen.split(", ") if piece] == [p for p in policy.pieces() if p not in ever]


def test_told():
    assert (
        Policy(2, "last-stages", unfreeze_every=5).told(30)
        == "head × 1, stage2 × 0.3 from epoch 6; frozen: stage1, stem"
    )


@given(policies())
def test_a_description_makes_the_same_policy_again(policy):
    described = policy.described()
    again = Policy(
        policy.stages,
        described["kind"],
        described.get("backbone_lr_scale", policy.backbone_scale),
        described.get("stage_decay"),
        described["unfreeze_every"],
    )
    assert again == policy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tail"}, "known are full, last-stages, head"),
        ({"backbone_scale": 0.0}, "--policy head freezes the rest"),
        ({"backbone_scale": math.nan}, "backbone-lr-scale must be a number above 0 and at most 1, not nan"),
        ({"stage_decay": 1.5}, "stage-decay must be"),
        ({"unfreeze_every": -1}, "unfreeze-every must be"),
        ({"kind": "head", "unfreeze_every": 2}, "nothing for unfreeze-every to unfreeze"),
    ],
)
def test_policies_that_make_no_sense(options, message):
    with pytest.raises(UsageError, match=message):
        Policy(3, **options)


# -- choosing ----------------------------------------------------------------------------------------------------------


@given(st.integers(2, 2000), st.integers(2, 100))
def test_more_images_never_train_less(images, classes):
    order = ("last-stages", "full")
    fewer, more = (order.index(choose(count, classes)[0]) for count in (images, images + 1))
    assert fewer <= more


@pytest.mark.parametrize(
    ("images", "chosen"),
    [
        (4, ("last-stages", "4 training images, 1 a class: fewer than 4")),
        (15, ("last-stages", "15 training images, 3.75 a class: fewer than 4")),
        (4000, ("full", "4,000 training images, 1,000 a class: 4 or more")),
    ],
)
def test_the_choice_says_why(images, chosen):
    assert choose(images, 4) == chosen


@given(st.integers(2, 10**6))
def test_few_images_train_for_more_epochs(images):
    found = recipe(images)
    steps = max(1, images // found.batch_size)
    assert found.epochs * steps >= 500
    assert found.epochs == 30 or (found.epochs > 30 and (found.epochs - 1) * steps < 500)
    assert found.learning_rate == pytest.approx(0.1 * found.batch_size / 128)


def test_what_is_given_is_kept():
    found = recipe(50, epochs=3, batch_size=8, learning_rate=0.25)
    assert (found.epochs, found.batch_size, found.learning_rate) == (3, 8, 0.25)


# -- training by a policy ----------------------------------------------------------------------------------------------


def make_training(policy: Policy, epochs: int = 4) -> Training:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (32, 8, 8, 1)).astype(np.uint8), np.arange(32) % 3
    common = {"mean": [0.5], "std": [0.25], "batch_size": 8, "device": "cpu"}
    batches = Batches(x, y, drop_last=True, **common), Batches(x, y, **common)
    return Training(build(NETWORK, seed=0), *batches, Recipe.of(epochs, 8, 0.1), rates=policy.rates)


def snapshot(training: Training) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: tensor.clone() for key, tensor in piece.state_dict().items()}
        for name, piece in pieces(training.network)
    }


def changed(before, after) -> dict[str, bool]:
    """Whether any tensor of a piece, statistics of norms and their counters among them, is another."""
    return {name: any(not torch.equal(t, after[name][key]) for key, t in before[name].items()) for name in before}


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_pieces_keep_every_bit(one_thread, kind):
    policy = Policy(3, kind)
    training = make_training(policy)
    before = snapshot(training)
    training.epoch()
    assert changed(before, snapshot(training)) == {piece: policy.rates(piece, 0) > 0 for piece in policy.pieces()}


def test_frozen_norms_are_in_evaluation_mode_while_the_head_trains(one_thread):
    """Their outputs are those of the stored statistics: all but the head computes what it computes in evaluation."""
    training = make_training(Policy(3, "head"))
    training.epoch()  # which ends with a validation, all of it in evaluation mode
    training.optimiser.begin(1)
    norms = {
        name: [norm.training for norm in piece.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
        for name, piece in pieces(training.network)
    }
    assert {mode for modes in norms.values() for mode in modes} == {False}
    assert sum(map(len, norms.values())) >= 7
    assert training.network.head.training


def test_gradual_unfreezing_in_a_training(one_thread):
    policy = Policy(3, "last-stages", unfreeze_every=2)
    training = make_training(policy)
    for epoch in range(4):
        before = snapshot(training)
        training.epoch()
        assert changed(before, snapshot(training)) == {p: policy.rates(p, epoch) > 0 for p in policy.pieces()}


def test_a_step_is_scaled_by_the_rate(one_thread):
    """The first step of SGD, weight decay and all, is proportional to the learning rate."""
    moved = {}
    for scale in (1.0, 0.25):
        training = make_training(Policy(3, backbone_scale=scale))
        before = snapshot(training)
        training.optimiser.begin(0)
        images, labels = next(iter(training.train_batches.epoch(0)))
        torch.nn.functional.cross_entropy(training.network(images), labels).backward()
        training.optimiser.step(0.1)
        after = snapshot(training)
        moved[scale] = {name: after[name]["0.weight"] - before[name]["0.weight"] for name in ("stem",)}
        moved[scale]["head"] = _linear(after["head"]) - _linear(before["head"])
    assert moved[1.0]["stem"].abs().max() > 0
    torch.testing.assert_close(moved[0.25]["stem"], 0.25 * moved[1.0]["stem"], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved[0.25]["head"], moved[1.0]["head"])


def _linear(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(tensor for name, tensor in state.items() if name.endswith("weight"))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_training_unfreezes_as_if_it_had_run_through(one_thread, stop):
    policy = Policy(3, "full", unfreeze_every=1)
    through = make_training(policy)
    for _ in range(4):
        through.epoch()
    first = make_training(policy)
    for _ in range(stop):
        first.epoch()
    second = make_training(policy)
    second.load(first.state())
    for _ in range(4 - stop):
        second.epoch()
    for name, tensor in through.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
