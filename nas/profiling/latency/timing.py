"""Timing of networks with interleaved repeats: load on the machine affects all networks equally, and a reference measures it.

Each round runs every network once and starts with a different one. A repeat during which the system preempted the process (an
involuntary context switch, which Unix counts) does not reflect the network: it is left out if enough others remain. The median
of the rest is the latency, their interquartile range the spread.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.networks.cost import Shape
from nas.profiling.latency._base import Conditions, Latency
from nas.utils import forks
from nas.utils.limits import limit_threads

SECONDS = 1.0  # of timing for each network
WARM_SECONDS, WARM_REPEATS = 0.1, 3  # of warm-up
LEAST, MOST = 7, 500  # repeats
UNDISTURBED = 5  # repeats that must remain if the disturbed ones are left out
REFERENCE = "resnet20"
POWER_SECONDS = 1.0  # over which a device's power is averaged


@dataclass(frozen=True, slots=True)
class Repeat:
    """Milliseconds of one run, and whether the system preempted it."""

    ms: float
    disturbed: bool = False


Call = Callable[[], object]
Timer = Callable[[Call], Repeat]


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and interquartile range in ms of the repeats that count, their number, and the number of repeats left out."""

    median: float
    spread: float
    repeats: int
    disturbed: int

    @classmethod
    def of(cls, timed: Sequence[Repeat]) -> Summary:
        kept = [repeat.ms for repeat in timed if not repeat.disturbed]
        disturbed = len(timed) - len(kept)
        if len(kept) < min(UNDISTURBED, len(timed)):
            kept = [repeat.ms for repeat in timed]
        low, _, high = statistics.quantiles(kept, n=4, method="inclusive") if len(kept) > 1 else (kept[0],) * 3
        return cls(statistics.median(kept), high - low, len(kept), disturbed)


def interleaved(
    calls: Sequence[Call],
    timer: Timer,
    *,
    seconds: float = SECONDS,
    least: int = LEAST,
    most: int = MOST,
    warm_seconds: float = WARM_SECONDS,
    pause: float = 0.0,
) -> list[list[Repeat]]:
    """Repeats of each call, in rounds of one repeat of every call, for `seconds` per call; from `least` to `most` rounds.

    pause: seconds before each repeat, for calls of different runtimes, whose idle threads keep spinning for a while.
    """
    for call in calls:
        _warm(call, timer, warm_seconds)
    repeats: list[list[Repeat]] = [[] for _ in calls]
    spent = 0.0
    for number in range(most):
        if number >= least and spent >= 1000 * seconds * len(calls):
            break
        for place in range(len(calls)):
            place = (place + number) % len(calls)
            if pause:
                time.sleep(pause)
            repeats[place].append(timer(calls[place]))
            spent += repeats[place][-1].ms
    return repeats


def _warm(call: Call, timer: Timer, seconds: float) -> None:
    spent, number = 0.0, 0
    while number < WARM_REPEATS or spent < 1000 * seconds:
        spent, number = spent + max(timer(call).ms, 0.01), number + 1


def host_timer(call: Call) -> Repeat:
    """Time one run on the CPU."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    begun = time.perf_counter()
    call()
    ms = 1000 * (time.perf_counter() - begun)
    return Repeat(ms, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before)


class CudaTimer:
    """Times one run on a GPU, between two events of its stream; launch overhead counts where the GPU waits for the host."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, call: Call) -> Repeat:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with torch.cuda.device(self.device):
            torch.cuda.synchronize()
            begin.record()
            call()
            end.record()
            end.synchronize()
        return Repeat(begin.elapsed_time(end))


@contextmanager
def prepared(conditions: Conditions) -> Iterator[tuple[torch.device, Timer]]:
    """The device and its timer. The number of threads is set within the block and restored after it. UsageError without the device."""
    forks.check()
    device = torch.device(conditions.device)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UsageError(f"latency on {conditions.device}: this machine has no such GPU")
    before = torch.get_num_threads()
    limit_threads(conditions.threads)
    try:
        yield device, CudaTimer(device) if device.type == "cuda" else host_timer
    finally:
        torch.set_num_threads(before)


