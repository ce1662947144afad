"""Cutout and the light RandAugment against torchvision's own operations, and the laws of what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from test_batches import MEAN, STD, images_and_labels, make
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from nas.data.augmentation import GEOMETRY, LIGHT, MOST, cut_out, rand_augment
from nas.data.batches import Augment

SIDE = 16


@pytest.fixture
def picture() -> torch.Tensor:
    """(1, 16, 16, 3) uint8, smooth, so that another interpolation would not differ by more than the sampling point does."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    image = torch.stack([8 * rows + 40, 6 * columns + 60, 3 * rows + 5 * columns + 50], dim=-1)
    return image[None].to(torch.uint8)


def applied(images: torch.Tensor, geometry: int, light: int, magnitude: int) -> torch.Tensor:
    return rand_augment(images, torch.tensor([[geometry, light]] * len(images)), magnitude)


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("magnitude", [9, 30])
@pytest.mark.parametrize("name", LIGHT)
def test_light_is_torchvisions(picture: torch.Tensor, name: str, magnitude: int, way: int) -> None:
    factor = 1 + way * 0.9 * magnitude / 30
    expected = getattr(tv, f"adjust_{name}")(picture.permute(0, 3, 1, 2) / 255.0, factor).permute(0, 2, 3, 1) * 255
    found = applied(picture, 0, way * (1 + LIGHT.index(name)), magnitude)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)  # torchvision's weights of grey have four digits


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("magnitude", [9, 20])
@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_is_torchvisions(picture: torch.Tensor, name: str, magnitude: int, way: int) -> None:
    share = way * magnitude / 30
    # torchvision's sense of turning and shifting is the opposite one; both ways are drawn alike.
    angle = -30 * share if name == "rotate" else 0.0
    shear = [math.degrees(math.atan(0.3 * share)) if name == f"shear_{axis}" else 0.0 for axis in "xy"]
    shift = [-150 / 331 * share * SIDE if name == f"translate_{axis}" else 0.0 for axis in "xy"]
    found = applied(picture, way * (1 + GEOMETRY.index(name)), 0, magnitude)
    x = picture.permute(0, 3, 1, 2).float()
    if name.startswith("translate"):  # torchvision's are whole pixels
        rows, columns = np.mgrid[0:SIDE, 0:SIDE] - np.array(shift)[::-1, None, None]
        inside = (rows >= 0) & (rows <= SIDE - 1) & (columns >= 0) & (columns <= SIDE - 1)
        for channel, (row, column, base) in enumerate(((8, 0, 40), (0, 6, 60), (3, 5, 50))):
            expected = torch.from_numpy(row * rows + column * columns + base).float()
            torch.testing.assert_close(found[0, ..., channel][inside], expected[inside], atol=1e-2, rtol=0)
        return
    expected = tv.affine(x, angle, [0, 0], 1.0, shear, interpolation=InterpolationMode.BILINEAR).permute(0, 2, 3, 1)
    middle = slice(4, SIDE - 4)  # at the border torchvision fills before it interpolates
    torch.testing.assert_close(found[:, middle, middle], expected[:, middle, middle], atol=0.05, rtol=0)


def test_nothing_drawn_changes_nothing(picture: torch.Tensor) -> None:
    assert torch.equal(applied(picture, 0, 0, MOST), picture.float())


def test_a_grey_image_has_no_saturation(picture: torch.Tensor) -> None:
    grey = picture[..., :1]
    assert torch.equal(applied(grey, 0, 1 + LIGHT.index("saturation"), MOST), grey.float())


@given(st.integers(0, 6), st.integers(0, 8), st.integers(1, 12))
def test_the_hole_is_the_square_around_its_centre(row: int, column: int, side: int) -> None:
    images = torch.full((1, 7, 9, 3), 5, dtype=torch.uint8)
    fill = torch.tensor([1, 2, 3], dtype=torch.uint8)
    expected = images.clone()
    top, left = row - side // 2, column - side // 2
    expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = fill
    assert torch.equal(cut_out(images, torch.tensor([[row, column]]), side, fill), expected)


def test_order_crops_and_mirrors_are_those_without() -> None:
    plain, _, _ = make(50, augment=Augment(2, True), seed=4)
    more, _, _ = make(50, augment=Augment(2, True, cutout=3, randaugment=9), seed=4)
    before, after = plain.plan(2), more.plan(2)
    for name in ("order", "top", "left", "mirrored"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert before.operations is None and before.centre is None
    assert after.operations is not None and after.centre is not None


def test_operations_and_centres_are_uniform() -> None:
    batches, _, _ = make(12_000, 4, 5, augment=Augment(1, True, cutout=2, randaugment=9), seed=0)
    plan = batches.plan(0)
    assert plan.operations is not None and plan.centre is not None
    for column, kinds in enumerate((len(GEOMETRY), len(LIGHT))):
        counts = np.bincount(plan.operations[:, column] + kinds, minlength=2 * kinds + 1)
        # Nothing is drawn as often as an operation, both of whose ways together make one.
        expected = np.full(2 * kinds + 1, 0.5)
        expected[kinds] = 1.0
        assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-4
    for axis, length in enumerate((4, 5)):
        assert chisquare(np.bincount(plan.centre[:, axis], minlength=length)).pvalue > 1e-4


def test_an_epoch_shows_what_the_plan_says() -> None:
    augment = Augment(0, False, cutout=3, randaugment=12)
    batches, x, _ = make(20, augment=augment, seed=1)
    images, _ = images_and_labels(batches, 3)
    plan = batches.plan(3)
    assert plan.operations is not None and plan.centre is not None
    moved = rand_augment(torch.from_numpy(x[plan.order]), torch.from_numpy(plan.operations), 12)
    fill = torch.tensor([float(round(255 * part)) for part in MEAN])
    cut = cut_out(moved, torch.from_numpy(plan.centre), 3, fill)
    expected = (cut / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(images, expected.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)
    again, _ = images_and_labels(batches, 3)
    assert torch.equal(again, images)


def test_cutout_of_uint8_images_leaves_the_rest_alone() -> None:
    plain, _, _ = make(20, augment=Augment(1, True), seed=1)
    cut, _, _ = make(20, augment=Augment(1, True, cutout=2), seed=1)
    (before, _), (after, _) = images_and_labels(plain, 0), images_and_labels(cut, 0)
    changed = (before != after).any(1)
    assert ((changed.sum((1, 2)) <= 4) & (changed.sum((1, 2)) > 0)).all()
    assert after[changed[:, None].expand_as(after)].abs().max() < 0.02  # the mean, to a grey level


@pytest.mark.parametrize("wrong", [{"cutout": -1}, {"randaugment": 31}, {"randaugment": -1}])
def test_wrong_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cutout is"):
        Augment(1, True, **wrong)
