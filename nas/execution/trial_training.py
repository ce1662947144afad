"""Training of one trial in this process, with its epochs, checkpoints and result on disk.

While a trial runs, its folder holds `epochs.json` (the records so far, for readers), `checkpoint.pt` (the training's state and the
records) and `checkpoint-previous.pt` (the same after the epoch before). After its end, the folder holds `result.json` and no
checkpoint. With recorded gradients there is `gradients.json` too (`nas.training.gradient_flow`).
Files are written whole or not at all, so a process may die at any moment. The next attempt resumes after the last epoch that was
saved, or after the one before it if the last checkpoint can't be read.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from nas.data.training_data import TrainingData
from nas.errors import NasError, WriteError, reason_of
from nas.execution.fencing import Fenced, check, guarded
from nas.execution.job import Job, TrainingOptions
from nas.networks.build import build
from nas.runs.attempts import Cause
from nas.runs.records import TrialResult
from nas.training import gradient_flow as flow
from nas.training.checkpointed_training import CheckpointedTraining
from nas.training.gradient_recorder import Recorder
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, EPOCHS, PREVIOUS, Epoch, Execution
from nas.training.trainer import Diverged, Training
from nas.training.workspace import Workspace, device_name, out_of_memory
from nas.utils.files import make_folder, read_json, remove_temporaries, write_json, write_with

MAX_REASON = 400  # characters


@dataclass(slots=True)
class _Attempt:
    """The progress of an attempt at a job.

    micro_batch: None for whole batches. reason, cause: of a failure. singly, torn: why CUDA graphs were not used, and which
    checkpoint could not be loaded; "" otherwise.
    """

    job: Job
    micro_batch: int | None = None
    epochs: list[Epoch] = field(default_factory=list)
    recorder: Recorder | None = None
    executed: Execution | None = None
    reason: str = ""
    cause: Cause = Cause.EXCEPTION
    singly: str = ""
    torn: str = ""


class TrialTraining(Workspace):
    """Trains jobs one after another, each in its own folder.

    proxy: the transformation of each candidate into the network that is trained. gradient_steps: the number of steps over which
    gradient norms are averaged (`nas.training.gradient_flow`), 0 to record none.
    """

    def __init__(
        self, data: TrainingData, recipe: Recipe, *, proxy: Proxy | None = None, gradient_steps: int = 0, **options: Any
    ) -> None:
        super().__init__(data, recipe, **options)
        self.proxy = proxy or Proxy()
        self.gradient_steps = gradient_steps

    @classmethod
    def of(cls, data: TrainingData, options: TrainingOptions) -> Self:
        return cls(
            data,
            options.recipe,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            proxy=options.proxy,
            engines=options.engines,
            gradient_steps=options.gradient_steps,
        )

    def run(self, job: Job) -> Generator[Epoch, None, None]:
        """Train a job from its newest checkpoint to the end, yielding each epoch that this attempt trains.

        Ends with `result.json`. If the network diverges, does not fit into the memory or raises an exception, the result holds the
        reason and the cause. Fenced, and nothing written, if the job was handed out again. WriteError if the folder can't be written
        to; the trial then stays open and can resume after the last epoch that was saved.
        """
        make_folder(job.folder)
        remove_temporaries(job.folder)
        attempt = _Attempt(job)
        held = CheckpointedTraining(self, partial(self._start, attempt), partial(self._save, attempt))
        try:
            yield from held.epochs(partial(self._epoch, attempt))
            attempt.executed = held.training.executed()
        except (Fenced, WriteError):
            raise
        except Exception as error:
            self._note(error, attempt)
        finally:
            held.close()  # the next network needs the memory
        attempt.micro_batch = held.micro_batch
        check(job)
        self._result(attempt).write(job.folder)
        for name in (CHECKPOINT, PREVIOUS, EPOCHS):
            (job.folder / name).unlink(missing_ok=True)

    def _start(self, attempt: _Attempt, micro_batch: int | None) -> Training:
        """The training as its newest readable checkpoint left it."""
        job, trained = attempt.job, self.proxy.of(attempt.job.architecture)
        self.batches(job.seed, trained.resolution)  # first: the images take memory that the prediction needs
        training, attempt.epochs, torn = self._restored(job, micro_batch or self.first_micro_batch(trained))
        attempt.torn = attempt.torn or torn
        if self.gradient_steps:
            earlier = flow.read(job.folder, job.architecture.digest)
            attempt.recorder = Recorder(training, self.gradient_steps, earlier)
        return training

    def _epoch(self, attempt: _Attempt, training: Training) -> Epoch:
        try:
            attempt.epochs.append(attempt.recorder.epoch() if attempt.recorder else training.epoch())
        except Diverged:
            _save_gradients(attempt.recorder, attempt.job)
            raise
        attempt.singly = training.singly
        _save_gradients(
            attempt.recorder, attempt.job
        )  # before the checkpoint: a resumed trial has those of all its epochs
        return attempt.epochs[-1]

    def _note(self, error: Exception, attempt: _Attempt) -> None:
        """Note reason and cause of a failure.

        Raises a CUDA error again: the CUDA context is lost with it, and only a new process can continue.
        """
        if isinstance(error, NasError):
            attempt.reason = reason_of(str(error), MAX_REASON)
            attempt.cause = Cause.DIVERGED if isinstance(error, Diverged) else Cause.EXCEPTION
        elif out_of_memory(error, self.device):
            message = str(error) or type(error).__name__
            attempt.reason = reason_of(f"out of memory on {self.device} with a single image: {message}", MAX_REASON)
            attempt.cause = Cause.MEMORY if self.device.type == "cpu" else Cause.DEVICE_MEMORY
        elif "CUDA error" in str(error):
            raise error
        else:
            attempt.reason = reason_of(f"{type(error).__name__}: {error}", MAX_REASON)

    def _result(self, attempt: _Attempt) -> TrialResult:
        job, epochs, failed = attempt.job, attempt.epochs, bool(attempt.reason)
        return TrialResult(
            job.key,
            job.architecture.digest,
            "failed" if failed else "complete",
            attempt.reason,
            accuracy=None if failed else epochs[-1].accuracy,
            seconds=sum(epoch.seconds for epoch in epochs),
            epochs=tuple(epochs),
            cause=attempt.cause if failed else "",
            attempts=sum(job.ended.values()) + 1,
            ended=job.ended,
            latency=job.latency,
            executed=attempt.executed,
            device=device_name(self.device),
            precision=self.precision(self.proxy.of(job.architecture)),
            micro_batch=attempt.micro_batch,
            singly=attempt.singly,
            torn=attempt.torn,
        )

    def _restored(self, job: Job, micro_batch: int | None) -> tuple[Training, list[Epoch], str]:
        """The training in the state of the newest readable checkpoint, its epochs, and a note if a checkpoint could not be read."""
        torn = ""
        for path in (job.folder / CHECKPOINT, job.folder / PREVIOUS):
            if not path.exists():
                continue
            training = self._training(job, micro_batch)
            try:
                epochs = _load(training, path, job)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # torn, or of another network; it may have overwritten part of this training
                torn = torn or path.name
                continue
            return training, epochs, torn and f"{torn} could not be used; resumed after epoch {len(epochs)}"
        return self._training(job, micro_batch), [], torn and f"{torn} could not be used; started over"

    def _training(self, job: Job, micro_batch: int | None = None) -> Training:
        trained = self.proxy.of(job.architecture)
        network = build(trained, seed=job.seed)
        batches = self.batches(job.seed, trained.resolution)
        precision = self.precision(trained)
        return Training(network, *batches, self.recipe, precision, micro_batch=micro_batch, engine=self.engine)

    def _save(self, attempt: _Attempt, training: Training) -> None:
        job = attempt.job
        if training.done == self.recipe.epochs:
            return  # the result is written next
        check(job)
        records = [epoch.to_dict() for epoch in attempt.epochs]
        write_json(job.folder / EPOCHS, records)
        state = {**training.state(), "digest": job.architecture.digest, "epochs": records}
        path = job.folder / CHECKPOINT
        write_with(path, guarded(job, lambda file: torch.save(state, file)), keep=job.folder / PREVIOUS)


def _save_gradients(recorder: Recorder | None, job: Job) -> None:
    """Write the recorded gradient norms if there are new ones."""
    if recorder is not None and recorder.news:
        check(job)
        flow.write(job.folder, job.architecture.digest, recorder.flow)


def _load(training: Training, path: Path, job: Job) -> list[Epoch]:
    """Load a checkpoint of the job into `training` and return the records of its epochs. Any exception if the file can't be used."""
    state = torch.load(path, map_location=training.device, weights_only=True)
    done = int(state["done"])
    records = state.get("epochs")
    if records is None:  # an earlier version kept the records in `epochs.json` only
        records = read_json(job.folder / EPOCHS)[:done]
    epochs = [Epoch.from_dict(record) for record in records]
    if len(epochs) != done or state["digest"] != job.architecture.digest:
        raise ValueError(f"{path}: of another network")
    training.load(state)
    return epochs
