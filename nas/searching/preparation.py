"""Before a search: checks the request, reads the data and fixes the settings of the run. Nothing is written."""

from __future__ import annotations

import dataclasses
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nas.data import DATASETS, Dataset, split
from nas.data import load as load_data
from nas.data.training_data import TrainingData
from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.blocks import STEMS, Stem
from nas.networks.build import cost_of
from nas.pareto.objectives import Objective
from nas.profiling.latency import Conditions
from nas.profiling.time_plan import SPARE
from nas.runs.settings import Settings
from nas.runs.specification import BaselineSpec, DataSpec, LatencySpec, SpaceSpec
from nas.runs.storage import planned as planned_storage
from nas.samplers import SAMPLERS
from nas.searching.request import Request, built_elsewhere, check, latency_conditions, recipe_of, space_of
from nas.searching.time_budget import Budgeted, budgeted
from nas.spaces.budget import METRICS
from nas.spaces.sampling import survey
from nas.spaces.space import SearchSpace
from nas.stopping.policies import Policy
from nas.training.gradient_flow import STEPS
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils.extensions import Record, lasting, used
from nas.utils.text import Say
from nas.utils.versions import versions

SMALL = 10_000  # with fewer training images, a fifth of them instead of a tenth is kept for validation
SMALL_IMAGE = 64  # pixels up to which the CIFAR stem replaces a baseline's ImageNet stem
SURVEYED = 300  # random networks whose costs give the reference point

Baselines = list[tuple[str, Architecture]]  # with their labels


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is searched: a request with the data and the space that it names, checked against each other."""

    request: Request
    objectives: tuple[Objective, ...]
    proxy: Proxy
    dataset: Dataset
    data: TrainingData
    space: SearchSpace


def plan(request: Request, say: Say) -> tuple[Path, Settings, TrainingData]:
    """The run's folder, its settings and its data. UsageError for everything that is wrong with the request; writes nothing."""
    begun = time.monotonic()
    folder, objectives, proxy = check(request)
    conditions = latency_conditions(request, objectives)
    subject = _subject(request, objectives, proxy, say)
    images, time_plan = len(subject.data.train_index), None
    recipe = recipe_of(request, images)
    recipe.check_images(subject.dataset.resolution)
    if request.hours is not None or request.gpu_hours is not None:
        time_plan = budgeted(request, subject.space, proxy, subject.data, recipe, begun, say)
        request = _within_time(request, time_plan)
        recipe = recipe_of(request, images)
        subject = dataclasses.replace(subject, request=request)
    baselines = _baselines(subject)
    imports = _imports(subject, baselines)
    if note := lasting(imports, built_elsewhere(request.executor, conditions is not None)):
        say(note)
    settings = _settings(folder.name, subject, recipe, baselines, imports, conditions, time_plan)
    return folder, settings, subject.data


def _subject(request: Request, objectives: tuple[Objective, ...], proxy: Proxy, say: Say) -> _Subject:
    dataset = load_data(
        request.dataset,
        root=None if request.data_root is None else Path(request.data_root),
        download=request.download,
        resolution=request.resolution,
        max_images=request.max_images,
        skip_corrupt=request.skip_corrupt,
        progress=say,
    )
    space = space_of(request, resolution=dataset.resolution, channels=dataset.channels, classes=len(dataset.classes))
    space.sample(request.seed)  # UsageError if nothing meets the budget
    if proxy.resolution and proxy.resolution > dataset.resolution:
        raise UsageError(
            f"--proxy-resolution {proxy.resolution}: at most the {dataset.resolution} pixels of the images; a proxy uses fewer"
        )
    return _Subject(request, objectives, proxy, dataset, training_data(dataset, request.seed, proxy), space)


def _within_time(request: Request, time_plan: Budgeted) -> Request:
    """The request with the planned epochs. Where the number of trials is free, `SPARE` times the planned one: the clock ends the search."""
    planned = time_plan.plan
    trials = SPARE * planned.trials if "trials" in request.free else request.trials
    return dataclasses.replace(request, epochs=planned.epochs, trials=trials)


def _baselines(subject: _Subject) -> Baselines:
    names = dict.fromkeys(subject.request.baselines)
    baselines = [_baseline(name, subject.dataset) for name in names]
    labels = [label for label, _ in baselines]
    if len(set(labels)) < len(labels):
        raise UsageError(f"--baseline: two have the same name ({', '.join(labels)})")
    return baselines


def _imports(subject: _Subject, baselines: Baselines) -> list[Record]:
    """The modules that register the parts, the data set and the sampler of the search."""
    parts = [*subject.space.parts(), *(part for _, network in baselines for part in network.parts())]
    dataset = (DATASETS, subject.dataset.name.partition(":")[0])
    return used([*parts, dataset, (SAMPLERS, subject.request.sampler)])


