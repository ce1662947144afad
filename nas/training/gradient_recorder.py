"""Records the gradient norms of a training at its start, middle and end, without changing it.

Hooks are on only for the `window` steps of each moment. All other steps run as usual, as CUDA graphs where possible; the steps of
a moment run kernel by kernel, because a graph does not expose gradients.
"""

from __future__ import annotations

from collections.abc import Callable

from nas.training.gradient_flow import Flow, ends_of
from nas.training.gradient_norms import GradientWatch
from nas.training.records import Epoch
from nas.training.trainer import Training


class Recorder:
    """Runs a training's epochs and keeps its moments. before: the record of an earlier attempt at the same training."""

    def __init__(self, training: Training, window: int, before: Flow | None = None) -> None:
        self._training = training
        self._watch = GradientWatch(training.network, len(training.train_batches), window)
        self._ends = ends_of(training.recipe.epochs)
        self._moments = list(before.until(training.done)) if before else []
        self.news = False  # whether `flow` has grown since it was last read

    @property
    def flow(self) -> Flow:
        self.news = False
        return Flow(self._watch.layers, tuple(self._moments))

    def epoch(self) -> Epoch:
        """`Training.epoch`; moments of an epoch that raises are kept too."""
        training, watch = self._training, self._watch
        number = training.done + 1
        if number not in self._ends and number > 1:
            return training.epoch()
        watch.begin(number, last=number in self._ends)
        training.after_backward, training.on_step = self._arm(), self._after_step
        try:
            return training.epoch()
        finally:
            training.after_backward = training.on_step = None
            moments = watch.end()
            self._moments += moments
            self.news = self.news or bool(moments)

    def _after_step(self, step: int) -> None:
        self._watch.after_step(step)
        self._training.after_backward = self._arm()

    def _arm(self) -> Callable[[int], None] | None:
        return self._watch.after_backward if self._watch.hooked else None
