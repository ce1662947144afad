"""Fine-tuning policies as data: which pieces of a trained network are trained, at what learning rate, and from which epoch on.

A network's pieces are its stem, its stages and its head (`nas.training.optimizer.pieces`). The depth of a piece is its distance
from the head: 0 the head, 1 the last stage, ..., n the first of n stages, n + 1 the stem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.errors import UsageError
from nas.training.recipe import Recipe, default_batch_size
from nas.utils.text import counted

FULL, LAST_STAGES, HEAD, AUTO = "full", "last-stages", "head", "auto"
KINDS = (FULL, LAST_STAGES, HEAD)

EPOCHS = 30
LEAST_STEPS = 500  # of BiT's shortest schedule (Kolesnikov et al. 2020)
BACKBONE_SCALE = 0.3  # as good as 0.1 on CIFAR-10, better on digits: docs/transfer.md
FULL_FROM = 4  # training images per class: measured in docs/transfer.md


@dataclass(frozen=True, slots=True)
class Policy:
    """How a trained network of `stages` stages is fine-tuned; `rates` is a `nas.training.optimizer.Rates`.

    kind: "full" trains every piece, "last-stages" the head and the last half of the stages (rounded down, at least one),
    "head" only the head. The factor of the learning rate at depth d (see the module) is 1 for the head and, at d > 0,
    stage_decay ** d if given, else backbone_scale. unfreeze_every: gradual unfreezing (Howard & Ruder 2018): so many epochs
    train only the head, and after each further so many one more piece that the kind trains is added; 0: all at once.

    UsageError for invalid values and combinations.
    """

    stages: int
    kind: str = FULL
    backbone_scale: float = BACKBONE_SCALE
    stage_decay: float | None = None
    unfreeze_every: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"policy {self.kind!r}: known are {', '.join(KINDS)}")
        for name, value in (("backbone-lr-scale", self.backbone_scale), ("stage-decay", self.stage_decay)):
            if value is not None and not (math.isfinite(value) and 0 < value <= 1):
                raise UsageError(
                    f"{name} must be a number above 0 and at most 1, not {value!r}; --policy head freezes the rest"
                )
        if self.unfreeze_every < 0:
            raise UsageError(f"unfreeze-every must be a number of epochs, not {self.unfreeze_every}")
        if self.unfreeze_every and self.kind == HEAD:
            raise UsageError("policy head trains the head alone: there is nothing for unfreeze-every to unfreeze")

    @property
    def deepest(self) -> int:
        """The largest depth of a piece that is trained."""
        return {FULL: self.stages + 1, LAST_STAGES: max(1, self.stages // 2), HEAD: 0}[self.kind]

    def pieces(self) -> tuple[str, ...]:
        """All pieces by depth: head, the last stage, ..., stage1, stem."""
        return ("head", *(f"stage{number}" for number in range(self.stages, 0, -1)), "stem")

    def rates(self, piece: str, epoch: int) -> float:
        """Factor of a piece's learning rate in an epoch, counted from 0; 0 freezes it."""
        depth = self.pieces().index(piece)
        if depth > self.deepest or epoch < depth * self.unfreeze_every:
            return 0.0
        if depth == 0:
            return 1.0
        return self.backbone_scale if self.stage_decay is None else float(self.stage_decay**depth)

    def described(self) -> dict[str, object]:
        """The policy as plain data."""
        rate = (
            {"backbone_lr_scale": self.backbone_scale}
            if self.stage_decay is None
            else {"stage_decay": self.stage_decay}
        )
        return {"kind": self.kind, **rate, "unfreeze_every": self.unfreeze_every}

    def check_epochs(self, epochs: int) -> None:
        """UsageError if a training of so many epochs ends before the first piece is unfrozen."""
        if self.unfreeze_every >= epochs:
            raise UsageError(
                f"--unfreeze-every {self.unfreeze_every}: {counted(epochs, 'epoch')} end before a stage is added to the head; take fewer, "
                "or --policy head"
            )

    def told(self, epochs: int) -> str:
        """How each piece is trained in so many epochs, in words: "head × 1, stage3 × 0.3; frozen: stage2, ..., stem"."""
        trained, frozen = [], []
        for depth, piece in enumerate(self.pieces()):
            begins = depth * self.unfreeze_every
            if depth > self.deepest or begins >= epochs:
                frozen.append(piece)
                continue
            later = f" from epoch {begins + 1}" if begins else ""
            trained.append(f"{piece} × {self.rates(piece, epochs - 1):.3g}{later}")
        return ", ".join(trained) + (f"; frozen: {', '.join(frozen)}" if frozen else "")


def choose(images: int, classes: int) -> tuple[str, str]:
    """(kind of policy, reason) for so many training images of so many classes: "last-stages" below 4 per class, else "full".

    Fewer images can fit fewer weights. Never "head": with small networks on digits and CIFAR-10 it was not better at any
    number of images.
    """
    each = images / classes
    have = f"{images:,} training images, {each:,.4g} a class"
    if each < FULL_FROM:
        return LAST_STAGES, f"{have}: fewer than {FULL_FROM}"
    return FULL, f"{have}: {FULL_FROM} or more"


def recipe(
    images: int, *, epochs: int | None = None, batch_size: int | None = None, learning_rate: float | None = None
) -> Recipe:
    """The documented recipe, shorter: 30 epochs by default, or as many more as make 500 steps.

    The learning rate is the recipe's. It is that of the head, which starts from random weights; a policy lowers it for the
    other pieces. The number of steps has a minimum because the head is trained from scratch however few the images are.
    """
    size = default_batch_size(images) if batch_size is None else batch_size
    if epochs is None:
        steps = max(1, images // max(size, 1))  # `nas.data.batches` drops the last, smaller batch
        epochs = max(EPOCHS, math.ceil(LEAST_STEPS / steps))
    return Recipe.for_images(images, epochs, size, learning_rate)
