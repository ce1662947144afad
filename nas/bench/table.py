"""Tables of trained networks: choices, accuracies (one column for each seed) and costs, read from CSV and validated.

A faulty table is a UsageError of one line. Rows with equal choices and equal values count once. Rows that differ only in their
choices are one *network* with several encodings (such as an identity layer in different places); budgets count networks.
Combinations that are not in the table are infeasible.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from nas.bench.cells import MAX_LEVELS, Floats, Value, is_choice, is_code, key_of_cell, levels_of, numbers_of
from nas.errors import UsageError, reason_of
from nas.utils import limits
from nas.utils.registry import did_you_mean

SHIPPED: Mapping[str, str] = {"nas-bench-macro": "nas_bench_macro.csv.gz"}

MAX_BYTES, MAX_ROWS, MAX_COLUMNS, MAX_CELLS = limits.TABLE_BYTES, limits.ROWS, limits.COLUMNS, limits.CELLS
_ACCURACY = re.compile(r"(val(id(ation)?)?_?|test_?)?acc(uracy)?_?\d*", re.IGNORECASE)
_SCORE = re.compile(r"(mean_?acc(uracy)?|acc(uracy)?_?mean)", re.IGNORECASE)
_COST = re.compile(r"(n?_?params|parameters|macs|flops|activations|latency\w*|energy\w*|memory\w*)", re.IGNORECASE)
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}
_ENCODED = ("arch", "architecture", "ops", "cell", "code")  # names of columns with all choices, one character for each


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice and its sorted values. ordered: whether their order is meaningful."""

    name: str
    values: tuple[Value, ...]
    ordered: bool


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles of columns; `read` infers empty ones.

    split: columns of words in which each character is a choice. categorical: choices whose numbers are codes without order.
    infeasible: column that marks rows that can't be trained; never inferred.
    """

    choices: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    accuracy: tuple[str, ...] = ()
    score: str = ""
    costs: tuple[str, ...] = ()
    infeasible: str = ""


@dataclass(frozen=True)
class Table:
    """n networks, identified by number.

    accuracy (n, seeds): observed accuracies. score (n,): the quality by which results are scored. costs (n, k): minimized, all > 0.
    more_costs (n, e): known costs that are not objectives. network_of: the network of each combination of value indices.
    """

    name: str
    digest: str
    columns: Columns
    choices: tuple[Choice, ...]
    accuracy: Floats
    score: Floats
    costs: Floats
    more_costs: Floats
    network_of: Mapping[tuple[int, ...], int]
    examples: tuple[tuple[int, ...], ...]  # one combination of each network
    ignored: tuple[str, ...]  # columns without a role

    @property
    def networks(self) -> int:
        return len(self.score)

    @property
    def combinations(self) -> int:
        return math.prod(len(choice.values) for choice in self.choices)

    def describe(self) -> str:
        """`nas-bench-macro: 8 choices, 6,561 combinations, 3,969 of them in the table, ...` in one line."""
        rows, seeds = len(self.network_of), self.accuracy.shape[1]
        parts = [f"{len(self.choices)} choices, {self.combinations:,} combinations"]
        if rows < self.combinations:
            parts.append(f"{rows:,} of them in the table and the others infeasible")
        if self.networks < rows:
            parts.append(
                f"{self.networks:,} distinct networks (rows that differ only in their choices are one network)"
            )
        noun = "column" if seeds == 1 else "columns"
        parts.append(f"{seeds} accuracy {noun} ({', '.join(self.columns.accuracy)})")
        parts.append(f"costs {', '.join(self.columns.costs)}")
        if self.ignored:
            parts.append(f"not used: {', '.join(self.ignored)}")
        return f"{self.name}: {'; '.join(parts)}"


def read(source: str, columns: Columns | None = None) -> Table:
    """Read the shipped table of this name, or the CSV file (.csv, .csv.gz) at this path. Roles that `columns` lacks are inferred.

    Accuracies: columns called accuracy, acc0, val_acc, .... Score: mean_acc, else the mean of the accuracies. Costs: params, macs,
    flops, latency_ms, .... Choices: the characters of a column called arch or ops, else all other columns of words or integers.
    """
    data = _bytes(source)
    name = source if source in SHIPPED else Path(source).name
    head, rows = _rows(name, data)
    columns = columns or Columns()
    if columns.infeasible:
        head, rows = _feasible(name, head, rows, columns)
    cells = {column: [row[place] for row in rows] for place, column in enumerate(head)}
    chosen = _infer(name, cells, columns)
    return _table(name, hashlib.sha256(data).hexdigest(), cells, chosen)


# -- the file ------------------------------------------------------------------------------------------------------------


def _bytes(source: str) -> bytes:
    """The uncompressed text of a table."""
    if source in SHIPPED:
        with (files("nas.bench") / "tables" / SHIPPED[source]).open("rb") as packed:
            return gzip.decompress(packed.read())
    path = Path(source)
    try:
        if not path.is_file():
            near = did_you_mean(source, list(SHIPPED))
            raise UsageError(f"--table {source}: no such file{near}; tables that come with nas: {', '.join(SHIPPED)}")
        with path.open("rb") as file:
            packed_too = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed_too else file as text:
                data = text.read(MAX_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--table {source}: can't be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"--table {source}: more than {MAX_BYTES >> 20} MiB of text; omit columns or rows")
    return data


def _rows(name: str, data: bytes) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows, which have as many cells."""
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text (byte {error.start})") from None
    # Decoded in chunks: a StringIO would take four bytes for each byte of the text.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""))
    rows: list[list[str]] = []
    try:
        head = [cell.strip() for cell in next(reader, [])]
        if not any(head):
            raise UsageError(f"{name}: is empty; the first line must name the columns")
        if len(head) > MAX_COLUMNS:
            raise UsageError(f"{name}: {len(head):,} columns; at most {MAX_COLUMNS:,} are read")
        if "" in head:
            raise UsageError(f"{name}: column {head.index('') + 1} has no name")
        for column in head:
            if not column.isprintable():
                raise UsageError(f"{name}: the name of a column has unprintable characters: {column!r:.80}")
            if head.count(column) > 1:
                raise UsageError(f"{name}: two columns are called {column!r}")
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(head):
                raise UsageError(
                    f"{name}: line {reader.line_num} has {len(row)} cells; the first line names {len(head)}"
                )
            rows.append([cell.strip() for cell in row])
            if len(rows) > MAX_ROWS:
                raise UsageError(f"{name}: more than {MAX_ROWS:,} rows")
            if len(rows) * len(head) > MAX_CELLS:
                raise UsageError(f"{name}: more than {MAX_CELLS:,} cells; omit columns or rows")
    except csv.Error as error:
        raise UsageError(f"{name}: line {reader.line_num} is not CSV: {reason_of(error)}") from None
    if not rows:
        raise UsageError(f"{name}: has no rows")
    return head, rows


