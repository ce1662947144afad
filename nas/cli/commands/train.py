"""`nas train`: full training of one network, with its progress, in a folder in which it can go on."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from nas.cli.commands.options import (
    data_options,
    device_options,
    examples,
    json_option,
    one_argument,
    quiet_option,
    recipe_options,
    seed_option,
    step_options,
    stream_options,
)
from nas.cli.commands.output import LINE_SECONDS
from nas.training.recipe import FULL_EPOCHS

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture
    from nas.training.full_training import FullTraining
    from nas.training.records import Epoch

STEP_LINE_SECONDS = 60.0  # within an epoch
REFRESH_SECONDS = 0.5  # of a terminal


@click.command(
    epilog=examples(
        "nas train results/my-run/front/01-trial12-97.50acc-54.2kparams.yaml --dataset digits",
        "nas train resnet20 --dataset cifar10 --download --device cuda",
        "nas train resnet50 --dataset imagefolder:photos --resolution 224 --weights torchvision:resnet50 --lr 0.01",
        "nas train resnet50 --dataset imagefolder:imagenet --stream --workers 16 --epochs 100 --batch-size 256",
    )
)
@one_argument("config", "CONFIG|NAME", "`nas compare` trains several by one recipe")
@data_options
@click.option("--epochs", type=int, default=FULL_EPOCHS, show_default=True, help="Epochs of the recipe.")
@step_options()
@recipe_options
@click.option(
    "--micro-batch",
    metavar="N",
    type=click.IntRange(min=1),
    help="Images in memory at once; gradients are summed to a step's batch.  [default: all, fewer where memory is short]",
)
@seed_option("weights, batches and split")
@device_options
@click.option(
    "--weights",
    metavar="SOURCE",
    help="Start from these: FILE.safetensors or FILE.pth, ours, torchvision's or timm's, torchvision:NAME, or a folder of "
    "`nas train`.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the training.  [default: results/train-...]",
)
@stream_options
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's event files, too.")
@json_option
@quiet_option
def train(
    config: str,
    dataset: str,
    data_root: Path | None,
    download: bool,
    epochs: int,
    batch_size: int | None,
    lr: float | None,
    micro_batch: int | None,
    seed: int,
    device: str,
    precision: str,
    weights: str | None,
    resolution: int | None,
    out: Path | None,
    skip_corrupt: bool,
    stream: bool,
    workers: int | None,
    tensorboard: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a network with the full recipe, and test it once.

    CONFIG is an exported YAML or JSON file, or the name of a published network; it is adapted to the classes, channels and
    size of the data's images. A tenth of the training images is held out and shown as validation accuracy; the test
    images are used once, at the end. After an interruption the same command goes on behind the last epoch.

    DIR then holds weights.safetensors, config.yaml, result.json, log.csv and report.html: the curves, the accuracy of each
    class and what is taken for what.
    """
    from nas.cli.commands.inputs import (
        check_folder,
        check_no_search,
        read_architecture,
        read_images,
        slug,
        weights_file,
    )
    from nas.cli.commands.output import note, print_json
    from nas.training.recipe import BASE_BATCH, Recipe
    from nas.utils.text import shown

    def say(text: str) -> None:
        if not quiet:
            note(text)

    architecture = read_architecture(config)
    # What is wrong with a number, or with the folder, is said before the data are read.
    Recipe.of(epochs, BASE_BATCH if batch_size is None else batch_size, lr, **options)
    begun_from = "" if weights is None else f"-from-{slug(weights)}"
    name = f"train-{slug(architecture.name)}-{slug(dataset)}-{epochs}epochs-seed{seed}{begun_from}"
    folder = out or Path("results") / name
    check_folder(folder)
    check_no_search(folder)
    if tensorboard:
        from nas.report.training.page import check_tensorboard

        check_tensorboard()

    from nas.training.distributed import joined

    with joined(device) as (group, own):
        quiet = quiet or not group.first
        with group.in_turn():  # what the first one downloads or decodes is there for the others
            start = None
            if weights is not None:
                from nas.networks.weights import read

                start = read(weights_file(weights), progress=not quiet)

            data = read_images(
                dataset,
                stream=stream,
                workers=workers,
                root=data_root,
                download=download,
                resolution=resolution,
                skip_corrupt=skip_corrupt,
                progress=None if quiet else say,
            )

        from nas.training.full_training import FullTraining, adapted, held_out

        images = len(held_out(data, seed).train_index)
        recipe = Recipe.for_images(images, epochs, batch_size, lr, **options)
        network, changes = adapted(architecture, data)
        with FullTraining(
            folder,
            network,
            data,
            recipe,
            seed=seed,
            device=own,
            precision=precision,
            weights=start,
            micro_batch=micro_batch,
            workers=workers,
            group=group,
        ) as training:
            if not training.finished:
                if not quiet:
                    introduce(training, changes)
                run_epochs(training, quiet, tensorboard)
            else:
                say(f"{shown(folder.absolute())}: trained and tested already; this is its result")
                if tensorboard and group.first:
                    from nas.report.training.page import write_tensorboard

                    write_tensorboard(folder)
            result = training.result()
        if not group.first:
            return
    leave(folder)
    if as_json:
        print_json(result)
    else:
        conclude(result, shown(folder.absolute()))


