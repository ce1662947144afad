"""The main job: plan a search, drive it to its end or until it is interrupted, leave its report and its front."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.blocks import STEMS, Stem
from nas.spaces.sampling import METRICS, survey
from nas.data import DATASETS, Dataset, split
from nas.data import load as load_data
from nas.execution.job_queue import Desk
from nas.errors import NasError, UsageError, WriteError
from nas.execution.executor import Say, execute, ready
from nas.execution.executor import check as check_executor
from nas.utils.extensions import lasting, required, used
from nas.training.gradient_flow import STEPS
from nas.searching.time_budget import promised
from nas.execution.job import TrainingData
from nas.networks.build import cost_of
from nas.profiling.time_plan import SPARE
from nas.searching.disk_space import check_room
from nas.searching.progress import Tally, chosen
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.searching.request import Request, built_elsewhere, check, check_asked, check_trials, going_on, latency_asked, recipe_options, space_of, with_options
from nas.runs.attempts import frequent
from nas.runs.run import Run, load_run
from nas.runs.folder import begin
from nas.samplers import RANDOM_FIRST, SAMPLERS
from nas.runs.settings import Settings, versions
from nas.spaces.space import SearchSpace
from nas.stopping.policies import Policy
from nas.runs.storage import planned as planned_storage
from nas.runs.storage import redacted
from nas.searching.study import UNMEASURED, Study
from nas.utils.text import counted, shown

SMALL = 10_000  # training images, below which a fifth instead of a tenth is kept for validation
SMALL_IMAGE = 64  # pixels up to which a baseline's ImageNet stem is replaced by the CIFAR one


class Interrupted(NasError):
    """The user stopped the search; everything that was trained is kept, and `nas resume` goes on."""


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


def load_again(folder: Path, settings: Settings, say: Say, *, download: bool = False) -> Dataset:
    """The data of a run. UsageError if they are no longer those that it began with."""
    facts = settings.dataset
    # Whether files were left out, not whether they might be: one that breaks later is an error.
    skip_corrupt = facts.get("skipped_images", 0) > 0
    dataset = _load(
        facts["name"], facts["root"], download, facts.get("asked_resolution"), facts["max_images"], skip_corrupt, say
    )
    if dataset.fingerprint != facts["fingerprint"]:
        raise UsageError(
            f"{folder}: the data set {facts['name']} has changed since the run began (fingerprint {dataset.fingerprint[:12]}, "
            f"not {facts['fingerprint'][:12]}); results would not be comparable, so start a new search"
        )
    return dataset


def plan(request: Request, say: Say) -> tuple[Path, Settings, TrainingData]:
    """Everything that can be wrong is found here: the run's folder, its settings and the data, without a trace on the disk."""
    begun = time.monotonic()
    folder, objectives, proxy = check(request)
    stopping, latency = Policy.parse(request.stopping), latency_asked(request, objectives)
    dataset = _load(
        request.dataset,
        None if request.data_root is None else Path(request.data_root),
        request.download,
        request.resolution,
        request.max_images,
        request.skip_corrupt,
        say,
    )
    space = space_of(request, resolution=dataset.resolution, channels=dataset.channels, classes=len(dataset.classes))
    space.sample(request.seed)  # UsageError if nothing meets the budget
    if proxy.resolution and proxy.resolution > dataset.resolution:
        raise UsageError(
            f"--proxy-resolution {proxy.resolution}: the images have {dataset.resolution} pixels; fewer are a proxy"
        )
    data = training_data(dataset, request.seed, proxy)
    options = recipe_options(request)
    images = len(data.train_index)
    recipe = Recipe.for_images(images, request.epochs, request.batch_size, request.learning_rate, **options)
    recipe.check_images(dataset.resolution)
    promise: Mapping[str, Any] = {}
    if request.hours is not None or request.gpu_hours is not None:
        promise = promised(request, space, proxy, data, recipe, begun, say)
        request = dataclasses.replace(
            request,
            epochs=promise["epochs"],
            trials=SPARE * promise["trials"] if "trials" in request.free else request.trials,
        )
        recipe = Recipe.of(request.epochs, recipe.batch_size, request.learning_rate, **options)
    spans = survey(space, samples=300, seed=request.seed)
    baselines = [_baseline(name, space, dataset) for name in dict.fromkeys(request.baselines)]
    if len({label for label, _ in baselines}) < len(baselines):
        raise UsageError(f"--baseline: two of one name ({', '.join(label for label, _ in baselines)})")
    parts = [*space.parts(), *(part for _, network in baselines for part in network.parts())]
    imports = used([*parts, (DATASETS, dataset.name.partition(":")[0]), (SAMPLERS, request.sampler)])
    if note := lasting(imports, built_elsewhere(request.executor, bool(latency))):
        say(note)
    largest = {m: max([getattr(spans.largest, m), *(getattr(cost_of(b), m) for _, b in baselines)]) for m in METRICS}
    settings = Settings(
        name=folder.name,
        command=request.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        space={"name": space.name, "variant": space.variant, "text": space.source},
        dataset=_facts(dataset, data, request),
        recipe=recipe.to_dict(),
        objectives=[objective.name for objective in objectives],
        budgets={metric: [low, high] for metric, (low, high) in space.budget.bounds.items()},
        # That of latency is put right by what is measured before the first trial.
        reference=[1 / len(dataset.classes), *(float(largest.get(own.name, 1.0)) for own in objectives[1:])],
        sampler=request.sampler,
        trials=request.trials,
        seed=request.seed,
        baselines=[{"name": name, "architecture": architecture.to_dict()} for name, architecture in baselines],
        executor={
            "kind": request.executor,
            "workers": request.workers,
            "cpus_per_trial": request.cpus_per_trial,
            "gpus_per_trial": request.gpus_per_trial,
            "address": request.address,
            "trial_timeout": request.trial_timeout,
        },
        device=request.device,
        precision=request.precision,
        versions=versions(),
        proxy=proxy.to_dict(),
        storage=planned_storage(request.storage, folder.name),
        stopping=stopping.to_dict(),
        latency=latency,
        plan=promise,
        gradient_steps=STEPS if request.record_gradients else 0,
        imports=imports,
        id=secrets.token_hex(8),
    )
    return folder, settings, data


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


