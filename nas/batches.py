"""Batches of images that live on the device: shuffled, cropped, mirrored and normalised there, a whole batch at a time.

Everything random in epoch k is drawn from (seed, k) alone, on the host, so that a resumed run sees the images that an
uninterrupted one would have seen, and a GPU the same ones as a CPU.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.augmentation import GEOMETRY, LIGHT, MOST, cut_out, rand_augment


@dataclass(frozen=True, slots=True)
class Augment:
    """A random crop of the image with `crop_padding` black pixels around it; if `flip`, mirrored with probability 1/2.

    randaugment: magnitude, 0 (none) to 30, of `nas.augmentation.rand_augment`, behind both. cutout: side in pixels, of the
    images' own, of a square around a random pixel that then gets the mean colour, rounded to a grey level; 0: none.

    Augment(0, flip=False) changes no image; an epoch is shuffled all the same.
    """

    crop_padding: int
    flip: bool
    cutout: int = 0
    randaugment: int = 0

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding is {self.crop_padding}; it can't be negative")
        if self.cutout < 0 or not 0 <= self.randaugment <= MOST:
            raise ValueError(f"cutout is {self.cutout}, randaugment {self.randaugment}; they are from 0, and to {MOST}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one epoch shows, image by image: arrays of one length.

    order: index of the image, (n,) int64. top, left: corner of the crop in the padded image, (n,) int64 in
    0 .. 2 crop_padding. mirrored: (n,) bool. operations: (n, 2) int64 as `rand_augment` takes them. centre: (n, 2) int64, of
    the squares that are cut out. The last two are None where there is no such augmentation.
    """

    order: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    operations: NDArray[np.int64] | None = None
    centre: NDArray[np.int64] | None = None


