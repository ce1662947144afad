"""The training recipe as data, and its learning rate at each step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import UsageError

FULL_EPOCHS = 200
PROXY_EPOCHS = 10
WARMUP_EPOCHS = 5.0
BF16_CPU_RESOLUTION = 32  # pixels; below, on a CPU, converting costs more than the arithmetic saves
PRECISIONS = ("fp32", "bf16")  # of the arithmetic; the recipe itself does not depend on it
DECAYS = ("all", "weights")
WARMUP_SHARE = 0.1  # of a proxy too short for five epochs of warm-up
BASE_RATE = 0.1  # at BASE_BATCH images a step; other batch sizes scale it linearly (Goyal et al. 2017)
BASE_BATCH = 128


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD with momentum (Nesterov off), linear warm-up from 0, then cosine to 0.

    With T steps in all, W of them warm-up, and peak rate r, step t (from 0) has the learning rate
    r (t + 1) / W for t < W, and r/2 (1 + cos(pi (t - W) / (T - W))) after it ("SGDR", Loshchilov & Hutter 2017; warm-up
    of Goyal et al. 2017). Loss: cross-entropy with label smoothing (Szegedy et al. 2016). Weights start Kaiming normal,
    fan out; BN eps 1e-5, momentum 0.1. decay: which parameters have weight decay, "all" or "weights" (of convolutions and
    linear layers, not norms, biases and scales). ema: decay of an exponential moving average of the weights, which is then
    what is validated and kept (0: none). cutout: side in pixels of a square that each training image misses (0: none).
    randaugment: magnitude, 0 (none) to 30, of the light RandAugment of `nas.augmentation`.
    The schedule always runs to its end: a proxy is the same recipe, shorter.
    """

    epochs: int = FULL_EPOCHS
    batch_size: int = BASE_BATCH
    learning_rate: float = BASE_RATE
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = WARMUP_EPOCHS
    label_smoothing: float = 0.1
    decay: str = "all"
    ema: float = 0.0
    cutout: int = 0
    randaugment: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, 100_000),
            ("batch_size", 1, 1 << 16),
            ("cutout", 0, 1 << 14),
            ("randaugment", 0, 30),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"recipe: {name} must be a whole number from {low} to {high:,}, not {value!r}")
        spans = {
            "learning_rate": 100.0,
            "momentum": 0.9999,
            "weight_decay": 1.0,
            "label_smoothing": 0.999,
            "ema": 0.999999,
            "warmup_epochs": math.inf,
        }
        for name, most in spans.items():
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not (math.isfinite(value) and 0 <= value <= most)
            ):
                raise UsageError(
                    f"recipe: {name} must be a number from 0{f' to {most}' if most < math.inf else ''}, not {value!r}"
                )
        if self.decay not in DECAYS:
            raise UsageError(f"recipe: decay {self.decay!r}: known are {', '.join(DECAYS)}")
        if self.warmup_epochs > self.epochs:
            raise UsageError(f"recipe: {self.warmup_epochs} epochs of warm-up don't fit into {self.epochs} epochs")

    def check_images(self, resolution: int) -> None:
        """UsageError for what makes no sense with images of so many pixels."""
        if self.cutout > resolution:
            raise UsageError(
                f"--cutout {self.cutout}: the images have {resolution} pixels, and little of them would be left"
            )

    @classmethod
    def of(
        cls,
        epochs: int,
        batch_size: int,
        learning_rate: float | None = None,
        **options: Any,
    ) -> Recipe:
        """The documented recipe for so many epochs: 5 of warm-up, or a tenth of a run that is shorter than 50.

        options: decay, ema, cutout and randaugment, as fields of the recipe.
        """
        rate = BASE_RATE * batch_size / BASE_BATCH if learning_rate is None else learning_rate
        warmup = min(WARMUP_EPOCHS, WARMUP_SHARE * max(epochs, 1))
        return cls(epochs=epochs, batch_size=batch_size, learning_rate=rate, warmup_epochs=warmup, **options)

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of a step, counted from 0 over the whole run."""
        total = self.epochs * steps_per_epoch
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(total - warmup, 1)
        return self.learning_rate / 2 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})


def default_batch_size(images: int) -> int:
    """128, or for small data sets the power of two from 16 up that gives an epoch at least 16 steps."""
    size = BASE_BATCH
    while size > 16 and images < 16 * size:
        size //= 2
    return size
