"""Lower bound of the time of a training step on a device, from two measured rates.

Arithmetic: each multiply-add of the forward pass has two in the backward pass (gradients of inputs and of weights), with two
operations each: 3 x 2 x MACs x batch / matrix rate. Memory: each activation (an output of a convolution or linear layer) is written
and read in the forward pass and read in the backward pass, where its gradient is written and read: 5 transfers of its bytes x
batch. Each weight, its momentum and its gradient are read and written: 6 transfers of 4 bytes, once a step. Norms, activation functions
and sums are assumed to be fused with these, which no library does completely: this is a lower bound, not a prediction. A device may
compute and transfer at once, so the bound is the longer of the two times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nas.networks.cost import Cost

ACTIVATION_TRANSFERS = 5
WEIGHT_BYTES = 6 * 4
CIFAR = (45_000, 5_000)  # training and validation images of CIFAR-10
PROXY_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of a device per second: operations of large matrix products, bytes read or written by large copies."""

    operations: float
    bytes: float


def floor_seconds(cost: Cost, batch: int, rates: Rates, bytes_each: int) -> float:
    """Minimum seconds of a training step on `batch` images, by the estimate above; bytes_each: bytes of an activation, 2 for bf16."""
    arithmetic = 3 * 2 * cost.macs * batch / rates.operations
    moved = ACTIVATION_TRANSFERS * bytes_each * cost.activations * batch + WEIGHT_BYTES * cost.params
    return max(arithmetic, moved / rates.bytes)


def trials_per_hour(training: float, validation: float) -> float:
    """Proxies of 10 epochs of CIFAR-10 in an hour, for given images/s in training and in validation, without start-up."""
    seconds = PROXY_EPOCHS * (CIFAR[0] / training + CIFAR[1] / validation)
    return 3600 / seconds


def measured_rates(device: torch.device, dtype: torch.dtype, *, repeats: int = 5) -> Rates:
    """Rates of the fastest of some products of square matrices in this arithmetic, and of some copies (on a GPU: side 4096, 256 MiB)."""
    on_gpu = device.type == "cuda"
    side, count = (4096, 1 << 27) if on_gpu else (1024, 1 << 24)
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    product = torch.empty_like(a)
    source = torch.ones(count, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    matrix = _best(lambda: torch.mm(a, b, out=product), device, repeats)
    copying = _best(lambda: target.copy_(source), device, repeats)
    return Rates(2 * side**3 / matrix, 2 * 2 * count / copying)


def _best(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest of some rounds of the work, after one that is not timed."""
    rounds = 20 if device.type == "cuda" else 2
    found = []
    for _ in range(1 + repeats):
        _wait(device)
        begun = time.perf_counter()
        for _ in range(rounds):
            work()
        _wait(device)
        found.append((time.perf_counter() - begun) / rounds)
    return min(found[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