def introduce(training: FullTraining, changes: list[str]) -> None:
    from nas.cli.commands.output import note
    from nas.data import Streamed
    from nas.networks.build import cost_of
    from nas.networks.describe import describe
    from nas.utils.text import counted, format_count

    network, recipe, data = training.architecture, training.recipe, training.data
    cost = cost_of(network)
    note(
        f"network: {network.name}: {describe(network)}; {format_count(cost.params)} params, {format_count(cost.macs)} MACs"
    )
    if training.records:
        note(f"goes on behind epoch {len(training.records)}")
    if changes:
        note(f"adapted to the data: {', '.join(changes)}")
    if warning := _shrunk(network):
        note(warning)
    if training.weights is not None and training.fitted is not None:
        note(
            "; ".join(
                (f"weights: {training.weights.source}, by {training.fitted.family} names", *training.fitted.notes)
            )
        )
    note(f"data: {training.dataset.source}")
    if isinstance(training.dataset, Streamed):
        note(f"crops: boxes of 8 to 100 % of an image, centres for evaluation; workers that decode: {training.workers}")
    note(
        f"images: {len(data.train_index):,} to train on, {len(data.validation_index):,} for validation, "
        f"{len(training.dataset.y_test):,} for the test at the end"
    )
    note(
        f"recipe: {counted(recipe.epochs, 'epoch')}, {recipe.batch_size} images a step, learning rate {recipe.learning_rate:g}, "
        f"{training.precision} on {training.device}"
        + (f", {training.group.size} processes with a part of each step's images" if training.group.size > 1 else "")
    )
    for remark in training.remarks:
        note(remark)


def _shrunk(network: Architecture) -> str:
    """A warning if whole stages see a single pixel, as those of an ImageNet network do on small images; else ''."""
    from nas.networks.build import costs_by_piece

    stages = costs_by_piece(network)[:-1]
    single = [row.name for row in stages[:-1] if row.output.height == 1]
    if not single:
        return ""
    return f"note: behind its {single[0]} the features are 1 × 1 px; this network is made for larger images (see --resolution)"


def run_epochs(training: FullTraining, quiet: bool, tensorboard: bool = False) -> None:
    """The epochs that are missing, each with its line of progress and its row of the log."""
    from nas.cli.commands.output import console, note
    from nas.report.training.page import write_csv, write_tensorboard

    terminal = not quiet and console(stderr=True).is_terminal
    display = _Bar(training) if terminal else _Lines(training, quiet)
    training.on_step = display.step
    at_once = training.asked_micro_batch  # less may have been chosen by now, from what memory is predicted to hold
    tensorboard = tensorboard and training.group.first
    if tensorboard:
        write_tensorboard(training.folder, training.records)
    try:
        with display:
            for epoch in training.epochs():
                if training.micro_batch != at_once and not quiet:
                    note(
                        f"memory of {training.device} is short: {training.micro_batch} images at once from here on, "
                        f"gradients summed to steps of {training.recipe.batch_size}"
                    )
                at_once = training.micro_batch
                if not training.group.first:
                    continue
                write_csv(training.folder, training.records)
                if tensorboard:
                    write_tensorboard(training.folder, training.records[-1:])
                display.show(epoch)
    except KeyboardInterrupt:
        # What is kept, and not what is trained: it may have come while an epoch was saved.
        done, epochs = training.kept(), training.recipe.epochs
        raise KeyboardInterrupt(
            f"interrupted after epoch {done} of {epochs}; the same command goes on from there"
        ) from None


def leave(folder: Path) -> None:
    """The log and the page of a training that came to its end; they follow from its result, and replace older ones."""
    from nas.report.training.page import write, write_csv

    write_csv(folder)
    write(folder)


