"""Records of a training: one per epoch, and the names of its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import UsageError
from nas.utils.validation import Check, any_number, brief, mapping, number, require, share, whole


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of training: losses are means over images, `accuracy` is the validation split's top-1 in [0, 1]."""

    number: int  # from 1
    train_loss: float
    val_loss: float
    accuracy: float
    learning_rate: float  # of the epoch's last step
    seconds: float  # training and validation
    images_per_second: float  # training alone

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Epoch:
        """UsageError for a malformed record."""
        if wanted := mapping(data):
            raise UsageError(f"an epoch's record must be {wanted}, not {brief(data)}")
        require(data, _OF_EPOCH, "an epoch's record")
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})


_OF_EPOCH: Mapping[str, Check] = {
    "number": whole(1),
    **dict.fromkeys(("train_loss", "val_loss", "images_per_second"), any_number),
    "accuracy": share,
    **dict.fromkeys(("learning_rate", "seconds"), number),
}


@dataclass(frozen=True, slots=True)
class Execution:
    """What a dynamic network executes on data: means over images in evaluation mode."""

    macs: float  # multiply-adds per image, gates included
    shares: Mapping[str, float]  # of the images for which a gated block's branch ran, by the block's name
    images: int

    def to_dict(self) -> dict[str, object]:
        return {"macs": self.macs, "shares": dict(self.shares), "images": self.images}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Execution:
        """UsageError for a malformed record."""
        if wanted := mapping(data):
            raise UsageError(f"what was executed must be {wanted}, not {brief(data)}")
        require(data, {"macs": number, "shares": mapping, "images": whole()}, "what was executed")
        require(data["shares"], dict.fromkeys(data["shares"], share), "what was executed: shares")
        return cls(float(data["macs"]), dict(data["shares"]), int(data["images"]))


CHECKPOINT, EPOCHS, RESULT = "checkpoint.pt", "epochs.json", "result.json"
PREVIOUS = "checkpoint-previous.pt"  # of the epoch before, in case the last one is corrupt
