"""`nas confirm`: train the networks of a run's front again from further seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.options import (
    GroupedCommand,
    continuing_options,
    examples,
    json_option,
    option,
    quiet_option,
    run_argument,
)
from nas.cli.commands.output import Shown

if TYPE_CHECKING:
    from nas.runs.run import Run
    from nas.searching.confirmation import Confirmation
    from nas.searching.progress import Tally


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas confirm results/my-run",
        "nas confirm results/my-run --seeds 5 --within 0.5",
        "nas confirm results/my-run --executor local",
    ),
)
@run_argument
@option(
    "Front",
    "--seeds",
    type=int,
    default=3,
    show_default=True,
    help="Number of further seeds, of weights and of the order of images.",
)
@option(
    "Front",
    "--within",
    metavar="POINTS",
    type=float,
    default=0.0,
    show_default=True,
    help="Also train networks that would be on the front if their accuracy were higher by this many points, for example 0.5.",
)
@continuing_options
@quiet_option
@json_option
def confirm(run: Path, seeds: int, within: float, quiet: bool, as_json: bool, download: bool, **changes: Any) -> None:
    """Train the networks of a run's front, and its baselines, again from further seeds; rank the front by their means.

    A search trains each network once, and the best of many are the best partly by luck. Recipe, data and split are those of the
    search. Once the whole front is confirmed, `nas front`, the report and exports use means, with standard errors.

    After an interruption the same command continues; finished trainings are not repeated, also with more --seeds.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    shown = Shown(quiet, as_json)
    conclude(run_confirm(run, shown, seeds=seeds, within=within, download=download, **given), shown)


def run_confirm(path: Path, shown: Shown, **options: Any) -> Run:
    from nas.searching.confirmation import confirm as run
    from nas.searching.confirmation_progress import TrainingLines, Trainings, TrainingsLive

    def display(confirmation: Confirmation) -> Tally:
        if shown.quiet:
            return Trainings(confirmation)
        if shown.stream.isatty():
            from rich.console import Console

            return TrainingsLive(confirmation, Console(file=shown.stream))
        return TrainingLines(confirmation, shown.stream)

    return run(path, say=shown.say, display=display, **options)


def conclude(run: Run, shown: Shown) -> None:
    from nas.cli.commands.front import front_data, print_front
    from nas.cli.commands.output import print_json
    from nas.utils.text import shown as path_shown

    if shown.as_json:
        print_json(front_data(run))
        return
    folder = path_shown(run.path)
    if shown.quiet:
        click.echo(folder)
        return
    shown.say("")
    print_front(run)
    shown.say(f"\nReport:  {path_shown(run.path / 'report.html')}  (open it in a browser)")
    shown.say(f"Configs: {path_shown(run.path / 'front')}/  (the front, one file per network)")
