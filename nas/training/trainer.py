"""Training of one network, epoch by epoch, with a state that can be saved between any two epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.data.batches import BatchSource
from nas.errors import NasError, UsageError, reason_of
from nas.networks.architecture import Architecture
from nas.networks.build import costs_by_piece
from nas.training.conv_kernels import Engine
from nas.training.cuda_graphs import Cuda, Recorder, Step, draws
from nas.training.distributed import ALONE, Group, unsynchronised
from nas.training.gates import computation_loss, counting, gates
from nas.training.optimizer import Average, Optimiser, Rates
from nas.training.recipe import BF16_CPU_RESOLUTION, PRECISIONS, Recipe
from nas.training.records import Epoch, Execution
from nas.utils import forks
from nas.utils.text import counted


class Diverged(NasError):
    """The loss is no longer a finite number."""


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU if there is one. UsageError for a device that can't be used, and in a process that can't train."""
    forks.check()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = reason_of(error, first_line=True)
        if reason.startswith("Expected one of"):  # PyTorch lists twenty types
            reason = "known are auto, cpu, cuda, cuda:N and mps"
        raise UsageError(f"device {name!r} can't be used here: {reason}") from None
    return device


def pick_precision(name: str, device: torch.device, architecture: Architecture) -> str:
    """`auto` is bf16 autocast on GPUs from Ampere on and, from 32 px up, on CPUs with AVX-512 bf16; else fp32.

    On a CPU a network with strided convolutions on 1 x 1 px always gets fp32: the bf16 weight gradients of such convolutions
    are sometimes wrong there (PyTorch 2.15 with oneDNN: 56 of 1,512 shapes tried, up to inf).
    """
    if name not in ("auto", *PRECISIONS):
        raise UsageError(f"precision {name!r}: known are auto, {', '.join(PRECISIONS)}")
    chosen = fast_precision(device, architecture.resolution) if name == "auto" else name
    return "fp32" if device.type == "cpu" and _strides_over_a_pixel(architecture) else chosen


def fast_precision(device: torch.device, resolution: int) -> str:
    """The precision that `auto` stands for at this resolution in pixels."""
    if device.type == "cpu":
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return "bf16" if native and resolution >= BF16_CPU_RESOLUTION else "fp32"
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def check_norms(architecture: Architecture, at_once: int) -> None:
    """UsageError if a batch norm would see a single value per channel: one image at once, with 1 x 1 px after a stage."""
    single = at_once == 1 and [row.name for row in costs_by_piece(architecture)[:-1] if row.output.height == 1]
    if single:
        raise UsageError(
            f"a batch of one image: after {single[0]} of {architecture.name or 'the network'} one pixel is left of it, which batch "
            "norms have no statistics of; take a larger --batch-size (or --micro-batch), or images of more pixels"
        )


def _strides_over_a_pixel(architecture: Architecture) -> bool:
    inputs = costs_by_piece(architecture)  # the stem's output is the first stage's input, and so on
    return any(
        stage.stride > 1 and row.output.height == 1 for stage, row in zip(architecture.stages, inputs, strict=False)
    )


