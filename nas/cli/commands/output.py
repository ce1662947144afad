"""How commands print: paragraphs and tables that a person reads and a pipe keeps whole, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.errors import UsageError
from nas.utils.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

COSTS = (("params", "params"), ("macs", "MACs"), ("activations", "activations"))  # of a `Cost`, and as they are written
LINE_SECONDS = 10.0  # at least, between two lines of progress where there is no terminal
MACS_NOTE = "MACs = multiply-adds, what the ResNet paper calls FLOPs."
PIPE_WIDTH = 1000  # rich would cut the columns of what is piped to fit 80


def console(stderr: bool = False) -> Console:
    """The terminal, or a wide page where the output is not one."""
    from rich.console import Console

    terminal = Console(stderr=stderr, highlight=False)
    return terminal if terminal.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def say(text: str = "", *, stderr: bool = False, style: str = "") -> None:
    """A paragraph, broken between words where there is a terminal."""
    from rich.text import Text

    page = console(stderr)
    page.print(Text(printable(text), style=style), soft_wrap=not page.is_terminal)


def note(text: str) -> None:
    """A remark beside the answer, on standard error: standard output stays what a script reads."""
    say(text, stderr=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    strong: Sequence[int] = (),
    style: str = "bold",
    shown: bool = True,
    stderr: bool = False,
) -> None:
    """A table on standard output, or on standard error. A column called `>name` is set flush right
    and never broken; rows in `strong` stand out.

    shown: whether the names of the columns are printed.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, show_header=shown)
    for position, column in enumerate(columns):
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right or position == 0)
    for number, row in enumerate(rows):
        table.add_row(*(Text(printable(cell)) for cell in row), style=style if number in strong else None)
    console(stderr).print(table)


def progress_bar() -> Progress:
    """One line that changes, on standard error: what is done of what, and the field `figures` of its task."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    return Progress(*columns, console=console(stderr=True))


def write_texts(texts: Mapping[Path, str], force: bool) -> None:
    """Write files, each whole or not at all; UsageError, before the first, if one holds something else and `force` is not given."""
    from nas.utils.files import holds, write_text

    different = [path for path, text in texts.items() if path.exists() and not holds(path, text.encode())]
    if different and not force:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UsageError(f"{different[0]}{more}: holds something else; --force overwrites it")
    for path, text in texts.items():
        write_text(path, text)


def print_json(data: object) -> None:
    """JSON escapes most of what commands a terminal; the rest (C1, turns of the writing direction) it may."""
    utf = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(data, indent=2, ensure_ascii=not utf, allow_nan=False)
    click.echo(printable(text).replace("\\x", "\\u00") if printable(text) != text else text)


class Shown:
    """Where words go: stdout, or stderr beside JSON; nowhere if quiet."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.stream = sys.stderr if as_json else sys.stdout

    def say(self, text: str) -> None:
        if not self.quiet:
            click.echo(printable(text), file=self.stream)

    def display(self, study: Any) -> Any:
        from nas.searching.progress import Lines, Live, Tally

        if self.quiet:
            return Tally(study)
        if self.stream.isatty():
            from rich.console import Console

            return Live(study, Console(file=self.stream))
        return Lines(study, self.stream)
