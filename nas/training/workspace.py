"""A device to train on and how it computes (`Device`), with the training images (`Workspace`, `StreamWorkspace`)."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.data import Dataset, Streamed
from nas.data.batches import Augment, Batches
from nas.data.readers.images import memory_holds
from nas.data.streamed import Names
from nas.data.streaming import Shown, Stream, default_workers
from nas.data.training_data import StreamedData, TrainingData
from nas.networks.architecture import Architecture
from nas.training.conv_kernels import Engine
from nas.training.kernel_benchmark import probe_engine
from nas.training.memory import largest_micro_batch
from nas.training.recipe import Recipe
from nas.training.trainer import pick_device, pick_precision
from nas.utils.limits import limit_threads


class Device:
    """A device to train on, and how it computes.

    engines: measured engines by device name (`measured`); a device that is not among them uses the plain one.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        engines: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        limit_threads(threads)
        self.device = pick_device(device)
        self._precision = precision
        self.recipe = recipe
        self.engine = Engine.from_dict((engines or {}).get(device_name(self.device), {}))
        if self.device.type == "cuda":
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, self.engine.benchmark

    def precision(self, architecture: Architecture) -> str:
        """The precision in which a network is trained here."""
        return pick_precision(self._precision, self.device, architecture)

    def first_micro_batch(self, architecture: Architecture) -> int | None:
        """The micro-batch whose step is predicted to fit into the device's free memory; None: the whole batch.

        The prediction has no allowances: it only avoids attempts that are sure to run out of memory.
        """
        free = free_bytes(self.device)
        if free is None:
            return None
        whole, precision = self.recipe.batch_size, self.precision(architecture)
        size = largest_micro_batch(architecture, whole, free, precision, ema=bool(self.recipe.ema))
        return size if size < whole else None

    def release(self) -> None:
        """Free the memory of the last network."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


class Workspace(Device):
    """A device with the images on it, kept from training to training."""

    def __init__(self, data: TrainingData, recipe: Recipe, **options: Any) -> None:
        super().__init__(recipe, **options)
        self.data = data
        self._seed: int | None = None  # of the batches below
        self._batches: dict[int, tuple[Batches, Batches]] = {}  # by resolution; all share one copy of the images

    def batches(self, seed: int, resolution: int | None = None) -> tuple[Batches, Batches]:
        """Training and validation batches of `resolution` pixels (None: the images'); the images move to the device once."""
        stored = self.data.x.shape[1]
        if self._seed != seed:
            self._batches = {stored: self._moved(seed)}
            self._seed = seed
        if resolution is None or resolution == stored:
            return self._batches[stored]
        if resolution not in self._batches:
            train, validation = self._batches[stored]
            self._batches[resolution] = (train.at(resolution), validation.at(resolution))
        return self._batches[resolution]

    def test(self, dataset: Dataset, resolution: int | None = None) -> Batches:
        """All test images, in order; they stay on the device as long as these batches exist."""
        return Batches(
            dataset.x_test,
            dataset.y_test,
            mean=self.data.mean,
            std=self.data.std,
            batch_size=4 * self.recipe.batch_size,
            device=self.device,
            resolution=resolution,
            resident=fits(dataset.x_test.nbytes, self.device),
        )

    def _moved(self, seed: int) -> tuple[Batches, Batches]:
        data, size = self.data, self.recipe.batch_size
        augment = Augment(data.crop_padding, data.flip, self.recipe.cutout, self.recipe.randaugment)
        common: dict[str, Any] = {"mean": data.mean, "std": data.std, "device": self.device, "seed": seed}
        common["resident"] = fits(data.x.nbytes, self.device)
        train = Batches(
            data.x, data.y, index=data.train_index, batch_size=size, augment=augment, drop_last=True, **common
        )
        validation = Batches(
            data.x, data.y, index=data.validation_index, batch_size=4 * size, augment=None, drop_last=False, **common
        )
        return train, validation


class StreamWorkspace(Device):
    """A device whose images are decoded from files in `workers` processes (None: one per core)."""

    def __init__(self, data: StreamedData, recipe: Recipe, *, workers: int | None = None, **options: Any) -> None:
        super().__init__(recipe, **options)
        self.data = data
        self.workers = default_workers() if workers is None else workers

    def batches(self, seed: int, resolution: int | None = None) -> tuple[Stream, Stream]:
        """Training and validation batches."""
        data, size = self.data.streamed, self.recipe.batch_size
        shown = Shown(data.flip, self.recipe.cutout, self.recipe.randaugment)
        train = self._stream(
            data.train,
            data.y_train,
            resolution,
            size,
            index=self.data.train_index,
            seed=seed,
            shown=shown,
            drop_last=True,
        )
        index = self.data.validation_index
        return train, self._stream(data.train, data.y_train, resolution, 4 * size, index=index, seed=seed)

    def test(self, dataset: Streamed, resolution: int | None = None) -> Stream:
        """All test images, in order."""
        return self._stream(dataset.test, dataset.y_test, resolution, 4 * self.recipe.batch_size)

    def _stream(
        self, names: Names, y: NDArray[np.int64], resolution: int | None, batch_size: int, **options: Any
    ) -> Stream:
        data = self.data.streamed
        return Stream(
            names,
            y,
            mean=data.mean,
            std=data.std,
            batch_size=batch_size,
            device=self.device,
            resolution=resolution or data.resolution,
            workers=self.workers,
            **options,
        )


def device_name(device: torch.device) -> str:
    """The device's type, "cpu" for instance, or a GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measured(
    device: str, precision: str, resolution: int, threads: int = 0, *, repeatable: bool = True
) -> dict[str, dict[str, Any]]:
    """The fastest engine of this process's device (`probe_engine`), by the device's name, as `Device` takes it."""
    limit_threads(threads)
    chosen = pick_device(device)
    return {device_name(chosen): probe_engine(chosen, precision, resolution, repeatable=repeatable).to_dict()}


def fits(size: int, device: torch.device) -> bool:
    """Whether images of so many bytes are kept on the device: if they take up to half of its free memory.

    On the CPU they are in memory anyway, unless they are too large for it: then they are mapped from the disk.
    """
    free = free_bytes(device)
    return memory_holds(size) if free is None else size <= free // 2


def free_bytes(device: torch.device) -> int | None:
    """GPU memory available for tensors: free, or reserved by this process and unused. None for other devices."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def smaller(micro_batch: int | None, batch_size: int) -> int:
    """Half of a micro-batch that was too large (None: the whole batch); 0 if it was one image."""
    return (micro_batch or batch_size) // 2


def out_of_memory(error: Exception, device: torch.device) -> bool:
    """Whether the error means that the device's memory is full (on the CPU, the host's), so that a smaller micro-batch may help."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # The message is that of PyTorch's CPU allocator.
    refused = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    return device.type == "cpu" and refused
