"""Loss, accuracy and confusion matrix of a network on labeled images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nas.data.batches import BatchSource
from nas.training.trainer import autocast, parts_of


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A network's predictions for a set of images, counted by true and by predicted class.

    loss: mean cross-entropy over the images, without smoothing. confusion: (k, k) int64, entry (i, j) the number of images
    of class i that are predicted as class j. classes: the k names.

    ValueError for a matrix of another shape or type, and for one that counts no image.
    """

    loss: float
    confusion: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.classes)
        if self.confusion.shape != (count, count) or self.confusion.dtype != np.int64:
            raise ValueError(
                f"confusion must be int64 ({count}, {count}); it is {self.confusion.dtype} {self.confusion.shape}"
            )
        if self.confusion.min() < 0 or self.confusion.sum() == 0:
            raise ValueError("confusion must count images, one at least")

    @classmethod
    def of(
        cls,
        network: nn.Module,
        batches: BatchSource,
        precision: str,
        classes: Sequence[str],
        micro_batch: int | None = None,
    ) -> Self:
        """Run the network over all batches once, in evaluation mode; loss and accuracy are those of `nas.training.trainer.evaluate`.

        micro_batch: images per forward pass, if fewer than a batch. Predictions stay on the device until all are there, 8 bytes
        per image. ValueError if the number of outputs is not the number of classes.
        """
        network.eval()
        device, count = batches.device, len(classes)
        loss = torch.zeros((), device=device)
        cells: list[Tensor] = []  # each image's index into the flattened matrix
        with torch.inference_mode():
            for batch, targets in batches.epoch(0):
                for images, labels in parts_of(batch, targets, micro_batch or len(targets)):
                    with autocast(device, precision):
                        logits: Tensor = network(images)
                    if logits.shape[1] != count:
                        raise ValueError(f"the network has {logits.shape[1]} outputs for {count} classes")
                    loss += F.cross_entropy(logits.float(), labels, reduction="sum")
                    cells.append(labels * count + logits.argmax(1))
            # Only once, at the end: on a GPU bincount synchronizes.
            counts = torch.bincount(torch.cat(cells), minlength=count * count)
        images_seen = sum(len(part) for part in cells)
        confusion = counts.cpu().numpy().astype(np.int64).reshape(count, count)
        return cls(float(loss) / images_seen, confusion, tuple(classes))

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Top-1 in [0, 1]."""
        return int(self.confusion.trace()) / self.images

    @property
    def standard_error(self) -> float:
        """Of the accuracy p over n images: sqrt(p (1 - p) / n), of the binomial distribution."""
        return _standard_error(self.accuracy, self.images)

    def per_class(self) -> list[dict[str, object]]:
        """For each class, in order: name, images, accuracy on them, and its standard error; the last two are None without images."""
        rows = []
        totals, right = self.confusion.sum(1).tolist(), self.confusion.diagonal().tolist()
        for name, images, hits in zip(self.classes, totals, right, strict=True):
            share = hits / images if images else None
            error = None if share is None else _standard_error(share, images)
            rows.append({"class": name, "images": images, "accuracy": share, "standard_error": error})
        return rows

    def to_dict(self) -> dict[str, object]:
        """Plain data, as in a training's `result.json`."""
        return {
            "accuracy": self.accuracy,
            "standard_error": self.standard_error,
            "loss": self.loss,
            "images": self.images,
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
        }


def _standard_error(share: float, images: int) -> float:
    return math.sqrt(share * (1 - share) / images)
