"""Readers of image files: each writes the same rows as its users have them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet
import pytest
from PIL import Image

from nas.data import load, stream
from nas.data.names import key_of_class
from nas.errors import UsageError

COMPOSED, TAKEN_APART = "caf\u00e9", "cafe\u0301"


@dataclass(frozen=True)
class Row:
    """An image. label: None where it has none. name: of its file, below its class or part."""

    part: str
    label: str | None
    name: str


def rows(part: str, labels: Sequence[str | None], count: int = 4, suffix: str = ".png") -> list[Row]:
    return [Row(part, label, f"{k}-{n}{suffix}") for k, label in enumerate(labels) for n in range(count)]


def pixels(row: Row) -> bytes:
    if row.name.endswith(".heic"):
        return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    file = io.BytesIO()
    seed = [*row.part.encode(), *row.name.encode(), *(row.label or "").encode("utf-8", "surrogatepass")]
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image.save(file, {".jfif": "JPEG", ".jpe": "JPEG"}.get(Path(row.name).suffix, "PNG"))
    return file.getvalue()


def write(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pixels(row))


def as_folders(root: Path, data: list[Row]) -> None:
    for row in data:
        write(root / row.part / (row.label or "") / row.name, row)


def as_table(root: Path, data: list[Row], suffix: str, *, each: bool) -> None:
    """One table at the root, or one in each part's folder; the images lie in a folder of their own for each class."""
    tables: dict[Path, list[dict[str, Any]]] = {}
    for row in data:
        label = sorted({str(other.label) for other in data}).index(str(row.label))
        write(root / row.part / f"of-{label}" / row.name, row)
        folder = root / row.part if each else root
        file = (root / row.part / f"of-{label}" / row.name).relative_to(folder)
        tables.setdefault(folder, []).append({"file_name": file.as_posix(), "label": row.label})
    for folder, lines in tables.items():
        table = folder / f"metadata{suffix}"
        if suffix == ".csv":
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["file_name", "label"])
                writer.writeheader()
                writer.writerows(lines)
        elif suffix == ".jsonl":
            table.write_text("".join(json.dumps(line) + "\n" for line in lines))
        else:
            pyarrow.parquet.write_table(arrow.Table.from_pylist(lines), table)


def as_parquet(root: Path, data: list[Row]) -> None:
    root.mkdir(exist_ok=True)
    for part in {row.part for row in data}:
        of_part = [row for row in data if row.part == part]
        table = arrow.table(
            {
                "image": [{"bytes": pixels(row), "path": row.name} for row in of_part],
                "label": arrow.array([row.label for row in of_part], arrow.string()),
            }
        )
        pyarrow.parquet.write_table(table, root / f"{part or 'all'}-00000.parquet")


@dataclass
class Answer:
    """What a reader said: of the data, or why it refused them."""

    classes: tuple[str, ...] = ()
    images: tuple[int, int] = (0, 0)
    lines: tuple[str, ...] = ()
    error: str = ""


def answer(reader: str, root: Path, home: Path) -> Answer:
    lines: list[str] = []
    read = stream if reader.startswith("streamed") else load
    try:
        data = read(f"imagefolder:{root}", root=home, progress=lines.append)
    except UsageError as error:
        assert str(error).isprintable()
        return Answer(lines=tuple(lines), error=str(error))
    names = tuple(map(key_of_class, data.classes))
    return Answer(names, (len(data.y_train), len(data.y_test)), tuple(lines))


TRAIN = rows("train", ("cat", "dog"), 5)


TEST = rows("test", ("cat", "dog"), 2)


FOLDERS = ("folders", "streamed folders")


@pytest.fixture(params=FOLDERS)
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    as_folders(tmp_path / "set", [*TRAIN, *TEST])
    return request.param, tmp_path / "set"


def read(folders: tuple[str, Path]) -> Answer:
    return answer(*folders, folders[1].parent / "home")


def unread(got: Answer) -> str:
    return next((line for line in got.lines if line.startswith("not read")), "")
