"""A step of training as one CUDA graph: captured once, then replayed for each batch, so that the host no longer launches kernels.

Of deep, thin networks on small images a GPU computes each kernel faster than the host launches it; a graph launches all of a
step's at once. Forward pass, loss, backward pass and the optimiser's step are in it. They read images, labels and learning rate
from fixed places, and the weights, momenta and statistics that they write are the network's and the optimiser's own: state is
saved and loaded as without graphs, and both kinds of steps may alternate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from nas.errors import reason_of
from nas.networks.blocks.modules import Dropped
from nas.training.optimizer import Optimiser

WARM = 3  # steps; libraries choose their kernels and reserve their memory in these
MAX_REASON = 300  # characters
Gradients = Callable[[Tensor, Tensor], None]


class Recorder(Protocol):
    """What makes a graph of a function that takes and gives nothing and works on tensors in fixed places."""

    def warm(self, run: Callable[[], None]) -> None:
        """Run it, as often as is needed before `capture`."""

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """What does once more, each time it is called, what `run` does. Nothing is computed here."""


class Cuda:
    """CUDA's graphs, on this GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # capture is not allowed on the default one

    def warm(self, run: Callable[[], None]) -> None:
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                run()
            current.wait_stream(self._stream)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        # The thread that gathers batches ahead may pin memory meanwhile, which only "thread_local" lets pass.
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                run()
        return graph.replay


class Step:
    """Steps of training, the first `WARM` of which are taken one kernel at a time, the others by replaying a graph.

    No step is taken only to warm up: all are steps of the training, so that weights, momenta, statistics and random streams
    are what they would be without graphs.

    `failure` says why there is no graph, after an attempt.
    """

    def __init__(self, optimiser: Optimiser, recorder: Recorder) -> None:
        self._optimiser, self._recorder = optimiser, recorder
        self._inputs: tuple[Tensor, Tensor, Tensor] | None = None  # images, labels, learning rate
        self._warmed = 0
        self._replay: Callable[[], None] | None = None
        self.failure = ""

    def take(self, gradients: Gradients, images: Tensor, labels: Tensor, rate: float) -> bool:
        """Take the step; False, with nothing done, where that isn't possible: another shape than the first, no graph.

        gradients(images, labels): makes the gradients of the mean loss of a batch, and adds what else is to be kept of it to
        tensors that stay where they are. It does the same work each time, never asks the device for a value, and draws
        nothing at random.
        """
        if self.failure:
            return False
        if self._inputs is None:
            at_rate = torch.zeros((), dtype=torch.float32, device=images.device)
            self._inputs = (torch.empty_like(images), torch.empty_like(labels), at_rate)
        if images.shape != self._inputs[0].shape:
            return False
        run = partial(self._run, gradients, *self._inputs)
        if self._replay is None and self._warmed == WARM:
            try:
                self._replay = self._recorder.capture(run)
            except Exception as error:  # of whatever kind: nothing was computed, and steps can still be taken singly
                self.failure = reason_of(f"{type(error).__name__}: {error}", MAX_REASON)
                self._optimiser.drop_gradients()  # they would be in the graph's memory
                return False
        for place, value in zip(self._inputs[:2], (images, labels), strict=True):
            place.copy_(value)
        self._inputs[2].fill_(rate)
        if self._replay is None:
            self._recorder.warm(run)
            self._warmed += 1
        else:
            self._replay()
        self._optimiser.at(rate)  # the number, for `state_dict`
        return True

    def _run(self, gradients: Gradients, images: Tensor, labels: Tensor, rate: Tensor) -> None:
        gradients(images, labels)
        self._optimiser.step(rate)


def draws(network: nn.Module) -> bool:
    """Whether the network draws at random in training: dropout, stochastic depth."""
    return any(
        (isinstance(module, Dropped) and module.rate > 0)
        or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)
        for module in network.modules()
    )