class _Pace:
    """Seconds that are left, by the mean of the last epochs; within the first one, by its steps.

    begun: the epoch that is under way, from 1.
    """

    def __init__(self, epochs: int, done: int) -> None:
        self.epochs = epochs
        self.begun = done + 1
        self._recent: deque[float] = deque(maxlen=20)
        self._started = time.monotonic()

    def left(self, epoch: Epoch) -> str:
        from nas.utils.text import format_seconds

        self.begun = epoch.number + 1
        self._started = time.monotonic()
        self._recent.append(epoch.seconds)
        return format_seconds((self.epochs - epoch.number) * sum(self._recent) / len(self._recent))

    def left_within(self, step: int, steps: int) -> str:
        """The same behind a step of an epoch."""
        from nas.utils.text import format_seconds

        so_far = time.monotonic() - self._started
        whole = sum(self._recent) / len(self._recent) if self._recent else so_far * steps / step
        return format_seconds((self.epochs - self.begun) * whole + max(whole * (1 - step / steps), 0))


class _Lines(AbstractContextManager["_Lines"]):
    """Progress where there is no terminal: a line an epoch, or one every 10 seconds where epochs are quick; or nothing."""

    def __init__(self, training: FullTraining, quiet: bool) -> None:
        self._training, self._quiet = training, quiet
        self._pace = _Pace(training.recipe.epochs, len(training.records))
        self._last = 0.0
        self._last_step = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def step(self, step: int, steps: int) -> None:
        """A line a minute, within epochs that take longer."""
        from nas.cli.commands.output import note

        now = time.monotonic()
        if self._quiet or now - self._last_step < STEP_LINE_SECONDS:
            return
        self._last_step = now
        left = self._pace.left_within(step, steps)
        note(f"epoch {self._pace.begun}/{self._pace.epochs}: {step:,} of {steps:,} steps, {left} left")

    def show(self, epoch: Epoch) -> None:
        from nas.cli.commands.output import note
        from nas.utils.text import format_percent

        left = self._pace.left(epoch)
        now = self._last_step = time.monotonic()
        last = epoch.number == self._pace.epochs
        if self._quiet or (now - self._last < LINE_SECONDS and not last):
            return
        self._last = now
        note(
            f"epoch {epoch.number}/{self._pace.epochs}: loss {epoch.train_loss:.4f}, validation {format_percent(epoch.accuracy)} %, "
            f"{epoch.images_per_second:,.0f} images/s" + ("" if last else f", {left} left")
        )


class _Bar(AbstractContextManager["_Bar"]):
    """Progress on a terminal: one line that changes."""

    def __init__(self, training: FullTraining) -> None:
        from nas.cli.commands.output import progress_bar

        self._pace = _Pace(training.recipe.epochs, len(training.records))
        self._progress = progress_bar()
        begun, done = self._pace.begun, len(training.records)
        figures = f"epoch {begun} is under way"
        self._task = self._progress.add_task("", total=self._pace.epochs, completed=done, figures=figures)
        self._figures = ""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, step: int, steps: int) -> None:
        """The steps of an epoch that is slow enough to have them seen."""
        if (now := time.monotonic()) - self._last < REFRESH_SECONDS:
            return
        self._last = now
        figures = f"{step:,}/{steps:,} steps  {self._pace.left_within(step, steps)} left"
        self._progress.update(self._task, figures=f"{self._figures}  {figures}" if self._figures else figures)

    def show(self, epoch: Epoch) -> None:
        from nas.utils.text import format_percent

        figures = self._figures = (
            f"loss {epoch.train_loss:.3f}  val {format_percent(epoch.accuracy)} %  {epoch.images_per_second:,.0f} img/s"
        )
        if epoch.number < self._pace.epochs:
            figures += f"  {self._pace.left(epoch)} left"
        self._progress.update(self._task, completed=epoch.number, figures=figures)


def conclude(result: dict[str, Any], folder: str) -> None:
    from nas.utils.text import counted, format_percent, format_seconds

    test, validation = result["test"], result["validation"]
    click.echo(
        f"test accuracy {format_percent(test['accuracy'])} % on {test['images']:,} images "
        f"(standard error {format_percent(test['standard_error'])}; validation {format_percent(validation['accuracy'])} %), "
        f"after {counted(result['recipe']['epochs'], 'epoch')} in {format_seconds(result['seconds'])}"
    )
    click.echo(f"weights, config, log.csv and report.html: {folder}")
