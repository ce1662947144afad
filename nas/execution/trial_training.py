"""One trial on disk: trains a candidate in this process and leaves its epochs, a checkpoint and a result.

A trial's folder holds, while it runs, `epochs.json` (the records so far, for readers), `checkpoint.pt` (what the next epoch
needs, the records too) and `checkpoint-previous.pt` (the same of the epoch before); at its end `result.json`, and no checkpoint.
With recorded gradients there is `gradients.json` too (`nas.training.gradient_flow`).
All are written whole or not at all, so that a process may die at any moment: the next attempt goes on behind the last epoch that
was saved, or behind the one before it if the disk gives the last checkpoint back torn.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from nas.data.training_data import TrainingData
from nas.errors import NasError, WriteError, reason_of
from nas.execution.fencing import Fenced, check, guarded
from nas.execution.job import Job
from nas.networks.build import build
from nas.runs.attempts import Cause
from nas.runs.records import TrialResult
from nas.training import gradient_flow as flow
from nas.training.gradient_recorder import Recorder
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, EPOCHS, PREVIOUS, Epoch, Execution
from nas.training.trainer import Diverged, Training
from nas.training.workspace import Workspace, device_name, out_of_memory, smaller
from nas.utils.files import make_folder, read_json, remove_temporaries, write_json, write_with

MAX_REASON = 400  # characters


class TrialTraining(Workspace):
    """Trains jobs one after another, each in its own folder.

    proxy: what is trained in place of each candidate. gradient_steps: the number of steps over which gradient norms are averaged
    (`nas.training.gradient_flow`), 0 to record none.
    """

    def __init__(
        self, data: TrainingData, recipe: Recipe, *, proxy: Proxy | None = None, gradient_steps: int = 0, **options: Any
    ) -> None:
        super().__init__(data, recipe, **options)
        self.proxy = proxy or Proxy()
        self.gradient_steps = gradient_steps

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
        result = TrialResult(
            job.key,
            job.architecture.digest,
            "failed" if reason else "complete",
            reason,
            accuracy=None if reason else epochs[-1].accuracy,
            seconds=sum(epoch.seconds for epoch in epochs),
            epochs=tuple(epochs),
            cause=cause if reason else "",
            attempts=sum(job.ended.values()) + 1,
            ended=job.ended,
            latency=job.latency,
            executed=executed,
            device=device_name(self.device),
            precision=self.precision(self.proxy.of(job.architecture)),
            micro_batch=micro_batch,
            singly=singly,
            torn=torn,
        )
        check(job)
        result.write(folder)
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


def _keep(recorder: Recorder | None, job: Job) -> None:
    """Write what was recorded since the last time; before the checkpoint, which nothing may be missing of."""
    if recorder is not None and recorder.news:
        check(job)
        flow.write(job.folder, job.architecture.digest, recorder.flow)


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
