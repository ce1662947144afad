"""What a full training prints: its settings, its progress and its result. Used by `nas train` and `nas finetune`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture
    from nas.training.full_training import FullTraining
    from nas.training.records import Epoch

STEP_LINE_SECONDS = 60.0  # at least, between two lines within an epoch
REFRESH_SECONDS = 0.5  # of a terminal


def print_settings(training: FullTraining, changes: list[str]) -> None:
    """Network, data and recipe, on standard error; changes: how the network was adapted to the data."""
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
        note(f"continues after epoch {len(training.records)}")
    if changes:
        note(f"adapted to the data: {', '.join(changes)}")
    if warning := _single_pixel_warning(network):
        note(warning)
    if training.weights is not None and training.fitted is not None:
        names = f"weights: {training.weights.source}, by {training.fitted.family} names"
        note("; ".join((names, *training.fitted.notes)))
    note(f"data: {training.dataset.source}")
    if isinstance(training.dataset, Streamed):
        note(
            f"crops: boxes of 8 to 100 % of an image, center crops for evaluation; decoding processes: {training.workers}"
        )
    note(
        f"images: {len(data.train_index):,} to train on, {len(data.validation_index):,} for validation, "
        f"{len(training.dataset.y_test):,} for the test at the end"
    )
    processes = training.group.size
    note(
        f"recipe: {counted(recipe.epochs, 'epoch')}, {recipe.batch_size} images a step, learning rate {recipe.learning_rate:g}, "
        f"{training.precision} on {training.device}"
        + (f", {processes} processes with a part of each step's images" if processes > 1 else "")
    )
    for remark in training.remarks:
        note(remark)


def _single_pixel_warning(network: Architecture) -> str:
    """A warning if whole stages see a single pixel, as those of an ImageNet network do on small images; else ''."""
    from nas.networks.build import costs_by_piece

    stages = costs_by_piece(network)[:-1]
    single = [row.name for row in stages[:-1] if row.output.height == 1]
    if not single:
        return ""
    return f"note: after its {single[0]} the features are 1 × 1 px; this network is made for larger images (see --resolution)"


def run_epochs(training: FullTraining, quiet: bool, tensorboard: bool = False) -> None:
    """Train the missing epochs; each shows its progress and adds a row to the log."""
    from nas.report.training.page import write_csv, write_tensorboard

    display = _Display(training, quiet)
    training.on_step = display.step
    micro_batch = training.asked_micro_batch  # a predicted lack of memory may have made it smaller already
    tensorboard = tensorboard and training.group.first
    if tensorboard:
        write_tensorboard(training.folder, training.records)
    try:
        with display.reporter:
            for epoch in training.epochs():
                if training.micro_batch != micro_batch:
                    display.reporter.say(
                        f"memory of {training.device} is short: {training.micro_batch} images at once from here on, "
                        f"gradients summed to steps of {training.recipe.batch_size}"
                    )
                micro_batch = training.micro_batch
                if not training.group.first:
                    continue
                write_csv(training.folder, training.records)
                if tensorboard:
                    write_tensorboard(training.folder, training.records[-1:])
                display.epoch(epoch)
    except KeyboardInterrupt:
        # The epochs in the folder count, not those in memory: the interruption may have come while an epoch was saved.
        done, epochs = training.kept(), training.recipe.epochs
        raise KeyboardInterrupt(
            f"interrupted after epoch {done} of {epochs}; the same command continues from there"
        ) from None


def write_pages(folder: Path) -> None:
    """Write the log and the page of a finished training, from its result; older ones are replaced."""
    from nas.report.training.page import write, write_csv

    write_csv(folder)
    write(folder)


def print_result(result: Mapping[str, Any], folder: str) -> None:
    from nas.utils.text import counted, format_percent, format_seconds

    test, validation = result["test"], result["validation"]
    click.echo(
        f"test accuracy {format_percent(test['accuracy'])} % on {test['images']:,} images "
        f"(standard error {format_percent(test['standard_error'])}; validation {format_percent(validation['accuracy'])} %), "
        f"after {counted(result['recipe']['epochs'], 'epoch')} in {format_seconds(result['seconds'])}"
    )
    click.echo(f"weights, config, log.csv and report.html: {folder}")


class _Pace:
    """Remaining seconds, from the mean duration of the last epochs; in the first epoch, from its steps.

    current: the number of the current epoch, from 1.
    """

    def __init__(self, epochs: int, done: int) -> None:
        self.epochs = epochs
        self.current = done + 1
        self._recent: deque[float] = deque(maxlen=20)
        self._started = time.monotonic()

    def left(self, epoch: Epoch) -> str:
        """The remaining time after an epoch."""
        from nas.utils.text import format_seconds

        self.current = epoch.number + 1
        self._started = time.monotonic()
        self._recent.append(epoch.seconds)
        return format_seconds((self.epochs - epoch.number) * sum(self._recent) / len(self._recent))

    def left_within(self, step: int, steps: int) -> str:
        """The remaining time after a step of an epoch."""
        from nas.utils.text import format_seconds

        so_far = time.monotonic() - self._started
        whole = sum(self._recent) / len(self._recent) if self._recent else so_far * steps / step
        return format_seconds((self.epochs - self.current) * whole + max(whole * (1 - step / steps), 0))


class _Display:
    """Progress of a full training: an epoch at a time, and its steps if it takes long."""

    def __init__(self, training: FullTraining, quiet: bool) -> None:
        from nas.cli.commands.reporter import Reporter

        done = len(training.records)
        self._pace = _Pace(training.recipe.epochs, done)
        self.reporter = Reporter(f"epoch {self._pace.current} is running", self._pace.epochs, done, quiet=quiet)
        self._figures = ""
        self._last = time.monotonic()

    def step(self, step: int, steps: int) -> None:
        """The steps of an epoch, each `REFRESH_SECONDS` on a terminal, else in a line a minute."""
        now = time.monotonic()
        if now - self._last < (REFRESH_SECONDS if self.reporter.live else STEP_LINE_SECONDS):
            return
        self._last = now
        left = f"{self._pace.left_within(step, steps)} left"
        if self.reporter.live:
            figures = f"{step:,}/{steps:,} steps  {left}"
            self.reporter.show(f"{self._figures}  {figures}" if self._figures else figures, "")
        else:
            self.reporter.say(f"epoch {self._pace.current}/{self._pace.epochs}: {step:,} of {steps:,} steps, {left}")

    def epoch(self, epoch: Epoch) -> None:
        from nas.utils.text import format_percent

        left, last = f"{self._pace.left(epoch)} left", epoch.number == self._pace.epochs
        self._last = time.monotonic()
        accuracy, rate = format_percent(epoch.accuracy), f"{epoch.images_per_second:,.0f}"
        self._figures = f"loss {epoch.train_loss:.3f}  val {accuracy} %  {rate} img/s"
        line = f"epoch {epoch.number}/{self._pace.epochs}: loss {epoch.train_loss:.4f}, validation {accuracy} %, {rate} images/s"
        if last:
            self.reporter.show(self._figures, line, done=epoch.number, every=0)
        else:
            self.reporter.show(f"{self._figures}  {left}", f"{line}, {left}", done=epoch.number)
