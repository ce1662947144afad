"""`nas report`: a run as one HTML page, or several compared."""

from __future__ import annotations

from pathlib import Path

import click

from nas.commands.options import examples
from nas.errors import UsageError


@click.command(
    epilog=examples(
        "nas report results/my-run",
        "nas report results/my-run --out page.html --open",
        "nas report results/tpe results/random --out compared.html",
    )
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The page.  [default: RUN/report.html; of several runs compared.html]",
)
@click.option(
    "--stopping-report",
    is_flag=True,
    help="Say what was stopped early, why, and what it saved, even if it was nothing. A page of a run that stopped trials always does.",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
def report(runs: tuple[Path, ...], out: Path | None, stopping_report: bool, show: bool) -> None:
    """A run as one self-contained, interactive HTML page, or several runs compared.

    Of one run: the answer in words, the chart of accuracy against cost to explore, front, trials, learning curves, hypervolume.
    Of several: their fronts, their progress from one reference point, the best of each within budgets, what differs. Works
    while a run goes on; write it again to see what has come since, or see `nas watch`.
    """
    from nas.commands.inputs import check_folder, read_run
    from nas.report import runs as several
    from nas.report import write
    from nas.text import shown

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: a folder; name the file, as in {out / 'report.html'}")
    read = [read_run(run) for run in runs]
    if len({run.path.resolve() for run in read}) < len(read):
        raise UsageError(f"{' '.join(map(str, runs))}: the same run twice; name different ones")
    if len(read) == 1:
        check_folder(read[0].path if out is None else out.parent)
        path = write(read[0], out, stopping=stopping_report)
    else:
        out = Path(several.FILE) if out is None else out
        check_folder(out.parent)
        path = several.write(read, out)
    click.echo(shown(path.absolute()))
    if show:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            click.echo("no browser could be opened; open the page yourself", err=True)
