"""Plans a search, drives it to its end or until it is interrupted, and writes its report and its front."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nas.data.training_data import TrainingData
from nas.errors import Interrupted
from nas.execution.executor import check as check_executor
from nas.execution.executor import execute, ready
from nas.runs.attempts import frequent
from nas.runs.folder import begin
from nas.runs.run import Run
from nas.runs.settings import Settings
from nas.runs.storage import redacted
from nas.samplers import RANDOM_FIRST
from nas.searching.candidate_gate import UNMEASURED
from nas.searching.conclusion import concluded, finished_run
from nas.searching.disk_space import check_room
from nas.searching.preparation import about_data, load_again, plan, training_data
from nas.searching.progress import Tally, say_and_display
from nas.searching.request import Request, built_elsewhere, check_trials, executor_options, with_options
from nas.searching.study import Study
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
    max_macs, min_activations, max_activations. Progress goes to stderr, or to `say` and `display`, or nowhere if `quiet`.
    room_for_seeds: number of seeds of a confirmation (`nas.confirm`) that follows; the disk must have room for it, too.

    TypeError for an unknown option. UsageError for a request that can't be fulfilled, before anything is trained or written.
    Interrupted if the user stopped the search.
    """
    request = with_options(request or Request(), options)
    say, display = say_and_display(say, display, quiet)
    folder, settings, data = plan(request, say)
    say(about_data(settings.dataset))
    for remark in _remarks(settings):
        say(remark)
    check_room(folder, settings, say, seeds=room_for_seeds)
    check_executor(settings)
    since = time.monotonic()
    # Ray starts later if latencies are measured: its start would disturb the measurement.
    early_start = nullcontext() if settings.latency else ready(settings, say)
    try:
        with early_start:
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
    """Resume a run: trials that were in flight continue from their last epoch, and nothing is trained twice.

    `dataset`: where the run's data are now, if they were moved. `storage`: the whole URL of the study's database, if the run could not
    keep its password. `trials` replaces the number of trials. Further options replace those of the executor: executor, workers,
    cpus_per_trial, gpus_per_trial, address, trial_timeout. TypeError for an unknown option. UsageError if the data have changed
    since the run began.
    """
    changes = executor_options(options, "nas.resume")
    say, display = say_and_display(say, display, quiet)
    folder = Path(path).absolute()
    settings = Settings.load(folder)
    if note := other_versions(settings):
        say(note)
    changes.check(changes.executor or settings.executor.kind)
    if trials is not None:
        check_trials(trials)
        # From now on the number of trials ends the search, not a time budget.
        settings = dataclasses.replace(settings, trials=trials, plan={})
    if storage is not None and settings.storage:
        # The database may have moved.
        settings = dataclasses.replace(settings, storage=dataclasses.replace(settings.storage, url=redacted(storage)))
    settings = imported(dataclasses.replace(settings, executor=changes.merged(settings.executor)), folder)
    if dataset is not None:
        settings = dataclasses.replace(settings, dataset=dataclasses.replace(settings.dataset, name=dataset))
    loaded = load_again(folder, settings, say, download=download)
    data_now = dataclasses.replace(settings.dataset, name=loaded.name, source=loaded.source)
    settings = dataclasses.replace(settings, dataset=data_now)
    check_room(folder, settings, say, begun=True)
    data = training_data(loaded, settings.seed, settings.proxy)
    return drive(folder, settings, data, say, display, changed=True, storage=storage)


def imported(settings: Settings, folder: Path) -> Settings:
    """The settings with the records of the user's modules as they are imported now. UsageError if an entry that the run needs is not
    registered.
    """
    imports = required(settings.imports, str(folder))
    lasting(imports, built_elsewhere(settings.executor.kind, bool(settings.latency)))
    return dataclasses.replace(settings, imports=tuple(imports))


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

    changed: whether the settings differ from `run.yaml`. since: when the search started, by `time.monotonic`; None: now.
    """
    return finished_run(
        lambda: _drive(Study(folder, settings, storage), data, say, display, changed, storage, since),
        f"nas resume {shown(folder)}",
    )


def _drive(
    study: Study,
    data: TrainingData,
    say: Say,
    display: Callable[[Study], Tally],
    changed: bool,
    storage: str | None,
    since: float | None,
) -> Run | None:
    """Train, then write the report and the front. The run; None if the user stopped it."""
    with study:
        if changed:
            if not study.finished:
                check_executor(study.settings)
            study.settings.save(study.folder)
        for text in study.recovered:
            say(f"recovered: {text}")
        try:
            if not study.finished:  # do not start Ray for a finished run
                execute(study, data, say, display, since)
            stopped = not study.finished
        except KeyboardInterrupt:
            stopped = True
        if study.exhausted and study.counts.trained < study.settings.trials:
            say(_exhausted(study))
        run = concluded(study, storage)
    return None if stopped else run


def _exhausted(study: Study) -> str:
    """The reason why there is no further network to train."""
    counts, last = study.counts, study.outcomes.last_rejection
    within = " within the budgets" if study.space.budget.bounds or study.most_ms is not None else ""
    if counts.trained:
        failed = f", and {counted(counts.failed, 'trial')} failed" if counts.failed else ""
        return f"the space{within} holds no further network: {counted(counts.trained, 'trial')} trained all of them{failed}"
    if counts.failed:
        why = frequent(study.outcomes.failures)
        return f"no network was trained: all {counts.failed} proposed networks{within} failed, {why}"
    if counts.rejected:
        event = "trained" if last.startswith(UNMEASURED) else "found within the budgets"
        return f"no network was {event}: {counts.rejected} were rejected{f', the last because {last}' if last else ''}"
    return f"no network was trained: the space{within} holds only the baselines"


def other_versions(settings: Settings) -> str:
    """A note on libraries whose installed versions differ from those that the run began with; "" if none does."""
    now = versions()
    changes = [
        f"{name} {was}, now {now[name]}" for name, was in settings.versions.items() if name in now and now[name] != was
    ]
    if not changes:
        return ""
    return f"note: this run began with {', '.join(changes)}: accuracies of earlier and later trials may differ a little"


def _remarks(settings: Settings) -> list[str]:
    """Notes on settings that make little sense for a run of this size."""
    data, recipe = settings.dataset, settings.recipe
    remarks = recipe.remarks(data.train_images, data.validation_images, data.resolution)
    if idle := settings.stopping.idle(recipe.epochs, settings.trials):
        remarks.append(f"note: {idle}")
    first = RANDOM_FIRST.get(settings.sampler, 0)
    if settings.trials <= first:
        remarks.append(
            f"note: --sampler {settings.sampler} draws its first {first} trials at random, so this search has only random ones; "
            "give more --trials, or use known-cost, which draws fewer at random"
        )
    return remarks
