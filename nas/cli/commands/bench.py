"""`nas bench`: samplers compared on a table of trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.options import GroupedCommand, examples, json_option, option, quiet_option, seed_option

if TYPE_CHECKING:
    from nas.bench.folder import Folder
    from nas.bench.replay import Repeat

PAGE, SUMMARY, TRIALS = "bench.html", "summary.json", "trials.csv"


class Names(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases of click
    """Names, separated by commas."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(word.strip() for word in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name between its commas", param, ctx)
        return names


class Shares(click.ParamType):  # type: ignore[type-arg]
    """Numbers in (0, 1], separated by commas."""

    name = "shares"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            shares = tuple(float(word) for word in str(value).split(","))
        except ValueError:
            shares = (0.0,)
        if not all(0 < share <= 1 for share in shares):
            self.fail(f"{value!r} must be shares above 0 and at most 1, as 0.9,0.95", param, ctx)
        return shares


NAMES, SHARES = Names(), Shares()


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `nas bench` that determine the table and the studies."""

    source: str
    samplers: tuple[str, ...] | None
    budget: int
    repeats: int
    choices: tuple[str, ...]
    split: tuple[str, ...]
    categorical: tuple[str, ...]
    accuracy: tuple[str, ...]
    score: str
    costs: tuple[str, ...]
    infeasible: str
    floor: float
    levels: tuple[float, ...]
    parallel: int
    asks: int
    seed: int
    jobs: int | None


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas bench --table nas-bench-macro --repeats 5",
        "nas bench --table nas-bench-macro --costs flops --samplers known-cost,tpe,gp --out results/bench-flops",
        "nas bench --table cells.csv --split ops --accuracy val_acc --costs macs,params --parallel 16",
        "nas bench --table nas-bench-macro --samplers known-cost,known-cost:exploration=0",
    ),
)
@option(
    "Table",
    "--table",
    "source",
    metavar="FILE|NAME",
    required=True,
    help="A CSV file, or nas-bench-macro, which is included.",
)
@option(
    "Table", "--choices", type=NAMES, default=(), metavar="COLUMNS", help="The design choices.  [default: inferred]"
)
@option(
    "Table", "--split", type=NAMES, default=(), metavar="COLUMNS", help="Words of which each character is a choice."
)
@option(
    "Table",
    "--categorical",
    type=NAMES,
    default=(),
    metavar="COLUMNS",
    help="Choices whose numbers are codes, without order.",
)
@option(
    "Table",
    "--accuracy",
    type=NAMES,
    default=(),
    metavar="COLUMNS",
    help="Accuracies, one per seed.  [default: inferred]",
)
@option(
    "Table", "--score", default="", metavar="COLUMN", help="The score of a network.  [default: mean of the accuracies]"
)
@option(
    "Table", "--costs", type=NAMES, default=(), metavar="COLUMNS", help="Costs to minimise.  [default: all known costs]"
)
@option(
    "Table",
    "--infeasible",
    default="",
    metavar="COLUMN",
    help="True in rows that can't be trained; they are treated as missing from the table.",
)
@option(
    "Studies",
    "--samplers",
    type=NAMES,
    metavar="NAMES",
    help="Some of those listed above; NAME:option=value changes an option of one.  [default: all but gp and qlognehvi]",
)
@option(
    "Studies",
    "--budget",
    type=click.IntRange(1, 100_000),
    default=150,
    show_default=True,
    help="Networks that a study trains.",
)
@option(
    "Studies",
    "--repeats",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Studies of each sampler.",
)
@option(
    "Studies",
    "--parallel",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Number of simultaneous trainings.",
)
@option(
    "Studies",
    "--asks",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Useless proposals in a row before a random network is taken.",
)
@seed_option("all random choices", "Studies")
@option("Studies", "--jobs", type=click.IntRange(1, 1024), help="Processes.  [default: one per core]")
@option(
    "Studies",
    "--floor",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Networks with a score below this quantile don't count.",
)
@option(
    "Studies",
    "--levels",
    type=SHARES,
    default=(),
    metavar="SHARES",
    help="Count evaluations until these shares are reached, for example 0.9,0.95.",
)
@option(
    "Output",
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Keep repeats, summary and page; continue with the repeats in DIR.",
)
@json_option
@quiet_option
def bench(out: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare samplers on a table of trained networks.

    Each sampler's studies are replayed: a row of the table replaces each training. That needs no GPU, and a few seconds a
    study. Samplers: known-cost, random, tpe, nsga2-20, nsga2-50, nsga3, gp, evolution, local, qlognehvi (needs
    BoTorch). docs/bench.md describes the protocol.

    DIR then holds repeats.jsonl, trials.csv, summary.json and bench.html. The same command continues after an interruption;
    with more samplers or repeats it runs the additional ones.
    """
    from nas.bench.folder import Folder
    from nas.bench.page import page
    from nas.bench.replay import Protocol
    from nas.bench.samplers import DEFAULT
    from nas.bench.summary import summary
    from nas.bench.table import Columns, read
    from nas.bench.trials import trials
    from nas.cli.commands.inputs import check_folder
    from nas.cli.commands.output import note, print_json
    from nas.utils.files import write_json, write_text
    from nas.utils.limits import available_cores

    asked = Options(**options)
    if out is not None:
        check_folder(out)
    columns = Columns(
        asked.choices, asked.split, asked.categorical, asked.accuracy, asked.score, asked.costs, asked.infeasible
    )
    table = read(asked.source, columns)
    protocol = Protocol(asked.budget, asked.parallel, asked.asks, asked.floor, asked.seed)
    with Folder(out, table, protocol, asked.samplers or DEFAULT, asked.repeats) as folder:
        if not quiet:
            note(table.describe())
        _run(folder, asked.jobs or available_cores(), quiet)
        about = summary(folder, asked.levels)
        if out is not None:
            write_json(out / SUMMARY, about)
            write_text(out / TRIALS, trials(folder))
            write_text(out / PAGE, page(folder, asked.levels))
    if as_json:
        print_json({"page": str(out / PAGE) if out else None, **about})
    else:
        _conclude(folder, asked.levels, out)


