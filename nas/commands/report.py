"""`nas report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from nas.commands.options import examples, run_argument
from nas.errors import UsageError


@click.command(epilog=examples("nas report results/my-run", "nas report results/my-run --out page.html --open"))
@run_argument
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="The page.  [default: RUN/report.html]")
@click.option(
    "--stopping-report",
    is_flag=True,
    help="Say what was stopped early, why, and what it saved, even if it was nothing. A page of a run that stopped trials always does.",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
def report(run: Path, out: Path | None, stopping_report: bool, show: bool) -> None:
    """A run as one self-contained, interactive HTML page: front, trials, learning curves, hypervolume.

    Works while the run goes on; write it again to see what has come since.
    """
    from nas.commands.inputs import check_folder, read_run
    from nas.report import write
    from nas.text import shown

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: a folder; name the file, as in {out / 'report.html'}")
    read = read_run(run)
    check_folder(read.path if out is None else out.parent)
    path = write(read, out, stopping=stopping_report)
    click.echo(shown(path.absolute()))
    if show:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            click.echo("no browser could be opened; open the page yourself", err=True)
