"""The training recipe as data, and its learning rate at each step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import UsageError
from nas.utils.text import counted

FULL_EPOCHS = 200
PROXY_EPOCHS = 10
WARMUP_EPOCHS = 5.0
BF16_CPU_RESOLUTION = 32  # pixels; below, on a CPU, converting costs more than the arithmetic saves
PRECISIONS = ("fp32", "bf16")
DECAYS = ("all", "weights")
WARMUP_SHARE = 0.1  # of a training that is too short for five epochs of warm-up
BASE_RATE = 0.1  # for batches of BASE_BATCH images; scaled linearly for others (Goyal et al. 2017)
BASE_BATCH = 128
# Thresholds of `Recipe.remarks`.
LEAST_STEPS = 50  # of a training: measured in docs/recipe.md
LEAST_NORMED = 8  # images; below, poor batch-norm statistics cost accuracy ("Group Normalization", Wu & He 2018)
LEAST_VALIDATED = 100  # images: the standard error of an accuracy of 90 % is then 3 points
MOST_LEFT_OUT = 1 / 8  # of the images, in each epoch
MOST_CUT = 5 / 8  # of the side: the largest square of DeVries & Taylor 2017, 20 of 32 pixels


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD with momentum (Nesterov off), linear warm-up from 0, then cosine to 0.

    With T steps in all, W of them warm-up, and peak rate r, step t (from 0) has the learning rate
    r (t + 1) / W for t < W, and r/2 (1 + cos(pi (t - W) / (T - W))) after it ("SGDR", Loshchilov & Hutter 2017; warm-up
    of Goyal et al. 2017). Loss: cross-entropy with label smoothing (Szegedy et al. 2016). Initialization: Kaiming normal,
    fan out; BN eps 1e-5, momentum 0.1. The schedule always runs to its end: a proxy is the same recipe, shorter.

    decay: which parameters have weight decay, "all" or "weights" (of convolutions and linear layers, not norms, biases and
    scales). ema: decay d of an exponential moving average of the weights, which is then validated and kept (0: none).
    ema_warmup: whether the decay of step t is min(d, (1 + t) / (10 + t)); False only for runs that began before this rule.
    cutout: side in pixels of the square that is cut out of each training image (0: none). randaugment: magnitude, 0 (none) to
    30, of the light RandAugment of `nas.data.augmentation`.
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
    ema_warmup: bool = True
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
        if not isinstance(self.ema_warmup, bool):
            raise UsageError(f"recipe: ema_warmup must be true or false, not {self.ema_warmup!r}")
        if self.warmup_epochs > self.epochs:
            raise UsageError(f"recipe: {self.warmup_epochs} epochs of warm-up don't fit into {self.epochs} epochs")

    def check_images(self, resolution: int) -> None:
        """UsageError if cutout is larger than images of so many pixels."""
        if self.cutout > resolution:
            raise UsageError(
                f"--cutout {self.cutout}: the images have {resolution} pixels, and little of them would be left"
            )

    def remarks(self, images: int, validated: int, resolution: int, at_once: int | None = None) -> list[str]:
        """Warnings about settings that make little sense for the data, one line each, to be shown before training.

        images, validated: sizes of the training and the validation split. resolution: of the data, in pixels. at_once: images
        that pass a batch norm together, if fewer than a batch.
        """
        size = min(self.batch_size, images)
        epoch, left = divmod(images, size)
        steps, together = self.epochs * epoch, min(at_once or size, size)
        remarks = []
        if left > MOST_LEFT_OUT * images:
            remarks.append(
                f"an epoch has {counted(epoch, 'step')} of {size:,} images and leaves {left:,} of {images:,} out, others each time; "
                "a smaller --batch-size leaves fewer"
            )
        if steps < LEAST_STEPS:
            remarks.append(
                f"{counted(steps, 'step')} in all, of {size:,} images each, may be too few to tell networks apart; more --epochs "
                "or a smaller --batch-size give more"
            )
        if together < LEAST_NORMED:
            remarks.append(
                f"batch norms see {counted(together, 'image')} at once; below {LEAST_NORMED} their statistics are poor, and accuracy falls"
            )
        if validated < LEAST_VALIDATED:
            remarks.append(
                f"validation has {counted(validated, 'image')}: the standard error of an accuracy is up to "
                f"{50 / math.sqrt(max(validated, 1)):.0f} points"
            )
        if self.cutout > MOST_CUT * resolution:
            remarks.append(
                f"--cutout {self.cutout} hides {_hidden(self.cutout, resolution):.0%} of an image of {resolution} pixels on average; "
                f"a square of half the side, {resolution // 2}, is usual"
            )
        return [f"note: {remark}" for remark in remarks]

    @classmethod
    def of(cls, epochs: int, batch_size: int, learning_rate: float | None = None, **options: Any) -> Recipe:
        """The documented recipe for so many epochs: 5 of warm-up, or a tenth of fewer than 50 epochs.

        options: decay, ema, cutout and randaugment, as fields of the recipe.
        """
        rate = BASE_RATE * batch_size / BASE_BATCH if learning_rate is None else learning_rate
        warmup = min(WARMUP_EPOCHS, WARMUP_SHARE * max(epochs, 1))
        return cls(epochs=epochs, batch_size=batch_size, learning_rate=rate, warmup_epochs=warmup, **options)

    @classmethod
    def for_images(
        cls, images: int, epochs: int, batch_size: int | None = None, learning_rate: float | None = None, **options: Any
    ) -> Recipe:
        """The documented recipe for so many training images: a batch has at most all of them, and the learning rate scales with it."""
        size = default_batch_size(images) if batch_size is None else batch_size
        return cls.of(epochs, min(size, images), learning_rate, **options)

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of a step, counted from 0 over the whole training."""
        total = self.epochs * steps_per_epoch
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(total - warmup, 1)
        return self.learning_rate / 2 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe of a `to_dict`. One of an earlier version, without `ema_warmup`, keeps a constant decay of the average."""
        fields = {"ema_warmup": not data.get("ema"), **data}
        return cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls) if field.name in fields})


def default_batch_size(images: int) -> int:
    """128; for small data sets the largest power of two from 16 up with which an epoch has at least 16 steps."""
    size = BASE_BATCH
    while size > 16 and images < 16 * size:
        size //= 2
    return size


def _hidden(side: int, resolution: int) -> float:
    """Mean share of a square image that is covered by a square of `side` pixels, centered on a uniformly random pixel."""
    covered = (min(centre - side // 2 + side, resolution) - max(centre - side // 2, 0) for centre in range(resolution))
    return (sum(covered) / resolution**2) ** 2
