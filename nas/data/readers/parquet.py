"""Image data sets in parquet files, as Hugging Face saves them: encoded images in one column, classes in another.

They are unpacked once to `$NAS_DATA/unpacked/KEY/`, one file for each image, and read from there like any other folder: access to
a single row of parquet is slow, and training reads images in a random order. KEY is the SHA-256 of the parquet files' names,
sizes and times of modification and change. An existing folder is complete, because it is written under another name and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from nas.data.names import (
    NO_LABEL,
    Classes,
    label_text,
    part_named,
    require_labels,
    require_names,
    sorted_names,
    unlabelled,
)
from nas.data.readers.images import available_memory, formats_by_suffix
from nas.data.readers.split_folders import Unread, folders_in, left_out, visible
from nas.data.readers.tables import LABEL_COLUMNS, FolderSamples, Samples, choose_parts, label_column
from nas.errors import UsageError, reason_of
from nas.utils import limits
from nas.utils.files import read_json, write_json
from nas.utils.text import Say

FORMAT = 1
INDEX = "index.json"
_ROWS = 128  # at a time
_BUCKET = 10_000  # files in one folder
_QUIET_SECONDS = 2.0
_MOST_CONFIGURATIONS = 20  # some data sets have a folder of tables for each configuration; more folders are classes


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of one parquet file: those of the images and the labels; classes: names of the classes, if the file has them."""

    image: str
    label: str
    classes: tuple[str, ...]


def unpacked(root: Path, kept_in: Path, say: Say) -> FolderSamples | None:
    """The samples of root/*.parquet, root/data/*.parquet or root/PART/*.parquet; None if there are no such files.

    A part whose labels are all -1, like a test part whose labels are kept secret, is ignored. Raises UsageError for files without
    images and classes, and if the disk has no room to unpack them.
    """
    files = _parquet_files(root)
    if not files:
        return None
    if not any(_image_columns(_open(file).schema_arrow) for file in files):
        say(f"{', '.join(file.name for file in files[:3])} of {root} is not read: it has no column of images")
        return None
    parts: dict[str, list[Path]] = {}
    for file in files:
        word = re.match(r"[A-Za-z]*", file.stem)
        parts.setdefault(part_named(word[0] if word else "") or part_named(file.parent.name), []).append(file)
    train, test, name, about, unread = choose_parts(parts, str(root), _unlabelled, say)
    used = [*train, *(test or ())]
    columns = {file: _columns(file) for file in used}
    classes = columns[train[0]].classes
    if any(columns[file].classes != classes for file in used):
        raise UsageError(f"{root}: its parquet files don't name the same classes")
    folder = kept_in / _key(used, root)
    if not (folder / INDEX).is_file():
        _unpack(folder, root, {"train": train, "test": test or []}, columns, say)
    else:
        with contextlib.suppress(OSError):
            os.utime(folder / INDEX)
    return _found(folder, root, classes, name, (about, unread), say)


