"""What a search is asked, and what is wrong with that: found before data are read, a folder is made, or Ray is started."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from nas.errors import UsageError
from nas.execution.executor import AUTO
from nas.pareto.objectives import Objective, parse_objectives
from nas.profiling.latency import Conditions
from nas.profiling.latency.meter import check as check_latency
from nas.runs.folder import chosen_folder
from nas.runs.records import LATENCY
from nas.samplers import SAMPLERS
from nas.spaces.budget import METRICS, Budget
from nas.spaces.space import SearchSpace, load_space
from nas.stopping.policies import Policy
from nas.training.proxy import Proxy
from nas.training.recipe import BASE_BATCH, DECAYS, PRECISIONS, PROXY_EPOCHS, Recipe
from nas.utils import forks, limits
from nas.utils.extensions import lasting, load, used
from nas.utils.registry import did_you_mean

EXECUTORS = ("ray", "local")
LARGEST_SEED = (1 << 31) - 1
# What a run may be given in place of its settings when it goes on.
GOING_ON = ("executor", "workers", "cpus_per_trial", "gpus_per_trial", "address", "trial_timeout")


@dataclass(frozen=True, slots=True)
class Request:
    """What `nas search` was asked for. None means: chosen from the data or the machine.

    The fields are the command's options: `nas search --help` says what each does. `space` may also be a `SearchSpace`, with its budget.
    """

    space: str | Path | SearchSpace = "resnext"
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
    data_root: str | Path | None = None
    download: bool = False
    decay: str = DECAYS[0]
    ema: float = 0.0
    cutout: int = 0
    randaugment: int = 0
    proxy_resolution: int | None = None
    proxy_width: float = 1.0
    train_fraction: float = 1.0
    stopping: str = "none"  # `nas.stopping.policies.Policy.parse`
    hours: float | None = None  # of wall time that the search may take; or of GPUs, all together
    gpu_hours: float | None = None
    free: tuple[str, ...] = ()  # which of `trials` and `epochs` the hours decide (`nas.profiling.time_plan`)
    max_latency_ms: float | None = None
    latency_device: str = "cpu"
    latency_batch: int = 1
    latency_threads: int | None = 1
    seed: int = 0
    baselines: tuple[str, ...] = ()
    executor: str = "ray"
    workers: int = 0
    cpus_per_trial: float | None = None
    gpus_per_trial: float | str | None = (
        None  # a number or "auto" (`nas.profiling.gpu_packing`), which None is where there are GPUs
    )
    address: str | None = None
    storage: str | None = None  # URL of the study's database; None: the journal in the run's folder
    trial_timeout: float | None = None  # seconds that one attempt at a trial may take
    record_gradients: bool = False  # norms by layer of each trial (`nas.training.gradient_flow`)
    device: str = "auto"
    precision: str = "auto"
    imports: tuple[str, ...] = ()  # modules that register blocks, data sets, samplers: names, or paths of .py files
    out: str | Path | None = None
    command: str = ""


def check(request: Request) -> tuple[Path, tuple[Objective, ...], Proxy]:
    """UsageError for what is wrong with a request and can be known without its data; the run's folder, objectives and proxy."""
    _check_types(request)
    load(request.imports)
    check_trials(request.trials)
    if not 0 <= request.seed <= LARGEST_SEED:
        raise UsageError(f"--seed {request.seed}: a whole number from 0 to {LARGEST_SEED:,}")
    _check_executor(request.executor)
    SAMPLERS.find(request.sampler)
    Policy.parse(request.stopping)
    asked = {own.name: getattr(request, own.name) for own in dataclasses.fields(request)}
    check_asked({**asked, "kind": request.executor})
    _check_hours(request)
    if request.precision not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision {request.precision}: known are auto, {', '.join(PRECISIONS)}")
    batch_size = BASE_BATCH if request.batch_size is None else request.batch_size
    Recipe.of(request.epochs, batch_size, request.learning_rate, **recipe_options(request))
    objectives = parse_objectives(request.objectives)
    proxy = Proxy(request.proxy_resolution, request.proxy_width, request.train_fraction)
    if isinstance(request.space, SearchSpace):
        space = request.space.narrowed(request.overrides)
    else:
        space = load_space(request.space, overrides=request.overrides)
    folder = chosen_folder(request.out, space_name(request), request.dataset)
    _check_device(request)
    timed = bool(latency_asked(request, objectives))
    lasting(used(space.parts()), built_elsewhere(request.executor, timed))
    return folder, objectives, proxy


