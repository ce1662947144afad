"""`--hours` and `--gpu-hours`: how much of a search fits into a time budget, measured on this machine before the first trial."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.data.training_data import TrainingData
from nas.errors import UsageError
from nas.profiling import time_plan as planning
from nas.spaces.space import SearchSpace
from nas.stopping.policies import Policy
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils.limits import available_cores
from nas.utils.text import Say, format_seconds

if TYPE_CHECKING:
    from nas.searching.request import Request

LONG = 0.35  # share of the budget: longer trials leave more than a fifth of it unused


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A plan with the measurements that it is based on.

    pace: images per second of one training, by MACs, and its fit. spent: seconds from the start of the command to the end of the
    measurement. device: its type ("cpu", "cuda"). gpus: how many the search may use.
    """

    plan: planning.Plan
    pace: planning.Pace
    spent: float
    device: str
    gpus: int

    def to_dict(self) -> dict[str, object]:
        """As `run.yaml` and `nas plan --json` have it."""
        return {
            **json.loads(json.dumps(self.plan.to_dict())),
            "spent": self.spent,
            "images_per_second": {str(macs): round(rate, 1) for macs, rate in self.pace.measured},
            "fit_error": self.pace.error,
            "device": self.device,
            "gpus": self.gpus,
        }


@dataclass(frozen=True, slots=True)
class _Slots:
    """Trials at once: in all (`total`), and on the machine that is measured (`here`), with `threads` for each."""

    total: int
    here: int
    threads: int


def budgeted(
    request: Request, space: SearchSpace, proxy: Proxy, data: TrainingData, recipe: Recipe, begun: float, say: Say
) -> Budgeted:
    """Measure the pace by training a few networks for seconds, and plan the search for the budget.

    begun: when the command started, by `time.monotonic`. UsageError if GPU hours are given and there is no GPU, or if not even one
    trial fits.
    """
    from nas.training.trainer import pick_device, pick_precision  # imports torch

    device = pick_device(request.device)
    gpus = (1 if request.executor == "local" else gpu_count()) if device.type == "cuda" else 0
    seconds = _seconds(request, gpus)
    slots = _slots(request, gpus)
    networks = planning.representatives(space, proxy, request.seed)
    precision = pick_precision(request.precision, device, networks[len(networks) // 2])
    say(f"planning: training three networks of the space for seconds, {slots.here} at once ...")
    pace = planning.probe(networks, slots.here, recipe.batch_size, device.type, precision, slots.threads)
    pace = dataclasses.replace(pace, slots=slots.total)
    spent = time.monotonic() - begun
    plan = planning.proposed(
        pace,
        networks,
        seconds,
        recipe,
        images=len(data.train_index),
        validated=len(data.validation_index),
        executor=request.executor,
        devices=gpus or 1,
        spent=spent,
        epochs=None if "epochs" in request.free else request.epochs,
        trials=None if "trials" in request.free else request.trials,
        stopping=Policy.parse(request.stopping),
        sampler=request.sampler,
    )
    if plan.trial_seconds > LONG * seconds:
        say(
            f"note: a trial takes about {format_seconds(plan.trial_seconds)} of {format_seconds(seconds)}, so the search may end "
            "well before the time is up; give more time, fewer --epochs, or a cheaper space"
        )
    return Budgeted(plan, pace, spent, device.type, gpus)


def gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def _seconds(request: Request, gpus: int) -> float:
    """The wall time of the budget. GPU hours are shared by all GPUs."""
    if request.hours is not None:
        return 3600 * request.hours
    assert request.gpu_hours is not None
    if not gpus:
        raise UsageError("--gpu-hours: this machine has no GPU that the search could use; use --hours for CPUs")
    return 3600 * request.gpu_hours / gpus


def _slots(request: Request, gpus: int) -> _Slots:
    cores = available_cores()
    if request.executor == "local":
        total = here = 1
    elif gpus:
        share = request.gpus_per_trial if isinstance(request.gpus_per_trial, (int, float)) else 1.0
        here = max(1, int(1 / share)) if share else 1
        total = min(request.workers or here * gpus, here * gpus)
    else:
        fitting = max(1, int(cores / (request.cpus_per_trial or 1)))
        total = request.workers or fitting
        here = min(total, fitting)  # further workers would run on another machine, or not at all
    return _Slots(total, here, max(1, int(request.cpus_per_trial or cores // max(total, 1))))
