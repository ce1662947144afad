"""`Dataset`: labelled images as arrays, checked at construction, in a train part and a test part that a search never uses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.names import Labels, require_names, some
from nas.errors import UsageError

Images = NDArray[np.uint8]

GREY_LEVEL = 1.0 / 255.0

NOTABLE_RATIO = 3.0  # least ratio of the largest to the smallest class that is reported


@dataclass(frozen=True, slots=True)
class Imbalance:
    """The classes with the most and the fewest train images (the first of equal ones), and their numbers of images."""

    largest: str
    largest_images: int
    smallest: str
    smallest_images: int

    @property
    def ratio(self) -> float:
        """largest_images / smallest_images: 1 if all classes have the same size."""
        return self.largest_images / self.smallest_images

    @property
    def notable(self) -> bool:
        return self.ratio >= NOTABLE_RATIO

    def __str__(self) -> str:
        return (
            f"uneven classes: {self.largest!r} has {self.largest_images:,} train images, {self.smallest!r} has "
            f"{self.smallest_images:,} ({self.ratio:.1f} to 1); accuracy is over images, so it says little of small classes"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Square images `x` (n, height, width, channels) uint8 and labels `y` (n,) int64, in a train and a test part.

    name: the name given to `nas.data.load`. source: one sentence about what the data are and where they come from. classes: class
    names; a label is an index into them. flip: whether a mirrored image keeps its class. crop_padding: zero pixels on each side
    for random crops, round(resolution / 8) by convention (4 at 32). skipped: number of files that were left out because they
    can't be decoded.

    Validation images are split from the train part (`nas.data.split`); the test part is only for the final choice. The arrays are
    read-only views. Raises UsageError with the array's name if the parts are not a valid data set.
    """

    name: str
    source: str
    x_train: Images = field(repr=False)
    y_train: Labels = field(repr=False)
    x_test: Images = field(repr=False)
    y_test: Labels = field(repr=False)
    classes: tuple[str, ...]
    flip: bool
    crop_padding: int
    skipped: int = 0
    # Cached after their first use: hashing and averaging 180 MB takes a second.
    _fingerprint: str = field(default="", init=False, repr=False)
    _moments: tuple[tuple[float, ...], tuple[float, ...]] = field(default=((), ()), init=False, repr=False)

    def __post_init__(self) -> None:
        check_classes(self.name, self.classes)
        for part in ("train", "test"):
            images, labels = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            check_images(f"{self.name}: x_{part}", images)
            check_square(f"{self.name}: x_{part}", images.shape)
            check_labels(f"{self.name}: y_{part}", labels, len(images), self.classes)
            object.__setattr__(self, f"x_{part}", _read_only(images))
            object.__setattr__(self, f"y_{part}", _read_only(labels.astype(np.int64, copy=False)))
        check_counts(f"{self.name}: y_train", self.y_train, self.classes, least=2)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise UsageError(
                f"{self.name}: train images are {_size(self.x_train.shape)}, test images {_size(self.x_test.shape)}; "
                "both must have one size and one number of channels"
            )
        if self.crop_padding < 0:
            raise UsageError(f"{self.name}: crop_padding is {self.crop_padding}; it must be 0 or more pixels")

    @property
    def resolution(self) -> int:
        """Height and width of every image, in pixels."""
        return int(self.x_train.shape[1])

    @property
    def channels(self) -> int:
        return int(self.x_train.shape[3])

    @property
    def imbalance(self) -> Imbalance:
        """The imbalance of the classes in the train part."""
        return imbalance_of(self.y_train, self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the four arrays (types, shapes, bytes) and the class names; the data set's name is not included."""
        if not self._fingerprint:
            digest = hashlib.sha256()
            for key in ("x_train", "y_train", "x_test", "y_test"):
                array = getattr(self, key)
                digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
            digest.update(repr(self.classes).encode())
            object.__setattr__(self, "_fingerprint", digest.hexdigest())
        return self._fingerprint

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the train images, in [0, 1]."""
        return self._statistics()[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the train images, in [0, 1]; at least one gray level (1/255)."""
        return self._statistics()[1]

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not self._moments[0]:
            levels = np.arange(256) / 255.0
            means, stds = [], []
            for histogram in _histograms(self.x_train):
                share = histogram / histogram.sum()
                mean = float(share @ levels)
                means.append(mean)
                stds.append(max(float(share @ (levels - mean) ** 2) ** 0.5, GREY_LEVEL))
            object.__setattr__(self, "_moments", (tuple(means), tuple(stds)))
        return self._moments


def imbalance_of(labels: NDArray[np.integer], classes: Sequence[str]) -> Imbalance:
    """The imbalance of the classes that `labels` (n,) index."""
    counts = np.bincount(labels, minlength=len(classes))
    most, fewest = int(counts.argmax()), int(counts.argmin())
    return Imbalance(classes[most], int(counts[most]), classes[fewest], int(counts[fewest]))


def crop_padding_at(resolution: int) -> int:
    """resolution / 8 rounded half up: 4 pixels at 28 and 32, 1 at 8, 28 at 224."""
    return (resolution + 4) // 8


def check_images(what: str, images: NDArray[np.generic]) -> None:
    """UsageError unless `images` is a non-empty uint8 array (n, height, width, channels). what: its name in the error."""
    if images.dtype != np.uint8:
        hint = "; if they lie in 0..1, multiply by 255 and round" if np.issubdtype(images.dtype, np.floating) else ""
        raise UsageError(f"{what} is {images.dtype}; images must be uint8 in 0..255{hint}")
    if images.ndim != 4:
        hint = "; give gray images a last axis of length 1" if images.ndim == 3 else ""
        raise UsageError(f"{what} has shape {images.shape}; images must be (n, height, width, channels){hint}")
    if images.size == 0:
        raise UsageError(f"{what} has shape {images.shape}: there is no image in it")


def check_square(what: str, shape: tuple[int, ...]) -> None:
    """UsageError unless images of `shape` (n, height, width, channels) are square."""
    _, height, width, channels = shape
    if height != width:
        remedy = "give a resolution, and each image is centre-cropped and resized to it"
        if width == channels and height <= 4:
            remedy = "the channels seem to come first, and they belong last: x.transpose(0, 2, 3, 1)"
        raise UsageError(f"{what} holds images of {height} x {width} pixels, and they must be square; {remedy}")


def check_labels(what: str, labels: NDArray[np.generic], count: int, classes: Sequence[str]) -> None:
    """UsageError unless `labels` is a (count,) array of integers in 0 .. len(classes) - 1."""
    if not np.issubdtype(labels.dtype, np.integer):
        hint = "; of one-hot rows, they are y.argmax(1)" if labels.ndim == 2 else ""
        raise UsageError(f"{what} is {labels.dtype}; labels must be integers, 0 for the first class{hint}")
    if labels.shape != (count,):
        raise UsageError(f"{what} has shape {labels.shape}; with one label for each image it would be ({count},)")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise UsageError(
            f"{what} holds {low} to {high}; labels of {len(classes)} classes go from 0 to {len(classes) - 1}"
        )


def check_classes(what: str, classes: Sequence[str]) -> None:
    """UsageError unless there are two or more class names, all different and valid."""
    if len(classes) < 2:
        raise UsageError(f"{what} has {len(classes)} class ({some(classes)}); it takes two to tell apart")
    require_names(classes, what)


def check_counts(what: str, labels: NDArray[np.integer], classes: Sequence[str], *, least: int) -> None:
    """UsageError if a class has fewer than `least` images."""
    counts = np.bincount(labels, minlength=len(classes))
    if poor := [f"{name!r} has {count}" for name, count in zip(classes, counts, strict=True) if count < least]:
        more = f" and {len(poor) - 5} more" if len(poor) > 5 else ""
        raise UsageError(
            f"{what}: too few images of a class: {', '.join(poor[:5])}{more}; each needs at least {least}: "
            "add images or remove the class"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape[1:])


def _histograms(images: Images) -> NDArray[np.int64]:
    """Exact counts of the gray levels, (channels, 256)."""
    pixels = images.reshape(-1, images.shape[3])
    histograms = np.zeros((images.shape[3], 256), np.int64)
    step = 1 << 20  # pixels at a time: bincount makes an input eight times as large
    for start in range(0, len(pixels), step):
        for channel, histogram in enumerate(histograms):
            histogram += np.bincount(pixels[start : start + step, channel], minlength=256)
    return histograms
