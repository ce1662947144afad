"""Batches of images that are decoded during training, in worker processes, a few batches ahead.

Crops are those usual for ImageNet, by torchvision's v2 transforms. Training: a box of 8 to 100 % of the image's area with aspect
ratio 3/4 to 4/3 ("Going deeper with convolutions", Szegedy et al. 2015), resized to a square, mirrored with probability 1/2.
Evaluation: the shorter side is resized to 256/224 of the square, and its center is cropped. All resizing is bilinear, antialiased.

All random numbers are drawn from (seed, epoch, image) alone: a resumed training sees the same images as an uninterrupted one,
with any number of workers and processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nas.data.augmentation import GEOMETRY, LIGHT, cut_out, rand_augment
from nas.data.batches import AHEAD, WHOLE, Normalisation, span
from nas.data.readers.images import quiet_pillow, whole_rgb
from nas.data.streamed import Names
from nas.errors import NasError, reason_of
from nas.utils.limits import available_cores

if TYPE_CHECKING:
    from PIL import Image

LAW = "resized-crop"
EVALUATED = 256 / 224  # shorter side of the resized image over the side of the central crop
_ASPECT = (
    16  # longer images are cropped first: an image one pixel high would be resized to a width of millions of pixels
)


@dataclass(frozen=True, slots=True)
class Shown:
    """Augmentation of training images: mirroring if `flip`; cutout and randaugment as in `nas.data.batches.Augment`."""

    flip: bool
    cutout: int = 0
    randaugment: int = 0


class _Batch(NamedTuple):
    """images (b, r, r, 3) uint8, labels (b,) int64. broken: message about a file that can't be decoded, or ""."""

    images: Tensor
    labels: Tensor
    broken: str


@dataclass(frozen=True, slots=True, eq=False)
class Frames(Dataset[Any]):
    """The images of one epoch by their number: (r, r, 3) uint8 and a label, or a message about a file that can't be decoded."""

    names: Names = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    resolution: int
    shown: Shown | None
    seed: int
    epoch: int = 0

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int] | str:
        try:
            with quiet_pillow():
                image = whole_rgb(self.names[number])
            return np.asarray(self._view(_bounded(image), number)), int(self.y[number])
        except Exception as error:  # Pillow raises nearly every type; a worker would add a long traceback
            return f"{self.names[number]} can't be decoded any more: {reason_of(error, 200)}"

    def _view(self, image: Image.Image, number: int) -> Image.Image:
        """The crop of the image: random by (seed, epoch, number) in training, fixed in evaluation."""
        from torchvision.transforms import v2

        side = [self.resolution, self.resolution]
        if self.shown is None:
            resized = v2.functional.resize(image, [round(EVALUATED * self.resolution)])
            centre: Image.Image = v2.functional.center_crop(resized, side)
            return centre
        entropy = np.random.SeedSequence([self.seed, self.epoch, number]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(entropy[0]))
            view: Image.Image = v2.RandomResizedCrop(side)(image)
            mirrored: Image.Image = v2.RandomHorizontalFlip(0.5 if self.shown.flip else 0.0)(view)
        return mirrored


