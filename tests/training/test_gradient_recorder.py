"""Gradient norms that a trial records: those of its training, which is the same to the bit with and without."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers_search import CLASSES, CONDITIONAL, space_of, training_data

from nas.errors import UsageError
from nas.execution import fencing
from nas.execution.job import Job
from nas.execution.trial_training import TrialTraining
from nas.networks.blocks import BRANCHES
from nas.networks.build import build
from nas.training import gradient_flow as flow
from nas.training.gradient_flow import Flow, ends_of
from nas.training.gradient_norms import GradientHooks
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT
from nas.training.trainer import Diverged, Training

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.05, warmup_epochs=0.5)
SPACE = space_of(CONDITIONAL, classes=CLASSES)
STEPS = 2


def bench(steps: int = STEPS, **options) -> TrialTraining:
    options = {"device": "cpu", "precision": "fp32", **options}
    return TrialTraining(training_data(), options.pop("recipe", RECIPE), gradient_steps=steps, **options)


def job(folder, seed: int = 1) -> Job:
    return Job("7", folder, SPACE.architecture(SPACE.sample(seed)), 0)


def recorded(one: Job) -> Flow | None:
    return flow.read(one.folder, one.architecture.digest)


def run(one: Job, epochs: int, **options) -> tuple[list, dict]:
    """The records of so many epochs without what the clock says, and the checkpoint behind them."""
    going = bench(**options).run(one)
    records = [next(going) for _ in range(epochs)]
    state = torch.load(one.folder / CHECKPOINT, weights_only=True)
    going.close()
    return [(epoch.train_loss, epoch.val_loss, epoch.accuracy) for epoch in records], state


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("micro_batch", [None, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_recording_changes_no_bit(tmp_path, monkeypatch, precision, micro_batch, seed):
    monkeypatch.setattr(TrialTraining, "first_micro_batch", lambda self, architecture: micro_batch)
    plain, one = job(tmp_path / "plain", seed), job(tmp_path / "one", seed)
    records, state = run(plain, 3, steps=0, precision=precision)
    again, watched = run(one, 3, precision=precision)
    assert again == records
    assert state["network"].keys() == watched["network"].keys()
    for name, tensor in state["network"].items():
        assert torch.equal(tensor, watched["network"][name]), name
    assert recorded(plain) is None
    assert [moment.epoch for moment in recorded(one).moments] == [0, 2]


def test_the_norms_are_those_of_hooks_that_stay_on(tmp_path):
    list(bench().run(one := job(tmp_path)))
    place = bench(0)
    training = Training(build(one.architecture, seed=0), *place.batches(0), RECIPE)
    every = []
    with GradientHooks(training.network) as hooks:
        training.after_backward = lambda _step: every.append(tuple(norms.tolist() for norms in hooks.read()))
        for _ in range(RECIPE.epochs):
            training.epoch()
    steps = len(training.train_batches)
    found = recorded(one)
    assert found.layers == hooks.layers
    for moment, start in zip(found.moments, (0, 2 * steps - STEPS, 4 * steps - STEPS), strict=True):
        wanted = np.mean(every[start : start + STEPS], axis=0)
        np.testing.assert_allclose(moment.outputs, wanted[0], rtol=1e-3)
        np.testing.assert_allclose(moment.weights, wanted[1], rtol=1e-3)
    assert [moment.epoch for moment in found.moments] == [0, 2, 4]
    assert {moment.steps for moment in found.moments} == {STEPS}


def test_parts_of_a_batch_give_the_norm_of_the_whole():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(4, 3), torch.randn(6, 4)
    norms = []
    for size in (6, 2):
        linear.zero_grad()
        with GradientHooks(linear) as hooks:
            for part in x.split(size):
                linear(part).square().sum().backward()
            norms.append(torch.stack(hooks.read()).tolist())
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_trial_that_is_resumed_has_the_norms_of_one_that_ran_through(tmp_path, after):
    list(bench().run(whole := job(tmp_path / "whole")))
    going = bench().run(one := job(tmp_path / "one"))
    for _ in range(after):
        next(going)
    going.close()
    list(bench().run(one))
    assert recorded(one) == recorded(whole)


def test_moments_of_epochs_that_were_lost_are_recorded_anew(tmp_path):
    """The checkpoint behind the second epoch is gone, its norms are not: they may be of another training's second epoch."""
    going = bench().run(one := job(tmp_path))
    for _ in range(2):
        next(going)
    going.close()
    (tmp_path / CHECKPOINT).write_bytes(b"torn")
    list(bench().run(one))
    assert [moment.epoch for moment in recorded(one).moments] == [0, 2, 4]


def test_a_network_that_diverges_leaves_what_was_seen_of_it(tmp_path, monkeypatch):
    def diverged(*_):
        raise Diverged("the validation loss became nan in epoch 1")

    monkeypatch.setattr("nas.training.trainer.evaluate", diverged)
    list(bench().run(one := job(tmp_path)))
    assert json.loads((tmp_path / RESULT).read_text())["state"] == "failed"
    assert [moment.epoch for moment in recorded(one).moments] == [0]


def test_a_worker_whose_turn_is_over_writes_no_norms(tmp_path, monkeypatch):
    def over(_):
        raise fencing.Fenced("7: handed out anew")

    monkeypatch.setattr("nas.execution.trial_training.check", over)
    with pytest.raises(fencing.Fenced):
        list(bench().run(job(tmp_path)))
    assert not (tmp_path / flow.FILE).exists()


@pytest.mark.parametrize(("epochs", "ends"), [(1, {1}), (2, {1, 2}), (3, {2, 3}), (10, {5, 10})])
def test_the_middle_and_the_end(epochs, ends):
    assert ends_of(epochs) == ends


@pytest.mark.parametrize("kind", BRANCHES)
def test_the_file_is_small(tmp_path, kind):
    space = space_of(CONDITIONAL.replace("[basic, bottleneck]", kind).replace("to: 2", "to: 8"), classes=CLASSES)
    architecture = space.architecture(space.sample(0))
    one = Job("7", tmp_path, architecture, 0)
    list(bench(recipe=Recipe(epochs=3, batch_size=16, warmup_epochs=0.5)).run(one))
    found = recorded(one)
    assert (tmp_path / flow.FILE).stat().st_size < 200 + 200 * len(found.layers)


@pytest.mark.parametrize(
    "change",
    [{"layers": [["stem", "x", "deep", 1]]}, {"layers": 3}, {"gradients": [{"epoch": 0}]}, {"layers": [["a", "b", 1, 1]]}],
)  # fmt: skip
def test_a_file_that_no_worker_writes_is_refused(tmp_path, change):
    going = bench().run(one := job(tmp_path))
    next(going)
    going.close()
    path = tmp_path / flow.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=r"gradients|layers|norm"):
        recorded(one)


def test_of_another_network_nothing_is_read(tmp_path):
    going = bench().run(job(tmp_path))
    next(going)
    going.close()
    assert flow.read(tmp_path, "another") is None
    (tmp_path / flow.FILE).write_text("{torn")
    assert recorded(job(tmp_path)) is None
