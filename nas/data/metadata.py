"""Hugging Face's image folders: images beside a metadata.csv, .jsonl or .parquet with the columns file_name and label.

The table may stand in the folder, and name files like train/0001.png, or in each part's own folder. What it says is not
trusted: a name that leads out of the folder, a row without label and a file that is named twice are errors that name the row.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nas.data.images import Say
from nas.data.layout import folders_in
from nas.data.parquet import parquet_rows
from nas.data.tables import (
    Found,
    Samples,
    choose_parts,
    label_column,
    label_text,
    one_line,
    part_named,
    some,
    sorted_names,
)
from nas.errors import UsageError, reason_of

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NAME_COLUMN = "file_name"
# Some ten million rows; beyond it is something else under this name.
MOST_BYTES = 1 << 30
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the images lie and the names of their classes; both (n,)."""

    files: list[Path]
    names: list[str]


def read_metadata(root: Path, say: Say) -> Found | None:
    """The samples that tables in `root`, or in the folders of its parts, name; None if there is no such table.

    A table without file names, or one without labels where there are folders of classes, is not meant: that is said, and the
    folders of classes count. Raises UsageError for a table that is meant and wrong.
    """
    folders = folders_in(root)
    parts: dict[str, _Rows] = {}
    if (table := _table(root)) is not None:
        if (rows := _read(table, root, say, classes=_class_folders(folders))) is None:
            return None
        parts = _by_part(rows, root)
    else:
        for folder in folders:
            part = part_named(folder.name)
            if part and part not in parts and (table := _table(folder)) is not None:
                rows = _read(table, root, say, classes=bool(folders_in(folder)))
                parts |= {} if rows is None else {part: rows}
        if not parts:
            return None
    train, test, about, unread = choose_parts(parts, str(root))
    classes = sorted_names(train.names)
    if test is not None and (strange := set(test.names) - set(classes)):
        raise UsageError(f"{root}: the test part has classes without train images: {some(sorted(strange))}")
    label = {name: number for number, name in enumerate(classes)}

    def samples(rows: _Rows) -> Samples:
        return Samples(rows.files, np.array([label[name] for name in rows.names], np.int64))

    about = f", labelled by {table.name if table else NAMES[0]}{about}"
    if unread:
        say(f"the validation part of {root} is not read: what networks are ranked by is carved from the train part")
    return Found(root, str(root), samples(train), None if test is None else samples(test), classes, about, unread)


def _table(folder: Path) -> Path | None:
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"{folder} has {' and '.join(file.name for file in found)}; leave the one that counts")
    return found[0] if found else None


def _class_folders(folders: list[Path]) -> bool:
    """Whether folders may be those of classes, or of parts that hold these."""
    return any(not part_named(folder.name) or folders_in(folder) for folder in folders)


def _by_part(rows: _Rows, root: Path) -> dict[str, _Rows]:
    """The rows of one table, by the part that the first folder of each file's name is; all in one if none is."""
    places = [part_named(file.relative_to(root).parts[0]) for file in rows.files]
    parts: dict[str, _Rows] = {}
    for place, file, name in zip(places, rows.files, rows.names, strict=True):
        part = parts.setdefault(place if "train" in places else "", _Rows([], []))
        part.files.append(file)
        part.names.append(name)
    return parts


def _read(table: Path, root: Path, say: Say, *, classes: bool) -> _Rows | None:
    """The rows of a table, checked; None if it is not about labels, as `read_metadata` says."""
    if (size := table.stat().st_size) > MOST_BYTES:
        raise UsageError(f"{table} has {size / 2**30:.1f} GiB; a table of images has less than {MOST_BYTES >> 30} GiB")
    rows = _Rows([], [])
    seen: set[str] = set()
    column = ""
    count = 0
    try:
        for number, row in _rows(table):
            count += 1
            if not column:
                if NAME_COLUMN not in row:
                    say(f"{table} is not read: it has no column {NAME_COLUMN}")
                    return None
                if classes and "label" not in row and "labels" not in row:
                    say(f"{table} is not read: it has no column label; the folders of the images are their classes")
                    return None
                column = label_column(list(row), str(table))
            place = f"{table}, row {number}"
            name = _checked(row.get(NAME_COLUMN), place)
            if name in seen:
                raise UsageError(f"{place}: {one_line(name)} is named twice; an image belongs into one row")
            seen.add(name)
            label = label_text(row.get(column))
            if label is None:
                raise UsageError(
                    f"{place}: {one_line(name)} has no {one_line(column)}, but {row.get(column)!r:.200}; each image needs its class"
                )
            rows.files.append(table.parent / name)
            rows.names.append(label)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, RecursionError) as error:
        raise UsageError(f"{table} can't be read: {reason_of(error, 200)}") from error
    if not count:
        raise UsageError(f"{table} names no image")
    missing = [file.relative_to(root).as_posix() for file in rows.files if not _is_file(file)]
    if missing:
        raise UsageError(f"{table} names {len(missing):,} files that are not there: {some(missing)}")
    return rows


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False


def _checked(name: Any, place: str) -> str:
    """The file's name, as a path below the table's folder in one spelling; UsageError for any other."""
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{place}: {NAME_COLUMN} is {name!r:.200}; it must be the path of an image")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise UsageError(f"{place}: {NAME_COLUMN} is {name[:200]!r}; it must be a path below the folder of the table")
    return path.as_posix()


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows and their numbers, counted from 1 without the header, as they come from the disk."""
    if table.suffix == ".parquet":
        yield from parquet_rows(table, (NAME_COLUMN, "label", "labels"))
        return
    with table.open(encoding="utf-8-sig", newline="" if table.suffix == ".csv" else None) as file:
        if table.suffix == ".csv":
            for number, row in enumerate(csv.DictReader(file), 1):
                yield number, {str(key): value for key, value in row.items()}
            return
        number = 0
        while line := file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"line {number + 1} is longer than {_LONGEST_LINE:,} letters")
            number += 1
            if not line.strip():
                continue
            row = json.loads(line, parse_constant=lambda _: math.nan)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield number, row
