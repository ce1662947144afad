"""The least time that a training step can take on a device, from two rates that are measured there.

Arithmetic: a multiply-add of the forward pass comes with two of the backward pass (gradients of inputs and of weights), each two
operations: 3 x 2 x MACs x batch / matrix rate. Memory: each activation (an output of a convolution or linear layer) is written
and read in the forward pass and read in the backward pass, where its gradient is written and read: 5 transfers of its bytes x
batch; each weight and its momentum are read and written, and its gradient too: 6 of 4 bytes, once a step. Norms, activations
and sums are thought fused into these, as no library does wholly: it is a floor, not a forecast. The longer of the two counts,
since a device may do both at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nas.networks.cost import Cost

ACTIVATION_TRANSFERS = 5
WEIGHT_BYTES = 6 * 4
CIFAR = (45_000, 5_000)  # images of CIFAR-10 that are trained on, and validated on
PROXY_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does a second: operations of large matrix products, bytes read or written by large copies."""

    operations: float
    bytes: float


def floor_seconds(cost: Cost, batch: int, rates: Rates, bytes_each: int) -> float:
    """Least seconds of a training step on `batch` images, by the estimate above; bytes_each: of an activation, 2 for bf16."""
    arithmetic = 3 * 2 * cost.macs * batch / rates.operations
    moved = ACTIVATION_TRANSFERS * bytes_each * cost.activations * batch + WEIGHT_BYTES * cost.params
    return max(arithmetic, moved / rates.bytes)


def trials_per_hour(training: float, validation: float) -> float:
    """Proxies of 10 epochs of CIFAR-10 in an hour, at so many images/s in training and in validation; start-up left out."""
    seconds = PROXY_EPOCHS * (CIFAR[0] / training + CIFAR[1] / validation)
    return 3600 / seconds


def measured_rates(device: torch.device, dtype: torch.dtype, *, repeats: int = 5) -> Rates:
    """The best of some products of square matrices in this arithmetic, and of some copies: of 4096 and 256 MiB on a GPU."""
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
    """Seconds of the fastest of some rounds of the work, behind one that is not timed."""
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
