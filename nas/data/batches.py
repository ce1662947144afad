"""Batches of images that are kept on the device: shuffled, cropped, mirrored and normalised there, a whole batch at a time.

All random numbers of epoch k are drawn on the host from (seed, k) alone, so that a resumed run sees the same images as an
uninterrupted one, and a GPU the same images as a CPU.
"""

from __future__ import annotations

import copy
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.data.augmentation import GEOMETRY, LIGHT, MOST, cut_out, rand_augment

AHEAD = 4  # batches
WHOLE = (0, 1)


@dataclass(frozen=True, slots=True)
class Augment:
    """A random crop of the image padded by `crop_padding` black pixels; if `flip`, mirrored with probability 1/2.

    randaugment: magnitude of `nas.data.augmentation.rand_augment`, applied after crop and mirroring, 0 (none) to 30. cutout: side
    of a square around a random pixel, in pixels of the original image, that is then set to the mean color, rounded to a gray
    level; 0 for none.

    Augment(0, flip=False) does not change the images, but the epochs are shuffled.
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
    """The images of one epoch in order, and the augmentation of each.

    order: indices of the images, (n,) int64. top, left: corner of the crop in the padded image, (n,) int64 in
    0 .. 2 crop_padding. mirrored: (n,) bool. operations: (n, 2) int64, as in `rand_augment`. centre: (n, 2) int64, centers of the
    squares that are cut out. The last two are None without that augmentation.
    """

    order: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    operations: NDArray[np.int64] | None = None
    centre: NDArray[np.int64] | None = None


class BatchSource(Protocol):
    """Source of batches of labelled images for training and evaluation: `Batches`, or a stream of files.

    images: number in one epoch. batch_size: of all batches but the last. device: of the batches. seed: determines, together with
    the epoch's number, all random numbers of an epoch.
    """

    images: int
    batch_size: int
    device: torch.device
    seed: int

    def __len__(self) -> int: ...
    def size(self, step: int) -> int: ...
    def epoch(self, number: int, part: tuple[int, int] = WHOLE) -> Iterator[tuple[Tensor, Tensor]]: ...


class Normalisation:
    """(x / 255 - mean) / std of images (b, h, w, c) in levels from 0 to 255, as float32 (b, c, h, w) in channels-last memory.

    mean, std: c numbers in [0, 1]. width: w in pixels. mean_level: the mean color as integer levels, (c,) int64.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device | str) -> None:
        self.mean_level = torch.tensor([round(255 * part) for part in mean], device=device)
        # x / 255 / std - mean / std for a whole row of pixels: with a last axis of 3 channels, a CPU is 3 times slower.
        scale = 1.0 / np.asarray(std, np.float64)
        self._scale = torch.tensor(np.tile(scale / 255.0, width), dtype=torch.float32, device=device)
        self._shift = torch.tensor(
            np.tile(-np.asarray(mean, np.float64) * scale, width), dtype=torch.float32, device=device
        )

    def __call__(self, images: Tensor) -> Tensor:
        rows = images.flatten(2).to(torch.float32).mul_(self._scale).add_(self._shift)
        return rows.view(images.shape).permute(0, 3, 1, 2)


