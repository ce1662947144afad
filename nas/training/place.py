"""One trial on disk: trains a candidate in this process and leaves its epochs, a checkpoint and a result.

A trial's folder holds, while it runs, `epochs.json` (the records so far, for readers), `checkpoint.pt` (what the next epoch
needs, the records too) and `checkpoint-previous.pt` (the same of the epoch before); at its end `result.json`, and no checkpoint.
With recorded gradients there is `gradients.json` too (`nas.training.gradient_flow`).
All are written whole or not at all, so that a process may die at any moment: the next attempt goes on behind the last epoch that
was saved, or behind the one before it if the disk gives the last checkpoint back torn.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.training import gradient_flow as flow
from nas.networks.architecture import Architecture
from nas.data.batches import Augment, Batches
from nas.data import Dataset
from nas.data.readers.images import memory_holds
from nas.training.conv_kernels import Engine
from nas.errors import NasError, WriteError, reason_of
from nas.execution.fencing import Fenced, check, guarded
from nas.utils.files import make_folder, read_json, remove_temporaries, write_json, write_with
from nas.execution.job import CHECKPOINT, EPOCHS, PREVIOUS, RESULT, Job, TrainingData
from nas.utils.limits import limit_threads
from nas.training.memory import largest_micro_batch
from nas.networks.build import build
from nas.training.kernel_benchmark import probe_engine
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.training.gradient_recorder import Recorder
from nas.runs.records import Epoch, Execution
from nas.runs.attempts import Cause
from nas.training.trainer import Diverged, Training, pick_device, pick_precision

MAX_REASON = 400  # characters


class Place:
    """A place to train at: a device, and how it computes.

    engines: what was measured of devices, by their names (`measured`); one that is not among them computes in plain forms.
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
        """The arithmetic that a network is trained in here."""
        return pick_precision(self._precision, self.device, architecture)

    def first_micro_batch(self, architecture: Architecture) -> int | None:
        """Images at once of which a step is predicted to fit into what the device has free beside the images; None: the whole batch.

        A prediction without allowances, so that only what is sure to be too much is spared a failure.
        """
        free = free_bytes(self.device)
        if free is None:
            return None
        whole, precision = self.recipe.batch_size, self.precision(architecture)
        size = largest_micro_batch(architecture, whole, free, precision, ema=bool(self.recipe.ema))
        return size if size < whole else None

    def release(self) -> None:
        """Give the memory of the last network back."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


class Bench(Place):
    """A place to train at with the data on its device, kept from trial to trial.

    proxy: what is trained in place of each candidate. gradient_steps: those that each moment of a trial's gradient norms is the
    mean of (`nas.training.gradient_flow`), 0 to record none.
    """

    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        *,
        proxy: Proxy | None = None,
        gradient_steps: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(recipe, **options)
        self.gradient_steps = gradient_steps
        self.proxy = proxy or Proxy()
        self.data = data
        self._seed: int | None = None  # of the batches below
        self._batches: dict[int, tuple[Batches, Batches]] = {}  # by resolution; all share one copy of the images

    def batches(self, seed: int, resolution: int | None = None) -> tuple[Batches, Batches]:
        """Training and validation batches of `resolution` pixels (None: the images' own); the images move to the device once."""
        own = self.data.x.shape[1]
        if self._seed != seed:
            self._batches = {own: self._moved(seed)}
            self._seed = seed
        if resolution is None or resolution == own:
            return self._batches[own]
        if resolution not in self._batches:
            train, validation = self._batches[own]
            self._batches[resolution] = (train.at(resolution), validation.at(resolution))
        return self._batches[resolution]

    def test(self, dataset: Dataset, resolution: int | None = None) -> Batches:
        """All the test images, in order; they are on the device for as long as these batches are kept."""
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
            data.x,
            data.y,
            index=data.train_index,
            batch_size=size,
            augment=augment,
            drop_last=True,
            **common,
        )
        validation = Batches(
            data.x,
            data.y,
            index=data.validation_index,
            batch_size=4 * size,
            augment=None,
            drop_last=False,
            **common,
        )
        return train, validation

    def run(self, job: Job) -> Generator[Epoch, None, None]:
        """Train a job from where its folder stands to the end, yielding each epoch that this attempt trains.

        Ends with `result.json`: a network that diverges, doesn't fit into the memory or raises leaves its reason and its cause. But
        Fenced, and nothing written, where the job was handed out anew; and WriteError if the folder can't be written to: then the
        trial stays open, to go on behind its last epoch that was saved.
        """
        folder = job.folder
        make_folder(folder)
        remove_temporaries(folder)
        epochs: list[Epoch] = []
        reason, cause = "", Cause.EXCEPTION
        executed: Execution | None = None
        micro_batch: int | None = None
        singly = torn = ""
        planned = False
        recorder: Recorder | None = None
        while True:
            try:
                if not planned:
                    planned = True
                    trained = self.proxy.of(job.architecture)
                    self.batches(job.seed, trained.resolution)  # the images come first
                    micro_batch = self.first_micro_batch(trained)
                training, epochs, again = self._restored(job, micro_batch)
                torn = torn or again
                if self.gradient_steps:
                    before = flow.read(folder, job.architecture.digest)
                    recorder = Recorder(training, self.gradient_steps, before)
                while training.done < self.recipe.epochs:
                    epochs.append(recorder.epoch() if recorder else training.epoch())
                    singly = training.singly
                    _keep(recorder, job)
                    self._save(training, epochs, job)
                    yield epochs[-1]
                executed = training.executed()
            except (Fenced, WriteError):
                raise
            except Diverged as error:
                reason, cause = _line(str(error)), Cause.DIVERGED
                _keep(recorder, job)
            except NasError as error:
                reason = _line(str(error))
            except Exception as error:
                if out_of_memory(error, self.device):
                    micro_batch = smaller(micro_batch, self.recipe.batch_size)
                    if micro_batch:
                        continue  # from the last checkpoint
                    said = str(error) or type(error).__name__
                    reason = _line(f"out of memory on {self.device} with a single image: {said}")
                    cause = Cause.MEMORY if self.device.type == "cpu" else Cause.DEVICE_MEMORY
                    break
                if "CUDA error" in str(error):
                    raise  # the CUDA context is lost with such an error: only a new process can go on
                reason = _line(f"{type(error).__name__}: {error}")
            finally:
                training = recorder = None  # type: ignore[assignment]  # the next network needs the memory
                self.release()
            break
        result = self._result(job, epochs, reason, executed, micro_batch, singly)
        check(job)
        write_json(folder / RESULT, result | ({"cause": cause} if reason else {}) | ({"torn": torn} if torn else {}))
        for name in (CHECKPOINT, PREVIOUS, EPOCHS):
            (folder / name).unlink(missing_ok=True)

    def _restored(self, job: Job, micro_batch: int | None) -> tuple[Training, list[Epoch], str]:
        """A training as the newest checkpoint that can be used left it, the epochs behind it, and what could not be used."""
        torn = ""
        for path in (job.folder / CHECKPOINT, job.folder / PREVIOUS):
            if not path.exists():
                continue
            training = self._training(job, micro_batch)
            try:
                epochs = _load(training, path, job)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # torn, or of something else; it may have half overwritten this training
                torn = torn or path.name
                continue
            return training, epochs, torn and f"{torn} could not be used; went on behind epoch {len(epochs)}"
        return self._training(job, micro_batch), [], torn and f"{torn} could not be used; started over"

    def _training(self, job: Job, micro_batch: int | None = None) -> Training:
        trained = self.proxy.of(job.architecture)
        network = build(trained, seed=job.seed)
        batches = self.batches(job.seed, trained.resolution)
        precision = self.precision(trained)
        return Training(network, *batches, self.recipe, precision, micro_batch=micro_batch, engine=self.engine)

    def _save(self, training: Training, epochs: list[Epoch], job: Job) -> None:
        if training.done == self.recipe.epochs:
            return  # the result follows at once
        check(job)
        records = [epoch.to_dict() for epoch in epochs]
        write_json(job.folder / EPOCHS, records)
        state = {**training.state(), "digest": job.architecture.digest, "epochs": records}
        path = job.folder / CHECKPOINT
        write_with(path, guarded(job, lambda file: torch.save(state, file)), keep=job.folder / PREVIOUS)

    def _result(
        self,
        job: Job,
        epochs: list[Epoch],
        reason: str,
        executed: Execution | None,
        micro_batch: int | None,
        singly: str,
    ) -> dict[str, Any]:
        return {
            "key": job.key,
            "digest": job.architecture.digest,
            "state": "failed" if reason else "complete",
            "reason": reason,
            "attempts": sum(job.ended.values()) + 1,
            "ended": dict(job.ended),
            "accuracy": None if reason else epochs[-1].accuracy,
            "seconds": sum(epoch.seconds for epoch in epochs),
            "finished": time.time(),
            "device": device_name(self.device),
            "precision": self.precision(self.proxy.of(job.architecture)),
            **({"micro_batch": micro_batch} if micro_batch else {}),
            **({"singly": singly} if singly else {}),
            **({"latency": dict(job.latency)} if job.latency else {}),
            **({"executed": executed.to_dict()} if executed else {}),
            "epochs": [epoch.to_dict() for epoch in epochs],
        }