class Batches:
    """(x / 255 - mean) / std of uint8 images: float32 (b, c, h, w) in channels-last memory, with labels (b,) int64.

    x: (n, h, w, c) uint8, held on `device` as it is (on the CPU without a copy) and never written to. y: (n,) integers.
    mean, std: c numbers in units of [0, 1].

    With `augment`, for training: each epoch is shuffled and augmented anew. Images are padded before normalisation, as
    in torchvision's reference training: with black. Without, for evaluation: the images as they are, in order.
    drop_last leaves out an epoch's last, smaller batch, so that all have one shape, unless it is the only one.
    resolution: side in pixels that batches are resized to, bilinear with antialiasing, behind crop and mirroring, so that
    `crop_padding` scales with them; None, or the images' own size: they stay as they are.

    Raises ValueError for arrays or numbers that don't fit together.
    """

    def __init__(
        self,
        x: NDArray[np.uint8],
        y: NDArray[np.integer],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        device: torch.device | str,
        augment: Augment | None = None,
        seed: int = 0,
        drop_last: bool = False,
        resolution: int | None = None,
    ) -> None:
        if x.dtype != np.uint8 or x.ndim != 4 or y.shape != (len(x),) or len(x) == 0:
            raise ValueError(
                f"x must be uint8 (n, h, w, c) and y (n,), n > 0; they are {x.dtype} {x.shape} and {y.dtype} {y.shape}"
            )
        if not len(mean) == len(std) == x.shape[3] or min(std) <= 0:
            raise ValueError(f"{x.shape[3]} channels need as many means and positive stds, not {mean} and {std}")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if resolution is not None and resolution < 1:
            raise ValueError(f"resolution is {resolution}; it must be at least 1 pixel")
        self.resolution = resolution
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self.images = len(x) // batch_size * batch_size if drop_last and len(x) >= batch_size else len(x)
        self.device = torch.device(device)
        self._x = _tensor(x).to(device)
        self._y = _tensor(y).to(device, torch.int64)
        self._mean_level = torch.tensor([round(255 * part) for part in mean], device=device)
        # x / 255 / std - mean / std, for a row of pixels at once: a last axis of 3 channels is 3 times slower on a CPU.
        scale = 1.0 / np.asarray(std, np.float64)
        row = x.shape[2]
        self._scale = torch.tensor(np.tile(scale / 255.0, row), dtype=torch.float32, device=device)
        self._shift = torch.tensor(
            np.tile(-np.asarray(mean, np.float64) * scale, row), dtype=torch.float32, device=device
        )

    def at(self, resolution: int | None) -> Self:
        """The same batches, of the same images in the same memory, at another resolution in pixels."""
        if resolution is not None and resolution < 1:
            raise ValueError(f"resolution is {resolution}; it must be at least 1 pixel")
        other = copy.copy(self)
        other.resolution = resolution
        return other

    def __len__(self) -> int:
        """Batches of one epoch."""
        return -(-self.images // self.batch_size)

    def plan(self, number: int) -> Plan:
        """What epoch `number`, counted from 0, shows: a function of the seed, the number and the count of images."""
        count = len(self._x)
        if self.augment is None:
            nothing = np.zeros(self.images, np.int64)
            return Plan(np.arange(self.images), nothing, nothing, nothing.astype(np.bool_))
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(count)
        top, left = random.integers(0, 2 * self.augment.crop_padding + 1, (2, count))
        mirrored = random.integers(0, 2, count).astype(np.bool_) & self.augment.flip
        operations = centre = None  # drawn last: what is drawn above does not depend on them
        if self.augment.randaugment:
            kinds = random.integers(0, (1 + len(GEOMETRY), 1 + len(LIGHT)), (count, 2))
            operations = (kinds * random.choice((-1, 1), (count, 2)))[: self.images]
        if self.augment.cutout:
            centre = random.integers(0, self._x.shape[1:3], (count, 2))[: self.images]
        return Plan(
            order[: self.images], top[: self.images], left[: self.images], mirrored[: self.images], operations, centre
        )

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`, counted from 0: as many as len(self), with self.images images."""
        if self.augment is None:
            for start in range(0, self.images, self.batch_size):
                stop = min(start + self.batch_size, self.images)
                yield self._normalised(self._x[start:stop]), self._y[start:stop]
            return
        plan = self.plan(number)
        order, top, left, mirrored, operations, centre = (
            None if part is None else _tensor(part).to(self._x.device)
            for part in (plan.order, plan.top, plan.left, plan.mirrored, plan.operations, plan.centre)
        )
        assert order is not None and top is not None and left is not None and mirrored is not None
        for start in range(0, self.images, self.batch_size):
            batch = slice(start, start + self.batch_size)
            chosen = order[batch]
            images = self._x.index_select(0, chosen)
            if self.augment.crop_padding:
                images = _crops(images, self.augment.crop_padding, top[batch], left[batch])
            if self.augment.flip:
                images = torch.where(mirrored[batch, None, None, None], images.flip(2), images)
            if operations is not None:
                images = rand_augment(images, operations[batch], self.augment.randaugment)
            if centre is not None:
                images = cut_out(images, centre[batch], self.augment.cutout, self._mean_level.to(images.dtype))
            yield self._normalised(images), self._y.index_select(0, chosen)

    def _normalised(self, images: Tensor) -> Tensor:
        """(b, h, w, c) uint8 -> (b, c, h, w) float32 in channels-last memory: the pixels stay in their order."""
        rows = images.flatten(2).to(torch.float32).mul_(self._scale).add_(self._shift)
        x = rows.view(images.shape).permute(0, 3, 1, 2)
        if self.resolution is None or x.shape[2:] == (self.resolution, self.resolution):
            return x
        size = (self.resolution, self.resolution)
        resized = functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        return resized.contiguous(memory_format=torch.channels_last)


def _crops(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """The (h, w) window of each zero-padded image with its corner at (top, left); images (b, h, w, c)."""
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    # All (2 padding + 1)^2 windows of all images, as a view; picking one of each copies nothing else.
    windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
    return windows[torch.arange(count, device=images.device), top, left]


def _tensor(array: NDArray[np.generic]) -> Tensor:
    """The array's memory as a tensor; PyTorch would warn where that is read-only, as in a shared object store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))
