"""Batches against torchvision's own crop, pad, flip and normalise, and the laws of their randomness."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torchvision.transforms import functional

from nas.data.batches import Augment, Batches

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def make(
    count: int = 20, height: int = 6, width: int = 6, channels: int = 3, **settings: Any
) -> tuple[Batches, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    y = rng.integers(0, 5, count)
    defaults = {"mean": MEAN[:channels], "std": STD[:channels], "batch_size": 8, "device": "cpu"}
    return Batches(x, y, **(defaults | settings)), x, y


def images_and_labels(batches: Batches, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches.epoch(epoch), strict=True)
    return torch.cat(images), torch.cat(labels)


def reference(image: np.ndarray, top: int, left: int, mirrored: bool, augment: Augment, height: int) -> torch.Tensor:
    """One image the way torchvision's reference training does it: pad, crop, mirror, scale to [0, 1], normalise."""
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    tensor = functional.pad(tensor, [augment.crop_padding], fill=0)
    tensor = functional.crop(tensor, top, left, height, image.shape[1])
    tensor = functional.hflip(tensor) if mirrored else tensor
    channels = image.shape[2]
    return functional.normalize(functional.convert_image_dtype(tensor, torch.float32), MEAN[:channels], STD[:channels])


@pytest.mark.parametrize("augment", [Augment(2, True), Augment(2, False), Augment(0, True), Augment(0, False)])
@pytest.mark.parametrize(("height", "width", "channels"), [(6, 6, 3), (8, 8, 1), (5, 7, 3)])
def test_a_training_epoch_is_what_torchvision_makes_of_each_image(
    augment: Augment, height: int, width: int, channels: int
) -> None:
    batches, x, y = make(30, height, width, channels, augment=augment, seed=3)
    images, labels = images_and_labels(batches, 1)
    plan = batches.plan(1)
    assert len(images) == len(plan.order) == 30
    for shown, index, top, left, mirrored in zip(images, plan.order, plan.top, plan.left, plan.mirrored, strict=True):
        torch.testing.assert_close(shown, reference(x[index], top, left, mirrored, augment, height))
    np.testing.assert_array_equal(labels.numpy(), y[plan.order])
    assert plan.mirrored.any() == augment.flip


def test_evaluation_shows_every_image_as_it_is_and_in_order() -> None:
    batches, x, y = make(21, batch_size=8)
    images, labels = images_and_labels(batches, 0)
    for shown, image in zip(images, x, strict=True):
        torch.testing.assert_close(shown, reference(image, 0, 0, False, Augment(0, False), 6))
    np.testing.assert_array_equal(labels.numpy(), y)
    assert [len(batch) for batch, _ in batches.epoch(5)] == [8, 8, 5]
    assert torch.equal(images_and_labels(batches, 7)[0], images)


def test_types_shapes_and_memory_format() -> None:
    for augment in (None, Augment(1, True), Augment(0, False)):
        batches, _, _ = make(20, augment=augment)
        images, labels = next(batches.epoch(0))
        assert images.shape == (8, 3, 6, 6)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.shape == (8,)
        assert labels.dtype == torch.int64


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), drop_last=st.booleans(), training=st.booleans())
@settings(max_examples=60, deadline=None)
def test_counts(count: int, batch_size: int, drop_last: bool, training: bool) -> None:
    augment = Augment(1, True) if training else None
    batches, _, _ = make(count, batch_size=batch_size, drop_last=drop_last, augment=augment)
    sizes = [len(labels) for _, labels in batches.epoch(0)]
    plan = batches.plan(0)
    assert len(sizes) == len(batches)
    assert sum(sizes) == batches.images == len(plan.order) == len(set(plan.order.tolist()))
    if count < batch_size:
        assert sizes == [count]
    elif drop_last:
        assert sizes == [batch_size] * (count // batch_size)
    else:
        assert sum(sizes) == count


def test_an_epoch_depends_on_the_seed_and_its_number_alone() -> None:
    batches, _, _ = make(augment=Augment(2, True), seed=11)
    forward = [images_and_labels(batches, epoch)[0] for epoch in range(4)]
    fresh, _, _ = make(augment=Augment(2, True), seed=11)
    for epoch in (3, 1, 0, 2, 1):
        assert torch.equal(images_and_labels(fresh, epoch)[0], forward[epoch])
    for first in range(4):
        assert all(not torch.equal(forward[first], forward[second]) for second in range(first))
    other, _, _ = make(augment=Augment(2, True), seed=12)
    assert all(not torch.equal(images_and_labels(other, 0)[0], epoch) for epoch in forward)


def test_two_epochs_may_be_read_at_once_and_the_global_generators_are_not_touched() -> None:
    batches, _, _ = make(augment=Augment(2, True))
    alone = images_and_labels(batches, 0)[0]
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    interleaved = [first for (first, _), _ in zip(batches.epoch(0), batches.epoch(1), strict=True)]
    assert torch.equal(torch.cat(interleaved), alone)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_every_offset_and_both_mirrorings_are_equally_likely_and_independent() -> None:
    batches, _, _ = make(18_000, 2, 2, 1, augment=Augment(2, True), seed=0)
    plan = batches.plan(0)
    cells = (plan.top * 5 + plan.left) * 2 + plan.mirrored
    assert chisquare(np.bincount(cells, minlength=50)).pvalue > 0.01
    # The place in the epoch says nothing about the augmentation.
    halves = np.bincount(cells[:9_000], minlength=50)
    assert chisquare(halves).pvalue > 0.01
    assert chisquare(np.bincount(plan.order[:9_000] // 1_800, minlength=10)).pvalue > 0.01


def test_images_of_one_batch_are_augmented_independently() -> None:
    x = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8), 200, axis=0)
    batches = Batches(
        x, np.zeros(200, int), mean=MEAN, std=STD, batch_size=200, device="cpu", augment=Augment(1, True), seed=0
    )
    images, _ = next(batches.epoch(0))
    assert len(torch.unique(images.flatten(1), dim=0)) == 9 * 2


def test_padding_is_black_before_normalisation() -> None:
    x = np.full((64, 4, 4, 3), 255, np.uint8)
    batches = Batches(x, np.zeros(64, int), mean=MEAN, std=STD, batch_size=64, device="cpu", augment=Augment(4, False))
    images, _ = next(batches.epoch(0))
    for channel in range(3):
        black, white = -MEAN[channel] / STD[channel], (1 - MEAN[channel]) / STD[channel]
        values = images[:, channel]
        is_black, is_white = (torch.isclose(values, torch.tensor(level), atol=1e-5) for level in (black, white))
        assert (is_black | is_white).all()
        assert is_black.any()
        assert is_white.any()


def test_read_only_arrays_are_used_in_place_without_a_warning_and_never_written_to() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (16, 4, 4, 3), dtype=np.uint8), np.arange(16) % 2
    before = x.copy()
    x.flags.writeable = y.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for augment in (None, Augment(0, False), Augment(1, True)):
            batches = Batches(x, y, mean=MEAN, std=STD, batch_size=4, device="cpu", augment=augment)
            for images, _ in batches.epoch(0):
                images.zero_()  # what is handed out is the reader's own
    np.testing.assert_array_equal(x, before)


