"""Several trials on one GPU: as many processes as its memory holds, where they train more images a second together.

A thin network leaves most of a GPU idle, since each of its kernels is too short to fill it; a wide one fills it alone, and a
second process only waits. Memory is predicted (`nas.training.memory`), the gain is measured: the same network is trained for a few
seconds by 1, 2, 4 and 8 processes at once, until one of these numbers gains too little over the one before.

Each trial is a process of its own. The probe's processes are children of the process that asks, so that it must own the whole
GPU. Nothing here is bound to CUDA; on a CPU, processes beyond the cores gain nothing and the decision says so.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from nas.data.training_data import TrainingData
from nas.networks.architecture import Architecture
from nas.profiling.throughput import throughput
from nas.spaces.sampling import largest
from nas.spaces.space import SearchSpace
from nas.training.memory import EVALUATED, evaluation_bytes, on_gpu, training_memory
from nas.training.proxy import Proxy
from nas.training.recipe import PRECISIONS, Recipe

SIZES = (1, 2, 4, 8)  # trials on one GPU that are tried
GAIN = 1.1  # by which more trials at once must raise the images a second, to be worth their shares of cores and memory
SAMPLES = 200  # networks of the space that the largest is looked for among


@dataclass(frozen=True, slots=True)
class Packing:
    """How many trials share a GPU, and why: the record in `run.yaml`.

    fits: as many as the GPU's memory, the cores or the workers allow. images_per_second: of all processes together, by their
    number. trial_bytes: predicted for the largest network, with the allowances of `nas.training.memory.on_gpu`.
    """

    trials_per_gpu: int = 1
    fits: int = 1
    trial_bytes: int = 0
    device_bytes: int = 0
    device: str = ""
    images_per_second: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def gpus_per_trial(self) -> float:
        return 1 / self.trials_per_gpu

    def __str__(self) -> str:
        each = f"{self.trials_per_gpu} trial{'s' if self.trials_per_gpu > 1 else ''} on each GPU"
        return f"{each}: {self.reason}" if self.reason else each

    def to_dict(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        return {**data, "images_per_second": {int(k): float(rate) for k, rate in self.images_per_second.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{each.name: data[each.name] for each in dataclasses.fields(cls) if each.name in data})


@dataclass(frozen=True, slots=True)
class Question:
    """What a worker is asked that owns a GPU: plain data, so that it travels.

    architecture: the network that is timed. trial_bytes: by precision, of the largest one's tensors and the images, before
    allowances.
    most: trials on one GPU that cores and workers allow. threads: of all processes of the probe together.
    """

    architecture: Mapping[str, Any]
    trial_bytes: Mapping[str, int]
    batch_size: int
    device: str = "auto"
    precision: str = "auto"
    most: int = SIZES[-1]
    threads: int = 1


def trial_bytes(
    architectures: Sequence[Architecture], recipe: Recipe, precision: str, image_bytes: int, validation_images: int
) -> int:
    """Bytes of tensors of the largest of these trials: its step or its validation, and the images beside them."""
    ema, batch = bool(recipe.ema), recipe.batch_size
    evaluated = min(EVALUATED * batch, validation_images)
    return image_bytes + max(
        max(training_memory(a, batch, precision, ema=ema).total, evaluation_bytes(a, evaluated, precision, ema=ema))
        for a in architectures
    )


def candidates(space: SearchSpace, proxy: Proxy, seed: int = 0) -> list[Architecture]:
    """Networks as they are trained, by activations: samples within the budget, and behind them the largest that is found."""
    rng = random.Random(seed)
    chosen = [space.sample(rng.randrange(1 << 30)) for _ in range(SAMPLES)]
    chosen.sort(key=lambda choices: space.cost(choices).activations)
    chosen.append(largest(space, chosen[-1], "activations", rng))
    return [proxy.of(space.architecture(choices)) for choices in chosen]


def question(
    found: Sequence[Architecture], recipe: Recipe, data: TrainingData, device: str, precision: str, most: int
) -> Question:
    """What a worker is to answer for a search among networks like these, `candidates`, on these images.

    Memory is predicted in each precision: which of them `auto` is depends on the GPU.
    """
    return Question(
        found[len(found) // 2].to_dict(),
        {name: trial_bytes(found, recipe, name, data.x.nbytes, len(data.validation_index)) for name in PRECISIONS},
        recipe.batch_size,
        device,
        precision,
        most,
        most,
    )


def how_many_fit(each: int, device_bytes: int, most: int = SIZES[-1]) -> int:
    """How many trials of so many bytes a device of so many holds; at least one, which then works in micro-batches."""
    return max(1, min(device_bytes // max(each, 1), most))


def decided(measure: Callable[[int], float], fits: int) -> tuple[int, dict[int, float]]:
    """The number of processes to take, and the images a second of each number that was tried, 0 where it failed.

    One number after another up to `fits`: each must gain `GAIN` over the one before, or the climb ends there.
    """
    rates = {1: measure(1)}
    best = 1
    for size in SIZES[1:]:
        if size > fits or not rates[best]:
            break
        rates[size] = measure(size)
        if rates[size] < GAIN * rates[best]:
            break
        best = size
    return best, rates


def measured(question: Question) -> Packing:
    """The answer by this process's own device, all of which must be free for it."""
    import torch

    from nas.training.trainer import pick_device, pick_precision
    from nas.training.workspace import device_name

    architecture = Architecture.from_dict(question.architecture)
    device = pick_device(question.device)
    if device.type == "cpu" and question.device == "auto":
        return Packing(reason="the worker that owns a GPU sees none")
    cuda = device.type == "cuda"
    memory = torch.cuda.mem_get_info(device)[1] if cuda else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    precision = pick_precision(question.precision, device, architecture)
    tensors = question.trial_bytes[precision]
    each = on_gpu(tensors) if cuda else tensors
    fits = how_many_fit(each, memory, min(question.most, SIZES[-1]))
    known = Packing(1, fits, each, memory, device_name(device))
    if fits < SIZES[1]:
        why = "its memory holds no second one" if each * 2 > memory else "there are cores or workers for no more"
        return dataclasses.replace(known, reason=why)

    def rate(processes: int) -> float:
        return throughput(
            architecture,
            processes,
            question.batch_size,
            device=str(device),
            precision=precision,
            threads=max(1, question.threads // processes),
        )

    size, rates = decided(rate, fits)
    if not rates[1]:
        return dataclasses.replace(known, images_per_second=rates, reason="the probe failed")
    said = ", ".join(f"{k}: {found:,.0f}" for k, found in rates.items())
    reason = f"images/s by trials at once {said}; {fits} fit"
    return dataclasses.replace(known, trials_per_gpu=size, images_per_second=rates, reason=reason)
