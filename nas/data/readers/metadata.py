"""Hugging Face's image folders: images with a metadata.csv, .jsonl or .parquet that has the columns file_name and label.

The table may be in the folder and name files like train/0001.png, or in the folder of each part. It is checked: a name that leads
out of the folder, a row without a label and a file that is named twice are errors with the number of the row.
"""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nas.data.names import Classes, label_text, one_line, part_named, require_labels, some, sorted_names, unlabelled
from nas.data.readers.parquet import parquet_rows
from nas.data.readers.split_folders import Unread, folders_in, images_under, left_out
from nas.data.readers.tables import LABEL_COLUMNS, FolderSamples, Samples, choose_parts, label_column
from nas.errors import UsageError, reason_of
from nas.utils.text import Say

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NAME_COLUMN = "file_name"
MOST_BYTES = 1 << 30  # some ten million rows; a larger file is something else with this name
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Rows:
    """Paths of images and the names of their classes, "" for a missing class; both (n,).

    table: the file that lists them. faults: error messages for images without a class, by their position in the list.
    """

    table: Path
    files: list[Path]
    names: list[str]
    faults: dict[int, str] = field(default_factory=dict)

    @property
    def unlabelled(self) -> bool:
        return unlabelled(name or None for name in self.names)

    def take(self, other: _Rows, index: int) -> None:
        """Append a row of another table."""
        if index in other.faults:
            self.faults[len(self.files)] = other.faults[index]
        self.files.append(other.files[index])
        self.names.append(other.names[index])


def read_metadata(root: Path, say: Say) -> FolderSamples | None:
    """The samples listed by tables in `root` or in the folders of its parts; None if there is no such table.

    A table without file names, or without labels if there are folders of classes, is ignored: this is reported, and the folders
    of classes are used. Raises UsageError for an invalid table.
    """
    folders = folders_in(root)
    if (at_root := _table(root)) is not None:
        rows = _read(at_root, say, classes=_class_folders(folders))
        parts = {} if rows is None else _by_part(rows, root)
    else:
        parts = _of_parts(root, folders, say)
    if not parts:
        return None
    train, test, name, about, unread = choose_parts(parts, str(root), lambda rows: rows.unlabelled, say)
    left = Unread()
    train = _whole(train, root, left)
    test = None if test is None else _whole(test, root, left)
    classes = Classes.of(sorted_names(train.names), str(root), say)
    if test is not None:
        require_labels(set(test.names), f"{root}: the {name} part")
        classes.require(set(test.names), f"{root}: the {name} part", "the train part", say)
    _count_unnamed([rows for part, rows in parts.items() if at_root or part in ("train", name)], left)
    if line := str(left):
        say(line)

    def samples(rows: _Rows) -> Samples:
        return Samples(rows.files, classes.labels(rows.names))

    about = f", labelled by {train.table.name}{about}"
    return FolderSamples(
        root, str(root), samples(train), None if test is None else samples(test), classes.names, about, unread
    )


def _table(folder: Path) -> Path | None:
    tables = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(tables) > 1:
        raise UsageError(f"{folder} has {' and '.join(file.name for file in tables)}; leave the one that counts")
    return tables[0] if tables else None


def _class_folders(folders: list[Path]) -> bool:
    """Whether any of the folders may be a class, or a part with folders of classes."""
    return any(not part_named(folder.name) or folders_in(folder) for folder in folders)


def _of_parts(root: Path, folders: list[Path], say: Say) -> dict[str, _Rows]:
    """The rows of the tables in the folders of the parts."""
    parts: dict[str, _Rows] = {}
    without: list[Path] = []
    for folder in folders:
        if not (part := part_named(folder.name)):
            continue
        rows = None
        if part not in parts and (table := _table(folder)) is not None:
            rows = _read(table, say, classes=bool(folders_in(folder)), part=part)
        if rows is None:
            without.append(folder)
        else:
            parts[part] = rows
    if parts:
        for folder in without:
            say(f"{folder.name}/ of {root} is not read: it has no {NAMES[0]}, or another folder is its part")
    return parts


def _by_part(rows: _Rows, root: Path) -> dict[str, _Rows]:
    """The rows of one table by part, which is the first folder of a file's name; all rows under "" if there is no train part."""
    places = [part_named(file.relative_to(root).parts[0]) for file in rows.files]
    parts: dict[str, _Rows] = {}
    for index, place in enumerate(places):
        parts.setdefault(place if "train" in places else "", _Rows(rows.table, [], [])).take(rows, index)
    return parts


