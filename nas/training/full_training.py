"""Full training of one network, in a folder: the whole documented recipe, then one evaluation on the test split.

A tenth of the training images, stratified, is held out for the validation accuracy that is shown during training; nothing is
chosen by it. The weights are those of the last epoch. The test split is used once, after the last epoch.

The folder holds `plan.json` (what is trained: only the same training resumes there) and `config.yaml` from the start,
`checkpoint.pt` between the epochs and, at the end, `weights.safetensors` and `result.json`. Each file is written atomically:
the process may die at any moment, and the next one resumes after the last completed epoch.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
import torch

from nas.data import Dataset, Streamed, split
from nas.data.batches import BatchSource
from nas.data.streaming import LAW as STREAMED
from nas.data.training_data import StreamedData, TrainingData
from nas.errors import NasError, reason_of
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.networks.weights import Fitted, Weights, fit
from nas.training.checkpointed_training import CheckpointedTraining
from nas.training.distributed import ALONE, Group
from nas.training.full_training_folder import (
    LOCK,
    PADDED,
    PLAN,
    VERSION,
    begin,
    busy,
    facts_of,
    recipe_of,
    unreadable,
    write_weights,
    written,
)
from nas.training.optimizer import Rates
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT, Epoch
from nas.training.test_metrics import Predictions
from nas.training.trainer import Training, check_norms, pick_device
from nas.training.workspace import StreamWorkspace, Workspace, device_name, measured, out_of_memory
from nas.utils.files import UnderLock, read_json, write_json, write_with
from nas.utils.validation import mapping, require, text
from nas.utils.versions import versions

VALIDATION = 0.1  # share of the training images


def adapted(architecture: Architecture, dataset: Dataset | Streamed) -> tuple[Architecture, list[str]]:
    """The same design for the data's images and classes, and the changes that this took: "classes 1000 → 10"."""
    facts = (
        ("classes", architecture.head.classes, len(dataset.classes)),
        ("pixels", architecture.resolution, dataset.resolution),
        ("channels", architecture.channels, dataset.channels),
    )
    changes = [f"{what} {had} → {wanted}" for what, had, wanted in facts if had != wanted]
    changed = architecture.adapted(
        classes=len(dataset.classes), resolution=dataset.resolution, channels=dataset.channels
    )
    return changed, changes


@overload
def held_out(dataset: Dataset, seed: int) -> TrainingData: ...
@overload
def held_out(dataset: Dataset | Streamed, seed: int) -> TrainingData | StreamedData: ...
def held_out(dataset: Dataset | Streamed, seed: int) -> TrainingData | StreamedData:
    """The data's training images, split by `seed` into those to train on and the validation split."""
    parts = split(dataset.y_train, VALIDATION, seed)
    return StreamedData(dataset, *parts) if isinstance(dataset, Streamed) else TrainingData.of(dataset, *parts)


