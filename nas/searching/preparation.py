"""Before a search: the request is checked, the data are read, the run folder is made."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.data import DATASETS, Dataset, split
from nas.data import load as load_data
from nas.data.training_data import TrainingData
from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.blocks import STEMS, Stem
from nas.networks.build import cost_of
from nas.profiling.time_plan import SPARE
from nas.runs.settings import Settings
from nas.runs.storage import planned as planned_storage
from nas.samplers import SAMPLERS
from nas.searching.request import Request, built_elsewhere, check, latency_asked, recipe_options, space_of
from nas.searching.time_budget import promised
from nas.spaces.budget import METRICS
from nas.spaces.sampling import survey
from nas.spaces.space import SearchSpace
from nas.stopping.policies import Policy
from nas.training.gradient_flow import STEPS
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.utils.extensions import lasting, used
from nas.utils.text import Say
from nas.utils.versions import versions

SMALL = 10_000  # training images, below which a fifth instead of a tenth is kept for validation
SMALL_IMAGE = 64  # pixels up to which a baseline's ImageNet stem is replaced by the CIFAR one


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
