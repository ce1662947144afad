"""Predictions: the counts are those of scikit-learn, and loss and accuracy those of `evaluate`."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss
from torch import nn

from nas.data.batches import Batches
from nas.training.test_metrics import Predictions
from nas.training.trainer import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 4


class Reader(nn.Module):
    """Logits are the image's first pixels, so that a test writes the answers into the images; counts its calls."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.sizes.append(len(x))
        return x.flatten(1)[:, : self.classes]


def batches_of(logits: np.ndarray, labels: np.ndarray, batch_size: int) -> Batches:
    """Images (uint8 grey) that `Reader` reads these logits from: integers in 0 .. 255, seen divided by 255."""
    images = np.zeros((len(logits), SIDE * SIDE), np.uint8)
    images[:, : logits.shape[1]] = logits
    return Batches(
        images.reshape(-1, SIDE, SIDE, 1), labels, mean=[0.0], std=[1.0], batch_size=batch_size, device="cpu"
    )


@st.composite
def answers(draw):
    """Logits (n, k) in 0 .. 255 and labels (n,)."""
    classes, images = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Few distinct logits, so that there are ties too; labels of some of the classes only, at times.
    logits = random.integers(0, draw(st.sampled_from([2, 256])), (images, classes))
    return logits, random.integers(0, draw(st.integers(1, classes)), images)


def names(count: int) -> list[str]:
    return [f"class {k}" for k in range(count)]


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(answers(), st.integers(1, 50), st.none() | st.integers(1, 50))
def test_counts_are_those_of_scikit_learn_and_of_evaluate(data, batch_size, micro_batch):
    logits, labels = data
    classes = logits.shape[1]
    found = Predictions.of(Reader(classes), batches_of(logits, labels, batch_size), "fp32", names(classes), micro_batch)
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(classes))
    assert found.confusion.tolist() == expected.tolist()
    assert found.confusion.dtype == np.int64
    assert found.confusion.sum(1).tolist() == np.bincount(labels, minlength=classes).tolist()
    assert found.accuracy == found.confusion.trace() / len(labels)
    assert found.images == len(labels)
    if classes > 1:
        probabilities = torch.softmax(torch.from_numpy(logits / 255.0), 1).numpy()
        assert found.loss == pytest.approx(log_loss(labels, probabilities, labels=range(classes)), abs=1e-5)
    assert (found.loss, found.accuracy) == evaluate(
        Reader(classes), batches_of(logits, labels, batch_size), "fp32", micro_batch
    )


def test_each_image_is_seen_once_in_parts_no_larger_than_asked():
    logits = np.random.default_rng(0).integers(0, 256, (23, 3))
    network = Reader(3)
    network.train()
    found = Predictions.of(network, batches_of(logits, np.zeros(23, int), 10), "fp32", names(3), 4)
    assert network.sizes == [3, 3, 4, 3, 3, 4, 3]
    assert found.images == 23


def test_a_reduced_precision_gives_evaluates_numbers_too():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3))
    random = np.random.default_rng(0)
    batches = batches_of(random.integers(0, 256, (50, 9)), random.integers(0, 3, 50), 16)
    found = Predictions.of(network, batches, "bf16", names(3))
    assert (found.loss, found.accuracy) == evaluate(network, batches, "bf16")
    assert found.loss != evaluate(network, batches, "fp32")[0]


def test_per_class_in_numbers():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]], np.int64)
    found = Predictions(0.5, confusion, ("cat", "dog", "<b>"))
    assert found.per_class() == [
        {"class": "cat", "images": 4, "accuracy": 0.75, "standard_error": pytest.approx(math.sqrt(0.1875 / 4))},
        {"class": "dog", "images": 0, "accuracy": None, "standard_error": None},
        {"class": "<b>", "images": 4, "accuracy": 0.5, "standard_error": pytest.approx(0.25)},
    ]
    plain = found.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["confusion"] == [[3, 1, 0], [0, 0, 0], [2, 0, 2]]
    assert {key: plain[key] for key in ("accuracy", "loss", "images")} == {"accuracy": 0.625, "loss": 0.5, "images": 8}
    assert plain["standard_error"] == pytest.approx(math.sqrt(0.625 * 0.375 / 8))


@pytest.mark.parametrize(
    "confusion", [np.ones((2, 3), np.int64), np.ones((3, 3)), np.zeros((3, 3), np.int64), np.full((3, 3), -1, np.int64)]
)
def test_what_is_no_confusion_matrix_is_refused(confusion):
    with pytest.raises(ValueError, match="confusion must"):
        Predictions(0.5, confusion, ("a", "b", "c"))


def test_outputs_that_are_no_classes_are_refused():
    with pytest.raises(ValueError, match="3 outputs for 2 classes"):
        Predictions.of(Reader(3), batches_of(np.ones((4, 3)), np.zeros(4, int), 2), "fp32", names(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_not_waited_for_within_the_pass():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (64, SIDE, SIDE, 1)).astype(np.uint8), random.integers(0, 3, 64)

    class Watched(Reader):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.cuda.set_sync_debug_mode("error")  # from the first batch on; the last one sets it back
            if len(self.sizes) == 7:
                torch.cuda.set_sync_debug_mode("default")
            return super().forward(x)

    found = {}
    for device in ("cpu", "cuda"):
        batches = Batches(images, labels, mean=[0.5], std=[0.5], batch_size=8, device=device)
        try:
            found[device] = Predictions.of((Watched if device == "cuda" else Reader)(3), batches, "fp32", names(3))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert found["cuda"].confusion.tolist() == found["cpu"].confusion.tolist()
