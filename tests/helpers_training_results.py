"""The result of a full training, made up."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from nas.networks import zoo
from nas.networks.build import cost_of
from nas.report.training.page import RESULT
from nas.training.recipe import Recipe
from nas.training.records import Epoch
from nas.training.test_metrics import Predictions

EPOCHS = 12


def make_result(confusion: np.ndarray, classes: list[str], **changes) -> dict:
    """What `nas train` leaves, with these predictions on the test images."""
    network = zoo.get("resnet20")
    cost = cost_of(network)
    records = [
        Epoch(k, 2.0 / k, 2.1 / k, 1 - 0.9 / k, 0.05 * (1 + math.cos(math.pi * k / EPOCHS)), 4.0, 9000.0)
        for k in range(1, EPOCHS + 1)
    ]
    return {
        "name": network.name,
        "digest": network.digest,
        "cost": {"params": cost.params, "macs": cost.macs, "activations": cost.activations},
        "dataset": {
            "name": "birds",
            "source": "Birds.",
            "fingerprint": "f" * 16,
            "classes": classes,
            "mean": [0.5],
            "std": [0.25],
        },
        "test": Predictions(0.5, confusion, tuple(classes)).to_dict(),
        "validation": {"accuracy": records[-1].accuracy, "loss": records[-1].val_loss, "images": 120},
        "train": {"loss": records[-1].train_loss, "images": 1080},
        "recipe": Recipe.of(EPOCHS, 64).to_dict(),
        "seed": 3,
        "device": "cpu",
        "precision": "fp32",
        "weights": None,
        "seconds": 48.0,
        "finished": 1.7e9,
        "versions": {"nas": "1.2.3", "torch": "2.9"},
        "epochs": [record.to_dict() for record in records],
        **changes,
    }


def save(folder: Path, result: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(result))
    return folder
