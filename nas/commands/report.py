"""`nas report`: a run as one HTML page, or as images, CSV, JSON or Markdown."""

from __future__ import annotations

from pathlib import Path

import click

from nas.commands.options import examples, run_argument
from nas.errors import UsageError

FORMATS = ("html", "png", "svg", "csv", "json", "md")  # `nas.report.formats`, not imported for --help


@click.command(
    epilog=examples(
        "nas report results/my-run",
        "nas report results/my-run --out page.html --open",
        "nas report results/my-run --format png --figure edf --out edf.png",
        "nas report results/my-run --format csv --out tables/",
    )
)
@run_argument
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="html",
    show_default=True,
    help="png and svg: a file a figure, by Kaleido and Chrome; csv: front.csv and trials.csv.",
)
@click.option("--figure", metavar="NAME", help="With png or svg: this figure alone, as edf or accuracy-params.")
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The file; of formats that are several, the folder.  [default: RUN/report.html, RUN/report/ and so on]",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
def report(run: Path, kind: str, figure: str | None, out: Path | None, show: bool) -> None:
    """A run as one self-contained, interactive HTML page: front, trials, learning curves, hypervolume.

    Works while the run goes on; write it again to see what has come since.
    """
    from nas.commands.inputs import check_folder, read_run
    from nas.report import write
    from nas.text import shown

    if kind != "html":
        _write_as(run, kind, figure, out, show)
        return
    if figure is not None:
        raise UsageError(f"--figure {figure}: goes with --format png or svg")
    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: a folder; name the file, as in {out / 'report.html'}")
    read = read_run(run)
    check_folder(read.path if out is None else out.parent)
    path = write(read, out)
    click.echo(shown(path.absolute()))
    if show:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            click.echo("no browser could be opened; open the page yourself", err=True)


def _write_as(run: Path, kind: str, figure: str | None, out: Path | None, show: bool) -> None:
    """Any format but the page; the paths that were written, one a line."""
    from nas.commands.inputs import check_folder, read_run
    from nas.report.formats import write_as
    from nas.text import shown

    several = kind == "csv" or (kind in ("png", "svg") and figure is None)
    if show:
        raise UsageError(f"--open: goes with --format html, not {kind}")
    if out is not None and several and out.is_file():
        raise UsageError(f"--out {out}: a file; --format {kind} writes several: name a folder")
    if out is not None and not several and out.is_dir():
        raise UsageError(f"--out {out}: a folder; name the file, as in {out / f'report.{kind}'}")
    read = read_run(run)
    check_folder(read.path if out is None else out if several else out.parent)
    for path in write_as(read, kind, out, figure):
        click.echo(shown(path.absolute()))