def _read(table: Path, say: Say, *, classes: bool, part: str = "") -> _Rows | None:
    """The rows of a table, with checked names; None if the table is ignored (see `read_metadata`)."""
    if (size := table.stat().st_size) > MOST_BYTES:
        raise UsageError(f"{table} has {size / 2**30:.1f} GiB; a table of images has less than {MOST_BYTES >> 30} GiB")
    rows = _Rows(table, [], [])
    seen: set[str] = set()
    column: str | None = None
    count = 0
    try:
        for number, row in _rows(table):
            count += 1
            if count == 1:
                if NAME_COLUMN not in row:
                    say(f"{table} is not read: it has no column {NAME_COLUMN}")
                    return None
                if classes and not set(LABEL_COLUMNS) & row.keys():
                    say(f"{table} is not read: it has no column label; the folders of the images are their classes")
                    return None
                # A test part may have no labels, and then no such column.
                if part != "test" or set(LABEL_COLUMNS) & row.keys():
                    column = label_column(list(row), str(table))
            place = f"{table}, row {number}"
            name = _checked(row.get(NAME_COLUMN), place)
            if name in seen:
                raise UsageError(f"{place}: {one_line(name)} is named twice; an image belongs into one row")
            seen.add(name)
            value = None if column is None else row.get(column)
            if (label := label_text(value)) is None:
                rows.faults[len(rows.files)] = (
                    f"{place}: {one_line(name)} has no {one_line(column or 'label')}, but {value!r:.200}; each image needs its class"
                )
            rows.files.append(table.parent / name)
            rows.names.append(label or "")
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, RecursionError) as error:
        raise UsageError(f"{table} can't be read: {reason_of(error, 200)}") from error
    if not count and part != "test":
        raise UsageError(f"{table} names no image")
    return rows


def _whole(rows: _Rows, root: Path, left: Unread) -> _Rows:
    """The rows of a part without the files that are left out. UsageError for a row without a class or without its file."""
    if rows.faults:
        raise UsageError(next(iter(rows.faults.values())))
    kept = _Rows(rows.table, [], [])
    missing: list[str] = []
    listings: dict[Path, dict[str, str]] = {}
    for index, file in enumerate(rows.files):
        if why := left_out(file.relative_to(rows.table.parent), file):
            left.add(*why)
            continue
        there = file if _is_file(file) else _spelled_otherwise(file, rows.table.parent, listings)
        if there is None:
            missing.append(file.relative_to(root).as_posix())
        else:
            kept.files.append(there)
            kept.names.append(rows.names[index])
    if missing:
        raise UsageError(f"{rows.table} names {len(missing):,} files that are not there: {some(missing)}")
    if len(set(kept.files)) < len(kept.files):
        twice = next(file for file, count in Counter(kept.files).items() if count > 1)
        raise UsageError(f"{rows.table}: {one_line(twice.name)} is named twice; an image belongs into one row")
    return kept


def _spelled_otherwise(file: Path, folder: Path, listings: dict[Path, dict[str, str]]) -> Path | None:
    """The file below `folder` whose name equals that of `file` in Unicode's normal form NFC; None if there is none."""
    place = folder
    for part in file.relative_to(folder).parts:
        if place not in listings:
            try:
                listings[place] = {unicodedata.normalize("NFC", entry.name): entry.name for entry in place.iterdir()}
            except OSError:
                listings[place] = {}
        name = listings[place].get(unicodedata.normalize("NFC", part))
        if name is None:
            return None
        place = place / name
    return place if _is_file(place) else None


def _count_unnamed(parts: list[_Rows], left: Unread) -> None:
    """Add the images in the folders of tables that the tables don't name."""
    for table in {rows.table for rows in parts}:
        named = {
            unicodedata.normalize("NFC", str(file)) for rows in parts if rows.table == table for file in rows.files
        }
        try:
            there = images_under(table.parent)
        except OSError:
            continue
        unnamed = sum(unicodedata.normalize("NFC", str(file)) not in named for file in there)
        left.add("image", f" that {table.name} doesn't name", unnamed)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _checked(name: object, place: str) -> str:
    """The file's name as a normalised path below the table's folder; UsageError for any other path."""
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{place}: {NAME_COLUMN} is {name!r:.200}; it must be the path of an image")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise UsageError(f"{place}: {NAME_COLUMN} is {name[:200]!r}; it must be a path below the folder of the table")
    return path.as_posix()


def _rows(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The rows and their numbers, counted from 1 without the header, read one at a time."""
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
