"""What a search is asked, and what is wrong with that: found before data are read, a folder is made, or Ray is started."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas import limits
from nas.budget import Budget
from nas.errors import UsageError
from nas.execution import AUTO
from nas.latency import Conditions
from nas.latency.meter import check as check_latency
from nas.pareto import Objective
from nas.pareto import objectives as parse_objectives
from nas.proxy import Proxy
from nas.recipe import BASE_BATCH, DECAYS, PRECISIONS, PROXY_EPOCHS, Recipe
from nas.records import LATENCY
from nas.run_folder import chosen_folder
from nas.samplers import SAMPLERS
from nas.space import load_space
from nas.stopping import Policy

EXECUTORS = ("ray", "local")
LARGEST_SEED = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Request:
    """What `nas search` was asked for. None means: chosen from the data or the machine."""

    space: str = "resnext"
    overrides: Mapping[str, object] = field(
        default_factory=dict
    )  # lines laid over the space's: {"stage*.block": "basic"}
    trials: int = 50
    dataset: str = "digits"
    objectives: str = "accuracy,params,macs"
    sampler: str = "known-cost"
    budget: Budget = field(default_factory=Budget)
    epochs: int = PROXY_EPOCHS
    batch_size: int | None = None
    learning_rate: float | None = None
    resolution: int | None = None  # pixels
    max_images: int | None = None
    skip_corrupt: bool = False
    data_root: Path | None = None
    download: bool = False
    decay: str = DECAYS[0]
    ema: float = 0.0
    cutout: int = 0
    randaugment: int = 0
    proxy_resolution: int | None = None
    proxy_width: float = 1.0
    train_fraction: float = 1.0
    stopping: str = "none"  # `nas.stopping.Policy.parse`
    hours: float | None = None  # of wall time that the search may take; or of GPUs, all together
    gpu_hours: float | None = None
    free: tuple[str, ...] = ()  # which of `trials` and `epochs` the hours decide (`nas.planning`)
    max_latency_ms: float | None = None
    latency_device: str = "cpu"
    latency_batch: int = 1
    latency_threads: int | None = 1
    seed: int = 0
    baselines: tuple[str, ...] = ()
    executor: str = "ray"
    workers: int = 0
    cpus_per_trial: float | None = None
    gpus_per_trial: float | str | None = None  # a number or "auto" (`nas.packing`), which None is where there are GPUs
    address: str | None = None
    storage: str | None = None  # URL of the study's database; None: the journal in the run's folder
    trial_timeout: float | None = None  # seconds that one attempt at a trial may take
    record_gradients: bool = False  # norms by layer of each trial (`nas.flow`)
    device: str = "auto"
    precision: str = "auto"
    out: Path | None = None
    command: str = ""


def check(request: Request) -> tuple[Path, tuple[Objective, ...], Proxy]:
    """UsageError for what is wrong with a request and can be known without its data; the run's folder, objectives and proxy."""
    check_trials(request.trials)
    if not 0 <= request.seed <= LARGEST_SEED:
        raise UsageError(f"--seed {request.seed}: a whole number from 0 to {LARGEST_SEED:,}")
    if request.executor not in EXECUTORS:
        raise UsageError(f"unknown executor {request.executor!r}; known: {', '.join(EXECUTORS)}")
    SAMPLERS.find(request.sampler)
    Policy.parse(request.stopping)
    check_asked({**dataclasses.asdict(request), "kind": request.executor})
    _check_hours(request)
    if request.precision not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision {request.precision}: known are auto, {', '.join(PRECISIONS)}")
    batch_size = BASE_BATCH if request.batch_size is None else request.batch_size
    Recipe.of(request.epochs, batch_size, request.learning_rate, **recipe_options(request))
    objectives = parse_objectives(request.objectives)
    proxy = Proxy(request.proxy_resolution, request.proxy_width, request.train_fraction)
    load_space(request.space, overrides=request.overrides)
    folder = chosen_folder(request.out, request.space, request.dataset)
    _check_device(request)
    latency_asked(request, objectives)
    return folder, objectives, proxy


def recipe_options(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("decay", "ema", "cutout", "randaugment")}


def check_trials(trials: int) -> None:
    if trials < 1:
        raise UsageError(f"--trials {trials}: at least one")
    if trials > limits.TRIALS:
        raise UsageError(f"--trials {trials}: at most {limits.TRIALS:,}")


def check_asked(asked: Mapping[str, Any]) -> None:
    if (workers := asked.get("workers")) is not None and workers > limits.WORKERS:
        raise UsageError(f"--workers {workers}: at most {limits.WORKERS:,}")
    if asked["kind"] == "local" and asked.get("address"):
        raise UsageError(
            f"--address {asked['address']}: the local executor uses no cluster; leave it out, or say --executor ray"
        )
    for name, least in (("workers", 0), ("cpus_per_trial", 0.01), ("gpus_per_trial", 0), ("trial_timeout", 0.1)):
        value = asked.get(name)
        if name == "gpus_per_trial" and value == AUTO:
            continue
        if isinstance(value, str):
            raise UsageError(
                f"--{name.replace('_', '-')} {value}: a number{' or auto' if name.startswith('gpus') else ''}"
            )
        if value is not None and not (math.isfinite(value) and value >= least):
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: must be at least {least:g}")


def _check_hours(request: Request) -> None:
    given = {"--hours": request.hours, "--gpu-hours": request.gpu_hours}
    if None not in given.values():
        raise UsageError(f"{' and '.join(given)}: one of them")
    for option, hours in given.items():
        if hours is not None and not 0 < hours < math.inf:
            raise UsageError(f"{option} {hours:g}: a number above 0")


def latency_asked(request: Request, objectives: tuple[Objective, ...]) -> dict[str, Any]:
    """What latencies are measured under, where they are asked for; UsageError if they can't be, here and so."""
    if request.max_latency_ms is not None and not 0 < request.max_latency_ms < math.inf:
        raise UsageError(f"--max-latency-ms {request.max_latency_ms:g}: a number above 0")
    if request.max_latency_ms is None and LATENCY not in {own.name for own in objectives}:
        return {}
    conditions = Conditions(request.latency_device, request.latency_batch, request.latency_threads)
    if conditions.device != "cpu":
        check_latency(conditions)
    return {**dataclasses.asdict(conditions), "max_ms": request.max_latency_ms}


def _check_device(request: Request) -> None:
    """UsageError for a device that can't be used here; a cluster is asked when it is joined."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", request.device):
        raise UsageError(f"--device {request.device}: known are auto, cpu, cuda, cuda:N and mps")
    if request.device in ("auto", "cpu"):
        return
    if request.executor == "ray":
        from nas import cluster

        if request.address or cluster.connected():
            return
    from nas.train import pick_device  # imports torch

    pick_device(request.device)