class Training:
    """The training of a network by a recipe. `epoch()` runs the next epoch; `state()` is all that a later `load()` needs.

    All randomness of an epoch, in the batches and in the network (dropout, stochastic depth, gates), depends only on the
    batches' seed and the epoch's number: on the same device a resumed training gives the weights of an uninterrupted one. The
    loss of a dynamic network is the cross-entropy plus the price of its gates' computation
    (`nas.training.gates.computation_loss`); recorded losses are the cross-entropy alone, so that they compare across networks.

    rates: a factor of the learning rate for each piece of the network (`nas.training.optimizer.Rates`). micro_batch: most images
    per forward pass; a step still uses the recipe's whole batch and accumulates gradients, but batch norms use the statistics of
    a micro-batch. engine: how operations are computed. group: the processes that share each batch
    (`nas.training.distributed`), all with the same arguments. recorder: makes graphs of steps where possible
    (`nas.training.cuda_graphs`); by default CUDA's, if the engine has `graphs`.
    """

    def __init__(
        self,
        network: nn.Module,
        train: BatchSource,
        validation: BatchSource,
        recipe: Recipe,
        precision: str = "fp32",
        *,
        rates: Rates | None = None,
        micro_batch: int | None = None,
        engine: Engine | None = None,
        group: Group = ALONE,
        recorder: Recorder | None = None,
    ) -> None:
        if min(train.size(step) for step in {0, len(train) - 1}) < group.size:
            raise UsageError(f"a batch of {train.size(len(train) - 1)} images is too small for {group.size} processes")
        self.group = group
        self.device = train.device
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train_batches, self.validation_batches = train, validation
        self.recipe = recipe
        self.precision = precision
        self.micro_batch = micro_batch
        engine = engine or Engine()
        engine.prepare(self.network, precision)
        if recorder is None and engine.graphs and self.device.type == "cuda":
            recorder = Cuda(self.device)
        self._recorder = recorder
        self.optimiser = Optimiser(self.network, recipe, rates)
        self._average = Average(self.network, recipe.ema, warmup=recipe.ema_warmup) if recipe.ema else None
        self._gates = gates(self.network)
        self._changing = rates is not None
        self._loss = torch.zeros(
            (), device=self.device
        )  # stays on the device: reading it at each step would stall a GPU
        self._step = self._whole_step()
        self.done = 0  # epochs
        # Both are called with the step, counted from 0: while it has gradients, and after it.
        self.after_backward: Callable[[int], None] | None = None
        self.on_step: Callable[[int], None] | None = None

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights if the recipe has one."""
        return self.network if self._average is None else self._average.module

    def epoch(self) -> Epoch:
        """Train and validate for one epoch. Diverged if a loss is not finite."""
        started = time.perf_counter()
        number = self.done + 1
        with self._randomness(self.done):
            train_loss = self._train_one(self.done)
        trained = time.perf_counter()
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss became {train_loss} in epoch {number}")
        self.group.average_buffers([self.network] if self._average is None else [self.network, self._average])
        val_loss, accuracy = evaluate(
            self.result, self.validation_batches, self.precision, self.micro_batch, self.group
        )
        if not math.isfinite(val_loss):
            raise Diverged(f"the validation loss became {val_loss} in epoch {number}")
        self.done = number
        steps = len(self.train_batches)
        return Epoch(
            number=number,
            train_loss=train_loss,
            val_loss=val_loss,
            accuracy=accuracy,
            learning_rate=self.recipe.learning_rate_at(number * steps - 1, steps),
            seconds=time.perf_counter() - started,
            images_per_second=self.train_batches.images / max(trained - started, 1e-9),
        )

    @property
    def singly(self) -> str:
        """Why steps run kernel by kernel although graphs were asked for; empty if they were not, or if graphs are used."""
        if self._recorder is None:
            return ""
        return self._obstacle() if self._step is None else self._step.failure

    def _obstacle(self) -> str:
        """Why no step of this training can be a graph; empty if one can."""
        obstacles = {
            "gates decide what a step computes": bool(self._gates),
            "the learning rate differs between pieces, some of which may be frozen": self._changing,
            "a batch passes in parts": self.micro_batch is not None,
            "several processes share a batch": self.group.size > 1,
            "the network draws at random": draws(self.network),
        }
        return next((reason for reason, holds in obstacles.items() if holds), "")

    def _whole_step(self) -> Step | None:
        return None if self._recorder is None or self._obstacle() else Step(self.optimiser, self._recorder)

    def _gradients(self, images: Tensor, labels: Tensor) -> None:
        self._loss += self._backward(self.network, images, labels, 1.0) * len(labels)

    def _train_one(self, epoch: int) -> float:
        self.optimiser.begin(epoch)
        # Wrapped again in each epoch, because `begin` may have frozen or unfrozen pieces.
        network = self.group.wrap(self.network, unused=bool(self._gates))
        steps = len(self.train_batches)
        self._loss.zero_()
        for step, (images, labels) in enumerate(self.train_batches.epoch(epoch, (self.group.rank, self.group.size))):
            rate = self.recipe.learning_rate_at(epoch * steps + step, steps)
            watched = self.after_backward is not None  # a graph does not expose gradients
            if watched or self._step is None or not self._step.take(self._gradients, images, labels, rate):
                self._take(network, images, labels, epoch * steps + step, rate)
            if self._average is not None:
                self._average.update_parameters(self.network)
            if self.on_step is not None:
                self.on_step(epoch * steps + step)
        self.group.sum(self._loss)
        mean: float = self._loss.item() / self.train_batches.images
        return mean

    def _take(self, network: nn.Module, images: Tensor, labels: Tensor, step: int, rate: float) -> None:
        """Take a step, counted over the whole training, kernel by kernel."""
        # Gradients are averaged over the processes, so that each weights its parts by its share of the batch.
        whole = self.train_batches.size(step % len(self.train_batches)) / self.group.size
        parts = list(parts_of(images, labels, self.micro_batch or len(labels)))
        for number, (part, classes) in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else unsynchronised(network):
                self._loss += self._backward(network, part, classes, len(classes) / whole) * len(classes)
        if self.after_backward is not None:
            self.after_backward(step)
        self.optimiser.step(rate)

    def _backward(self, network: nn.Module, images: Tensor, labels: Tensor, share: float) -> Tensor:
        """Accumulate the gradients of `share` times the mean loss of these images. Returns the mean cross-entropy."""
        try:
            with autocast(self.device, self.precision):
                logits = network(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise NasError(
                f"a batch norm sees a single value per channel: {counted(len(images), 'image')} at once, of which one pixel is left there; "
                "take a larger --batch-size (or --micro-batch), or images of more pixels"
            ) from error
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        entropy = loss.detach()
        if self._gates:
            loss = loss + computation_loss(self._gates)
        (loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        return entropy

    @contextmanager
    def _randomness(self, epoch: int) -> Iterator[None]:
        """Seed PyTorch's generators for this epoch, and restore their states afterwards."""
        entropy = [self.train_batches.seed, epoch, *([self.group.rank] if self.group.rank else [])]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        on_gpu = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield

    def executed(self) -> Execution | None:
        """What the network in its present state executes on the validation images; None for a static network."""
        if not self._gates:
            return None
        with counting(self.result) as counter:
            evaluate(self.result, self.validation_batches, self.precision, self.micro_batch)
        return counter.execution()

    def state(self) -> dict[str, object]:
        """Network, optimizer and epochs done, as tensors and plain values (`torch.load(weights_only=True)` reads it)."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "done": self.done,
            **({} if self._average is None else {"average": self._average.state_dict()}),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.done = int(state["done"])
        self._step = self._whole_step()  # a captured graph would use the old momenta


def train(
    network: nn.Module, train: BatchSource, validation: BatchSource, recipe: Recipe, precision: str = "fp32"
) -> Iterator[Epoch]:
    """Train `network` in place by `recipe`, yielding each epoch's record as it ends."""
    training = Training(network, train, validation, recipe, precision)
    for _ in range(recipe.epochs):
        yield training.epoch()


