"""Folders that people have: parts by their usual names, classes of unequal size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import image_folder
from hypothesis import given
from hypothesis import strategies as st

from nas.data import Dataset, load
from nas.errors import UsageError

# ---- parts


@pytest.mark.parametrize(
    ("parts", "train", "test", "unused"),
    [
        (("train", "test"), "train", "test", None),
        (("train", "val"), "train", "val", None),
        (("train", "valid"), "train", "valid", None),
        (("train", "validation"), "train", "validation", None),
        (("Training", "Testing"), "Training", "Testing", None),
        (("train", "validation", "test"), "train", "test", "validation"),
    ],
)
def test_parts_by_their_usual_names(
    parts: tuple[str, ...], train: str, test: str, unused: str | None, tmp_path: Path
) -> None:
    for number, part in enumerate(parts):
        image_folder(tmp_path / part, count=4 + number)
    said: list[str] = []
    data = load(f"imagefolder:{tmp_path}", progress=said.append)
    assert f"trained on {train}/ and tested on {test}/" in data.source
    assert len(data.y_train) == 2 * (4 + parts.index(train))
    assert len(data.y_test) == 2 * (4 + parts.index(test))
    assert any(line.startswith(f"{unused}/ of") and "not read" in line for line in said) == (unused is not None)
    assert (f"without {unused}/" in data.source) == (unused is not None)


def test_a_train_folder_without_classes_is_a_class_of_trains(tmp_path: Path) -> None:
    image_folder(tmp_path, ("plane", "train", "test"))
    assert load(f"imagefolder:{tmp_path}").classes == ("plane", "test", "train")


def test_a_folder_around_the_folder_is_named(tmp_path: Path) -> None:
    image_folder(tmp_path / "archive" / "train")
    with pytest.raises(UsageError, match=f"write imagefolder:{tmp_path}/archive$"):
        load(f"imagefolder:{tmp_path}")


# ---- classes of unequal size


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6))
def test_imbalance_is_of_the_train_images(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    names = tuple(f"class{k}" for k in range(len(counts)))
    found = Dataset("toy", "Nothing.", images, labels, images[:2], labels[:2], names, True, 1).imbalance
    assert (found.largest_images, found.smallest_images) == (max(counts), min(counts))
    assert counts[names.index(found.largest)] == max(counts)
    assert counts[names.index(found.smallest)] == min(counts)
    assert found.ratio == max(counts) / min(counts)


@pytest.mark.parametrize(("cats", "told"), [(12, True), (11, False)])
def test_uneven_classes_are_said_from_three_to_one(cats: int, told: bool, tmp_path: Path) -> None:
    image_folder(tmp_path / "train", ("cat",), cats)
    image_folder(tmp_path / "train", ("dog",), 4)
    image_folder(tmp_path / "test", count=1)
    said: list[str] = []
    load(f"imagefolder:{tmp_path}", progress=said.append)
    line = "uneven classes: 'cat' has 12 train images, 'dog' has 4 (3.0 to 1)"
    assert any(text.startswith(line) for text in said) == told
    assert any(text.startswith("uneven") for text in said) == told
