"""Prints paragraphs, tables, progress and JSON. Lines are wrapped on a terminal, and kept whole in a pipe."""

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

COSTS = (
    ("params", "params"),
    ("macs", "MACs"),
    ("activations", "activations"),
)  # attribute of a `Cost`, and its name in text
MACS_NOTE = "MACs = multiply-adds, what the ResNet paper calls FLOPs."
PIPE_WIDTH = 1000  # for pipes and files rich would assume 80 characters, and cut the columns


def console(stderr: bool = False) -> Console:
    """The terminal, or a wide page if the output is not a terminal."""
    from rich.console import Console

    terminal = Console(stderr=stderr, highlight=False)
    return terminal if terminal.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def say(text: str = "", *, stderr: bool = False, style: str = "") -> None:
    """Print a paragraph, wrapped between words on a terminal."""
    from rich.text import Text

    page = console(stderr)
    page.print(Text(printable(text), style=style), soft_wrap=not page.is_terminal)


def note(text: str) -> None:
    """Print a remark on standard error, so that standard output has only the output that a script reads."""
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
    """Print a table on standard output, or on standard error. A column called `>name` is right-aligned and never wrapped.

    strong: numbers of the rows that are printed in `style`. shown: whether the names of the columns are printed.
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
    """One line that changes, on standard error: completed of total, and the field `figures` of its task."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    return Progress(*columns, console=console(stderr=True))


def write_texts(texts: Mapping[Path, str], force: bool) -> None:
    """Write files, each whole or not at all. UsageError, before the first, if one has other contents and `force` is False."""
    from nas.utils.files import holds, write_text

    different = [path for path, text in texts.items() if path.exists() and not holds(path, text.encode())]
    if different and not force:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UsageError(f"{different[0]}{more}: holds something else; --force overwrites it")
    for path, text in texts.items():
        write_text(path, text)


def print_json(data: object) -> None:
    """Print JSON. Control characters that JSON need not escape (C1, changes of the writing direction) are escaped as well."""
    utf = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(data, indent=2, ensure_ascii=not utf, allow_nan=False)
    click.echo(printable(text).replace("\\x", "\\u00") if printable(text) != text else text)


class Shown:
    """Prints messages: to stdout, or with --json to stderr; nothing if quiet."""

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