def _feasible(
    name: str, head: Sequence[str], rows: Iterable[Sequence[str]], columns: Columns
) -> tuple[list[str], list[list[str]]]:
    """The table without the rows marked by `columns.infeasible`, whose other cells may be empty, and without that column."""
    column = columns.infeasible
    if column not in head:
        near = did_you_mean(column, list(head))
        raise UsageError(f"--infeasible: {name} has no column {column!r}{near}; it has {_listed(head)}")
    if column in {
        *columns.choices,
        *columns.split,
        *columns.categorical,
        *columns.accuracy,
        columns.score,
        *columns.costs,
    }:
        raise UsageError(f"{name}: column {column!r} can't have two roles")
    place, left = head.index(column), []
    for number, row in enumerate(rows, 1):
        marked = _TRUTH.get(row[place].lower())
        if marked is None:
            raise UsageError(f"{name}: row {number}: {column} is {row[place][:40]!r}, not true or false (or 1 or 0)")
        if not marked:
            left.append([*row[:place], *row[place + 1 :]])
    if not left:
        raise UsageError(f"{name}: {column} marks all rows")
    return [*head[:place], *head[place + 1 :]], left


# -- roles of columns ------------------------------------------------------------------------------------------------


def _infer(name: str, cells: Mapping[str, Sequence[str]], columns: Columns) -> Columns:
    """`columns` with the roles that it lacks. UsageError for unknown columns, several roles, and roles without a column."""
    _check_names(name, cells, columns)
    used = {*columns.choices, *columns.split, *columns.accuracy, *columns.costs, columns.score}
    left = [column for column in cells if column not in used]
    accuracy = columns.accuracy or tuple(column for column in left if _ACCURACY.fullmatch(column))
    costs = columns.costs or tuple(column for column in left if _COST.fullmatch(column))
    has = f"it has {_listed(cells)}"
    if not accuracy:
        raise UsageError(f"{name}: no column is called accuracy; name the accuracies by --accuracy; {has}")
    if not costs:
        raise UsageError(f"{name}: no column is a known cost; name the costs by --costs; {has}")
    means = [column for column in left if _SCORE.fullmatch(column)] if not columns.accuracy else []
    score = columns.score or (means[0] if means else "")
    used |= {*accuracy, *costs, score}
    left = [column for column in left if column not in used and not _COST.fullmatch(column)]
    choices, split = columns.choices, columns.split
    if not choices and not split:
        split = tuple(column for column in left if column.lower() in _ENCODED and is_code(cells[column]))
    if not choices and not split:
        choices = tuple(column for column in left if is_choice(cells[column]))
    if not choices and not split:
        raise UsageError(f"{name}: no column is left for choices; name them by --choices; {has}")
    roles = [*choices, *split, *accuracy, *costs]
    for column in roles:
        if roles.count(column) > 1:
            raise UsageError(f"{name}: column {column!r} can't have two roles")
    return Columns(choices, split, columns.categorical, accuracy, score, costs, columns.infeasible)


