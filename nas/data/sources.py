"""Sources of images (`Source`), requests to them (`Request`), and the assembly of a `Dataset` from the parts that were read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import Dataset, check_classes, check_counts, check_images, check_labels, crop_padding_at
from nas.data.readers.images import fit
from nas.data.splits import split, subset
from nas.utils.text import Say

TEST_FRACTION = 0.2
LEAST_PER_CLASS = 4
SEED = 0  # of the split test part and the subset, which belong to the data and must not depend on the seed of a run

Part = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `nas.data.load`, with defaults filled in.

    path: PATH in name:PATH. skip_corrupt: whether files that can't be decoded are left out and reported instead of refused.
    paged: whether images that exceed the memory may stay on the disk and be read when they are needed.
    """

    path: str
    root: Path
    download: bool
    resolution: int | None
    max_images: int | None
    skip_corrupt: bool
    say: Say
    paged: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `nas.data.DATASETS`. about: a phrase for listings. takes_path: whether it is written as name:PATH."""

    about: str
    read: Callable[[Request], Dataset]
    takes_path: bool = False


def assemble(
    request: Request, *, name: str, source: str, train: Part, test: Part | None, classes: tuple[str, ...], flip: bool
) -> Dataset:
    """A `Dataset` from parts (images, labels) as they were read: checked, split if there is no test part, subsampled, resized.

    source: a sentence without its full stop, which is extended by the steps taken here.
    """
    check_classes(name, classes)
    for part, (images, labels) in (("train", train), *((("test", test),) if test else ())):
        check_images(f"{name}: x_{part}", images)
        check_labels(f"{name}: y_{part}", labels, len(images), classes)
    x_train, y_train = train[0], train[1].astype(np.int64, copy=False)
    check_counts(f"{name}: y_train", y_train, classes, least=LEAST_PER_CLASS)
    if test is None:
        kept, held_out = split(y_train, TEST_FRACTION, SEED)
        test = x_train[held_out], y_train[held_out]
        x_train, y_train = x_train[kept], y_train[kept]
        source += f", {len(held_out):,} of them held out for the test"
    x_test, y_test = test
    if request.max_images is not None and request.max_images < len(y_train):
        source += f", {request.max_images:,} of the {len(y_train):,} train images"
        kept = subset(y_train, request.max_images, SEED)
        x_train, y_train = x_train[kept], y_train[kept]
    if request.resolution is not None:
        _, height, width, _ = x_train.shape
        if not height == width == request.resolution:
            source += f", resized from {height} x {width} to {request.resolution} px"
        x_train = fit(x_train, request.resolution, f"{name}: x_train", request.say)
        x_test = fit(x_test, request.resolution, f"{name}: x_test", request.say)
    return Dataset(
        name=name,
        source=f"{source}.",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=classes,
        flip=flip,
        crop_padding=crop_padding_at(x_train.shape[1]),
    )
