"""The engine that is the fastest on a device: forms of operations by timing layers (`nas.training.conv_kernels`), the rest by short
trainings.

A step as one CUDA graph is chosen only where it gives the weights that single kernels give, up to rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas.data.batches import Augment, Batches
from nas.networks import zoo
from nas.networks.build import build
from nas.training.conv_kernels import GAIN, Engine, probe
from nas.training.cuda_graphs import WARM
from nas.training.recipe import Recipe
from nas.training.trainer import Training, fast_precision

NETWORK = "resnet20"  # thin and deep enough that a GPU waits for the host
CLASSES = 10
STEPS = 4 * WARM  # an epoch
EPOCHS = 4
TOLERANCE = 0.01  # of the length of the weights' change; bf16 rounds to 0.004 of a number


@dataclass(frozen=True, slots=True)
class Short:
    """A short training: the weights' change in its first epoch, images/s of the fastest later one, `Training.singly`."""

    change: Tensor
    speed: float
    singly: str = ""


def probe_engine(device: torch.device, precision: str, resolution: int, *, repeatable: bool = True) -> Engine:
    """The fastest engine here for networks of this resolution in pixels; precision as in `pick_precision`.

    repeatable: nothing that lets a training, repeated or gone on with by another process, differ by rounding.
    """
    precision = fast_precision(device, resolution) if precision == "auto" else precision
    engine = probe(device, precision)
    if device.type != "cuda":
        return engine
    return choose(engine, lambda tried: short_training(tried, device, precision, resolution), repeatable=repeatable)


def choose(plain: Engine, train: Callable[[Engine], Short], *, repeatable: bool) -> Engine:
    """`plain`, with those of cuDNN's benchmark and graphs that make a short training faster; what raises is left out."""
    best = plain
    with suppress(Exception):  # whatever it is that doesn't work here: it is not needed
        reference = train(plain)
        for option in ("graphs",) if repeatable else ("benchmark", "graphs"):
            tried = dataclasses.replace(best, **{option: True})
            with suppress(Exception):
                found = train(tried)
                if better(found, reference):
                    best, reference = tried, found
    return best


def better(found: Short, reference: Short) -> bool:
    """Whether it is the same training, up to rounding, and enough faster."""
    away = (found.change - reference.change).norm() / reference.change.norm()
    return not found.singly and float(away) <= TOLERANCE and found.speed >= GAIN * reference.speed


def short_training(engine: Engine, device: torch.device, precision: str, resolution: int, steps: int = STEPS) -> Short:
    """A few steps of a small network by this engine, on images made at random; rates differ from step to step."""
    size = 128 if resolution <= 64 else 32
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (steps * size, resolution, resolution, 3), np.uint8)
    batches = Batches(
        x, random.integers(0, CLASSES, len(x)), mean=(0.5,) * 3, std=(0.25,) * 3, batch_size=size, device=device,
        augment=Augment(resolution // 8, flip=True), drop_last=True,
    )  # fmt: skip
    few = Batches(x[:size], np.zeros(size, np.int64), mean=(0.5,) * 3, std=(0.25,) * 3, batch_size=size, device=device)
    network = build(zoo.get(NETWORK).adapted(classes=CLASSES, resolution=resolution, channels=3), seed=0)
    recipe = Recipe(epochs=EPOCHS, batch_size=size, learning_rate=0.01, warmup_epochs=1.0)
    with cudnn(engine):
        training = Training(network, batches, few, recipe, precision, engine=engine)
        before = _flat(network)
        training.epoch()
        change = _flat(network) - before
        speed = max(training.epoch().images_per_second for _ in range(EPOCHS - 1))
    return Short(change, speed, training.singly)


@contextmanager
def cudnn(engine: Engine) -> Iterator[None]:
    """cuDNN as the engine has it; behind it as it was."""
    flags = torch.backends.cudnn
    before = flags.deterministic, flags.benchmark
    flags.deterministic, flags.benchmark = True, engine.benchmark
    try:
        yield
    finally:
        flags.deterministic, flags.benchmark = before


def _flat(network: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().double().cpu().reshape(-1) for parameter in network.parameters()])
