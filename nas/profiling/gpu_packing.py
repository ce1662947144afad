"""Decide how many trials share one GPU: as many as its memory holds, as long as more trials increase the total throughput.

A narrow network leaves most of a GPU idle, because its kernels are too small to fill it. A wide one fills it, and a second
process only waits. Memory is predicted (`nas.training.memory`) and throughput is measured: the same network is trained for a few
seconds by 1, 2, 4 and 8 processes at once, until the next number gains too little over the one before.

Each trial is a separate process. The processes of the probe are children of the calling process, which must own the whole GPU.
Nothing here depends on CUDA; on a CPU, more processes than cores gain nothing, and the probe finds this out.
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

SIZES = (1, 2, 4, 8)  # numbers of trials on one GPU that are tried
GAIN = 1.1  # least factor in images a second that justifies the next number of trials
SAMPLES = 200  # random networks of the space, from which the search for the largest starts


@dataclass(frozen=True, slots=True)
class Packing:
    """How many trials share a GPU, with the reason: the record in `run.yaml`.

    fits: the largest number that the GPU's memory, the cores and the workers allow. images_per_second: total throughput by the
    number of processes. trial_bytes: predicted for the largest network, with the allowances of `nas.training.memory.on_gpu`.
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

    def to_dict(self) -> dict[str, object]:
        data = dataclasses.asdict(self)
        return {**data, "images_per_second": {int(k): float(rate) for k, rate in self.images_per_second.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{each.name: data[each.name] for each in dataclasses.fields(cls) if each.name in data})


@dataclass(frozen=True, slots=True)
class Question:
    """The task of a worker that owns a GPU, as plain data, so that it can be sent.

    architecture: the network that is timed. trial_bytes: by precision, bytes of the largest network's tensors and of the images,
    without allowances. most: trials on one GPU that cores and workers allow. threads: total of all processes of the probe.
    """

    architecture: Mapping[str, object]
    trial_bytes: Mapping[str, int]
    batch_size: int
    device: str = "auto"
    precision: str = "auto"
    most: int = SIZES[-1]
    threads: int = 1


def trial_bytes(
    architectures: Sequence[Architecture], recipe: Recipe, precision: str, image_bytes: int, validation_images: int
) -> int:
    """Bytes of tensors of the largest of these trials: its training step or its validation, whichever is larger, and the images."""
    ema, batch = bool(recipe.ema), recipe.batch_size
    evaluated = min(EVALUATED * batch, validation_images)
    return image_bytes + max(
        max(training_memory(a, batch, precision, ema=ema).total, evaluation_bytes(a, evaluated, precision, ema=ema))
        for a in architectures
    )


def candidates(space: SearchSpace, proxy: Proxy, seed: int = 0) -> list[Architecture]:
    """Networks as they are trained, by ascending activations: random ones within the budget, then the largest one found."""
    rng = random.Random(seed)
    chosen = [space.sample(rng.randrange(1 << 30)) for _ in range(SAMPLES)]
    chosen.sort(key=lambda choices: space.cost(choices).activations)
    chosen.append(largest(space, chosen[-1], "activations", rng))
    return [proxy.of(space.architecture(choices)) for choices in chosen]


def question(
    networks: Sequence[Architecture], recipe: Recipe, data: TrainingData, device: str, precision: str, most: int
) -> Question:
    """The task for a worker, for a search among `networks`, the result of `candidates`, on these images.

    Memory is predicted in each precision, because the GPU decides which one `auto` means.
    """
    return Question(
        networks[len(networks) // 2].to_dict(),
        {name: trial_bytes(networks, recipe, name, data.x.nbytes, len(data.validation_index)) for name in PRECISIONS},
        recipe.batch_size,
        device,
        precision,
        most,
        most,
    )


def how_many_fit(each: int, device_bytes: int, most: int = SIZES[-1]) -> int:
    """How many trials of `each` bytes a device holds, at most `most`; at least one, which then uses micro-batches."""
    return max(1, min(device_bytes // max(each, 1), most))


def decided(measure: Callable[[int], float], fits: int) -> tuple[int, dict[int, float]]:
    """The best number of processes, and images a second by the numbers that were tried; 0 for one that failed.

    Numbers are tried in ascending order up to `fits`, until one is not faster than the one before by the factor `GAIN`.
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
    """The answer, measured on this process's own device, which must not be in use by others."""
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
    listed = ", ".join(f"{number}: {rate_of:,.0f}" for number, rate_of in rates.items())
    reason = f"images/s by trials at once {listed}; {fits} fit"
    return dataclasses.replace(known, trials_per_gpu=size, images_per_second=rates, reason=reason)
