"""The request of a search and its checks, which come before data are read, a folder is made or Ray is started."""

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
from nas.runs.specification import ExecutorSpec
from nas.samplers import SAMPLERS
from nas.spaces.budget import METRICS, Budget
from nas.spaces.space import SearchSpace, load_space
from nas.stopping.policies import Policy
from nas.training.proxy import Proxy
from nas.training.recipe import DECAYS, PRECISIONS, PROXY_EPOCHS, Recipe
from nas.utils import forks, limits
from nas.utils.extensions import lasting, load, used
from nas.utils.registry import did_you_mean

EXECUTORS = ("ray", "local")
LARGEST_SEED = (1 << 31) - 1
MANY_IMAGES = 1 << 40  # more than any batch holds


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """Options of a run's executor, which may change when the run is resumed. None: not given.

    executor: its kind. The other fields are those of `Request`.
    """

    executor: str | None = None
    workers: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | str | None = None
    address: str | None = None
    trial_timeout: float | None = None  # seconds

    def merged(self, executor: ExecutorSpec) -> ExecutorSpec:
        """A run's executor, replaced by these options where they are given."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        kind = given.pop("executor", executor.kind)
        return dataclasses.replace(executor, kind=kind, **given)

    def check(self, kind: str) -> None:
        """UsageError for a value that an executor of this kind can't have, or if it can't run in this process."""
        if kind == "local":
            forks.check()
        if self.workers is not None and self.workers > limits.WORKERS:
            raise UsageError(f"--workers {self.workers}: at most {limits.WORKERS:,}")
        if kind == "local" and self.address:
            raise UsageError(
                f"--address {self.address}: the local executor uses no cluster; omit it, or choose --executor ray"
            )
        _check_number("--workers", self.workers, 0)
        _check_number("--cpus-per-trial", self.cpus_per_trial, 0.01)
        if isinstance(self.gpus_per_trial, str) and self.gpus_per_trial != AUTO:
            raise UsageError(f"--gpus-per-trial {self.gpus_per_trial}: a number or auto")
        if not isinstance(self.gpus_per_trial, str):
            _check_number("--gpus-per-trial", self.gpus_per_trial, 0)
        _check_number("--trial-timeout", self.trial_timeout, 0.1)


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `nas search`, which `nas search --help` explains. None: chosen from the data or the machine.

    `space` may also be a `SearchSpace`, with its budget.
    """

    space: str | Path | SearchSpace = "resnext"
    # Lines that replace the space's: {"stage*.block": "basic"}
    overrides: Mapping[str, object] = field(default_factory=dict)
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
    hours: float | None = None  # wall time of the search
    gpu_hours: float | None = None  # the same in hours of all GPUs together
    # Those of `trials` and `epochs` that the time budget decides (`nas.profiling.time_plan`)
    free: tuple[str, ...] = ()
    max_latency_ms: float | None = None
    latency_device: str = "cpu"
    latency_batch: int = 1
    latency_threads: int | None = 1
    seed: int = 0
    baselines: tuple[str, ...] = ()
    executor: str = "ray"
    workers: int = 0
    cpus_per_trial: float | None = None
    # A number or "auto" (`nas.profiling.gpu_packing`); None: "auto" if there are GPUs
    gpus_per_trial: float | str | None = None
    address: str | None = None
    storage: str | None = None  # URL of the study's database; None: the journal in the run's folder
    trial_timeout: float | None = None  # seconds of one attempt at a trial
    record_gradients: bool = False  # each trial's norms by layer (`nas.training.gradient_flow`)
    device: str = "auto"
    precision: str = "auto"
    imports: tuple[str, ...] = ()  # names or .py files of modules that register blocks, data sets or samplers
    out: str | Path | None = None
    command: str = ""

    def executor_spec(self) -> ExecutorSpec:
        names = (each.name for each in dataclasses.fields(ExecutorSpec) if each.name != "kind")
        return ExecutorSpec(self.executor, **{name: getattr(self, name) for name in names})

    def executor_options(self) -> ExecutorOptions:
        names = (each.name for each in dataclasses.fields(ExecutorOptions))
        return ExecutorOptions(**{name: getattr(self, name) for name in names})


def check(request: Request) -> tuple[Path, tuple[Objective, ...], Proxy]:
    """The run's folder, objectives and proxy. UsageError for every mistake in a request that shows without its data."""
    _check_types(request)
    load(request.imports)
    check_trials(request.trials)
    if not 0 <= request.seed <= LARGEST_SEED:
        raise UsageError(f"--seed {request.seed}: a whole number from 0 to {LARGEST_SEED:,}")
    _check_executor(request.executor)
    SAMPLERS.find(request.sampler)
    Policy.parse(request.stopping)
    request.executor_options().check(request.executor)
    _check_hours(request)
    if request.precision not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision {request.precision}: known are auto, {', '.join(PRECISIONS)}")
    recipe_of(request, MANY_IMAGES)
    objectives = parse_objectives(request.objectives)
    proxy = Proxy(request.proxy_resolution, request.proxy_width, request.train_fraction)
    if isinstance(request.space, SearchSpace):
        space = request.space.narrowed(request.overrides)
    else:
        space = load_space(request.space, overrides=request.overrides)
    folder = chosen_folder(request.out, space_name(request), request.dataset)
    _check_device(request)
    timed = latency_conditions(request, objectives) is not None
    lasting(used(space.parts()), built_elsewhere(request.executor, timed))
    return folder, objectives, proxy