class Stream:
    """(x / 255 - mean) / std of images in files: float32 (b, 3, r, r) in channels-last memory, with labels (b,) int64.

    A drop-in replacement for `nas.data.batches.Batches`. index: (n,), the images to use; None for all. shown: for training, with
    each epoch shuffled and cropped differently; None for evaluation, in order. workers: number of decoding processes; 0 to decode
    in this one.

    NasError, possibly in the middle of an epoch, if a file can no longer be decoded or a worker dies.
    """

    def __init__(
        self,
        names: Names,
        y: NDArray[np.int64],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        device: torch.device | str,
        resolution: int,
        shown: Shown | None = None,
        seed: int = 0,
        drop_last: bool = False,
        index: NDArray[np.int64] | None = None,
        workers: int = 0,
    ) -> None:
        if batch_size < 1 or resolution < 1 or workers < 0:
            raise ValueError(f"batch_size {batch_size}, resolution {resolution} and workers {workers} must be positive")
        self.index = np.arange(len(names)) if index is None else index
        self.count = count = len(self.index)
        if not count:
            raise ValueError("there is no image to make batches of")
        self.batch_size = batch_size
        self.images = count // batch_size * batch_size if drop_last and count >= batch_size else count
        self.device = torch.device(device)
        self.seed = seed
        self.workers = workers
        self._frames = Frames(names, y, resolution, shown, seed)
        self._normalised = Normalisation(mean, std, resolution, self.device)

    def __len__(self) -> int:
        """Batches of one epoch."""
        return -(-self.images // self.batch_size)

    def size(self, step: int) -> int:
        """Number of images of batch `step`, counted from 0 in each epoch, over all its parts."""
        return min(self.batch_size, self.images - step * self.batch_size)

    def order(self, number: int) -> NDArray[np.int64]:
        """Positions in `index` of the images of epoch `number`, in order, (images,)."""
        if self._frames.shown is None:
            return np.arange(self.images)
        return np.random.default_rng([self.seed, number]).permutation(self.count)[: self.images]

    def epoch(self, number: int, part: tuple[int, int] = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`, counted from 0: as many as len(self), with self.images images.

        part: (k, m) for the k-th of m equal parts of each batch, from 0; the parts together are the whole batch.
        """
        frames, order = replace(self._frames, epoch=number), self.order(number)
        spans = [span(step, self.batch_size, self.size(step), part) for step in range(len(self))]
        keys = [self.index[order[place]].tolist() for place in spans]
        pinned = self.device.type == "cuda"
        loader = DataLoader(
            frames,
            batch_sampler=keys,
            num_workers=min(self.workers, len(keys)),
            collate_fn=_collated,
            pin_memory=pinned,
            prefetch_factor=AHEAD if self.workers else None,
            generator=torch.Generator(),  # the loader draws a number, which must not advance the network's generator
        )
        lit = self._drawn(number)
        for place, batch in zip(spans, _batches(loader), strict=True):
            if batch.broken:
                raise NasError(f"{batch.broken}; make it readable, and the training resumes after its last epoch")
            images = batch.images.to(self.device, non_blocking=pinned)
            labels = batch.labels.to(self.device, non_blocking=pinned)
            yield self._normalised(self._augmented(images, lit, place)), labels

    def _drawn(self, number: int) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """RandAugment's operations and cutout's centers for each image of the epoch, drawn independently of the order."""
        shown, random = self._frames.shown, np.random.default_rng([self.seed, number, 1])
        if shown is None:
            return None, None
        kinds = random.integers(0, (1 + len(GEOMETRY), 1 + len(LIGHT)), (self.count, 2))
        operations = kinds * random.choice((-1, 1), (self.count, 2))
        centres = random.integers(0, self._frames.resolution, (self.count, 2))
        return operations if shown.randaugment else None, centres if shown.cutout else None

    def _augmented(
        self, images: Tensor, drawn: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None], place: slice
    ) -> Tensor:
        operations, centres = (None if of is None else torch.from_numpy(of[place]).to(self.device) for of in drawn)
        shown = self._frames.shown
        if shown is not None and operations is not None:
            images = rand_augment(images, operations, shown.randaugment)
        if shown is not None and centres is not None:
            images = cut_out(images, centres, shown.cutout, self._normalised.mean_level.to(images.dtype))
        return images


def default_workers() -> int:
    """One for each core that this process may use, divided by the number of processes that train together on this machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _bounded(image: Image.Image) -> Image.Image:
    """The image, center-cropped if it is longer than 16 times its shorter side."""
    most = _ASPECT * min(image.size)
    if max(image.size) <= most:
        return image
    width, height = min(image.width, most), min(image.height, most)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _collated(samples: Sequence[tuple[NDArray[np.uint8], int] | str]) -> _Batch:
    whole = [sample for sample in samples if not isinstance(sample, str)]
    broken = next((sample for sample in samples if isinstance(sample, str)), "")
    if broken or not whole:
        return _Batch(torch.empty(0), torch.empty(0), broken)
    images, labels = zip(*whole, strict=True)
    return _Batch(torch.from_numpy(np.stack(images)), torch.tensor(labels), "")


def _batches(loader: DataLoader[Any]) -> Iterator[_Batch]:
    """The loader's batches; NasError if one of its workers dies."""
    batches = iter(loader)
    while True:
        try:
            batch: _Batch | None = next(batches, None)
        except RuntimeError as error:
            raise NasError(
                f"a process that decodes images died: {reason_of(error)}; fewer of them (--workers) need less memory"
            ) from error
        if batch is None:
            return
        yield batch
