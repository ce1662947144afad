"""A trial that fails leaves its reason, and one for which memory is short goes on with fewer images at once."""

from __future__ import annotations

import json

import pytest
import torch
from helpers_work import RECIPE, bench, files, job, timeless
from helpers_work import whole as whole  # a fixture

from nas.errors import NasError
from nas.training import workspace
from nas.training.memory import training_memory
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, EPOCHS, RESULT, Epoch
from nas.training.trainer import Training
from nas.utils.files import read_json

pytestmark = pytest.mark.usefixtures("one_thread")


def fail_in_epoch(monkeypatch, number: int, error: BaseException) -> None:
    """Let a block's forward pass raise in the middle of an epoch."""
    from nas.networks.blocks.modules import Residual

    forward, epoch, done = Residual.forward, Training.epoch, []

    def counted(self) -> Epoch:
        done.append(self.done + 1)
        return epoch(self)

    def raising(self, x):
        if done[-1] == number:
            raise error
        return forward(self, x)

    monkeypatch.setattr(Training, "epoch", counted)
    monkeypatch.setattr(Residual, "forward", raising)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("a strange shape"), "ValueError: a strange shape"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
            "out of memory on cpu with a single image: CUDA out of memory. Tried",
        ),
        (MemoryError(), "out of memory on cpu with a single image: MemoryError"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "out of memory on cpu with a single image: DefaultCPUAllocator",
        ),
        (RuntimeError("two\nlines " + "and more " * 200), "RuntimeError: two lines and more"),
        (torch.OutOfMemoryError(), "out of memory on cpu"),
        (NasError("said in words"), "said in words"),
    ],
)
def test_a_failure_leaves_its_reason(tmp_path, monkeypatch, error, reason, whole):
    fail_in_epoch(monkeypatch, 3, error)
    epochs = list(bench().run(job(tmp_path)))
    assert timeless(epochs) == whole[:2]
    assert files(tmp_path) == [RESULT]
    result = read_json(tmp_path / RESULT)
    assert result["state"] == "failed" and result["accuracy"] is None
    assert result["reason"].startswith(reason) and "\n" not in result["reason"] and len(result["reason"]) <= 400
    assert timeless(result["epochs"]) == whole[:2]


@pytest.mark.parametrize("fits", [7, 3, 1])
def test_memory_that_is_short_halves_what_is_computed_at_once(tmp_path, monkeypatch, fits):
    from nas.networks.blocks.modules import Residual

    forward = Residual.forward

    def short(self, x):
        if self.training and len(x) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, x)

    monkeypatch.setattr(Residual, "forward", short)
    epochs = list(bench().run(job(tmp_path)))
    result = read_json(tmp_path / RESULT)
    assert len(epochs) == RECIPE.epochs and result["state"] == "complete"
    assert result["micro_batch"] == max(b for b in (RECIPE.batch_size // 2**k for k in range(9)) if 0 < b <= fits)


def test_the_first_micro_batch_is_what_is_predicted_to_fit(tmp_path, monkeypatch):
    architecture = job(tmp_path).architecture
    quarter = training_memory(architecture, RECIPE.batch_size, micro_batch=RECIPE.batch_size // 4).total
    monkeypatch.setattr(workspace, "free_bytes", lambda device: quarter)
    sizes = []
    begin = Training.__init__

    def watched(self, *args, **options):
        sizes.append(options["micro_batch"])
        begin(self, *args, **options)

    monkeypatch.setattr(Training, "__init__", watched)
    epochs = list(bench().run(job(tmp_path)))
    assert len(epochs) == RECIPE.epochs and sizes == [RECIPE.batch_size // 4]
    result = read_json(tmp_path / RESULT)
    assert result["state"] == "complete" and result["micro_batch"] == RECIPE.batch_size // 4
    assert bench().first_micro_batch(architecture) == RECIPE.batch_size // 4
    monkeypatch.setattr(workspace, "free_bytes", lambda device: 1 << 40)
    assert bench().first_micro_batch(architecture) is None


def test_memory_that_becomes_short_goes_on_from_the_last_epoch(tmp_path, monkeypatch, whole):
    epoch, failed = Training.epoch, []

    def short(self) -> Epoch:
        if self.done == 2 and not failed:
            failed.append(self.micro_batch)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", short)
    epochs = list(bench().run(job(tmp_path)))
    assert timeless(epochs)[:2] == whole[:2] and [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert failed == [None] and read_json(tmp_path / RESULT)["micro_batch"] == RECIPE.batch_size // 2


def test_a_network_that_diverges_leaves_its_reason(tmp_path):
    recipe = Recipe(epochs=6, batch_size=16, learning_rate=100.0, weight_decay=1.0, warmup_epochs=0.0)
    list(bench(recipe=recipe).run(job(tmp_path)))
    result = read_json(tmp_path / RESULT)
    assert result["state"] == "failed" and "loss became" in result["reason"]
    assert json.dumps(result, allow_nan=False)


def test_a_failure_before_the_first_epoch_leaves_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.execution.trial_training.build", lambda *_, **__: 1 / 0)
    assert list(bench().run(job(tmp_path))) == []
    result = read_json(tmp_path / RESULT)
    assert (result["state"], result["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert result["epochs"] == [] and result["seconds"] == 0


def test_the_next_trial_runs_where_one_failed(tmp_path, monkeypatch, whole):
    place = bench()
    with monkeypatch.context() as patch:
        fail_in_epoch(patch, 1, torch.OutOfMemoryError("too large"))
        list(place.run(job(tmp_path / "failed")))
    assert timeless(place.run(job(tmp_path / "next"))) == whole


def test_a_broken_gpu_is_not_the_networks_fault(tmp_path, monkeypatch):
    fail_in_epoch(monkeypatch, 2, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="CUDA error"):
        list(bench().run(job(tmp_path)))
    assert files(tmp_path) == [CHECKPOINT, EPOCHS]
