"""`--hours` and `--gpu-hours`: what of a search fits into a time, measured on this machine before its first trial."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

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

LONG = 0.35  # of the hours: trials that take longer than this leave more than a fifth of them unused


def promised(
    request: Request,
    space: SearchSpace,
    proxy: Proxy,
    data: TrainingData,
    recipe: Recipe,
    begun: float,
    say: Say,
) -> dict[str, Any]:
    """What fits into the hours, by training a few networks for seconds; `spent`: seconds since the command was given."""
    from nas.training.trainer import pick_device, pick_precision  # imports torch, as whatever trains

    given = request.hours if request.hours is not None else request.gpu_hours
    assert given is not None
    device = pick_device(request.device)
    gpus = (1 if request.executor == "local" else gpu_count()) if device.type == "cuda" else 0
    if request.gpu_hours is not None and not gpus:
        raise UsageError("--gpu-hours: this machine has no GPU that the search would take; --hours is for CPUs")
    cores = available_cores()
    if request.executor == "local":
        each, slots = 1, 1
    elif gpus:
        share = request.gpus_per_trial if isinstance(request.gpus_per_trial, (int, float)) else 1.0
        each = max(1, int(1 / share)) if share else 1
        slots = min(request.workers or each * gpus, each * gpus)
    else:
        fit = max(1, int(cores / (request.cpus_per_trial or 1)))
        slots = request.workers or fit
        each = min(slots, fit)  # more are for another machine's cores, or for none
    threads = max(1, int(request.cpus_per_trial or cores // max(slots, 1)))
    networks = planning.representatives(space, proxy, request.seed)
    precision = pick_precision(request.precision, device, networks[len(networks) // 2])
    say(f"planning: training three networks of the space for seconds, {each} at once ...")
    found = planning.probe(networks, each, recipe.batch_size, device.type, precision, threads)
    found = dataclasses.replace(found, slots=slots)
    spent = time.monotonic() - begun
    seconds = 3600 * (given if request.hours is not None else given / gpus)
    plan = planning.proposed(
        found,
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
            f"note: a trial takes about {format_seconds(plan.trial_seconds)} of {format_seconds(seconds)}, so that the search may end "
            "well before the time; give more time, fewer --epochs, or a cheaper space"
        )
    images_per_second = {str(macs): round(rate, 1) for macs, rate in found.measured}
    about = {"images_per_second": images_per_second, "fit_error": found.error, "device": device.type, "gpus": gpus}
    return {**json.loads(json.dumps(plan.to_dict())), "spent": spent, **about}


def gpu_count() -> int:
    import torch

    return torch.cuda.device_count()
