"""The main job: plan a search, drive it to its end or until it is interrupted, leave its report and its front."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nas.data.training_data import TrainingData
from nas.errors import Interrupted, WriteError
from nas.execution.executor import check as check_executor
from nas.execution.executor import execute, ready
from nas.runs.attempts import frequent
from nas.runs.folder import begin
from nas.runs.run import Run
from nas.runs.settings import Settings
from nas.runs.storage import redacted
from nas.samplers import RANDOM_FIRST
from nas.searching.conclusion import concluded
from nas.searching.disk_space import check_room
from nas.searching.preparation import _about_data, load_again, plan, training_data
from nas.searching.progress import Tally, chosen
from nas.searching.request import (
    Request,
    built_elsewhere,
    check_asked,
    check_trials,
    going_on,
    with_options,
)
from nas.searching.study import UNMEASURED, Study
from nas.utils.extensions import lasting, required
from nas.utils.text import Say, counted, shown
from nas.utils.versions import versions


def search(
    request: Request | None = None,
    *,
    say: Say | None = None,
    display: Callable[[Study], Tally] | None = None,
    quiet: bool = False,
    room_for_seeds: int = 0,
    **options: Any,
) -> Run:
    """Search a space and return the run, whose folder holds everything: `nas.search(space="resnext", trials=20)`.

    Options are the fields of `Request` (help(nas.Request) lists them), and bounds on exact costs: min_params, max_params, min_macs,
    max_macs, min_activations, max_activations. Progress goes to stderr, or to `say` and `display`; nowhere if `quiet`. room_for_seeds: of
    the confirmation that the caller has in mind (`nas.confirm`), which the disk has to hold, too.

    TypeError for an option that there isn't. UsageError for what can't be done as asked, before anything is trained or written;
    Interrupted if the user stopped it.
    """
    request = with_options(request or Request(), options)
    say, display = chosen(say, display, quiet)
    folder, settings, data = plan(request, say)
    say(_about_data(settings.dataset))
    for remark in _remarks(settings):
        say(remark)
    check_room(folder, settings, say, seeds=room_for_seeds)
    check_executor(settings)
    since = time.monotonic()
    # Latencies are measured first, which Ray's start would disturb.
    early = nullcontext() if settings.latency else ready(settings, say)
    try:
        with early:
            folder, settings = begin(folder, settings, chosen=request.out is not None)
            return drive(folder, settings, data, say, display, storage=request.storage, since=since)
    except Interrupted as stopped:
        if not room_for_seeds:
            raise
        raise Interrupted(
            f"{stopped}, and then confirm it with: nas confirm {shown(folder)} --seeds {room_for_seeds}"
        ) from None


def resume(
    path: str | Path,
    *,
    say: Say | None = None,
    display: Callable[[Study], Tally] | None = None,
    quiet: bool = False,
    download: bool = False,
    storage: str | None = None,
    dataset: str | None = None,
    trials: int | None = None,
    **options: Any,
) -> Run:
    """Go on with a run: what was in flight continues from its last epoch, and nothing is trained twice.

    `dataset` says where the run's data lie now, if they were moved. `storage` is the whole URL of its study's database, where the
    run could not keep the password. `trials` replaces its number of trials, and further options what its executor was told: executor,
    workers, cpus_per_trial, gpus_per_trial, address, trial_timeout; TypeError for another one.
    UsageError if the data are no longer those that the run began with.
    """
    executor = going_on(options, "nas.resume")
    say, display = chosen(say, display, quiet)
    folder = Path(path).absolute()
    settings = Settings.load(folder)
    if note := other_versions(settings):
        say(note)
    check_asked({"kind": settings.executor["kind"], **executor})
    if trials is not None:
        check_trials(trials)
        settings = dataclasses.replace(settings, trials=trials, plan={})  # a number, and no longer the hours
    if storage is not None and settings.storage:
        settings = dataclasses.replace(
            settings, storage={**settings.storage, "url": redacted(storage)}
        )  # it may have moved
    settings = imported(dataclasses.replace(settings, executor={**settings.executor, **executor}), folder)
    if dataset is not None:
        settings = dataclasses.replace(settings, dataset={**settings.dataset, "name": dataset})
    loaded = load_again(folder, settings, say, download=download)
    settings = dataclasses.replace(settings, dataset={**settings.dataset, "name": loaded.name, "source": loaded.source})
    check_room(folder, settings, say, begun=True)
    data = training_data(loaded, settings.seed, settings.training_proxy())
    return drive(folder, settings, data, say, display, changed=True, storage=storage)


def imported(settings: Settings, folder: Path) -> Settings:
    """The settings with the modules that their run needs as they are imported now. UsageError if what it needs is not registered."""
    imports = required(settings.imports, str(folder))
    lasting(imports, built_elsewhere(settings.executor["kind"], bool(settings.latency)))
    return dataclasses.replace(settings, imports=imports)


def drive(
    folder: Path,
    settings: Settings,
    data: TrainingData,
    say: Say,
    display: Callable[[Study], Tally],
    changed: bool = False,
    storage: str | None = None,
    since: float | None = None,
) -> Run:
    """Run a planned search to its end, then write its report and its front. Interrupted if the user stops it.

    since: when its start-up began, by `time.monotonic`; None: now.
    """
    try:
        stopped, run = _drive(folder, settings, data, say, display, changed, storage, since)
    except WriteError as error:
        raise WriteError(
            f"{error}; everything that was saved is kept. When it can be written again, go on with: nas resume {shown(folder)}"
        ) from error
    except KeyboardInterrupt:  # once more, or while the report of a run that is done was written
        stopped = True
    if stopped:
        raise Interrupted(f"stopped; everything so far is kept. Go on with: nas resume {shown(folder)}")
    return run


def _drive(
    folder: Path,
    settings: Settings,
    data: TrainingData,
    say: Say,
    display: Callable[[Study], Tally],
    changed: bool,
    storage: str | None,
    since: float | None,
) -> tuple[bool, Run]:
    """Train, and leave report and front; whether the user stopped it, and the run."""
    with Study(folder, settings, storage) as study:
        if changed:
            if not study.finished:
                check_executor(settings)
            settings.save(folder)
        for text in study.recovered:
            say(f"recovered: {text}")
        try:
            if not study.finished:  # Ray is not started for nothing
                execute(study, data, say, display, since)
            stopped = not study.finished
        except KeyboardInterrupt:
            stopped = True
        if study.exhausted and study.counts.trained < settings.trials:
            say(_exhausted(study))
        return stopped, concluded(study, storage)


def _exhausted(study: Study) -> str:
    """Why there is no further network to train."""
    counts, last = study.counts, study.outcomes.last_rejection
    within = " within the budgets" if study.space.budget.bounds or study.most_ms is not None else ""
    if counts.trained:
        failed = f", and {counted(counts.failed, 'trial')} failed" if counts.failed else ""
        return f"the space{within} holds no further network: {counted(counts.trained, 'trial')} trained it out{failed}"
    if counts.failed:
        why = frequent(study.outcomes.failures)
        return f"no network was trained: all {counts.failed} that were found{within} failed, {why}"
    if counts.rejected:
        what = "trained" if last.startswith(UNMEASURED) else "found within the budgets"
        return f"no network was {what}: {counts.rejected} were rejected{f', the last because {last}' if last else ''}"
    return f"no network was trained: the space{within} holds the baselines alone"


def other_versions(settings: Settings) -> str:
    """What is installed in other versions than the run began with, in a sentence; empty if nothing is."""
    now = versions()
    found = [
        f"{name} {was}, now {now[name]}" for name, was in settings.versions.items() if name in now and now[name] != was
    ]
    if not found:
        return ""
    return f"note: this run began with {', '.join(found)}: the accuracies of trials before and after may differ a little for that"


def _remarks(settings: Settings) -> list[str]:
    """What makes little sense for a run of this size, a line for each."""
    facts, recipe = settings.dataset, settings.training_recipe()
    remarks = recipe.remarks(facts["train_images"], facts["validation_images"], facts["resolution"])
    if idle := settings.stopping_policy().idle(recipe.epochs, settings.trials):
        remarks.append(f"note: {idle}")
    first = RANDOM_FIRST.get(settings.sampler, 0)
    if settings.trials <= first:
        remarks.append(
            f"note: --sampler {settings.sampler} draws its first {first} trials at random, which are all that there are; more --trials, "
            "or known-cost, which begins earlier"
        )
    return remarks