def parquet_rows(file: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """The rows of a parquet file and their numbers from 1, with the wanted columns as far as they exist."""
    parquet = _open(file)
    names = [name for name in wanted if name in parquet.schema_arrow.names]
    number = 0
    for batch in _batches(parquet, file, names):
        for row in batch:
            number += 1
            yield number, row


def _parquet_files(root: Path) -> list[Path]:
    def inside(folder: Path) -> list[Path]:
        try:
            names = sorted(entry for entry in folder.iterdir() if visible(entry.name))
        except OSError as error:
            raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error
        return [entry for entry in names if entry.suffix == ".parquet" and entry.name != "metadata.parquet"]

    folders = folders_in(root)
    usual = [folder for folder in folders if folder.name == "data" or part_named(folder.name)]
    files = [file for folder in (root, *usual) for file in inside(folder)]
    if not files and len(folders) <= _MOST_CONFIGURATIONS:
        named = [folder for folder in folders if folder not in usual and any(map(_parquet_or_part, _entries(folder)))]
        if named:
            raise UsageError(
                f"{root} has parquet files in {', '.join(f.name for f in named)}; write imagefolder:{named[0]}"
            )
    return files


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from folder.iterdir()


def _parquet_or_part(entry: Path) -> bool:
    if entry.suffix == ".parquet":
        return entry.name != "metadata.parquet"
    return bool(part_named(entry.name)) and any(inner.suffix == ".parquet" for inner in _entries(entry))


def _open(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{file} takes the package pyarrow to be read; install it: uv pip install pyarrow") from None
    try:
        return pyarrow.parquet.ParquetFile(file)
    except Exception as error:  # pyarrow raises many types
        raise UsageError(f"{file} is no parquet file, or is cut short: {reason_of(error, 200)}") from error


def _batches(parquet: Any, file: Path, names: list[str]) -> Iterator[list[dict[str, object]]]:
    """A few rows at a time; UsageError if they can't be read or need more memory than is available."""
    available = available_memory()
    for number in range(parquet.metadata.num_row_groups):
        size = parquet.metadata.row_group(number).total_byte_size
        if available is not None and size > available:
            raise UsageError(f"{file}: its row group {number} unpacks to {size / 2**30:.1f} GiB, more than memory has")
    try:
        for batch in parquet.iter_batches(batch_size=_ROWS, columns=names):
            yield batch.to_pylist()
    except Exception as error:
        raise UsageError(f"{file} can't be read: {reason_of(error, 200)}") from error


def _image_columns(schema: Any) -> list[str]:
    """The columns of type Image by the features that Hugging Face writes into the file; if none, structures with bytes."""
    import pyarrow

    kinds = {name: fact.get("_type") for name, fact in _features(schema).items()}
    return [name for name in schema.names if kinds.get(name) == "Image"] or [
        field.name
        for field in schema
        if pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]


def _features(schema: Any) -> dict[str, dict[str, object]]:
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: fact for name, fact in features.items() if isinstance(fact, dict)}
    return {}


def _columns(file: Path) -> _Columns:
    """The columns of images and labels. UsageError if they are ambiguous or missing."""
    schema = _open(file).schema_arrow
    features, images = _features(schema), _image_columns(schema)
    if len(images) != 1:
        has = ", ".join(schema.names)
        raise UsageError(
            f"{file} has {len(images)} columns of images, and it needs one, of {{bytes, path}}; it has {has}"
        )
    label, typed = _labels(schema, str(file))
    names = features[label].get("names") if label in typed else None
    given = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return _Columns(images[0], label, tuple(names) if isinstance(names, list) and given else ())


def _labels(schema: Any, what: str, *, required: bool = True) -> tuple[str, list[str]]:
    """The column of labels, and all columns typed as classes. Without one: UsageError, or "" if it is not required."""
    features = _features(schema)
    typed = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if not required and not typed and not set(LABEL_COLUMNS) & set(schema.names):
        return "", typed
    return label_column(schema.names, what, typed=typed), typed


def _unlabelled(files: Sequence[Path]) -> bool:
    """Whether no image of a part has a label, because all are missing or there is no column of labels."""
    for file in files:
        schema = _open(file).schema_arrow
        column, _ = _labels(schema, str(file), required=False)
        if column and not unlabelled(label_text(row[column]) for _, row in parquet_rows(file, [column])):
            return False
    return True


def _key(files: Sequence[Path], root: Path) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n".encode())
    for file in files:
        status = file.stat()
        name = os.fsencode(file.relative_to(root))
        digest.update(b"%d %d %d %d " % (len(name), status.st_size, status.st_mtime_ns, status.st_ctime_ns) + name)
    return digest.hexdigest()


def _unpack(folder: Path, root: Path, parts: dict[str, list[Path]], columns: dict[Path, _Columns], say: Say) -> None:
    """Write each image of the parts into a separate file, and the labels into the index."""
    need = sum(file.stat().st_size for files in parts.values() for file in files)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < 1.1 * need:
            raise UsageError(
                f"the parquet files of {root} are unpacked to {folder.parent}, which takes {need / 2**30:.1f} GiB and has "
                f"{free / 2**30:.1f} GiB left; choose another place with --data-root"
            )
        index: dict[str, object] = {"format": FORMAT, "root": str(root)}
        left = Unread()
        for part, files in parts.items():
            names, labels = [], []
            for name, label in _written(temporary, part, files, columns, left, say):
                names.append(name)
                labels.append(label)
            require_labels(set(labels), f"{root}: the {part} part")
            index[part] = {"files": names, "labels": labels}
        index["unread"] = str(left)
        write_json(temporary / INDEX, index)
        with contextlib.suppress(OSError):  # another process was faster and has written the same
            temporary.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder.parent} can't take the images of {root}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"unpacked {root} to {folder}, to be read from there next time")