class FullTraining(UnderLock):
    """A network being trained in a folder. A context manager: entering locks the folder and reads how far it is.

    >>> with FullTraining(folder, architecture, dataset, recipe) as training:
    ...     for epoch in training.epochs():
    ...         print(epoch.accuracy)
    ...     result = training.result()

    architecture: must fit the data's classes and channels (`adapted`); images of another size are resized to its resolution.
    device, precision: as in `nas.training.trainer`; a resumed folder keeps its precision and engine. weights: initial weights in
    place of random ones (`nas.networks.weights.read`); fresh_head: the classifier is initialized at random all the same. rates:
    learning-rate factors (`nas.training.optimizer.Rates`); policy: the same as plain data, for the plan. micro_batch: images per
    forward pass, as in `nas.training.trainer.Training`; if memory runs out it is halved, and the epoch starts again. workers:
    processes that decode the images of a `Streamed` (None: one per core). group: the processes that train together, each with
    these arguments; only the first one writes, tests and has the result.

    UsageError if the weights are another network's, if the folder holds another training, or if another process works in it.
    """

    def __init__(
        self,
        folder: Path,
        architecture: Architecture,
        dataset: Dataset | Streamed,
        recipe: Recipe,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        weights: Weights | None = None,
        fresh_head: bool = False,
        rates: Rates | None = None,
        policy: Mapping[str, Any] | None = None,
        micro_batch: int | None = None,
        workers: int | None = None,
        group: Group = ALONE,
    ) -> None:
        self.folder = folder
        self.group = group
        self.architecture = architecture
        self.weights = weights
        self.fitted: Fitted | None = None if weights is None else fit(weights, architecture, fresh_head=fresh_head)
        self.dataset = dataset
        self.recipe = recipe
        self.seed = seed
        self.data = held_out(dataset, seed)
        self.rates = rates
        self.policy = dict(policy) if policy else None
        self.asked_micro_batch = micro_batch
        self.workers = workers
        self._device, self._precision = device, precision
        self._engines: dict[str, dict[str, Any]] = {}
        self._place: Workspace | StreamWorkspace
        self._records: list[Epoch] = []
        self._training: CheckpointedTraining | None = None  # None: before it is entered, and after the test
        # Called with the epoch's finished steps and all its steps.
        self.on_step: Callable[[int, int], None] | None = None

    def _enter(self) -> None:
        pick_device(self._device)  # raises before anything is written
        self.recipe.check_images(self._augmented_pixels)
        check_norms(self.architecture, self._at_once)
        with self.group.in_turn():
            if self.group.first:
                self._take(self.folder, LOCK, busy(self.folder))
            self._equip()
            if self.group.first:
                begin(self.folder, self._plan(), self.architecture)
        if not self.finished:
            whole = self.group.size > 1  # the other processes would wait for one that repeats its work
            self._training = CheckpointedTraining(
                self._place, self._start, self._save, micro_batch=self.asked_micro_batch, whole=whole
            )
            with self._memory():
                self._training.with_memory(lambda training: training.done)  # errors of the checkpoint come now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._training = None
        super().__exit__(kind, error, trace)

    @property
    def micro_batch(self) -> int | None:
        """Images per forward pass; None: whole batches."""
        return self._training.micro_batch if self._training else self.asked_micro_batch

    @property
    def device(self) -> str:
        return device_name(self._place.device)

    @property
    def precision(self) -> str:
        return self._place.precision(self.architecture)

    @property
    def crops(self) -> str:
        """How training images are cropped: as in `nas.data.batches`, or as in `nas.data.streaming`."""
        return STREAMED if isinstance(self.dataset, Streamed) else PADDED

    @property
    def _augmented_pixels(self) -> int:
        """Side of the images to which cutout is applied: streamed images are resized to the network's resolution before it."""
        return self.architecture.resolution if isinstance(self.dataset, Streamed) else self.dataset.resolution

    @property
    def _at_once(self) -> int:
        """Images per forward pass, in each process."""
        batch = min(self.recipe.batch_size, len(self.data.train_index)) // self.group.size
        return min(self.asked_micro_batch or batch, batch)

    @property
    def remarks(self) -> list[str]:
        """Warnings about the recipe for these images (`Recipe.remarks`)."""
        images, validated = len(self.data.train_index), len(self.data.validation_index)
        return self.recipe.remarks(images, validated, self._augmented_pixels, self._at_once)

    @property
    def records(self) -> tuple[Epoch, ...]:
        """The epochs so far, including those of earlier processes."""
        return tuple(self._records)

    @property
    def finished(self) -> bool:
        """Whether the network has been trained and tested."""
        return bool(written(self.folder))

    def kept(self) -> int:
        """Epochs in the folder's checkpoint, after which another process would resume; 0 without a checkpoint."""
        path = self.folder / CHECKPOINT
        return len(torch.load(path, weights_only=True, mmap=True)["epochs"]) if path.exists() else 0

    def epochs(self) -> Iterator[Epoch]:
        """Train the epochs that are missing, yielding each after its checkpoint is written."""
        if self._training is not None:
            with self._memory():
                yield from self._training.epochs(self._epoch)

    def result(self) -> dict[str, Any]:
        """The contents of the folder's `result.json`; the first call after the last epoch tests the network and writes it.

        NasError if epochs are missing. In processes other than the first of a group it does nothing and returns {}.
        """
        if not self.group.first:
            return {}
        held = self._training
        if held is None:
            return written(self.folder)
        if len(self._records) < self.recipe.epochs:
            raise NasError(
                f"{self.folder}: {len(self._records)} of {self.recipe.epochs} epochs are trained; the test comes after the last"
            )
        with self._memory():
            result = held.with_memory(self._test)
        write_weights(self.folder, self.architecture, held.training.result, result)
        write_json(self.folder / RESULT, result)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self._training = None
        return result

    # -- the folder --------------------------------------------------------------------------------------------------

    def _plan(self) -> dict[str, object]:
        return {
            "version": VERSION,
            "digest": self.architecture.digest,
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "recipe": self.recipe.to_dict(),
            "crops": self.crops,
            "validation": VALIDATION,
            "seed": self.seed,
            "precision": self.precision,
            "weights": self.weights.described() if self.weights else None,
            "policy": self.policy,
            "engine": self._engines,
        }

    def _equip(self) -> None:
        """Set device, precision and engine; a resumed folder keeps its precision and engine."""
        begun = read_json(self.folder / PLAN)
        precision = self._precision
        if isinstance(begun, dict):
            engines = {"precision": text, "engine": mapping}
            require(begun, engines, str(self.folder / PLAN), missing=True)
            require(begun.get("engine", {}), dict.fromkeys(begun.get("engine", {}), mapping), str(self.folder / PLAN))
            precision = begun.get("precision", "auto") if precision == "auto" else precision
            self.recipe = dataclasses.replace(self.recipe, ema_warmup=recipe_of(begun).get("ema_warmup", True))
            self._engines = begun.get("engine") or {}
        else:
            self._engines = measured(self._device, precision, self.architecture.resolution)
        options: dict[str, Any] = {"device": self._device, "precision": precision, "engines": self._engines}
        if isinstance(self.data, StreamedData):
            self._place = StreamWorkspace(self.data, self.recipe, workers=self.workers, **options)
            self.workers = self._place.workers
        else:
            self._place = Workspace(self.data, self.recipe, **options)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turns an out-of-memory error into one of a single line."""
        try:
            yield
        except Exception as error:
            if not out_of_memory(error, self._place.device):
                raise
            raise self._short(error) from error

    def _short(self, error: BaseException) -> NasError:
        if self.group.size > 1:
            at_once = self.micro_batch or -(-self.recipe.batch_size // self.group.size)
            return NasError(
                f"out of memory on {self.device}, with {at_once} images at a time in each of {self.group.size} processes; "
                f"give --micro-batch {max(at_once // 2, 1)} or less: {reason_of(error, first_line=True)}"
            )
        return NasError(
            f"out of memory on {self.device}, with one image at a time: a smaller resolution or network needs less: "
            f"{reason_of(error, first_line=True)}"
        )

    def _start(self, micro_batch: int | None) -> Training:
        """The training where the folder's checkpoint left it, or at its start."""
        network = build(self.architecture, seed=self.seed)
        if self.fitted is not None:
            # `fit` has checked that only a fresh head may be missing.
            network.load_state_dict(self.fitted.state, strict=False)
        batches: tuple[BatchSource, BatchSource] = self._place.batches(self.seed, self.architecture.resolution)
        path = self.folder / CHECKPOINT
        state = None
        if path.exists():
            try:
                state = torch.load(path, map_location=self._place.device, weights_only=True)
                micro_batch = min(filter(None, (micro_batch, state.get("micro_batch"))), default=None)
            except Exception as error:  # torch raises nearly every type on bytes that are no checkpoint
                raise unreadable(path, error) from error
        elif micro_batch is None and self.group.size == 1:
            micro_batch = self._place.first_micro_batch(self.architecture)  # the images are on the device by now
        training = Training(
            network,
            *batches,
            self.recipe,
            self.precision,
            rates=self.rates,
            micro_batch=micro_batch,
            engine=self._place.engine,
            group=self.group,
        )
        steps = len(training.train_batches)
        training.on_step = lambda step: self.on_step(step % steps + 1, steps) if self.on_step else None
        if state is not None:
            try:
                records = [Epoch.from_dict(record) for record in state["epochs"]]
                training.load(state["training"])
            except Exception as error:
                raise unreadable(path, error) from error
            self._records = records
        return training

    def _epoch(self, training: Training) -> Epoch:
        record = training.epoch()
        self._records.append(record)
        return record

    def _save(self, training: Training) -> None:
        if not self.group.first:
            return
        state = {
            "training": training.state(),
            "epochs": [epoch.to_dict() for epoch in self._records],
            "micro_batch": training.micro_batch,
        }
        write_with(self.folder / CHECKPOINT, lambda file: torch.save(state, file))

    def _test_batches(self) -> BatchSource:
        place, dataset, resolution = self._place, self.dataset, self.architecture.resolution
        if isinstance(place, StreamWorkspace):
            assert isinstance(dataset, Streamed)
            return place.test(dataset, resolution)
        assert isinstance(dataset, Dataset)
        return place.test(dataset, resolution)

    def _test(self, training: Training) -> dict[str, object]:
        data, dataset = self.data, self.dataset
        batches = self._test_batches()
        predictions = Predictions.of(training.result, batches, self.precision, dataset.classes, training.micro_batch)
        by_class = np.bincount(dataset.y_train[data.train_index], minlength=len(dataset.classes))
        last = self._records[-1]
        executed = training.executed()
        return {
            "name": self.architecture.name,
            "digest": self.architecture.digest,
            "cost": dataclasses.asdict(cost_of(self.architecture)),
            "dataset": facts_of(dataset, data),
            "test": predictions.to_dict(),
            "validation": {"accuracy": last.accuracy, "loss": last.val_loss, "images": len(data.validation_index)},
            **({"executed": executed.to_dict()} if executed else {}),  # of the validation images
            "train": {
                "loss": last.train_loss,
                "images": len(data.train_index),
                "images_by_class": [int(count) for count in by_class],
            },
            "recipe": self.recipe.to_dict(),
            "crops": self.crops,
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "weights": self.weights.described() if self.weights else None,
            "policy": self.policy,
            "micro_batch": training.micro_batch,
            "processes": self.group.size,
            "engine": self._place.engine.to_dict(),
            **({"singly": training.singly} if training.singly else {}),
            "seconds": sum(epoch.seconds for epoch in self._records),
            "finished": time.time(),
            "versions": versions(),
            "epochs": [epoch.to_dict() for epoch in self._records],
        }
