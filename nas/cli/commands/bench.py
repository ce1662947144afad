"""`nas bench`: samplers compared on a table of trained networks."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.options import examples, json_option, quiet_option, seed_option

if TYPE_CHECKING:
    from nas.bench.folder import Folder
    from nas.bench.replay import Repeat

PAGE, SUMMARY, TRIALS = "bench.html", "summary.json", "trials.csv"


class Names(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases of click
    """Words between commas."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(word.strip() for word in str(value).split(","))
        if not all(found):
            self.fail(f"{value!r} has an empty name between its commas", param, ctx)
        return found


class Shares(click.ParamType):  # type: ignore[type-arg]
    """Numbers in (0, 1] between commas."""

    name = "shares"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(float(word) for word in str(value).split(","))
        except ValueError:
            found = (0.0,)
        if not all(0 < share <= 1 for share in found):
            self.fail(f"{value!r} must be shares above 0 and at most 1, as 0.9,0.95", param, ctx)
        return found


NAMES, SHARES = Names(), Shares()


@click.command(
    epilog=examples(
        "nas bench --table nas-bench-macro --repeats 5",
        "nas bench --table nas-bench-macro --costs flops --samplers known-cost,tpe,gp --out results/bench-flops",
        "nas bench --table cells.csv --split ops --accuracy val_acc --costs macs,params --parallel 16",
        "nas bench --table nas-bench-macro --samplers known-cost,known-cost:exploration=0",
    )
)
@click.option(
    "--table", "source", metavar="FILE|NAME", required=True, help="A CSV file, or nas-bench-macro, which comes along."
)
@click.option(
    "--samplers",
    type=NAMES,
    metavar="NAMES",
    help="Of those below; NAME:option=value changes one.  [default: all but gp and qlognehvi]",
)
@click.option(
    "--budget", type=click.IntRange(1, 100_000), default=150, show_default=True, help="Networks that a study trains."
)
@click.option(
    "--repeats", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Studies of each sampler."
)
@click.option("--choices", type=NAMES, default=(), metavar="COLUMNS", help="What is chosen.  [default: inferred]")
@click.option("--split", type=NAMES, default=(), metavar="COLUMNS", help="Words of which each character is a choice.")
@click.option(
    "--categorical", type=NAMES, default=(), metavar="COLUMNS", help="Choices whose numbers are codes, without order."
)
@click.option(
    "--accuracy", type=NAMES, default=(), metavar="COLUMNS", help="Accuracies, one a seed.  [default: inferred]"
)
@click.option(
    "--score", default="", metavar="COLUMN", help="What networks are worth.  [default: mean of the accuracies]"
)
@click.option(
    "--costs", type=NAMES, default=(), metavar="COLUMNS", help="To be minimised.  [default: all that are known]"
)
@click.option(
    "--infeasible",
    default="",
    metavar="COLUMN",
    help="True in rows that can't be trained, as if the table lacked them.",
)
@click.option(
    "--floor",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Quantile of the scores below which nothing counts.",
)
@click.option("--levels", type=SHARES, default=(), metavar="SHARES", help="Count evaluations until these, as 0.9,0.95.")
@click.option(
    "--parallel", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Trainings that run at once."
)
@click.option(
    "--asks",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Useless proposals in a row before a random network is taken.",
)
@seed_option("all that is random")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes.  [default: one a core]")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Keep repeats, summary and page; go on with what is there.",
)
@json_option
@quiet_option
def bench(
    source: str,
    samplers: tuple[str, ...] | None,
    budget: int,
    repeats: int,
    choices: tuple[str, ...],
    split: tuple[str, ...],
    categorical: tuple[str, ...],
    accuracy: tuple[str, ...],
    score: str,
    costs: tuple[str, ...],
    infeasible: str,
    floor: float,
    levels: tuple[float, ...],
    parallel: int,
    asks: int,
    seed: int,
    jobs: int | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare samplers on a table of networks that were trained already.

    Each sampler's studies are replayed with rows of the table for trainings: no GPU, a few seconds a study. Samplers:
    known-cost, random, tpe, nsga2-20, nsga2-50, nsga3, gp, evolution, local, qlognehvi (needs
    BoTorch). docs/bench.md says how it is measured.

    DIR then holds repeats.jsonl, trials.csv, summary.json and bench.html. The same command goes on after an interruption, and with more
    samplers or repeats runs those.
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

    if out is not None:
        check_folder(out)
    table = read(source, Columns(choices, split, categorical, accuracy, score, costs, infeasible))
    protocol = Protocol(budget, parallel, asks, floor, seed)
    with Folder(out, table, protocol, samplers or DEFAULT, repeats) as folder:
        if not quiet:
            note(table.describe())
        _run(folder, jobs or available_cores(), quiet)
        about = summary(folder, levels)
        if out is not None:
            write_json(out / SUMMARY, about)
            write_text(out / TRIALS, trials(folder))
            write_text(out / PAGE, page(folder, levels))
    if as_json:
        print_json({"page": str(out / PAGE) if out else None, **about})
    else:
        _conclude(folder, levels, out)


def _run(folder: Folder, jobs: int, quiet: bool) -> None:
    """With a bar on a terminal; elsewhere a line a repeat; or nothing."""
    from nas.cli.commands.output import console, note, progress_bar
    from nas.utils.text import format_seconds

    missing = folder.missing()
    total = len(folder.names) * folder.repeats
    if not missing:
        return
    if len(missing) < total and not quiet:
        note(f"{total - len(missing)} of {total} repeats are done already")
    bar = progress_bar() if not quiet and console(stderr=True).is_terminal else None
    task = bar.add_task("", total=len(missing), figures="the first repeats are under way") if bar else None
    eta = _Eta(missing, min(jobs, len(missing)))
    ended = 0
    try:
        with bar or nullcontext():
            for own in folder.run(jobs):
                ended += 1
                left = eta.left(own)
                figures = f"{own.sampler}, repeat {own.repeat}: {100 * own.hypervolume[-1]:.2f} % in {format_seconds(own.seconds)}"
                if ended < len(missing):
                    figures += f", {format_seconds(left)} left"
                if bar is not None and task is not None:
                    bar.update(task, completed=ended, figures=figures)
                elif not quiet:
                    note(f"{ended}/{len(missing)} {figures}")
    except KeyboardInterrupt:
        goes_on = "the same command goes on from there" if folder.path else "give --out to be able to go on"
        raise KeyboardInterrupt(f"interrupted after {ended} of {len(missing)} repeats; {goes_on}") from None


class _Eta:
    """Seconds left, from the mean seconds of each sampler; one not seen yet counts as the mean of the others."""

    def __init__(self, missing: list[tuple[str, int]], jobs: int) -> None:
        self._left = [name for name, _ in missing]
        self._jobs = jobs
        self._seconds: dict[str, list[float]] = {}

    def left(self, own: Repeat) -> float:
        self._left.remove(own.sampler)
        self._seconds.setdefault(own.sampler, []).append(own.seconds)
        means = {name: sum(seen) / len(seen) for name, seen in self._seconds.items()}
        usual = sum(means.values()) / len(means)
        return sum(means.get(name, usual) for name in self._left) / self._jobs


def _conclude(folder: Folder, asked: tuple[float, ...], out: Path | None) -> None:
    from nas.bench.page import head, protocol, rows
    from nas.bench.summary import curves, levels
    from nas.cli.commands.output import print_table, say
    from nas.utils.text import format_percent, shown

    found, budget = curves(folder), folder.protocol.budget
    wanted = levels(found, budget, asked)
    first, *others = head(budget, wanted)
    print_table([first, *(f">{column}" for column in others)], rows(found, budget, wanted))
    say()
    for level in wanted:
        say(f"{format_percent(level.share)} %: {level.why}.")
    for sentence in protocol(folder):
        say(sentence)
    if out is not None:
        click.echo(f"page: {shown((out / PAGE).absolute())}")