def span(step: int, batch_size: int, size: int, part: tuple[int, int]) -> slice:
    """The positions in the epoch of part k of m of batch `step`, which has `size` images; part: (k, m)."""
    number, parts = part
    begin = step * batch_size
    return slice(begin + size * number // parts, begin + size * (number + 1) // parts)


class Batches:
    """(x / 255 - mean) / std of uint8 images: float32 (b, c, h, w) in channels-last memory, with labels (b,) int64.

    x: (m, h, w, c) uint8, never written to. y: (m,) integers. index: (n,), the images to use; None for all. mean, std: c numbers
    in [0, 1].

    The images are copied to `device` once; on the CPU they are not copied. With `resident=False` they stay in the host's memory
    or in a memory-mapped file: a thread gathers batches, `AHEAD` of the current one. The results are the same.

    augment: for training; each epoch is shuffled and augmented differently. Images are padded with black before normalisation,
    as in torchvision's reference training. None, for evaluation: the unchanged images in order.
    drop_last: leave out an epoch's last batch if it is smaller, so that all have one shape, unless it is the only one.
    resolution: side in pixels to which batches are resized, bilinear with antialiasing, after crop and mirroring, so that
    `crop_padding` scales with them; None for the images' own size.

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
        index: NDArray[np.int64] | None = None,
        resident: bool = True,
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
        count = len(x) if index is None else len(index)
        if not count:
            raise ValueError("index is empty; there is no image to make batches of")
        self.count = count
        self.images = count // batch_size * batch_size if drop_last and count >= batch_size else count
        self.device = torch.device(device)
        self._index = index
        self._resident = resident
        if resident and index is not None and self.device.type != "cpu":  # copy only the images that are used
            x, y, self._index = x[index], y[index], None
        self._x = _tensor(x) if not resident else _tensor(x).to(device)
        self._y = _tensor(y).to(self._x.device, torch.int64)
        self._normalisation = Normalisation(mean, std, x.shape[2], device)

    def at(self, resolution: int | None) -> Self:
        """The same batches at another resolution in pixels; the images' memory is shared."""
        if resolution is not None and resolution < 1:
            raise ValueError(f"resolution is {resolution}; it must be at least 1 pixel")
        other = copy.copy(self)
        other.resolution = resolution
        return other

    def __len__(self) -> int:
        """Batches of one epoch."""
        return -(-self.images // self.batch_size)

    def plan(self, number: int) -> Plan:
        """The plan of epoch `number`, counted from 0: a function of the seed, the number and the count of images."""
        count = self.count
        if self.augment is None:
            nothing = np.zeros(self.images, np.int64)
            return Plan(np.arange(self.images), nothing, nothing, nothing.astype(np.bool_))
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(count)
        top, left = random.integers(0, 2 * self.augment.crop_padding + 1, (2, count))
        mirrored = random.integers(0, 2, count).astype(np.bool_) & self.augment.flip
        operations = centre = None  # drawn last, so that the draws above do not depend on them
        if self.augment.randaugment:
            kinds = random.integers(0, (1 + len(GEOMETRY), 1 + len(LIGHT)), (count, 2))
            operations = (kinds * random.choice((-1, 1), (count, 2)))[: self.images]
        if self.augment.cutout:
            centre = random.integers(0, self._x.shape[1:3], (count, 2))[: self.images]
        return Plan(
            order[: self.images], top[: self.images], left[: self.images], mirrored[: self.images], operations, centre
        )

    def size(self, step: int) -> int:
        """Number of images of batch `step`, counted from 0 in each epoch, over all its parts."""
        return min(self.batch_size, self.images - step * self.batch_size)

    def epoch(self, number: int, part: tuple[int, int] = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`, counted from 0: as many as len(self), with self.images images.

        part: (k, m) for the k-th of m equal parts of each batch, from 0; the parts together are the whole batch.
        """
        plan = self.plan(number)
        spans = [span(step, self.batch_size, self.size(step), part) for step in range(len(self))]
        # Copied once: a small copy before each batch would stall a GPU.
        drawn = [
            None if of_epoch is None else _sent(_tensor(of_epoch), self.device)
            for of_epoch in (plan.top, plan.left, plan.mirrored, plan.operations, plan.centre)
        ]
        for place, (images, labels) in zip(spans, self._gathered(plan.order, spans), strict=True):
            if self.augment is not None and len(images):  # a small batch has empty parts
                images = self._augmented(images, *(None if of_epoch is None else of_epoch[place] for of_epoch in drawn))
            yield self._normalised(images), labels

    def _gathered(self, order: NDArray[np.int64], spans: Sequence[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """The images (b, h, w, c) uint8 and labels of each span of the order, on the device."""
        rows = _tensor(order if self._index is None else self._index[order])
        in_order = self.augment is None and self._index is None
        if self._resident:
            if in_order:  # views
                yield from ((self._x[place], self._y[place]) for place in spans)
                return
            rows = _sent(rows, self.device)
            for place in spans:
                yield self._x.index_select(0, rows[place]), self._y.index_select(0, rows[place])
            return

        def gather(place: slice) -> tuple[Tensor, Tensor]:
            images, labels = self._x.index_select(0, rows[place]), self._y.index_select(0, rows[place])
            return (images.pin_memory(), labels.pin_memory()) if self.device.type == "cuda" else (images, labels)

        with ThreadPoolExecutor(1) as pool:
            waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
            try:
                for number in range(len(spans) + AHEAD):
                    if number < len(spans):
                        waiting.append(pool.submit(gather, spans[number]))
                    if number >= AHEAD:
                        images, labels = waiting.popleft().result()
                        yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def _augmented(
        self,
        images: Tensor,
        top: Tensor | None,
        left: Tensor | None,
        mirrored: Tensor | None,
        operations: Tensor | None,
        centre: Tensor | None,
    ) -> Tensor:
        """The images (b, h, w, c) augmented by these slices of a plan."""
        assert self.augment is not None and top is not None and left is not None and mirrored is not None
        if self.augment.crop_padding:
            images = _crops(images, self.augment.crop_padding, top, left)
        if self.augment.flip:
            images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        if operations is not None:
            images = rand_augment(images, operations, self.augment.randaugment)
        if centre is not None:
            images = cut_out(images, centre, self.augment.cutout, self._normalisation.mean_level.to(images.dtype))
        return images

    def _normalised(self, images: Tensor) -> Tensor:
        """(b, h, w, c) uint8 -> (b, c, h, w) float32 in channels-last memory: the pixels stay in their order."""
        x = self._normalisation(images)
        if self.resolution is None or x.shape[2:] == (self.resolution, self.resolution):
            return x
        size = (self.resolution, self.resolution)
        resized = functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        return resized.contiguous(memory_format=torch.channels_last)


def _crops(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """The (h, w) window of each zero-padded image with its corner at (top, left); images (b, h, w, c)."""
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    # A view of all (2 padding + 1)^2 windows of all images; only the selected windows are copied.
    windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
    return windows[torch.arange(count, device=images.device), top, left]


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. It is copied to a GPU from pinned memory, so that the host does not wait for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _tensor(array: NDArray[np.generic]) -> Tensor:
    """The array as a tensor that shares its memory, without PyTorch's warning about read-only memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))
