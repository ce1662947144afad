"""`nas compare`: several networks trained by one recipe, their errors and gradients on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.options import (
    data_options,
    device_options,
    examples,
    json_option,
    quiet_option,
    seed_option,
    step_options,
)
from nas.cli.commands.output import LINE_SECONDS
from nas.training.recipe import FULL_EPOCHS

if TYPE_CHECKING:
    from rich.progress import Progress

    from nas.training.comparison import Comparison, Entry
    from nas.training.comparison_records import Compared, Findings, Outcome, Point

GRADIENT_STEPS = 10
PAGE = "comparison.html"


@click.command(
    epilog=examples(
        "nas compare plain20 plain56 resnet20 resnet56 --dataset cifar10 --epochs 30 --gradients",
        "nas compare plain20 resnet20 --dataset digits --epochs 20 --repeats 3",
        "nas compare results/my-run/front/01-trial12.yaml resnet20 --dataset imagefolder:photos --resolution 64",
    )
)
@click.argument("networks", metavar="CONFIG|NAME...", nargs=-1, required=True)
@data_options
@click.option("--max-images", type=int, help="Use so many of the training images, an even share of each class.")
@click.option("--epochs", type=int, default=FULL_EPOCHS, show_default=True, help="Epochs of the recipe.")
@step_options()
@seed_option("weights, batches and split")
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Trainings of each network, with seeds that count up; the split stays.",
)
@click.option("--gradients", is_flag=True, help="Record and draw each layer's gradient norms.")
@device_options
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the comparison.  [default: results/compare-...]",
)
@json_option
@quiet_option
def compare(
    networks: tuple[str, ...],
    dataset: str,
    data_root: Path | None,
    download: bool,
    max_images: int | None,
    resolution: int | None,
    skip_corrupt: bool,
    epochs: int,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    repeats: int,
    gradients: bool,
    device: str,
    precision: str,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train networks by the same recipe and draw their training and validation errors on one page.

    CONFIG is an exported YAML or JSON file, NAME a published network; each is adapted to the data's images and classes. All
    see the same split of the training images, a tenth of which is held out for validation; the test images are not used.
    After an interruption the same command goes on behind the last epoch; with more networks or repeats it trains those.

    DIR then holds comparison.html and each network's config.yaml and result.json.
    """
    from nas.cli.commands.inputs import check_folder, read_architecture, slug
    from nas.cli.commands.output import note, print_json
    from nas.training.recipe import BASE_BATCH, Recipe

    def say(text: str) -> None:
        if not quiet:
            note(text)

    architectures = [read_architecture(network) for network in networks]
    # What is wrong with a number, or with the folder, is said before the data are read.
    Recipe.of(epochs, BASE_BATCH if batch_size is None else batch_size, lr)
    named = "-".join(slug(architecture.name) for architecture in architectures)
    folder = out or Path("results") / slug(
        f"compare-{slug(dataset)}-{epochs}epochs-seed{seed}{'-gradients' if gradients else ''}-{named}"
    )
    check_folder(folder)

    from nas.data import load

    data = load(
        dataset,
        root=data_root,
        download=download,
        max_images=max_images,
        resolution=resolution,
        skip_corrupt=skip_corrupt,
        progress=say,
    )

    from nas.report.comparison.page import write
    from nas.training.comparison import Comparison
    from nas.training.full_training import adapted, held_out

    images = len(held_out(data, seed).train_index)
    recipe = Recipe.for_images(images, epochs, batch_size, lr)
    fitted = [adapted(architecture, data) for architecture in architectures]
    page = folder / PAGE
    with Comparison(
        folder,
        [network for network, _ in fitted],
        data,
        recipe,
        seed=seed,
        repeats=repeats,
        gradient_steps=GRADIENT_STEPS if gradients else 0,
        device=device,
        precision=precision,
    ) as comparison:
        if not quiet:
            _introduce(comparison, {network.name: changes for network, changes in fitted})
        _train(comparison, page, quiet)
        findings = comparison.findings()
    write(findings, page)
    if as_json:
        print_json({"page": str(page), "folder": str(folder), **findings.to_dict()})
    else:
        _conclude(findings, page)


def _introduce(comparison: Comparison, changes: dict[str, list[str]]) -> None:
    from nas.cli.commands.output import note
    from nas.networks.build import cost_of
    from nas.networks.describe import describe
    from nas.utils.text import counted, format_count

    for name, network in comparison.networks.items():
        cost = cost_of(network)
        adapted = f"; adapted: {', '.join(changes[network.name])}" if changes[network.name] else ""
        counts = f"{format_count(cost.params)} params, {format_count(cost.macs)} MACs"
        note(f"network: {name}: {describe(network)}; {counts}{adapted}")
    data, recipe = comparison.findings().dataset, comparison.recipe
    note(f"data: {data['source']}")
    note(f"images: {data['train_images']:,} to train on, {data['validation_images']:,} for validation")
    note(
        f"recipe: {counted(recipe.epochs, 'epoch')}, {recipe.batch_size} images a step, learning rate {recipe.learning_rate:g}, "
        f"{comparison.precision} on {comparison.device}"
    )
    for remark in recipe.remarks(data["train_images"], data["validation_images"], comparison.dataset.resolution):
        note(remark)
    total, missing = len(comparison.entries), len(comparison.missing())
    if missing < total:
        note(f"{total - missing} of {total} trainings are done already")


