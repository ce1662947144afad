"""Trains the networks of a run's front, and finds the weights of such trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import NasError, UsageError

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture
    from nas.runs.records import Trial
    from nas.runs.run import Run
    from nas.training.distributed import Group


@dataclass(frozen=True, slots=True)
class Start:
    """A network to fine-tune, the source of its weights for `nas.weights.read`, and the folder of its fine-tuning."""

    architecture: Architecture
    weights: str
    folder: Path


def train_front(
    run: Run, folder: Path, *, epochs: int, download: bool, device: str, precision: str, quiet: bool, group: Group
) -> Path:
    """Train each network of a run's front on the run's data, by its recipe over `epochs`, in its own subfolder; returns `folder`.

    Trained networks are not trained again; an interrupted training continues. UsageError if the data have changed since the
    search; NasError if a network diverges.
    """
    from nas.cli.commands.output import note
    from nas.cli.commands.training_display import print_settings, run_epochs, write_pages
    from nas.interop.export.trials import file_name
    from nas.networks.architecture import MAX_NAME
    from nas.runs.settings import Settings
    from nas.searching.preparation import load_again
    from nas.training.full_training import FullTraining, adapted
    from nas.training.recipe import Recipe

    def say(text: str) -> None:
        if not quiet:
            note(text)

    settings = Settings.load(run.path)
    with group.in_turn():
        data = load_again(run.path, settings, say, download=download)
    proxy = settings.recipe
    options = {name: getattr(proxy, name) for name in ("decay", "ema", "cutout", "randaugment")}
    recipe = Recipe.of(epochs, proxy.batch_size, proxy.learning_rate, **options)
    trials = run.front()
    for rank, trial in enumerate(trials, 1):
        name = file_name(trial, rank, _digits(trials))
        say(f"\ntraining {name} ({rank} of {len(trials)}), since a search keeps no weights")
        architecture, changes = adapted(dataclasses.replace(trial.architecture, name=name[:MAX_NAME]), data)
        training = FullTraining(
            folder / name,
            architecture,
            data,
            recipe,
            seed=settings.seed,
            device=device,
            precision=precision,
            group=group,
        )
        with training:
            if not training.finished:
                if not quiet:
                    print_settings(training, changes)
                run_epochs(training, quiet)
            training.result()
        if group.first:
            write_pages(folder / name)
    return folder


def front_starts(run: Run, weights: str | None, folder: Path) -> list[Start]:
    """The networks of a run's front, each with the weights of its training in the folder `weights`, fine-tuned in `folder`.

    UsageError if a network has no training there, or two.
    """
    from nas.interop.export.trials import file_name

    trials = run.front()
    if not trials:
        raise NasError(f"{run.path}: {run.no_front()}")
    if weights is None or not Path(weights).is_dir():
        raise UsageError(
            f"--weights {weights}: for a run, the folder that holds the trainings of its front; "
            "without --weights its networks are trained first"
        )
    trainings = _trainings(Path(weights))
    starts, missing = [], []
    for rank, trial in enumerate(trials, 1):
        name = file_name(trial, rank, _digits(trials))
        files = trainings.get(_design(trial.architecture), [])
        if len(files) > 1:
            both = " and ".join(str(file.parent) for file, _ in files[:2])
            raise UsageError(f"{both}: both hold weights of {name}; leave one of them in {weights}")
        if files:
            file, architecture = files[0]
            starts.append(Start(architecture, str(file), folder / name))
        else:
            missing.append(name)
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise UsageError(
            f"{weights}: holds no trained weights of {some}, {len(missing)} of {len(trials)} on the front; "
            "without --weights all of them are trained first"
        )
    return starts


def _trainings(folder: Path) -> Mapping[str, list[tuple[Path, Architecture]]]:
    """Weights and networks of the trainings in `folder` and its subfolders, by the digest of the network's design."""
    from nas.networks.architecture import Architecture
    from nas.training.full_training_folder import CONFIG, WEIGHTS

    trainings: dict[str, list[tuple[Path, Architecture]]] = {}
    for file in sorted([folder / WEIGHTS, *folder.glob(f"*/{WEIGHTS}")]):
        if file.is_file() and (file.parent / CONFIG).is_file():
            architecture = Architecture.from_yaml(file.parent / CONFIG)
            trainings.setdefault(_design(architecture), []).append((file, architecture))
    return trainings


def _design(architecture: Architecture) -> str:
    """A network's digest, independent of the images and classes to which it is adapted."""
    return architecture.adapted(classes=2, resolution=224, channels=1).digest


def _digits(trials: Sequence[Trial]) -> int:
    """The number of digits of the ranks in file names: equal, so that the names sort by rank."""
    return max(2, len(str(len(trials))))
