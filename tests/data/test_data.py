"""Data sets: every source read from files of its real format, every bad input refused with a message that helps."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import npz, random_images
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data import Dataset, load, split, subset
from nas.errors import UsageError

# ---- digits


def test_digits_are_scikit_learns_and_their_split_never_moves() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert (len(data.y_train), len(data.y_test)) == (1438, 359)
    digits = load_digits()
    known = {image.tobytes(): target for image, target in zip(digits.images, digits.target, strict=True)}
    for image, label in zip(data.x_test[:50, :, :, 0], data.y_test[:50], strict=True):
        assert known[np.rint(image.astype(float) * 16 / 255).tobytes()] == label
    assert data.fingerprint == "cc4c38da241f18f25d6a08d5ff25606fda99915def539e8c8235700cf63c1ecf"


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar", "unknown dataset 'cifar' .did you mean 'cifar10'.*known: digits, cifar10"),
        ("digit:x", "unknown dataset 'digit'"),
        ("digits:x", "takes no path"),
        ("imagefolder", "needs a path: imagefolder:PATH"),
        ("npz:", "needs a path: npz:PATH"),
    ],
)
def test_a_bad_name_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(name)


def test_a_bare_path_is_told_its_prefix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"write imagefolder:{tmp_path}"):
        load(str(tmp_path))
    with pytest.raises(UsageError, match=f"write npz:{tmp_path / 'a.npz'}"):
        load(str(npz(tmp_path / "a.npz")))


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="resolution is 3"):
        load("digits", resolution=3)
    with pytest.raises(UsageError, match="max_images is 0"):
        load("digits", max_images=0)
    with pytest.raises(UsageError, match="15 images are too few for 10 classes; take 20 or more"):
        load("digits", max_images=15)


# ---- Dataset


def dataset(**changes: Any) -> Dataset:
    arguments: dict[str, Any] = {
        "name": "toy",
        "source": "Noise.",
        "x_train": random_images(20),
        "y_train": np.arange(20) % 2,
        "x_test": random_images(6),
        "y_test": np.arange(6) % 2,
        "classes": ("cat", "dog"),
        "flip": True,
        "crop_padding": 1,
    }
    return Dataset(**(arguments | changes))


def test_the_fingerprint_sees_every_array_and_class_name_and_nothing_else() -> None:
    base = dataset().fingerprint
    assert len(base) == 64
    assert dataset(name="other", source="Else.", flip=False, crop_padding=2).fingerprint == base
    assert dataset(y_train=(np.arange(20) % 2).astype(np.uint8)).fingerprint == base
    pixel = random_images(20)
    pixel[7, 3, 2, 1] ^= 1
    others = [
        dataset(x_train=pixel),
        dataset(y_train=np.arange(1, 21) % 2),
        dataset(x_test=random_images(20)[:6]),
        dataset(y_test=np.arange(1, 7) % 2),
        dataset(classes=("cat", "cow")),
        dataset(x_train=random_images(20)[:19], y_train=np.arange(19) % 2),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 7


def test_a_constant_channel_has_one_grey_level_of_spread() -> None:
    images = random_images(20)
    images[..., 1] = 255
    data = dataset(x_train=images)
    assert data.mean[1] == 1.0
    assert data.std[1] == 1 / 255


def test_a_data_set_is_frozen() -> None:
    data = dataset()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0
    assert dataclasses.replace(data, flip=False).flip is False
    images = random_images(20)
    dataset(x_train=images)
    images[0] = 0  # the caller's own array stays the caller's to write


def test_a_data_set_made_by_hand_is_checked_too() -> None:
    with pytest.raises(UsageError, match="toy: y_train: too few images of a class: 'dog' has 1; each needs at least 2"):
        dataset(y_train=np.repeat([0, 1], [19, 1]))
    with pytest.raises(UsageError, match="crop_padding is -1"):
        dataset(crop_padding=-1)


# ---- splits


LABELS = st.lists(st.integers(2, 30), min_size=1, max_size=8).flatmap(
    lambda counts: st.permutations([3 * label for label, count in enumerate(counts) for _ in range(count)])
)


@given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_split_properties(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels)
    train, validation = split(array, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    classes, counts = np.unique(array, return_counts=True)
    assert set(array[train]) == set(array[validation]) == set(classes)
    least, most = len(classes), len(labels) - len(classes)
    assert len(validation) == min(max(round(fraction * len(labels)), least), most)
    again = split(array, fraction, seed)
    np.testing.assert_array_equal(again[1], validation)
    if (fraction * counts >= 1).all() and ((1 - fraction) * counts >= 1).all():
        held_out = np.array([(array[validation] == label).sum() for label in classes])
        assert (np.abs(held_out - len(validation) * counts / len(labels)) < 1).all()


@given(labels=LABELS, size=st.integers(1, 300), seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_subset_properties(labels: list[int], size: int, seed: int) -> None:
    array = np.array(labels)
    classes, counts = np.unique(array, return_counts=True)
    if size < 2 * len(classes) and size < len(labels):
        with pytest.raises(UsageError, match="too few for"):
            subset(array, size, seed)
        return
    index = subset(array, size, seed)
    assert len(index) == len(set(index.tolist())) == min(size, len(labels))
    assert (np.diff(index) > 0).all()
    kept = np.array([(array[index] == label).sum() for label in classes])
    assert (kept >= 2).all()
    shares = len(index) * counts / len(labels)
    if (shares >= 2).all():
        assert (np.abs(kept - shares) < 1).all()


def test_a_split_depends_on_its_seed_and_mixes_the_order() -> None:
    labels = np.repeat([0, 1], 500)
    first, second = split(labels, 0.2, 0)[1], split(labels, 0.2, 1)[1]
    assert 0 < len(np.intersect1d(first, second)) < 80  # 200 of 1,000, twice: 40 expected in common
    assert 180 < np.median(first[:100]) < 320  # of class 0, not only its beginning or end


def test_a_split_never_moves() -> None:
    labels = np.arange(12) % 3
    assert split(labels, 0.5, 7)[1].tolist() == [0, 2, 4, 5, 9, 10]


@pytest.mark.parametrize(
    ("labels", "fraction", "said"),
    [
        ([0, 0, 1], 0.5, "class 1 has a single image"),
        ([0, 0, 1, 1], 0.0, "between 0 and 1"),
        ([0, 0, 1, 1], 1.0, "between 0 and 1"),
        ([0, 0, 1, 1], float("nan"), "between 0 and 1"),
        ([], 0.5, "non-empty"),
        ([0.0, 0.0], 0.5, "integers"),
        ([[0, 0]], 0.5, "integers"),
    ],
)
def test_a_bad_split_is_refused(labels: list[Any], fraction: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split(np.array(labels), fraction, 0)


def test_importing_the_data_sets_loads_neither_torch_nor_sklearn_nor_pillow() -> None:
    code = "import sys, nas.data; print([m for m in ('torch', 'torchvision', 'sklearn', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
