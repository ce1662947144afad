"""The fastest engine of a device: merged convolutions by timing layers (`nas.training.conv_kernels`), the rest by short trainings.

CUDA graphs are chosen only if they give the same weights as single kernels, up to rounding.
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

NETWORK = "resnet20"  # so thin and deep that a GPU waits for the host
CLASSES = 10
STEPS = 4 * WARM  # per epoch
EPOCHS = 4
TOLERANCE = 0.01  # relative to the norm of the weights' change; bf16 has a relative rounding error of 0.004


@dataclass(frozen=True, slots=True)
class Short:
    """A short training: the weights' change in its first epoch, images/s of its fastest later epoch, and `Training.singly`."""

    change: Tensor
    speed: float
    singly: str = ""


def probe_engine(device: torch.device, precision: str, resolution: int, *, repeatable: bool = True) -> Engine:
    """The fastest engine of this device for networks of this resolution in pixels; precision as in `pick_precision`.

    repeatable: leave out options with which a repeated or resumed training may differ by rounding.
    """
    precision = fast_precision(device, resolution) if precision == "auto" else precision
    engine = probe(device, precision)
    if device.type != "cuda":
        return engine
    return choose(engine, lambda tried: short_training(tried, device, precision, resolution), repeatable=repeatable)


def choose(plain: Engine, train: Callable[[Engine], Short], *, repeatable: bool) -> Engine:
    """`plain`, with cuDNN's benchmark and graphs if they make a short training faster; options that raise are left out."""
    best = plain
    with suppress(Exception):  # the faster forms are optional, whatever fails
        reference = train(plain)
        for option in ("graphs",) if repeatable else ("benchmark", "graphs"):
            tried = dataclasses.replace(best, **{option: True})
            with suppress(Exception):
                measured = train(tried)
                if better(measured, reference):
                    best, reference = tried, measured
    return best


def better(measured: Short, reference: Short) -> bool:
    """Whether it is the same training, up to rounding, and enough faster."""
    away = (measured.change - reference.change).norm() / reference.change.norm()
    return not measured.singly and float(away) <= TOLERANCE and measured.speed >= GAIN * reference.speed


def short_training(engine: Engine, device: torch.device, precision: str, resolution: int, steps: int = STEPS) -> Short:
    """Train a small network with this engine for a few steps, on random images, with a learning rate that changes every step."""
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
    """Set cuDNN as the engine has it, and restore it afterwards."""
    flags = torch.backends.cudnn
    before = flags.deterministic, flags.benchmark
    flags.deterministic, flags.benchmark = True, engine.benchmark
    try:
        yield
    finally:
        flags.deterministic, flags.benchmark = before


def _flat(network: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().double().cpu().reshape(-1) for parameter in network.parameters()])