def forward(network: nn.Module, shape: Shape, batch: int, device: torch.device) -> Call:
    """A call that runs a module in evaluation mode on a batch of random images or features of this shape."""
    network = network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=generator).to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> object:
        return network(x)

    return run


def reference_network() -> Architecture:
    """The network whose repeats measure the noise of the machine: narrow, and with a latency of a few milliseconds."""
    return zoo.get(REFERENCE)


def measured(
    architectures: Sequence[Architecture],
    conditions: Conditions,
    resolution: int | None = None,
    reference: Architecture | None = None,
    *,
    quiet_ms: float | None = None,
    energy: bool = True,
    **timing: Any,
) -> list[Latency]:
    """Latencies of networks, interleaved with a reference (`reference_network` if none is given).

    quiet_ms: the reference's median on the quiet machine; with it, the latencies are scaled to that machine. Weights and images
    are random. A network's time does not depend on them, except for the gates of dynamic networks, which are open or closed at
    random. timing: keywords of `interleaved`.
    """
    with prepared(conditions) as (device, timer):
        calls = [_call(architecture, conditions, resolution, device) for architecture in architectures]
        sides = [resolution or architecture.resolution for architecture in architectures]
        latencies = with_reference(reference, calls, sides, conditions, device, timer, quiet_ms=quiet_ms, **timing)
        if not energy:
            return latencies
        return [
            dataclasses.replace(latency, energy_mj=energy_mj(call, device))
            for latency, call in zip(latencies, calls, strict=True)
        ]


def with_reference(
    reference: Architecture | None,
    calls: Sequence[Call],
    sides: Sequence[int],
    conditions: Conditions,
    device: torch.device,
    timer: Timer,
    *,
    quiet_ms: float | None = None,
    **timing: Any,
) -> list[Latency]:
    """Latencies of calls on images or features with these sides in pixels, interleaved with those of the reference."""
    last = _call(reference or reference_network(), conditions, None, device)
    *summaries, between = [Summary.of(repeats) for repeats in interleaved([*calls, last], timer, **timing)]
    latencies = [
        Latency(
            median_ms=summary.median,
            spread_ms=summary.spread,
            repeats=summary.repeats,
            disturbed=summary.disturbed,
            noise=between.spread / between.median,
            device=product_name(device),
            batch=conditions.batch,
            threads=torch.get_num_threads(),
            resolution=side,
            torch=torch.__version__,
        )
        for summary, side in zip(summaries, sides, strict=True)
    ]
    return latencies if quiet_ms is None else [each.relative_to(between.median, quiet_ms) for each in latencies]


def _call(architecture: Architecture, conditions: Conditions, resolution: int | None, device: torch.device) -> Call:
    side = resolution or architecture.resolution
    shape = Shape(architecture.channels, side, side)
    return forward(build(architecture, seed=0), shape, conditions.batch, device)


def energy_mj(call: Call, device: torch.device) -> float | None:
    """Millijoules of one call: the device's mean power over a second of calls, times the seconds of one call.

    Power is read from the GPU's meter through NVML (`torch.cuda.power_draw`); None for a CPU, or without NVML or its package.
    """
    if device.type != "cuda":
        return None
    try:
        watts = [torch.cuda.power_draw(device) / 1000]
    except Exception:  # of many types, depending on what is missing
        return None
    begun, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < POWER_SECONDS or len(watts) < 5:
        call()
        calls += 1
        if spent > POWER_SECONDS * len(watts) / 20:
            torch.cuda.synchronize(device)
            watts.append(torch.cuda.power_draw(device) / 1000)
    torch.cuda.synchronize(device)
    return 1000 * statistics.mean(watts[1:]) * (time.perf_counter() - begun) / calls


def product_name(device: torch.device) -> str:
    """The product name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() in ("model name", "Hardware", "cpu model"):
                return " ".join(line.partition(":")[2].split()) or "cpu"
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine() or "cpu"