def _written(
    folder: Path, part: str, files: Sequence[Path], columns: dict[Path, _Columns], left: Unread, say: Say
) -> Iterator[tuple[str, str]]:
    """Write the images of a part, and yield each one's file, relative to the folder, and its label."""
    count, spoken = 0, time.monotonic()
    for file in files:
        of = columns[file]
        for number, row in parquet_rows(file, (of.image, of.label)):
            image, place = row[of.image], f"{file}, row {number}"
            content, given_path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (None, None)
            if not content:
                raise UsageError(f"{place}: {of.image} holds no bytes; images must lie in the file, not next to it")
            label = label_text(row[of.label])
            if label is None or (label == NO_LABEL and of.classes):
                raise UsageError(f"{place}: {of.label} is {row[of.label]!r}; each image needs its class")
            if of.classes and not (label.isdigit() and int(label) < len(of.classes)):
                raise UsageError(f"{place}: {of.label} is {label!r}; there are {len(of.classes)} classes, from 0")
            path = PurePath(str(given_path or ""))
            if why := left_out(path, io.BytesIO(content)):
                left.add(*why)
                continue
            suffix = path.suffix.lower()
            name = f"{part}/{count // _BUCKET:04}/{count:08}{suffix if suffix in formats_by_suffix() else '.image'}"
            target = folder / name
            if count % _BUCKET == 0:
                target.parent.mkdir(parents=True)
            target.write_bytes(content)
            count += 1
            yield name, label
            if time.monotonic() - spoken > _QUIET_SECONDS:
                spoken = time.monotonic()
                say(f"unpacking {file}: {count:,} images of the {part} part")


def _found(
    folder: Path, root: Path, given: tuple[str, ...], test_name: str, words: tuple[str, str], say: Say
) -> FolderSamples:
    index = read_json(folder / INDEX, limits.INDEX_BYTES)
    try:
        parts = {part: (index[part]["files"], index[part]["labels"]) for part in ("train", "test")}
        unread = str(index.get("unread") or "")  # absent in older files
    except (TypeError, LookupError, AttributeError):
        raise UsageError(f"{folder} is damaged; remove it, and it is made again") from None
    if given:  # the labels are indices into the file's class names
        spelled = {part: [given[int(label)] for label in labels] for part, (_, labels) in parts.items()}
        require_names(given, str(root))
    else:
        spelled = {part: labels for part, (_, labels) in parts.items()}
    classes = Classes.of(given or sorted_names(spelled["train"]), str(root), say)
    if spelled["test"]:
        classes.require(set(spelled["test"]), f"{root}: the {test_name} part", "the train part", say)
    if unread:
        say(unread)
    train, test = (
        Samples([folder / name for name in parts[part][0]], classes.labels(spelled[part])) for part in ("train", "test")
    )
    about, left_aside = words
    about = f", from parquet files{about}"
    return FolderSamples(folder, str(root), train, test if test.files else None, classes.names, about, left_aside)
