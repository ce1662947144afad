"""`nas report`: a run as one HTML page, several compared, or a run as images, CSV, JSON or Markdown."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from nas.cli.commands.options import examples
from nas.errors import UsageError

FORMATS = ("html", "png", "svg", "csv", "json", "md")  # `nas.report.run.formats`, not imported for --help


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Without garbage collection: a run's trials live until the end, and with 10,000 of them it took a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@click.command(
    epilog=examples(
        "nas report results/my-run",
        "nas report results/my-run --out page.html --open",
        "nas report results/my-run --format png --figure edf --out edf.png",
        "nas report results/my-run --format csv --out tables/",
        "nas report results/tpe results/random --out compared.html",
    )
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="html",
    show_default=True,
    help="png and svg: a file per figure, by Kaleido and Chrome; csv: front.csv and trials.csv.",
)
@click.option("--figure", metavar="NAME", help="With png or svg: only this figure, for example edf or accuracy-params.")
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The file; for formats with several files the folder.  [default: RUN/report.html, compared.html, RUN/report/ ...]",
)
@click.option(
    "--stopping-report",
    is_flag=True,
    help="Add a section on early stopping (trials, reasons, savings) even if no trial was stopped. A run with stopped trials always "
    "has it.",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@_no_garbage_collection()
def report(
    runs: tuple[Path, ...], kind: str, figure: str | None, out: Path | None, stopping_report: bool, show: bool
) -> None:
    """A run as one self-contained, interactive HTML page, or several runs compared.

    For one run: a summary in words, an interactive chart of accuracy against cost, front, trials, learning curves,
    hypervolume. For several: their fronts, their hypervolumes with one reference point, the best network of each within
    budgets, the differences of their settings. Works while a run is in progress; run it again for newer trials, or use `nas watch`.
    """
    from nas.cli.commands.inputs import check_folder, read_run
    from nas.report import write
    from nas.report.several import page as several
    from nas.utils.text import shown

    if stopping_report and (kind != "html" or len(runs) > 1):
        raise UsageError("--stopping-report: only for the page of one run")
    if kind != "html":
        if len(runs) > 1:
            raise UsageError(f"--format {kind}: for one run; several are compared as html")
        _write_as(runs[0], kind, figure, out, show)
        return
    if figure is not None:
        raise UsageError(f"--figure {figure}: goes with --format png or svg")
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


def _write_as(run: Path, kind: str, figure: str | None, out: Path | None, show: bool) -> None:
    """Write any format except the page, and print the paths of the files, one per line."""
    from nas.cli.commands.inputs import check_folder, read_run
    from nas.report.run.formats import write_as
    from nas.utils.text import shown

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