def _check_names(name: str, cells: Mapping[str, Sequence[str]], columns: Columns) -> None:
    for role in ("choices", "split", "categorical", "accuracy", "score", "costs"):
        named = getattr(columns, role)
        for column in (named,) if role == "score" and named else named:
            if column not in cells:
                near = did_you_mean(column, list(cells))
                raise UsageError(f"--{role}: {name} has no column {column!r}{near}; it has {_listed(cells)}")
            if role != "score" and named.count(column) > 1:
                raise UsageError(f"--{role}: column {column!r} is named twice")


def _listed(cells: Iterable[str]) -> str:
    names = list(cells)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


# -- the table -----------------------------------------------------------------------------------------------------------


def _table(name: str, digest: str, cells: Mapping[str, Sequence[str]], columns: Columns) -> Table:
    picks = _picks(name, cells, columns)
    used = {*columns.choices, *columns.split}
    more = [column for column in cells if _COST.fullmatch(column) and column not in columns.costs]
    more = [column for column in more if column not in {*used, *columns.accuracy, columns.score}]
    accuracy = np.column_stack([numbers_of(name, column, cells[column]) for column in columns.accuracy])
    score = numbers_of(name, columns.score, cells[columns.score]) if columns.score else accuracy.mean(axis=1)
    costs = np.column_stack([numbers_of(name, column, cells[column], positive=True) for column in columns.costs])
    known = [numbers_of(name, column, cells[column], positive=True) for column in more]
    more_costs = np.column_stack(known) if known else np.zeros((len(score), 0))

    measured = {*columns.accuracy, *columns.costs, columns.score, *more}
    rest = [column for column in cells if column not in used]
    ignored = tuple(column for column in rest if column not in measured)
    # A column that differs in every row identifies the rows, so it is not compared; accuracies and costs always are.
    rest = [column for column in rest if column in measured or len(set(cells[column])) < len(score)]
    keys = [tuple(map(key_of_cell, row)) for row in zip(*(cells[column] for column in rest), strict=True)]
    first, network_of = _networks(name, picks, keys)
    combinations = {network: combination for combination, network in reversed(network_of.items())}
    examples = tuple(combinations[network] for network in range(len(first)))
    choices = tuple(choice for choice, _ in picks)
    values = accuracy[first], score[first], costs[first], more_costs[first]
    return Table(name, digest, columns, choices, *values, network_of, examples, ignored)


def _picks(name: str, cells: Mapping[str, Sequence[str]], columns: Columns) -> list[tuple[Choice, Sequence[Value]]]:
    """Each choice, and its value in each row."""
    picks: list[tuple[Choice, Sequence[Value]]] = []
    for column in columns.choices:
        values = levels_of(cells[column], column in columns.categorical)
        picks.append((_choice(name, column, values), values))
    for column in columns.split:
        if not is_code(cells[column]):
            raise UsageError(f"--split {column}: its values must be words of one length, of letters and digits")
        if len(cells[column][0]) > MAX_COLUMNS:
            raise UsageError(f"--split {column}: its words have more than {MAX_COLUMNS:,} characters")
        for place, characters in enumerate(zip(*cells[column], strict=True), 1):
            picks.append((_choice(name, f"{column}.{place}", characters), characters))
    return picks


def _networks(
    name: str, picks: Sequence[tuple[Choice, Sequence[Value]]], keys: Sequence[Hashable]
) -> tuple[list[int], dict[tuple[int, ...], int]]:
    """The first row of each network, and the network of each combination. keys: equal for rows of one network."""
    levels = [{value: place for place, value in enumerate(choice.values)} for choice, _ in picks]
    indices = [[level[value] for value in values] for level, (_, values) in zip(levels, picks, strict=True)]
    number_of: dict[Hashable, int] = {}
    network_of: dict[tuple[int, ...], int] = {}
    first: list[int] = []
    for row, (key, combination) in enumerate(zip(keys, zip(*indices, strict=True), strict=True)):
        network = number_of.setdefault(key, len(number_of))
        if network == len(first):
            first.append(row)
        if network_of.setdefault(combination, network) != network:
            values = ", ".join(f"{choice.name}={picked[row]}" for choice, picked in picks)
            raise UsageError(f"{name}: two rows have the same choices ({values[:200]}) but different values")
    if len(first) < 2:
        raise UsageError(f"{name}: holds a single network; there is nothing to search")
    return first, network_of


def _choice(name: str, column: str, values: Sequence[Value]) -> Choice:
    distinct = sorted(set(values))  # all of one type
    if len(distinct) > MAX_LEVELS:
        raise UsageError(f"{name}: column {column!r} has {len(distinct):,} values; a choice may have {MAX_LEVELS}")
    return Choice(column, tuple(distinct), not isinstance(distinct[0], str))