def _keep(recorder: Recorder | None, job: Job) -> None:
    """Write what was recorded since the last time; before the checkpoint, which nothing may be missing of."""
    if recorder is not None and recorder.news:
        check(job)
        flow.write(job.folder, job.architecture.digest, recorder.flow)


def device_name(device: torch.device) -> str:
    """What kind of device it is: "cpu", or a GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measured(
    device: str, precision: str, resolution: int, threads: int = 0, *, repeatable: bool = True
) -> dict[str, dict[str, Any]]:
    """The engine that is the fastest on this process's device, by the device's name, as `Bench` takes it: `probe_engine`."""
    limit_threads(threads)
    own = pick_device(device)
    return {device_name(own): probe_engine(own, precision, resolution, repeatable=repeatable).to_dict()}


def fits(size: int, device: torch.device) -> bool:
    """Whether images of so many bytes should live on the device: up to half of what it has free; the rest is for training.

    On the CPU they are in memory anyway, unless it is too small for them and they are mapped: then they come from the disk.
    """
    free = free_bytes(device)
    return memory_holds(size) if free is None else size <= free // 2


def free_bytes(device: torch.device) -> int | None:
    """What tensors may still take of a GPU: free, or reserved by this process and unused. None for other devices."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def smaller(micro_batch: int | None, batch_size: int) -> int:
    """Half of the micro-batch that was too large (None: the whole batch); 0 below one image."""
    return (micro_batch or batch_size) // 2


def out_of_memory(error: Exception, device: torch.device) -> bool:
    """Whether a smaller micro-batch may do where this was raised: the device's memory is full; on the CPU, the host's."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    refused = isinstance(error, MemoryError) or "can't allocate memory" in str(
        error
    )  # PyTorch's own allocator says this
    return device.type == "cpu" and refused


def _line(text: str) -> str:
    """An error's words as one line; PyTorch's run to pages."""
    return reason_of(text, MAX_REASON)


def _load(training: Training, path: Path, job: Job) -> list[Epoch]:
    """Load a checkpoint of the job; the records of the epochs behind it. Raises whatever a file that can't be used does."""
    state = torch.load(path, map_location=training.device, weights_only=True)
    done = int(state["done"])
    records = state.get("epochs")
    if records is None:  # of an earlier version, which kept them beside it alone
        records = read_json(job.folder / EPOCHS)[:done]
    epochs = [Epoch.from_dict(record) for record in records]
    if len(epochs) != done or state["digest"] != job.architecture.digest:
        raise ValueError(f"{path}: of another network")
    training.load(state)
    return epochs