def with_options(request: Request, options: Mapping[str, Any]) -> Request:
    """The request, replaced by these options where they are given. min_params, max_macs and so on are bounds of the budget.

    TypeError for an unknown option.
    """
    known = {each.name for each in dataclasses.fields(Request)}
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


def executor_options(options: Mapping[str, Any], function: str) -> ExecutorOptions:
    """The options of `function`, which resumes or confirms a run. TypeError for an unknown option, UsageError for a wrong value."""
    known, hints = [each.name for each in dataclasses.fields(ExecutorOptions)], get_type_hints(Request)
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"{function} has no option {name!r}{did_you_mean(name, known)}")
        if value is not None:
            _check_type(name, value, hints[name])
    given = ExecutorOptions(**options)
    if given.executor is not None:
        _check_executor(given.executor)
    return given


def space_of(request: Request, *, resolution: int, channels: int, classes: int) -> SearchSpace:
    """The requested space for these data, with its overrides and its budget."""
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


def recipe_of(request: Request, images: int) -> Recipe:
    """The requested recipe for so many training images."""
    return Recipe.for_images(
        images,
        request.epochs,
        request.batch_size,
        request.learning_rate,
        decay=request.decay,
        ema=request.ema,
        cutout=request.cutout,
        randaugment=request.randaugment,
    )


def _check_executor(name: str) -> None:
    if name not in EXECUTORS:
        raise UsageError(f"unknown executor {name!r}; known: {', '.join(EXECUTORS)}")


def check_trials(trials: int) -> None:
    _check_type("trials", trials, int)
    if trials < 1:
        raise UsageError(f"--trials {trials}: at least one")
    if trials > limits.TRIALS:
        raise UsageError(f"--trials {trials}: at most {limits.TRIALS:,}")


def _check_number(option: str, value: float | None, least: float) -> None:
    if value is not None and not (math.isfinite(value) and value >= least):
        raise UsageError(f"{option} {value:g}: must be at least {least:g}")


def _check_hours(request: Request) -> None:
    given = {"--hours": request.hours, "--gpu-hours": request.gpu_hours}
    if None not in given.values():
        raise UsageError(f"{' and '.join(given)}: give one of them")
    for option, hours in given.items():
        if hours is not None and not 0 < hours < math.inf:
            raise UsageError(f"{option} {hours:g}: a number above 0")


def latency_conditions(request: Request, objectives: tuple[Objective, ...]) -> Conditions | None:
    """The conditions under which latencies are measured; None if they are neither an objective nor bounded.

    UsageError if they can't be measured here under these conditions.
    """
    if request.max_latency_ms is not None and not 0 < request.max_latency_ms < math.inf:
        raise UsageError(f"--max-latency-ms {request.max_latency_ms:g}: a number above 0")
    if request.max_latency_ms is None and LATENCY not in {objective.name for objective in objectives}:
        return None
    conditions = Conditions(request.latency_device, request.latency_batch, request.latency_threads)
    if conditions.device != "cpu":
        check_latency(conditions)
    return conditions


def built_elsewhere(executor: str, timed: bool) -> str:
    """Names the other processes that build networks; "" if none does."""
    if executor == "ray":
        return "Ray's workers"
    return "the process that measures latencies" if timed else ""


def _check_device(request: Request) -> None:
    """UsageError for a device that can't be used here. A cluster's devices are checked when it is joined."""
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


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
    NoneType: "None",
    Path: "a path",
}


def _check_types(request: Request) -> None:
    """UsageError for a value of the wrong type, which only a caller from Python can give."""
    for name, hint in get_type_hints(Request).items():
        _check_type(name, getattr(request, name), hint)


def _check_type(name: str, value: object, hint: Any) -> None:
    if not _fits(value, hint):
        wanted = " or ".join(_type_name(each) for each in (get_args(hint) if _is_union(hint) else [hint]))
        raise UsageError(f"{name}={value!r:.200}: must be {wanted}")


def _fits(value: object, hint: Any) -> bool:
    if _is_union(hint):
        return any(_fits(value, each) for each in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is tuple:
        return isinstance(value, tuple | list) and all(isinstance(item, str) for item in value)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _type_name(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if kind is tuple:
        return "a list of names"
    return _TYPE_NAMES.get(kind) or f"a {kind.__name__}"
