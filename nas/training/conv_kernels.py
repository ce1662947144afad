"""Which of several equivalent implementations of an operation a device uses; the fastest is measured.

On CPUs, bf16 convolutions in narrow groups take up to ten times as long as dense ones with as many multiply-adds. Groups can
be merged: a block-diagonal dense kernel over several groups gives the same sums. The gain depends on the processor, so it is
measured once and recorded with the run; a resumed run keeps the choice.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas.networks.blocks.modules import GroupedConv2d

MERGED = (0, 16, 32, 64)  # numbers of channels that are tried
GAIN = 1.1  # least speedup over the plain form: smaller ones may be noise
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Engine:
    """How operations are computed. Weights, gradients and results are the same up to rounding.

    grouped, depthwise: channels up to which the groups of a bf16 convolution are merged (depthwise: groups of one channel);
    0 merges none. graphs: whether a training step is one CUDA graph where possible (`nas.training.cuda_graphs`). benchmark:
    whether cuDNN chooses among its deterministic kernels by timing them.
    """

    grouped: int = 0
    depthwise: int = 0
    graphs: bool = False
    benchmark: bool = False

    def prepare(self, network: nn.Module, precision: str) -> None:
        """Set the form of each grouped convolution of the network, in place."""
        for module in network.modules():
            if isinstance(module, GroupedConv2d):
                channels = self.depthwise if module.weight.shape[1] == 1 else self.grouped
                module.merge_to(channels if precision == "bf16" else 0)

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Engine:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})


def probe(device: torch.device, precision: str) -> Engine:
    """The fastest merging of groups on this device in this precision, by timing a few layers: about two seconds on a CPU.

    Nothing is timed on GPUs, whose libraries have grouped kernels, nor in fp32, where merging gains nothing.
    """
    if device.type != "cpu" or precision != "bf16":
        return Engine()
    return Engine(
        grouped=_fastest(lambda: [GroupedConv2d(64, 64, 3, 1, 1, 8), GroupedConv2d(128, 128, 3, 2, 1, 16)]),
        depthwise=_fastest(lambda: [GroupedConv2d(64, 64, 3, 2, 1, 64), GroupedConv2d(96, 96, 5, 1, 2, 96)]),
    )


def _fastest(make: Callable[[], list[GroupedConv2d]]) -> int:
    """The number of channels, of `MERGED`, with which these layers train fastest in total."""
    with torch.random.fork_rng(devices=[]):
        layers = make()
        inputs = [torch.randn(16, layer.in_channels, 16, 16).to(torch.bfloat16) for layer in layers]
    seconds = dict.fromkeys(MERGED, 0.0)
    for layer, image in zip(layers, inputs, strict=True):
        x = image.contiguous(memory_format=torch.channels_last).requires_grad_()
        layer.to(memory_format=torch.channels_last)
        for channels in MERGED:
            layer.merge_to(channels)
            seconds[channels] += min(_timed(layer, x) for _ in range(1 + REPEATS))
    best = min(seconds, key=lambda channels: seconds[channels])
    return best if seconds[best] * GAIN < seconds[0] else 0


def _timed(layer: nn.Module, x: torch.Tensor) -> float:
    begun = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.backward(torch.ones_like(y))
    return time.perf_counter() - begun
