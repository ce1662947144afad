"""A training step as one CUDA graph: captured once, then replayed for each batch, so that the host no longer launches kernels.

With deep, thin networks on small images a GPU computes each kernel faster than the host launches it; a graph launches all
kernels of a step at once. It holds the forward pass, loss, backward pass and the optimizer's step. These read images, labels
and learning rate from fixed tensors and write the network's and the optimizer's own tensors. So state is saved and loaded as
without graphs, and steps of both kinds may alternate.
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

WARM = 3  # steps before the capture, in which libraries choose kernels and reserve memory
MAX_REASON = 300  # characters
Gradients = Callable[[Tensor, Tensor], None]


class Recorder(Protocol):
    """Makes a graph of a function without arguments or result that works on tensors at fixed addresses."""

    def warm(self, run: Callable[[], None]) -> None:
        """Run it, as often as is needed before `capture`."""

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """A function that repeats what `run` does each time it is called. The capture itself computes nothing."""


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
        # The thread that prefetches batches may pin memory during the capture; only "thread_local" allows that.
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                run()
        return graph.replay


class Step:
    """Training steps: the first `WARM` run kernel by kernel, the others replay a graph.

    The warm-up steps are steps of the training too, so that weights, momenta, statistics and random streams are those of a
    training without graphs. failure: why the capture failed; empty if it did not.
    """

    def __init__(self, optimiser: Optimiser, recorder: Recorder) -> None:
        self._optimiser, self._recorder = optimiser, recorder
        self._inputs: tuple[Tensor, Tensor, Tensor] | None = None  # images, labels, learning rate
        self._warmed = 0
        self._replay: Callable[[], None] | None = None
        self.failure = ""

    def take(self, gradients: Gradients, images: Tensor, labels: Tensor, rate: float) -> bool:
        """Take the step. False, with nothing done, if the batch's shape is not the first one's or the capture has failed.

        gradients(images, labels): computes the gradients of a batch's mean loss, and adds whatever else is kept of the batch to
        tensors at fixed addresses. It must do the same work each time, read no value back from the device, and use no
        random numbers.
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
            except Exception as error:  # of any kind: nothing was computed, and steps can still run kernel by kernel
                self.failure = reason_of(f"{type(error).__name__}: {error}", MAX_REASON)
                self._optimiser.drop_gradients()  # they lie in the graph's memory
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
    """Whether the network uses random numbers in training: dropout, stochastic depth."""
    return any(
        (isinstance(module, Dropped) and module.rate > 0)
        or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)
        for module in network.modules()
    )