def _load(
    name: str,
    root: str | Path | None,
    download: bool,
    resolution: int | None,
    max_images: int | None,
    skip_corrupt: bool,
    say: Say,
) -> Dataset:
    return load_data(
        name,
        root=None if root is None else Path(root),
        download=download,
        resolution=resolution,
        max_images=max_images,
        skip_corrupt=skip_corrupt,
        progress=say,
    )


def training_data(dataset: Dataset, seed: int, proxy: Proxy) -> TrainingData:
    fraction = 0.2 if len(dataset.y_train) < SMALL else 0.1
    train, validation = split(dataset.y_train, fraction, seed)
    return TrainingData.of(dataset, proxy.images(dataset.y_train, train, seed), validation)


def _about_data(facts: Mapping[str, Any]) -> str:
    ranked = f"{facts['train_images']:,} images to train on, {facts['validation_images']:,} to rank by"
    size = f"{facts['resolution']}x{facts['resolution']} pixels, {facts['channels']} channel{'s' if facts['channels'] > 1 else ''}"
    untouched = f"the {facts['test_images']:,} test images are not touched"
    return f"Data: {facts['source']}\n{ranked}; {untouched}; {size}, {len(facts['classes'])} classes."


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


def _facts(dataset: Dataset, data: TrainingData, request: Request) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "root": None if request.data_root is None else str(Path(request.data_root).absolute()),
        "asked_resolution": request.resolution,
        "max_images": request.max_images,
        "resolution": dataset.resolution,
        "channels": dataset.channels,
        "classes": list(dataset.classes),
        "train_images": len(data.train_index),
        "validation_images": len(data.validation_index),
        "test_images": len(dataset.y_test),
        "skipped_images": dataset.skipped,
        "flip": dataset.flip,
        "crop_padding": dataset.crop_padding,
        "fingerprint": dataset.fingerprint,
    }


def _baseline(name: str, space: SearchSpace, dataset: Dataset) -> tuple[str, Architecture]:
    """A known net or a config's for the search's images, and its label. Small images get the CIFAR stem in place of 7x7 and pooling."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json"):
        architecture, name = Architecture.from_yaml(path), path.stem
    else:
        architecture = zoo.get(name)
    stem: Stem | None = None
    label = name
    if architecture.stem.kind == "imagenet" and dataset.resolution <= SMALL_IMAGE:
        stem = STEMS.find("cifar").make({"width": architecture.stem.width})
        label = f"{name} (3x3 stem)"
    adapted = architecture.adapted(
        classes=len(dataset.classes), resolution=dataset.resolution, channels=dataset.channels, stem=stem
    )
    return label, dataclasses.replace(adapted, name=label)


def concluded(desk: Desk, storage: str | None) -> Run:
    """The run, with its report and its front written anew.

    Under the desk's lock, which others would write into the folder without; what is written says how the run is behind it.
    """
    desk.check_mine()
    run = dataclasses.replace(load_run(desk.folder, storage), active=False, confirming=None)
    leave(run)
    return run


def leave(run: Run) -> None:
    """The report and the front's configs, in the run folder."""
    from nas import report
    from nas.interop.export import EXPORTERS, export_trials

    report.write(run)
    folder = run.path / "front"
    for stale in (*folder.glob("[0-9][0-9]*-*.yaml"), *folder.glob("index.*")):
        stale.unlink()  # of a shorter search: what was on its front, in places that others have now
    export_trials(run, run.front(), folder, EXPORTERS["yaml"], force=True)
