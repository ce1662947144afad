"""Training against a loop written out by hand, and what must stay equal bit for bit: repeats, and resumed runs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from helpers_search import CLASSES, SIZE, images
from helpers_train import batches, equal, network, saved, training, weights
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.data import Dataset, split
from nas.data.training_data import TrainingData
from nas.errors import NasError, UsageError
from nas.networks import zoo
from nas.searching.preparation import training_data
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.training.records import Epoch
from nas.training.trainer import Diverged, Training, evaluate, parts_of, pick_device, pick_precision, train

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.1, warmup_epochs=0.5)


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_learns_what_can_be_learnt(device, precision):
    recipe = Recipe(epochs=12, batch_size=16, learning_rate=0.1, warmup_epochs=1.0)
    epochs = list(train(network(), batches(device=device), batches(32, 1, device, 64, train=False), recipe, precision))
    assert [epoch.number for epoch in epochs] == list(range(1, 13))
    assert epochs[-1].train_loss < 0.75 * epochs[0].train_loss
    assert epochs[-1].accuracy > 0.9 > 2 / CLASSES
    assert epochs[-1].val_loss < epochs[0].val_loss
    assert all(epoch.seconds > 0 and epoch.images_per_second > 0 for epoch in epochs)
    assert epochs[-1].learning_rate == recipe.learning_rate_at(12 * 3 - 1, 3)


def test_weights_equal_a_loop_written_out():
    """PyTorch's SGD and LambdaLR, the loss and the schedule written down once more, in the default memory layout."""
    recipe = Recipe(
        epochs=3, batch_size=16, learning_rate=0.08, weight_decay=5e-4, warmup_epochs=1.0, label_smoothing=0.1
    )
    tested = training(recipe)
    epochs = [tested.epoch() for _ in range(recipe.epochs)]

    model, data = network(), batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=0.9, weight_decay=5e-4)
    total, warmup = 9, 3

    def factor(step: int) -> float:
        return (
            (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        )

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for number in range(3):
        losses = []
        model.train()
        for x, y in data.epoch(number):
            log_p = model(x.contiguous()).log_softmax(1)
            loss = -(0.9 * log_p.gather(1, y[:, None])[:, 0] + 0.1 * log_p.mean(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        assert epochs[number].train_loss == pytest.approx(np.mean(losses), rel=1e-4)
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(tested.network.state_dict()[name], expected, rtol=1e-3, atol=1e-5)


def test_evaluation_equals_a_loop_written_out():
    model, data = network(), batches(37, 5, size=8, train=False)
    model.train()
    for x, _ in batches().epoch(0):
        model(x)  # running statistics that are not at their start
    loss, accuracy = evaluate(model, data)

    model.eval()
    losses, hits = [], []
    with torch.no_grad():
        for x, y in data.epoch(0):
            p = model(x).softmax(1)
            losses += (-p[torch.arange(len(y)), y].log()).tolist()
            hits += (p.argmax(1) == y).tolist()
    assert len(hits) == 37
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert accuracy == pytest.approx(np.mean(hits))


def test_evaluation_changes_nothing():
    model = network().train()
    before = weights(model)
    evaluate(model, batches(32, 1, size=8, train=False))
    assert equal(before, weights(model))
    assert all(parameter.grad is None for parameter in model.parameters())


# -- equal bit for bit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_seed_gives_the_same_weights(device):
    ends = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # the global random state has no part in it
        one = training(RECIPE, device=device)
        epochs = [one.epoch() for _ in range(RECIPE.epochs)]
        torch.rand(noise)
        ends.append((weights(one.network), [(epoch.train_loss, epoch.val_loss, epoch.accuracy) for epoch in epochs]))
    assert equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]
    assert not equal(ends[0][0], weights(training(RECIPE, seed=1, device=device).network))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_a_training_that_was_stopped_and_loaded_equals_one_that_ran_through(stop, precision, device):
    through = training(RECIPE, device=device, precision=precision)
    whole = [through.epoch() for _ in range(RECIPE.epochs)]

    first = training(RECIPE, device=device, precision=precision)
    before = [first.epoch() for _ in range(stop)]
    state = saved(first.state())
    first.network.apply(lambda module: [parameter.data.zero_() for parameter in module.parameters()])
    second = training(RECIPE, seed=99, device=device, precision=precision)
    second.load(state)
    assert second.done == stop
    after = [second.epoch() for _ in range(RECIPE.epochs - stop)]

    assert equal(weights(second.network), weights(through.network))
    for mine, expected in itertools.zip_longest(
        second.optimiser.state_dict()["state"].values(), through.optimiser.state_dict()["state"].values()
    ):
        assert torch.equal(mine["momentum_buffer"], expected["momentum_buffer"])

    def timeless(epochs: list[Epoch]) -> list[tuple]:
        return [(e.number, e.train_loss, e.val_loss, e.accuracy, e.learning_rate) for e in epochs]

    assert timeless(before + after) == timeless(whole)


def test_a_state_holds_tensors_and_plain_values():
    one = training(RECIPE)
    one.epoch()
    state = saved(one.state())  # weights_only refuses anything else
    assert state["done"] == 1 and equal(state["network"], weights(one.network))


# -- what must not reach the weights ----------------------------------------------------------------------------------


def test_validation_never_reaches_the_weights():
    ends = []
    for x, y in (images(32, 1), (np.full((7, SIZE, SIZE, 1), 255, np.uint8), np.zeros(7, np.int64))):
        one = Training(network(), batches(), batches(x=x, y=y, size=5, train=False), RECIPE)
        accuracies = [one.epoch().accuracy for _ in range(RECIPE.epochs)]
        ends.append((weights(one.network), accuracies))
    assert equal(ends[0][0], ends[1][0]) and ends[0][1] != ends[1][1]


def test_test_images_never_reach_the_training_data():
    x, y = images(40)
    test_x = np.full((12, SIZE, SIZE, 1), 7, np.uint8)
    data = []
    for poison in (7, 255):
        dataset = Dataset(
            name="made", source="Made.", x_train=x, y_train=y, x_test=np.full_like(test_x, poison), y_test=np.arange(12) % CLASSES,
            classes=tuple("abcd"), flip=False, crop_padding=1,
        )  # fmt: skip
        data.append((training_data(dataset, 0, Proxy()), dataset))
    for found, dataset in data:
        assert np.array_equal(found.x, x) and np.array_equal(found.y, y)
        assert not np.shares_memory(found.x, dataset.x_test)
        assert sorted([*found.train_index, *found.validation_index]) == list(range(40))
        assert not set(found.train_index) & set(found.validation_index)
    assert (data[0][0].mean, data[0][0].std) == (data[1][0].mean, data[1][0].std)
    assert data[0][0].mean == pytest.approx((x.mean() / 255,)) and data[0][0].std == pytest.approx((x.std() / 255,))


def test_training_data_are_the_data_sets():
    x, y = images(40)
    dataset = Dataset(
        name="made",
        source="Made.",
        x_train=x,
        y_train=y,
        x_test=x,
        y_test=y,
        classes=tuple("abcd"),
        flip=True,
        crop_padding=2,
    )
    indices = split(y, 0.25, 1)
    found = TrainingData.of(dataset, *indices)
    assert (found.flip, found.crop_padding) == (True, 2)
    assert np.array_equal(found.train_index, indices[0]) and np.array_equal(found.validation_index, indices[1])


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_divergence():
    """Weight decay of 1 at a learning rate of 100 multiplies the weights by -99 a step."""
    recipe = Recipe(epochs=8, batch_size=16, learning_rate=100.0, weight_decay=1.0, warmup_epochs=0.0)
    one = training(recipe)
    with pytest.raises(Diverged, match=r"the (training|validation) loss became (nan|inf) in epoch \d"):
        for _ in range(recipe.epochs):
            one.epoch()
    assert one.done < recipe.epochs


def test_a_poisoned_weight_is_divergence():
    one = training(RECIPE)
    one.epoch()
    with torch.no_grad():
        next(one.network.parameters()).fill_(math.nan)
    with pytest.raises(Diverged, match="the training loss became nan in epoch 2"):
        one.epoch()
    assert one.done == 1


def test_a_validation_loss_that_is_not_finite_is_divergence():
    class Brittle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(SIZE * SIZE, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.linear(x.flatten(1))
            return y if self.training else y * math.inf

    one = Training(Brittle(), batches(), batches(32, 1, train=False), RECIPE)
    with pytest.raises(Diverged, match="the validation loss became nan in epoch 1"):
        one.epoch()


# -- device and precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_computes_in_bf16_and_keeps_the_weights_in_fp32(device):
    one = training(Recipe(epochs=1, batch_size=16, warmup_epochs=0.1), device=device, precision="bf16")
    seen = set()
    for module in one.network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output: seen.add((module.training, output.dtype)))
    epoch = one.epoch()
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert {parameter.dtype for parameter in one.network.parameters()} == {torch.float32}
    assert math.isfinite(epoch.train_loss)
    plain = training(Recipe(epochs=1, batch_size=16, warmup_epochs=0.1), device=device).epoch()
    assert epoch.train_loss == pytest.approx(plain.train_loss, rel=0.05) and epoch.train_loss != plain.train_loss


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in (
        "gpu",
        "",
        "cuda:99",
        "tpu",
        "cpu:x",
        "a\nb",
        *([] if torch.cuda.is_available() else ["cuda", "cuda:0"]),
    ):
        with pytest.raises(UsageError) as error:
            pick_device(name)
        assert repr(name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("device", DEVICES)
def test_precisions(device):
    place = torch.device(device)
    net = zoo.get("resnet20")
    assert pick_precision("auto", place, net) in ("fp32", "bf16")
    assert [pick_precision(name, place, net) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    for name in ("fp16", "", "BF16"):
        with pytest.raises(UsageError, match="known are auto, fp32, bf16"):
            pick_precision(name, place, net)


def test_no_bf16_on_a_cpu_where_a_stride_sees_one_pixel():
    cpu, net = torch.device("cpu"), zoo.get("resnet20")
    assert pick_precision("bf16", cpu, net.adapted(classes=10, resolution=4, channels=1)) == "bf16"  # 4, 2, 1
    assert (
        pick_precision("bf16", cpu, net.adapted(classes=10, resolution=2, channels=1)) == "fp32"
    )  # 2, 1, then a stride
    assert pick_precision("auto", cpu, net.adapted(classes=10, resolution=8, channels=1)) == "fp32"


# -- batches that pass in parts -----------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 300))
def test_parts_are_as_few_as_fit_and_of_one_size(count, size):
    parts = list(parts_of(torch.arange(count), torch.arange(count), size))
    sizes = [len(part) for part, _ in parts]
    assert torch.equal(torch.cat([part for part, _ in parts]), torch.arange(count))
    assert len(sizes) == math.ceil(count / size) and max(sizes) <= size and max(sizes) - min(sizes) <= 1


def of_one_pixel(size: int, micro_batch: int | None) -> Training:
    """Of a network whose batch norm sees one pixel of each image."""
    net = nn.Sequential(nn.Conv2d(1, 4, SIZE), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, CLASSES))
    recipe = Recipe(epochs=1, batch_size=size, learning_rate=0.1, warmup_epochs=0.5)
    validation = batches(32, 1, "cpu", 64, train=False)
    return Training(net, batches(size=size), validation, recipe, micro_batch=micro_batch)


def test_a_rest_of_one_image_is_no_part():
    """25 in parts of 12 were 12, 12 and 1, of which a batch norm makes nothing."""
    assert of_one_pixel(25, 12).epoch().number == 1


@pytest.mark.parametrize(("size", "micro_batch"), [(1, None), (16, 1)])
def test_a_batch_norm_that_sees_one_value_is_said(size, micro_batch):
    with pytest.raises(
        NasError, match=r"a single value per channel: 1 image at once.*larger --batch-size \(or --micro-batch\)"
    ):
        of_one_pixel(size, micro_batch).epoch()