def evaluate(
    network: nn.Module,
    batches: BatchSource,
    precision: str = "fp32",
    micro_batch: int | None = None,
    group: Group = ALONE,
) -> tuple[float, float]:
    """Mean cross-entropy (no smoothing) and top-1 accuracy in [0, 1] over all images, in evaluation mode.

    group: processes that share the images; all get the same numbers.
    """
    network.eval()
    device = batches.device
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.inference_mode():
        for batch, targets in batches.epoch(0, (group.rank, group.size)):
            for images, labels in parts_of(batch, targets, micro_batch or len(targets)):
                with autocast(device, precision):
                    logits: Tensor = network(images)
                loss += F.cross_entropy(logits.float(), labels, reduction="sum")
                correct += (logits.argmax(1) == labels).sum()
        group.sum(loss, correct)
        total, right = torch.stack((loss, correct)).tolist()  # one transfer for both
    return total / batches.images, right / batches.images


def parts_of(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch in the fewest parts of at most `size` images, whose sizes differ by at most one; views.

    Of nearly equal sizes, because a small remainder gives batch norms poor statistics, and one value per channel gives none.
    """
    count = len(labels)
    parts = -(-count // max(size, 1))
    for number in range(parts):
        part = slice(count * number // parts, count * (number + 1) // parts)
        yield images[part], labels[part]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast; disabled for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
