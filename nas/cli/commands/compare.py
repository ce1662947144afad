"""`nas compare`: several networks trained by one recipe; their errors and gradients on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.options import (
    DataOptions,
    GroupedCommand,
    data_options,
    device_options,
    examples,
    json_option,
    option,
    pop_options,
    quiet_option,
    seed_option,
    step_options,
)
from nas.cli.commands.reporter import LINE_SECONDS
from nas.training.recipe import FULL_EPOCHS

if TYPE_CHECKING:
    from nas.data import Dataset
    from nas.networks.architecture import Architecture
    from nas.training.comparison import Comparison, Entry
    from nas.training.comparison_records import Compared, Findings, Outcome, Point

GRADIENT_STEPS = 10
PAGE = "comparison.html"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `nas compare` that other commands don't share."""

    data: DataOptions
    max_images: int | None
    epochs: int
    batch_size: int | None
    lr: float | None
    seed: int
    repeats: int
    gradients: bool
    device: str
    precision: str


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas compare plain20 plain56 resnet20 resnet56 --dataset cifar10 --epochs 30 --gradients",
        "nas compare plain20 resnet20 --dataset digits --epochs 20 --repeats 3",
        "nas compare results/my-run/front/01-trial12.yaml resnet20 --dataset imagefolder:photos --resolution 64",
    ),
)
@click.argument("networks", metavar="CONFIG|NAME...", nargs=-1, required=True)
@data_options
@option("Data", "--max-images", type=int, help="Use this many of the training images, an even share of each class.")
@option("Training", "--epochs", type=int, default=FULL_EPOCHS, show_default=True, help="Epochs of the recipe.")
@step_options()
@seed_option("weights, batches and split")
@option(
    "Training",
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Trainings of each network, with consecutive seeds and the same split.",
)
@option("Training", "--gradients", is_flag=True, help="Record and draw each layer's gradient norms.")
@device_options
@option(
    "Output",
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the comparison.  [default: results/compare-...]",
)
@json_option
@quiet_option
def compare(networks: tuple[str, ...], out: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train networks by the same recipe and draw their training and validation errors on one page.

    CONFIG is an exported YAML or JSON file, NAME a published network; each is adapted to the data's images and classes. All
    are trained on the same split of the training images, a tenth of which is held out for validation; the test images are
    not used. After an interruption the same command continues after the last epoch; with more networks or repeats it trains
    the additional ones.

    DIR then holds comparison.html and each network's config.yaml and result.json.
    """
    from nas.cli.commands.inputs import check_folder, read_architecture
    from nas.cli.commands.output import print_json
    from nas.training.recipe import BASE_BATCH, Recipe

    asked = Options(pop_options(DataOptions, options), **options)
    architectures = [read_architecture(network) for network in networks]
    # Wrong numbers and folders are reported before the data are read.
    Recipe.of(asked.epochs, BASE_BATCH if asked.batch_size is None else asked.batch_size, asked.lr)
    folder = out or Path("results") / _default_name(architectures, asked)
    check_folder(folder)
    findings, page = _compare(architectures, folder, asked, quiet)
    if as_json:
        print_json({"page": str(page), "folder": str(folder), **findings.to_dict()})
    else:
        _conclude(findings, page)


def _default_name(architectures: Sequence[Architecture], options: Options) -> str:
    from nas.cli.commands.inputs import slug

    names = "-".join(slug(architecture.name) for architecture in architectures)
    gradients = "-gradients" if options.gradients else ""
    return slug(f"compare-{slug(options.data.dataset)}-{options.epochs}epochs-seed{options.seed}{gradients}-{names}")


def _read(options: Options, quiet: bool) -> Dataset:
    from nas.cli.commands.output import note
    from nas.data import load

    data = options.data
    return load(
        data.dataset,
        root=data.data_root,
        download=data.download,
        max_images=options.max_images,
        resolution=data.resolution,
        skip_corrupt=data.skip_corrupt,
        progress=None if quiet else note,
    )


def _compare(
    architectures: Sequence[Architecture], folder: Path, options: Options, quiet: bool
) -> tuple[Findings, Path]:
    """Train what is missing in the folder, and write the page; the findings and the path of the page."""
    data = _read(options, quiet)

    from nas.report.comparison.page import write  # PyTorch takes long to load
    from nas.training.comparison import Comparison
    from nas.training.full_training import adapted, held_out
    from nas.training.recipe import Recipe

    images = len(held_out(data, options.seed).train_index)
    recipe = Recipe.for_images(images, options.epochs, options.batch_size, options.lr)
    fitted = [adapted(architecture, data) for architecture in architectures]
    page = folder / PAGE
    with Comparison(
        folder,
        [network for network, _ in fitted],
        data,
        recipe,
        seed=options.seed,
        repeats=options.repeats,
        gradient_steps=GRADIENT_STEPS if options.gradients else 0,
        device=options.device,
        precision=options.precision,
    ) as comparison:
        if not quiet:
            _introduce(comparison, {network.name: changes for network, changes in fitted})
        _train(comparison, page, quiet)
        findings = comparison.findings()
    write(findings, page)
    return findings, page


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
    """Train the missing networks; the page is rewritten after each training, so that it shows the present state."""
    from nas.report.comparison.page import write
    from nas.training.comparison_records import Outcome

    display = _Display(comparison, quiet)
    try:
        with display.reporter:
            for entry, news in comparison.train():
                if isinstance(news, Outcome):
                    display.ended(entry, news)
                    write(comparison.findings(), page)
                else:
                    display.epoch(entry, news)
    except KeyboardInterrupt:
        done = len(comparison.entries) - len(comparison.missing())
        raise KeyboardInterrupt(
            f"interrupted after {done} of {len(comparison.entries)} trainings; the same command continues from there"
        ) from None


class _Display:
    """Progress of a comparison, an epoch at a time.

    The remaining time is estimated from the mean seconds per multiply-add, so that a deep network counts for more.
    """

    def __init__(self, comparison: Comparison, quiet: bool) -> None:
        from nas.cli.commands.reporter import Reporter
        from nas.networks.build import cost_of

        self.reporter = Reporter("the first epoch is running", None, quiet=quiet)
        self._epochs = comparison.recipe.epochs
        self._macs = {name: cost_of(network).macs for name, network in comparison.networks.items()}
        missing = comparison.missing()
        self._place = {(entry.name, entry.seed): place for place, entry in enumerate(missing, 1)}
        self._left = {(entry.name, entry.seed): self._epochs for entry in missing}
        self._seeds = comparison.repeats > 1
        self._last = time.monotonic()
        self._spent = self._done = 0.0

    def epoch(self, entry: Entry, point: Point) -> None:
        from nas.utils.text import format_percent, format_seconds

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
        number = point.epoch.number
        every = 0 if number in (1, self._epochs) else LINE_SECONDS
        line = f"{where}: epoch {number}/{self._epochs}: {figures}"
        self.reporter.show(f"{where}: {figures}", line, done=number, total=self._epochs, every=every)

    def ended(self, entry: Entry, outcome: Outcome) -> None:
        self._left[entry.name, entry.seed] = 0
        self._last = time.monotonic()
        if outcome.state != "complete":
            self.reporter.say(f"{self._called(entry)}: {outcome.state}: {outcome.reason}")

    def _called(self, entry: Entry) -> str:
        return f"{entry.name}, seed {entry.seed}" if self._seeds else entry.name


def _conclude(findings: Findings, page: Path) -> None:
    from nas.cli.commands.output import MACS_NOTE, print_table, say
    from nas.report.comparison.page import degradations, measured
    from nas.utils.text import shown

    columns = ("Network", ">Train error, %", ">Val. error, %", ">Params", ">MACs", ">Time", "Note")
    print_table(columns, [_row(network, findings.repeats) for network in findings.networks])
    say()
    if findings.repeats > 1:
        say("Mean ± standard deviation over the complete trainings; time is the sum over all of them.")
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