def test_strided_and_small_integer_input() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (10, 3, 4, 4), dtype=np.uint8).transpose(0, 2, 3, 1)[::-1]
    y = np.arange(10, dtype=np.uint8)
    images, labels = next(Batches(x, y, mean=MEAN, std=STD, batch_size=10, device="cpu").epoch(0))
    torch.testing.assert_close(images[3], reference(x[3], 0, 0, False, Augment(0, False), 4))
    assert labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"x": np.zeros((4, 2, 2, 3), np.float32)}, "x must be uint8 .* float32"),
        ({"x": np.zeros((4, 2, 2), np.uint8)}, r"x must be .*uint8 \(4, 2, 2\)"),
        ({"x": np.zeros((0, 2, 2, 3), np.uint8), "y": np.zeros(0, int)}, "n > 0"),
        ({"y": np.zeros(3, int)}, r"y \(n,\).*\(3,\)"),
        ({"mean": (0.5,)}, "3 channels need as many means"),
        ({"std": (0.5, 0.5, 0.0)}, "positive stds"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"x": np.zeros((4, 2, 2, 3), np.uint8), "y": np.zeros(4, int), "mean": MEAN, "std": STD}
    good |= {"batch_size": 2, "device": "cpu"}
    assert len(Batches(**good)) == 2
    with pytest.raises(ValueError, match=said):
        Batches(**(good | wrong))


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_padding is -1"):
        Augment(-1, flip=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_shows_what_a_cpu_shows() -> None:
    here, _, _ = make(augment=Augment(2, True))
    there, _, _ = make(augment=Augment(2, True), device="cuda")
    for (ours, labels), (theirs, other_labels) in zip(here.epoch(2), there.epoch(2), strict=True):
        torch.testing.assert_close(ours, theirs.cpu())
        assert torch.equal(labels, other_labels.cpu())


@pytest.mark.parametrize("augment", [None, Augment(1, True), Augment(1, True, cutout=3, randaugment=9)])
@pytest.mark.parametrize("index", [None, np.array([3, 1, 17, 8, 9, 2, 11, 5, 6])])
def test_images_that_stay_with_the_host_give_the_same_batches(augment, index) -> None:
    options = {"augment": augment, "index": index, "batch_size": 4}
    here, _, y = make(20, **options)
    ahead, _, _ = make(20, **options, resident=False)
    for epoch in range(2):
        for one, other in zip(here.epoch(epoch), ahead.epoch(epoch), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    chosen = np.arange(20) if index is None else index
    assert here.images == ahead.images == len(chosen)
    assert sorted(images_and_labels(ahead, 0)[1].tolist()) == sorted(y[chosen].tolist())


def test_batches_that_are_gathered_ahead_may_be_left_in_the_middle() -> None:
    batches, _, _ = make(200, batch_size=4, resident=False)
    before = set(threading.enumerate())
    for _ in zip(range(3), batches.epoch(0), strict=False):
        pass
    epoch = batches.epoch(0)
    next(epoch)
    epoch.close()
    assert set(threading.enumerate()) <= before


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_parts_of_a_batch_are_the_batch(count, size, parts, augmented, resident) -> None:
    augment = Augment(1, True, cutout=2, randaugment=5) if augmented else None
    batches, _, _ = make(count, batch_size=size, augment=augment, resident=resident)
    every = [list(batches.epoch(1, (number, parts))) for number in range(parts)]
    for step, (images, labels) in enumerate(batches.epoch(1)):
        assert len(labels) == batches.size(step)
        assert torch.equal(torch.cat([part[step][0] for part in every]), images)
        assert torch.equal(torch.cat([part[step][1] for part in every]), labels)
        sizes = [len(part[step][1]) for part in every]
        assert max(sizes) - min(sizes) <= 1


def test_an_empty_index_is_refused() -> None:
    with pytest.raises(ValueError, match="index is empty"):
        make(5, index=np.array([], np.int64))