def with_options(request: Request, options: Mapping[str, Any]) -> Request:
    """The request with these options in place of its own; min_params, max_macs and their like are bounds of the budget.

    TypeError for an option that there isn't.
    """
    known = {own.name for own in dataclasses.fields(Request)}
    ends = {f"{end}_{metric}": metric for metric in METRICS for end in ("min", "max")}
    for name in options:
        if name not in known and name not in ends:
            raise TypeError(f"nas.search has no option {name!r}{did_you_mean(name, [*sorted(known), *ends])}")
    bounds: dict[str, tuple[float | None, float | None]] = {}
    for name, metric in ends.items():
        if (value := options.get(name)) is not None:
            _check_type(name, value, float)
            bounds[metric] = (options.get(f"min_{metric}"), options.get(f"max_{metric}"))
    given = {name: value for name, value in options.items() if name in known}
    request = dataclasses.replace(request, **given)
    return dataclasses.replace(request, budget=request.budget.merged(Budget(bounds))) if bounds else request


def going_on(options: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Options of `by`, which goes on with a run, as entries of its executor. TypeError for another option, UsageError for a wrong value."""
    hints, given = get_type_hints(Request), {}
    for name, value in options.items():
        if name not in GOING_ON:
            raise TypeError(f"{by} has no option {name!r}{did_you_mean(name, list(GOING_ON))}")
        if value is not None:  # which leaves the run's own
            _check_type(name, value, hints[name])
            given["kind" if name == "executor" else name] = value
    if "kind" in given:
        _check_executor(given["kind"])
    return given


def space_of(request: Request, *, resolution: int, channels: int, classes: int) -> SearchSpace:
    """The space that is asked for, with its overrides and its budget, for these data."""
    if isinstance(request.space, SearchSpace):
        narrowed = request.space.narrowed(request.overrides)
        space = narrowed.for_data(resolution=resolution, channels=channels, classes=classes)
    else:
        space = load_space(
            request.space, resolution=resolution, channels=channels, classes=classes, overrides=request.overrides
        )
    return space.within(request.budget)


def space_name(request: Request) -> str:
    return request.space.name if isinstance(request.space, SearchSpace) else str(request.space)


def recipe_options(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("decay", "ema", "cutout", "randaugment")}


def _check_executor(name: str) -> None:
    if name not in EXECUTORS:
        raise UsageError(f"unknown executor {name!r}; known: {', '.join(EXECUTORS)}")


def check_trials(trials: int) -> None:
    _check_type("trials", trials, int)
    if trials < 1:
        raise UsageError(f"--trials {trials}: at least one")
    if trials > limits.TRIALS:
        raise UsageError(f"--trials {trials}: at most {limits.TRIALS:,}")


def check_asked(asked: Mapping[str, Any]) -> None:
    """UsageError for what an executor can't be asked, or can't do in this process."""
    if asked["kind"] == "local":
        forks.check()
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


def built_elsewhere(executor: str, timed: bool) -> str:
    """Which processes other than this one build networks, in words; "" if none does."""
    if executor == "ray":
        return "Ray's workers"
    return "the process that measures latencies" if timed else ""


def _check_device(request: Request) -> None:
    """UsageError for a device that can't be used here; a cluster is asked when it is joined."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", request.device):
        raise UsageError(f"--device {request.device}: known are auto, cpu, cuda, cuda:N and mps")
    if request.device in ("auto", "cpu"):
        return
    if request.executor == "ray":
        from nas.execution.ray import cluster

        if request.address or cluster.connected():
            return
    from nas.training.trainer import pick_device  # imports torch

    pick_device(request.device)


_SAID = {int: "a whole number", float: "a number", str: "text", bool: "True or False", NoneType: "None", Path: "a path"}


def _check_types(request: Request) -> None:
    """UsageError for a value of a type that its field does not take; from the command line there is none."""
    for name, hint in get_type_hints(Request).items():
        _check_type(name, getattr(request, name), hint)


def _check_type(name: str, value: object, hint: Any) -> None:
    if not _fits(value, hint):
        wanted = " or ".join(_said(own) for own in (get_args(hint) if _is_union(hint) else [hint]))
        raise UsageError(f"{name}={value!r:.200}: must be {wanted}")


def _fits(value: object, hint: Any) -> bool:
    if _is_union(hint):
        return any(_fits(value, own) for own in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is tuple:
        return isinstance(value, tuple | list) and all(isinstance(own, str) for own in value)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _said(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if kind is tuple:
        return "a list of names"
    return _SAID.get(kind) or f"a {kind.__name__}"
