"""Several networks trained by one recipe on one split of the data, one after another, in a folder: what `nas compare` does.

Two trainings differ only in the network and, with repeats, in the seed of weights and batches. The test split is not used.
After each epoch the error is measured in evaluation mode, without augmentation, on the validation split and on training
images. The running loss of an epoch would not do: it mixes weights of many steps with augmented images and dropped paths.

The folder holds `plan.json` (what all trainings share) and, for each network and seed, NAME/seedK with `config.yaml`,
`checkpoint.pt` between the epochs and `result.json` at the end. Each file is written atomically: the process may die at any
moment, and the next one resumes after the last completed epoch.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from nas.data import Dataset, subset
from nas.data.batches import Batches
from nas.errors import NasError, UsageError, reason_of
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.training.checkpointed_training import CheckpointedTraining
from nas.training.comparison_records import Compared, Findings, Outcome, Point, State
from nas.training.full_training import VALIDATION, held_out
from nas.training.full_training_folder import COMPARISON, CONFIG, LOCK, PLAN, busy, recipe_of
from nas.training.gradient_flow import Moment
from nas.training.gradient_norms import GradientWatch
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT
from nas.training.trainer import Diverged, Training, check_norms, evaluate
from nas.training.workspace import Workspace
from nas.utils.files import UnderLock, read_json, write_json, write_text, write_with
from nas.utils.validation import reading
from nas.utils.versions import versions

MEASURED = 10_000  # training images at most on which the training error is measured
VERSION = 1
_SAFE = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """One training of the comparison: a network, a seed and the training's folder."""

    name: str
    architecture: Architecture
    seed: int
    folder: Path


@dataclass(slots=True)
class _Progress:
    """What a training has recorded so far."""

    entry: Entry
    points: list[Point] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    watch: GradientWatch | None = None


