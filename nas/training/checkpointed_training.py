"""A training that is saved after each epoch: continued from its checkpoint, and in smaller parts where memory runs out.

Trials, full trainings and comparisons train through this class; what a checkpoint holds, and what follows a failure, is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from nas.training.trainer import Training
from nas.training.workspace import Device, out_of_memory, smaller

T = TypeVar("T")


class CheckpointedTraining:
    """The epochs that are missing of one training.

    start: makes the training, with so many images per forward pass (None: whole batches), as its newest checkpoint left it, or
    at its beginning; it may choose fewer images. save: writes the checkpoint after an epoch. whole: whether batches must stay
    whole.

    When memory runs out, the work is repeated from the checkpoint with half as many images per forward pass; the error is raised
    if it was one image, or if batches must stay whole.
    """

    def __init__(
        self,
        place: Device,
        start: Callable[[int | None], Training],
        save: Callable[[Training], None],
        *,
        micro_batch: int | None = None,
        whole: bool = False,
    ) -> None:
        self.micro_batch = micro_batch
        self._place, self._start, self._save, self._whole = place, start, save, whole
        self._training: Training | None = None

    def epochs(self, epoch: Callable[[Training], T]) -> Iterator[T]:
        """epoch(the training) for each epoch that is missing; its result is yielded after the checkpoint is written."""
        while self.with_memory(lambda training: training.done < training.recipe.epochs):
            record = self.with_memory(epoch)
            self._save(self.training)
            yield record

    @property
    def training(self) -> Training:
        """The training that is at work."""
        assert self._training is not None
        return self._training

    def with_memory(self, work: Callable[[Training], T]) -> T:
        """work(the training), repeated with smaller micro-batches while memory runs out."""
        while True:
            try:
                if self._training is None:
                    self._training = self._start(self.micro_batch)
                    self.micro_batch = self._training.micro_batch
                return work(self._training)
            except Exception as error:
                size = 0 if self._whole else smaller(self.micro_batch, self._place.recipe.batch_size)
                if not size or not out_of_memory(error, self._place.device):
                    raise
            self.close()  # outside of the handler, whose traceback keeps tensors alive
            self.micro_batch = size

    def close(self) -> None:
        """Free the memory of the training; what follows starts at the checkpoint."""
        self._training = None
        self._place.release()