def _train(comparison: Comparison, page: Path, quiet: bool) -> None:
    """Train what is missing; the page is written anew behind each training, so that what is known can be looked at."""
    from nas.cli.commands.output import console, progress_bar
    from nas.report.comparison.page import write
    from nas.training.comparison_records import Outcome

    terminal = not quiet and console(stderr=True).is_terminal
    bar = progress_bar() if terminal else None
    display = _Display(comparison, bar, quiet)
    try:
        with bar or nullcontext():
            for entry, news in comparison.train():
                if isinstance(news, Outcome):
                    display.ended(entry, news)
                    write(comparison.findings(), page)
                else:
                    display.epoch(entry, news)
    except KeyboardInterrupt:
        done = len(comparison.entries) - len(comparison.missing())
        raise KeyboardInterrupt(
            f"interrupted after {done} of {len(comparison.entries)} trainings; the same command goes on from there"
        ) from None


class _Display:
    """Progress: one line that changes on a terminal; elsewhere a line an epoch, or one every 10 seconds; or nothing.

    What is left is told by the seconds that a multiply-add took so far, so that a deep network counts for more.
    """

    def __init__(self, comparison: Comparison, bar: Progress | None, quiet: bool) -> None:
        from nas.networks.build import cost_of

        self._bar, self._quiet = bar, quiet
        self._task = bar.add_task("", total=None, figures="the first epoch is under way") if bar else None
        self._epochs = comparison.recipe.epochs
        self._macs = {name: cost_of(network).macs for name, network in comparison.networks.items()}
        missing = comparison.missing()
        self._place = {(entry.name, entry.seed): place for place, entry in enumerate(missing, 1)}
        self._left = {(entry.name, entry.seed): self._epochs for entry in missing}
        self._seeds = comparison.repeats > 1
        self._last = self._line = time.monotonic()
        self._spent = self._done = 0.0

    def epoch(self, entry: Entry, point: Point) -> None:
        from nas.utils.text import format_percent, format_seconds, printable

        now = time.monotonic()
        self._spent, self._last = self._spent + now - self._last, now
        self._done += self._macs[entry.name]
        self._left[entry.name, entry.seed] = self._epochs - point.epoch.number
        ahead = sum(epochs * self._macs[name] for (name, _), epochs in self._left.items())
        figures = (
            f"train error {format_percent(point.train_error)} %, validation error {format_percent(point.validation_error)} %, "
            f"{point.epoch.images_per_second:,.0f} images/s"
        )
        if ahead:
            figures += f", {format_seconds(ahead * self._spent / self._done)} left"
        where = f"{self._called(entry)} ({self._place[entry.name, entry.seed]}/{len(self._place)})"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, total=self._epochs, completed=point.epoch.number, figures=printable(f"{where}: {figures}")
            )
        elif now - self._line >= LINE_SECONDS or point.epoch.number in (1, self._epochs):
            self._line = now
            self._say(f"{where}: epoch {point.epoch.number}/{self._epochs}: {figures}")

    def ended(self, entry: Entry, outcome: Outcome) -> None:
        self._left[entry.name, entry.seed] = 0
        self._last = time.monotonic()
        if outcome.state != "complete":
            self._say(f"{self._called(entry)}: {outcome.state}: {outcome.reason}")

    def _called(self, entry: Entry) -> str:
        return f"{entry.name}, seed {entry.seed}" if self._seeds else entry.name

    def _say(self, text: str) -> None:
        from nas.cli.commands.output import note
        from nas.utils.text import printable

        if self._bar is not None:
            self._bar.console.print(printable(text), markup=False)
        elif not self._quiet:
            note(text)


def _conclude(findings: Findings, page: Path) -> None:
    from nas.cli.commands.output import MACS_NOTE, print_table, say
    from nas.report.comparison.page import degradations, measured
    from nas.utils.text import shown

    columns = ("Network", ">Train error, %", ">Val. error, %", ">Params", ">MACs", ">Time", "Note")
    print_table(columns, [_row(network, findings.repeats) for network in findings.networks])
    say()
    if findings.repeats > 1:
        say("Mean ± standard deviation over the complete trainings; time is of all of them.")
    say(f"{measured(findings)} {MACS_NOTE}")
    for sentence in degradations(findings):
        say(sentence)
    click.echo(f"page: {shown(page.absolute())}")


def _row(network: Compared, repeats: int) -> Sequence[str]:
    from nas.report.comparison.page import spread, troubles
    from nas.utils.text import format_count, format_seconds

    cost = network.cost
    return (
        network.name,
        spread(network.train_errors),
        spread(network.validation_errors),
        format_count(cost.params),
        format_count(cost.macs),
        format_seconds(sum(outcome.seconds for outcome in network.outcomes)),
        troubles(network, repeats),
    )