class Comparison(UnderLock):
    """Networks being compared in a folder. A context manager: entering locks the folder and reads how far it is.

    >>> with Comparison(folder, networks, dataset, recipe) as comparison:
    ...     for entry, news in comparison.train():
    ...         print(entry.name, news)
    ...     findings = comparison.findings()

    networks: must fit the data's classes and channels (`nas.training.full_training.adapted`); images of another size are resized
    to a network's resolution. repeats: trainings of each network, from seeds `seed`, `seed` + 1, ...; the data are split by `seed`
    in all of them. gradient_steps: steps over which a moment of the gradient norms is averaged; 0 for none. precision: the same
    for all networks; `auto` is bf16 only if every network can use it. Networks and repeats can be added to a folder;
    UsageError if it holds a comparison that differs in anything else.
    """

    def __init__(
        self,
        folder: Path,
        networks: Sequence[Architecture],
        dataset: Dataset,
        recipe: Recipe,
        *,
        seed: int = 0,
        repeats: int = 1,
        gradient_steps: int = 0,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.folder = folder
        self.dataset = dataset
        self.recipe = recipe
        self.seed, self.repeats, self.gradient_steps = seed, repeats, gradient_steps
        self.data = held_out(dataset, seed)
        begun = read_json(folder / PLAN)
        if precision == "auto" and isinstance(begun, dict):
            precision = begun.get("precision", "auto")
        for network in networks:
            check_norms(network, min(recipe.batch_size, len(self.data.train_index)))
        self._bench = Workspace(self.data, recipe, device=device, precision=precision)
        precisions = {self._bench.precision(network) for network in networks}
        self.precision = precisions.pop() if len(precisions) == 1 else "fp32"
        self.networks = _named(networks)
        self.entries = tuple(
            Entry(name, network, one, folder / _folder_name(name) / f"seed{one}")
            for one in range(seed, seed + repeats)
            for name, network in self.networks.items()
        )
        part = subset(dataset.y_train[self.data.train_index], MEASURED, seed=0)
        self._measured_index = self.data.train_index[part]
        self._outcomes: dict[tuple[str, int], Outcome] = {}

    def _enter(self) -> None:
        self._take(self.folder, LOCK, busy(self.folder))
        self._begin()

    @property
    def device(self) -> str:
        device = self._bench.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def missing(self) -> tuple[Entry, ...]:
        """The trainings that have not ended, in the order in which they will run."""
        return tuple(entry for entry in self.entries if (entry.name, entry.seed) not in self._outcomes)

    def train(self) -> Iterator[tuple[Entry, Point | Outcome]]:
        """Train what is missing, yielding a `Point` after each epoch and an `Outcome` after each training.

        A network that diverges, doesn't fit into memory or can't run gets an `Outcome` with the reason, and the next one is
        trained. Failures other than divergence are retried when the comparison is entered again.
        """
        for entry in self.missing():
            yield from self._train(entry)

    def findings(self) -> Findings:
        """What is known so far."""
        seeds = range(self.seed, self.seed + self.repeats)
        networks = tuple(
            Compared(name, network, tuple(self._outcomes[name, one] for one in seeds if (name, one) in self._outcomes))
            for name, network in self.networks.items()
        )
        data = {
            "name": self.dataset.name,
            "source": self.dataset.source,
            "fingerprint": self.dataset.fingerprint,
            "resolution": self.dataset.resolution,
            "train_images": len(self.data.train_index),
            "measured_train_images": len(self._measured_index),
            "validation_images": len(self.data.validation_index),
        }
        return Findings(
            dataset=data,
            recipe=self.recipe,
            seed=self.seed,
            repeats=self.repeats,
            gradient_steps=self.gradient_steps,
            device=self.device,
            precision=self.precision,
            versions=versions(),
            networks=networks,
        )

    # -- one training ------------------------------------------------------------------------------------------------

    def _train(self, entry: Entry) -> Iterator[tuple[Entry, Point | Outcome]]:
        write_text(entry.folder / CONFIG, entry.architecture.to_yaml())
        progress = _Progress(entry)
        state: State = "complete"
        reason = ""
        start, save = partial(self._start, progress), partial(self._save, progress)
        held = CheckpointedTraining(self._bench, start, save, whole=True)  # smaller parts would be other statistics
        try:
            for point in held.epochs(partial(self._epoch, progress)):
                yield entry, point
        except Diverged as error:
            state, reason = "diverged", str(error)
        except NasError:
            raise  # such as a full disk: not a property of the network
        except torch.OutOfMemoryError as error:
            state, reason = "failed", f"out of memory on {self.device}: {reason_of(error, first_line=True)}"
        except RuntimeError as error:
            if "CUDA error" in str(error):
                raise  # the CUDA context is lost: only a new process can continue
            state, reason = "failed", reason_of(error, first_line=True)
        finally:
            held.close()  # the next network needs the memory
        layers = progress.watch.layers if progress.watch else ()
        outcome = Outcome(entry.seed, state, reason, tuple(progress.points), layers, tuple(progress.moments))
        self._outcomes[entry.name, entry.seed] = outcome
        if state != "failed":
            about = {"name": entry.name, "digest": entry.architecture.digest, "finished": time.time()}
            write_json(entry.folder / RESULT, {**about, **outcome.to_dict(), "versions": versions()})
            (entry.folder / CHECKPOINT).unlink(missing_ok=True)
        yield entry, outcome

    def _start(self, progress: _Progress, micro_batch: int | None) -> Training:
        entry = progress.entry
        network = build(entry.architecture, seed=entry.seed)
        training = Training(network, *self._bench.batches(entry.seed), self.recipe, self.precision)
        self._resume(progress, training)
        if self.gradient_steps:
            progress.watch = GradientWatch(training.network, len(training.train_batches), self.gradient_steps)
            training.after_backward = progress.watch.after_backward
        return training

    def _epoch(self, progress: _Progress, training: Training) -> Point:
        if progress.watch is not None:
            progress.watch.begin(training.done + 1)
        try:
            epoch = training.epoch()
        finally:
            if progress.watch is not None:
                progress.moments += progress.watch.end()
        measured = self._measured.at(progress.entry.architecture.resolution)
        loss, accuracy = evaluate(training.network, measured, self.precision)
        if not math.isfinite(loss):
            raise Diverged(f"the loss on training images became {loss} after epoch {epoch.number}")
        progress.points.append(Point(epoch, loss, accuracy))
        return progress.points[-1]

    @cached_property
    def _measured(self) -> Batches:
        """The training images on which the training error is measured, without augmentation."""
        data = self.data
        return Batches(
            data.x[self._measured_index],
            data.y[self._measured_index],
            mean=data.mean,
            std=data.std,
            batch_size=4 * self.recipe.batch_size,
            device=self._bench.device,
        )

    # -- the folder --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Write the plan, or compare it with the existing one; then read the results."""
        path, plan = self.folder / PLAN, self._plan()
        if not path.exists():
            strangers = [name for name in (CONFIG, RESULT, CHECKPOINT, "run.yaml") if (self.folder / name).exists()]
            if strangers:
                raise UsageError(
                    f"{self.folder}: holds a {strangers[0]} that is no comparison's; choose another folder with --out"
                )
            write_json(path, plan)
        begun = read_json(path)
        if not isinstance(begun, dict) or begun.get("kind") != plan["kind"] or begun.get("version") != VERSION:
            raise UsageError(f"{path}: not the plan of a comparison of this version; choose another folder with --out")
        begun = {**begun, **recipe_of({"recipe": begun})}  # plans of earlier versions lack newer fields
        differences = [
            f"{name} is {begun.get(name)}, not {value}" for name, value in plan.items() if begun.get(name) != value
        ]
        if differences:
            raise UsageError(
                f"{self.folder}: holds another comparison: {'; '.join(differences)}; choose another folder with --out"
            )
        for entry in self.entries:
            self._read(entry)

    def _plan(self) -> dict[str, object]:
        return {
            "kind": COMPARISON,
            "version": VERSION,
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            **self.recipe.to_dict(),
            "validation": VALIDATION,
            "seed": self.seed,
            "precision": self.precision,
            "gradient_steps": self.gradient_steps,
        }

    def _read(self, entry: Entry) -> None:
        """Read the outcome of a training that has ended; UsageError if the folder holds another network."""
        config = entry.folder / CONFIG
        if config.exists() and (digest := Architecture.from_yaml(config).digest) != entry.architecture.digest:
            raise UsageError(
                f"{entry.folder}: holds another network, {digest}, not {entry.architecture.digest}; "
                "choose another folder with --out"
            )
        result = read_json(entry.folder / RESULT)
        if isinstance(result, dict):
            with reading(str(entry.folder / RESULT)):
                outcome = Outcome.from_dict(result)
                widths = {len(norms) for moment in outcome.moments for norms in (moment.outputs, moment.weights)}
                if (outcome.state == "complete" and not outcome.points) or widths - {len(outcome.layers)}:
                    raise UsageError("its points, layers and gradients don't fit together")
            self._outcomes[entry.name, entry.seed] = outcome

    def _resume(self, progress: _Progress, training: Training) -> None:
        path = progress.entry.folder / CHECKPOINT
        if path.exists():
            state = self._load(path)
            try:
                training.load(state["training"])
                progress.points = [Point.from_dict(point) for point in state["points"]]
                progress.moments = [Moment.from_dict(moment) for moment in state["moments"]]
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, UsageError) as error:
                raise _unreadable(path, error) from error

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(path, map_location=self._bench.device, weights_only=True)
        except Exception as error:  # torch raises nearly every type on bytes that are no checkpoint
            raise _unreadable(path, error) from error
        return state

    def _save(self, progress: _Progress, training: Training) -> None:
        if training.done == self.recipe.epochs:
            return  # the result follows at once
        state = {
            "training": training.state(),
            "points": [point.to_dict() for point in progress.points],
            "moments": [moment.to_dict() for moment in progress.moments],
        }
        write_with(progress.entry.folder / CHECKPOINT, lambda file: torch.save(state, file))


def _named(networks: Sequence[Architecture]) -> dict[str, Architecture]:
    """The networks by names under which no two share a folder. UsageError if two are the same network."""
    first: dict[str, str] = {}
    for network in networks:
        cost_of(network)  # raises for inconsistent architectures before anything is trained
        if network.digest in first:
            raise UsageError(
                f"{first[network.digest]} and {network.name} are the same network on these data; name it once"
            )
        first[network.digest] = network.name
    names = [_folder_name(network.name).lower() for network in networks]
    often = Counter(names)
    return {
        network.name if often[name] == 1 else f"{network.name} {network.digest[:6]}": network
        for name, network in zip(names, networks, strict=True)
    }


def _folder_name(name: str) -> str:
    """A network's folder name. Leading dots are removed, so that `..` can't lead out of the comparison's folder."""
    return _SAFE.sub("-", name).lstrip(".") or "unnamed"


def _unreadable(path: Path, error: BaseException) -> NasError:
    return NasError(f"{path}: can't be read ({reason_of(error, first_line=True)}); remove it to start over")