def _settings(
    name: str,
    subject: _Subject,
    recipe: Recipe,
    baselines: Baselines,
    imports: list[Record],
    conditions: Conditions | None,
    time_plan: Budgeted | None,
) -> Settings:
    request, space = subject.request, subject.space
    return Settings(
        name=name,
        command=request.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        space=SpaceSpec(space.name, space.variant, space.source),
        dataset=_data_spec(subject),
        recipe=recipe,
        objectives=tuple(objective.name for objective in subject.objectives),
        budgets={metric: [low, high] for metric, (low, high) in space.budget.bounds.items()},
        reference=tuple(_reference(subject, baselines)),
        sampler=request.sampler,
        trials=request.trials,
        seed=request.seed,
        baselines=tuple(BaselineSpec(label, architecture.to_dict()) for label, architecture in baselines),
        executor=request.executor_spec(),
        device=request.device,
        precision=request.precision,
        versions=versions(),
        proxy=subject.proxy,
        storage=planned_storage(request.storage, name),
        stopping=Policy.parse(request.stopping),
        latency=LatencySpec(**dataclasses.asdict(conditions), max_ms=request.max_latency_ms) if conditions else None,
        plan=time_plan.to_dict() if time_plan else {},
        gradient_steps=STEPS if request.record_gradients else 0,
        imports=tuple(imports),
        id=secrets.token_hex(8),
    )


def _reference(subject: _Subject, baselines: Baselines) -> list[float]:
    """The reference point of the hypervolume: chance accuracy, and the largest costs of random networks and baselines.

    The entry of a latency is a placeholder until latencies are measured before the first trial.
    """
    random_largest = survey(subject.space, samples=SURVEYED, seed=subject.request.seed).largest
    costs = [random_largest, *(cost_of(network) for _, network in baselines)]
    largest = {metric: float(max(getattr(cost, metric) for cost in costs)) for metric in METRICS}
    chance = 1 / len(subject.dataset.classes)
    return [chance, *(largest.get(objective.name, 1.0) for objective in subject.objectives[1:])]


def load_again(folder: Path, settings: Settings, say: Say, *, download: bool = False) -> Dataset:
    """The data of a run. UsageError if they have changed since it began."""
    kept = settings.dataset
    dataset = load_data(
        kept.name,
        root=None if kept.root is None else Path(kept.root),
        download=download,
        resolution=kept.asked_resolution,
        max_images=kept.max_images,
        # Only if files were skipped when the run began: a file that has become corrupt since is an error.
        skip_corrupt=kept.skipped_images > 0,
        progress=say,
    )
    if dataset.fingerprint != kept.fingerprint:
        raise UsageError(
            f"{folder}: the data set {kept.name} has changed since the run began (fingerprint {dataset.fingerprint[:12]}, "
            f"not {kept.fingerprint[:12]}); results would not be comparable, so start a new search"
        )
    return dataset


def training_data(dataset: Dataset, seed: int, proxy: Proxy) -> TrainingData:
    fraction = 0.2 if len(dataset.y_train) < SMALL else 0.1
    train, validation = split(dataset.y_train, fraction, seed)
    return TrainingData.of(dataset, proxy.images(dataset.y_train, train, seed), validation)


def about_data(data: DataSpec) -> str:
    """The data set of a run in two lines."""
    counts = f"{data.train_images:,} images to train on, {data.validation_images:,} to rank by"
    side, channels = data.resolution, data.channels
    size = f"{side}x{side} pixels, {channels} channel{'s' if channels > 1 else ''}"
    untouched = f"the {data.test_images:,} test images are not touched"
    return f"Data: {data.source}\n{counts}; {untouched}; {size}, {len(data.classes)} classes."


def _data_spec(subject: _Subject) -> DataSpec:
    request, dataset, data = subject.request, subject.dataset, subject.data
    return DataSpec(
        name=dataset.name,
        source=dataset.source,
        root=None if request.data_root is None else str(Path(request.data_root).absolute()),
        asked_resolution=request.resolution,
        max_images=request.max_images,
        resolution=dataset.resolution,
        channels=dataset.channels,
        classes=tuple(dataset.classes),
        train_images=len(data.train_index),
        validation_images=len(data.validation_index),
        test_images=len(dataset.y_test),
        skipped_images=dataset.skipped,
        flip=dataset.flip,
        crop_padding=dataset.crop_padding,
        fingerprint=dataset.fingerprint,
    )


def _baseline(name: str, dataset: Dataset) -> tuple[str, Architecture]:
    """Label and network of a baseline: a published network or a config, adapted to the images of the search.

    For small images, the CIFAR stem replaces an ImageNet stem (7x7 convolution and pooling).
    """
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