def _run(folder: Folder, jobs: int, quiet: bool) -> None:
    """Run the missing repeats; without a terminal, each is a line."""
    from nas.cli.commands.reporter import Reporter
    from nas.utils.text import format_seconds

    missing = folder.missing()
    total = len(folder.names) * folder.repeats
    if not missing:
        return
    reporter = Reporter("the first repeats are running", len(missing), quiet=quiet)
    if len(missing) < total:
        reporter.say(f"{total - len(missing)} of {total} repeats are done already")
    eta = _Eta(missing, min(jobs, len(missing)))
    ended = 0
    try:
        with reporter:
            for repeat in folder.run(jobs):
                ended += 1
                left = eta.left(repeat)
                share, seconds = 100 * repeat.hypervolume[-1], format_seconds(repeat.seconds)
                figures = f"{repeat.sampler}, repeat {repeat.repeat}: {share:.2f} % in {seconds}"
                if ended < len(missing):
                    figures += f", {format_seconds(left)} left"
                reporter.show(figures, f"{ended}/{len(missing)} {figures}", done=ended, every=0)
    except KeyboardInterrupt:
        advice = "the same command continues from there" if folder.path else "with --out it could continue"
        raise KeyboardInterrupt(f"interrupted after {ended} of {len(missing)} repeats; {advice}") from None


class _Eta:
    """Remaining seconds, from the mean seconds of each sampler; a sampler without a repeat counts as the mean of the others."""

    def __init__(self, missing: list[tuple[str, int]], jobs: int) -> None:
        self._left = [name for name, _ in missing]
        self._jobs = jobs
        self._seconds: dict[str, list[float]] = {}

    def left(self, repeat: Repeat) -> float:
        """The remaining seconds after this repeat."""
        self._left.remove(repeat.sampler)
        self._seconds.setdefault(repeat.sampler, []).append(repeat.seconds)
        means = {name: sum(seen) / len(seen) for name, seen in self._seconds.items()}
        usual = sum(means.values()) / len(means)
        return sum(means.get(name, usual) for name in self._left) / self._jobs


def _conclude(folder: Folder, asked: tuple[float, ...], out: Path | None) -> None:
    from nas.bench.page import head, protocol, rows
    from nas.bench.summary import curves, levels
    from nas.cli.commands.output import print_table, say
    from nas.utils.text import format_percent, shown

    by_sampler, budget = curves(folder), folder.protocol.budget
    wanted = levels(by_sampler, budget, asked)
    first, *others = head(budget, wanted)
    print_table([first, *(f">{column}" for column in others)], rows(by_sampler, budget, wanted))
    say()
    for level in wanted:
        say(f"{format_percent(level.share)} %: {level.why}.")
    for sentence in protocol(folder):
        say(sentence)
    if out is not None:
        click.echo(f"page: {shown((out / PAGE).absolute())}")
