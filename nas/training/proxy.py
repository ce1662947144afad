"""How a proxy is made cheaper than the full training, apart from fewer epochs: pixels, width, training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data import subset
from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.scaling import LEAST, Scaling, scaled

DIVISOR = 4  # of widths: networks for small images are so narrow that 8 would leave many unchanged


@dataclass(frozen=True, slots=True)
class Proxy:
    """How a candidate is trained in a search. Its costs and its config remain those of the candidate itself.

    resolution: side of the proxy's images in pixels (None: the candidate's). width: factor of all widths, from 1/64 to 1
    (`nas.networks.scaling.scaled`, multiples of 4). train_fraction: share of the training images, stratified by class, above 0
    and at most 1. All validation images are used.
    """

    resolution: int | None = None
    width: float = 1.0
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise UsageError(f"--proxy-resolution {self.resolution}: at least one pixel")
        if not LEAST <= self.width <= 1:
            raise UsageError(f"--proxy-width {self.width:g}: a factor from 1/64 to 1")
        if not 0 < self.train_fraction <= 1:
            raise UsageError(f"--train-fraction {self.train_fraction:g}: above 0, at most 1")

    def of(self, architecture: Architecture) -> Architecture:
        """The network that is trained instead of this one."""
        narrowed = scaled(architecture, Scaling(width=self.width, divisor=DIVISOR))
        return dataclasses.replace(narrowed, resolution=self.resolution or narrowed.resolution)

    def images(self, y: NDArray[np.int64], index: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """The training images of a proxy: a sorted part, (m,), of `index`, whose labels are y[index]."""
        if self.train_fraction == 1:
            return index
        return index[subset(y[index], max(1, round(self.train_fraction * len(index))), seed)]

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Proxy:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})

    def __str__(self) -> str:
        """What is smaller, in words; empty where nothing is."""
        parts = [
            *([f"{self.resolution} px"] if self.resolution else []),
            *([f"{self.width:g} of the width"] if self.width != 1 else []),
            *([f"{self.train_fraction:g} of the training images"] if self.train_fraction != 1 else []),
        ]
        return ", ".join(parts)
