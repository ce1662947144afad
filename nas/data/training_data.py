"""The images on which proxies are trained and validated: in memory, or read from files during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.data import Dataset, Streamed


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The train part of a data set, split into training and validation images. No test images.

    x: (n, s, s, c) uint8. y: (n,) int64. The two indices are disjoint and cover n. mean, std: per channel, in [0, 1].
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    train_index: NDArray[np.int64]
    validation_index: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    crop_padding: int  # pixels

    @classmethod
    def of(cls, dataset: Dataset, train_index: NDArray[np.int64], validation_index: NDArray[np.int64]) -> Self:
        d = dataset
        return cls(d.x_train, d.y_train, train_index, validation_index, d.mean, d.std, d.flip, d.crop_padding)


@dataclass(frozen=True, slots=True)
class StreamedData:
    """The train part of images in files, split into training and validation images."""

    streamed: Streamed
    train_index: NDArray[np.int64]
    validation_index: NDArray[np.int64]

    @property
    def mean(self) -> tuple[float, ...]:
        return self.streamed.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.streamed.std
