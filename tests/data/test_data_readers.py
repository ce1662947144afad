"""One table of situations that people's data are in; every reader must answer alike."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
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


# -- the readers: each writes the rows as its users have them -------------------------------------------------------------


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


READERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "folders": as_folders,
    "streamed folders": as_folders,
    "one csv": lambda root, data: as_table(root, data, ".csv", each=False),
    "csv of each part": lambda root, data: as_table(root, data, ".csv", each=True),
    "jsonl of each part": lambda root, data: as_table(root, data, ".jsonl", each=True),
    "one metadata.parquet": lambda root, data: as_table(root, data, ".parquet", each=False),
    "parquet": as_parquet,
}


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


# -- the situations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Situation:
    """says, error: what must be in a line, or in the error. without: readers in which the situation can't arise."""

    data: list[Row]
    classes: tuple[str, ...] = ("cat", "dog")
    images: tuple[int, int] = (0, 0)
    says: str = ""
    error: str = ""
    without: tuple[str, ...] = ()


TRAIN = rows("train", ("cat", "dog"), 5)
TEST = rows("test", ("cat", "dog"), 2)
VAL = rows("val", ("cat", "dog"), 3)
FOLDERS = ("folders", "streamed folders")

SITUATIONS = {
    "no parts": Situation(rows("", ("cat", "dog"), 5), images=(8, 2)),
    "train and test": Situation([*TRAIN, *TEST], images=(10, 4)),
    **{
        f"{train} and {test}": Situation(
            [*rows(train, ("cat", "dog"), 5), *rows(test, ("cat", "dog"), 2)], images=(10, 4)
        )
        for train, test in (
            *(("training", "testing"), ("Train", "VAL"), ("train", "valid"), ("train", "validation"), ("TRAIN", "dev")),
        )
    },
    "train, val and test": Situation(
        [*TRAIN, *VAL, *TEST], images=(10, 4), says="is not read: validation images are split"
    ),
    "test without labels, and val": Situation(
        [*TRAIN, *VAL, *rows("test", (None,), 6)], images=(10, 6), says="has no labels, and is not read"
    ),
    "test without labels": Situation(
        [*TRAIN, *rows("test", (None,), 6)], images=(8, 2), says="has no labels, and is not read"
    ),
    "test of -1": Situation(
        [*TRAIN, *rows("test", ("-1",), 6)], images=(8, 2), says="has no labels, and is not read", without=FOLDERS
    ),
    "train has -1 beside classes": Situation(
        rows("train", ("cat", "-1"), 5), error="images of label -1, which stands for none; each image needs its class"
    ),
    "the classes are -1 and 1": Situation(rows("train", ("-1", "1"), 5), classes=("-1", "1"), images=(8, 2)),
    "a row without a label": Situation(
        [*TRAIN, *rows("train", (None,), 1, ".x.png")], error="each image needs its class", without=FOLDERS
    ),
    "Unicode taken apart in test": Situation(
        [*rows("train", (COMPOSED, "dog"), 5), *rows("test", (TAKEN_APART, "dog"), 2)],
        classes=(COMPOSED, "dog"),
        images=(10, 4),
    ),
    "Unicode taken apart in train": Situation(
        [*rows("train", (TAKEN_APART, "dog"), 5), *rows("test", (COMPOSED, "dog"), 2)],
        classes=(COMPOSED, "dog"),
        images=(10, 4),
    ),
    "two spellings of one class": Situation(
        rows("train", (COMPOSED, TAKEN_APART, "dog"), 5),
        classes=(COMPOSED, "dog"),
        images=(12, 3),
        says=f"{TAKEN_APART!a} and {COMPOSED!a} are read as one class",
    ),
    "white space around a name": Situation(
        [*rows("train", ("cat", "dog"), 5), *rows("test", (" cat", "dog "), 2)], images=(10, 4)
    ),
    "a class in test alone": Situation(
        [*TRAIN, *TEST, *rows("test", ("cow",), 2, ".x.png")],
        error="has classes without train images: cow; the classes of",
    ),
    "another case in test": Situation(
        [*TRAIN, *rows("test", ("Cat", "dog"), 2)],
        error="has classes without train images: Cat (it has cat: the case of letters counts)",
    ),
    "a class in train alone": Situation(
        [*TRAIN, *rows("test", ("cat",), 2)], images=(10, 2), says="has no images of 1 of 2 classes: dog"
    ),
    "a class in an unread val alone": Situation(
        [*TRAIN, *TEST, *rows("val", ("cow",), 2)], images=(10, 4), says="is not read: validation images are split"
    ),
    "a name that is not UTF-8": Situation(
        rows("train", ("caf\udce9", "dog"), 5),
        error="is not UTF-8",
        without=("one metadata.parquet", "parquet", "one csv", "csv of each part"),
    ),
    "a very long name": Situation(
        rows("train", ("x" * 1000, "dog"), 5), error="has 1,000 characters; at most 255 are read", without=FOLDERS
    ),
    "one class": Situation(rows("train", ("cat",), 5), error="has 1 class (cat); it takes two"),
    "suffixes that Pillow reads": Situation(
        [*rows("train", ("cat", "dog"), 3, ".jfif"), *rows("train", ("cat", "dog"), 2, ".jpe"), *TEST], images=(10, 4)
    ),
    "photos that Pillow doesn't read": Situation(
        [*TRAIN, *TEST, *rows("train", ("cat", "dog"), 2, ".heic")],
        images=(10, 4),
        says="not read: 4 .heic files (Pillow has no decoder for them here; convert them to .png or .jpg)",
    ),
}


CASES = [(name, reader) for name, of in SITUATIONS.items() for reader in READERS if reader not in of.without]


@pytest.mark.parametrize(("name", "reader"), CASES)
def test_readers_answer_alike(name: str, reader: str, tmp_path: Path) -> None:
    situation = SITUATIONS[name]
    READERS[reader](tmp_path / "set", situation.data)
    got = answer(reader, tmp_path / "set", tmp_path / "home")
    assert situation.error in got.error
    assert bool(got.error) == bool(situation.error), got.error
    if not situation.error:
        assert (got.classes, got.images) == (situation.classes, situation.images)
        assert any(situation.says in line for line in got.lines), got.lines
        assert situation.says or not any("not read" in line for line in got.lines), got.lines


def test_numbers_are_ordered_as_before(tmp_path: Path) -> None:
    """Folders by letters, as torchvision does it, and labels of tables by number: labels are what networks were trained on."""
    data = rows("train", ("9", "10"), 5)
    for reader, order in (("folders", ("10", "9")), ("one csv", ("9", "10")), ("parquet", ("9", "10"))):
        READERS[reader](tmp_path / reader, data)
        assert answer(reader, tmp_path / reader, tmp_path / "home").classes == order


# -- folders: links, systems' files ----------------------------------------------------------------------------------------


@pytest.fixture(params=FOLDERS)
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    as_folders(tmp_path / "set", [*TRAIN, *TEST])
    return request.param, tmp_path / "set"


def read(folders: tuple[str, Path]) -> Answer:
    return answer(*folders, folders[1].parent / "home")


def unread(got: Answer) -> str:
    return next((line for line in got.lines if line.startswith("not read")), "")


def test_links_are_followed_in_a_class_and_as_one(folders: tuple[str, Path], tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "elsewhere" / "deep" / f"{number}.png", Row("", "", f"more{number}.png"))
    (folders[1] / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folders[1] / "train" / "cow").symlink_to(tmp_path / "elsewhere" / "deep", target_is_directory=True)
    write(tmp_path / "elsewhere" / "deep" / "3.png", Row("", "", "more3.png"))
    got = read(folders)
    assert got.classes == ("cat", "cow", "dog")
    assert got.images == (10 + 4 + 4, 4)
    assert unread(got) == ""


def test_links_that_lead_back_end(folders: tuple[str, Path]) -> None:
    cat = folders[1] / "train" / "cat"
    (cat / "a").mkdir()
    (cat / "a" / "up").symlink_to(cat, target_is_directory=True)
    (cat / "all").symlink_to(folders[1], target_is_directory=True)
    (cat / "again").symlink_to(cat / "a", target_is_directory=True)
    (folders[1] / "train" / "self").symlink_to(folders[1] / "train", target_is_directory=True)
    (cat / "nowhere").symlink_to(cat / "gone")
    got = read(folders)
    assert (got.classes, got.images) == (("cat", "dog"), (10, 4))
    assert "3 linked folders (read already, or around this one)" in unread(got)


def test_a_linked_folder_is_read_once(folders: tuple[str, Path], tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "0.png", Row("", "", "other.png"))
    for name in ("one", "two"):
        (folders[1] / "train" / "cat" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    got = read(folders)
    assert got.images == (11, 4)
    assert unread(got) == "not read: 1 linked folder (read already, or around this one)"


def test_what_systems_leave_is_no_image_and_is_counted(folders: tuple[str, Path]) -> None:
    train = folders[1] / "train"
    for place in (
        "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "@eaDir/x.png",
        "cat/.AppleDouble/0.png",
        "__MACOSX/cat/._0.png",
    ):
        write(train / place, Row("", "", "thumb.png"))
    for name in ("._0.png", "Thumbs.db", ".DS_Store", "notes.txt", "IMG_1.HEIC", "IMG_2.heic"):
        (train / "cat" / name).write_bytes(b"no image")
    write(train / "loose.png", Row("", "", "loose.png"))
    got = read(folders)
    assert (got.classes, got.images) == (("cat", "dog"), (10, 4))
    for said in (
        *("2 files in @eaDir folders", "1 file in .AppleDouble folders", "1 file in __MACOSX folders", "1 hidden file"),
        *("2 .heic files (Pillow has no decoder", "1 .txt file (no images by their names)"),
        "1 file outside of class folders",
    ):
        assert said in unread(got)
    assert not any(word in unread(got) for word in ("Thumbs", "DS_Store", ".db"))


def test_what_lies_beside_the_parts_is_said(folders: tuple[str, Path]) -> None:
    write(folders[1] / "unlabeled" / "0.png", Row("", "", "0.png"))
    write(folders[1] / "0.png", Row("", "", "0.png"))
    got = read(folders)
    assert got.images == (10, 4)
    assert any(line.startswith(f"unlabeled/ of {folders[1]} is not read") for line in got.lines)
    assert unread(got) == "not read: 1 file outside of class folders"


def test_an_empty_class_folder(folders: tuple[str, Path]) -> None:
    (folders[1] / "test" / "cow").mkdir()
    assert read(folders).images == (10, 4)
    (folders[1] / "train" / "cow").mkdir()
    assert "too few images of a class: 'cow' has 0" in read(folders).error


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes there")
def test_file_names_that_are_not_utf_8_are_read(folders: tuple[str, Path]) -> None:
    (folders[1] / "train" / "cat" / "0-0.png").rename(folders[1] / "train" / "cat" / os.fsdecode(b"caf\xe9.png"))
    assert read(folders).images == (10, 4)


# -- tables -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_may_spell_a_files_name_in_another_normal_form(suffix: str, tmp_path: Path) -> None:
    as_table(tmp_path / "set", rows("train", ("cat", "dog"), 5), suffix, each=False)
    table = tmp_path / "set" / f"metadata{suffix}"
    folder = tmp_path / "set" / "train"
    (folder / "of-0").rename(folder / TAKEN_APART)
    if suffix == ".parquet":
        lines = pyarrow.parquet.read_table(table).to_pylist()
        for line in lines:
            line["file_name"] = line["file_name"].replace("of-0", COMPOSED)
        pyarrow.parquet.write_table(arrow.Table.from_pylist(lines), table)
    else:
        table.write_text(table.read_text().replace("of-0", COMPOSED), encoding="utf-8")
    assert answer("one csv", tmp_path / "set", tmp_path / "home").images == (8, 2)


def test_images_that_a_table_does_not_name_are_counted(tmp_path: Path) -> None:
    as_table(tmp_path / "set", TRAIN, ".csv", each=True)
    write(tmp_path / "set" / "train" / "of-0" / "extra.png", Row("", "", "extra.png"))
    got = answer("", tmp_path / "set", tmp_path / "home")
    assert unread(got) == "not read: 1 image that metadata.csv doesn't name"


def test_thumbnails_that_a_table_names_are_left_out(tmp_path: Path) -> None:
    as_table(tmp_path / "set", [*TRAIN, Row("train", "cat", "@eaDir/0.png")], ".csv", each=True)
    got = answer("", tmp_path / "set", tmp_path / "home")
    assert (got.images, unread(got)) == ((8, 2), "not read: 1 file in @eaDir folders")


def test_a_png_that_is_called_heic_is_read_where_a_table_names_it(tmp_path: Path) -> None:
    as_table(tmp_path / "set", TRAIN, ".csv", each=True)
    (tmp_path / "set" / "train" / "of-0" / "0-0.png").rename(tmp_path / "set" / "train" / "of-0" / "0-0.heic")
    table = tmp_path / "set" / "train" / "metadata.csv"
    table.write_text(table.read_text().replace("of-0/0-0.png", "of-0/0-0.heic"))
    assert answer("", tmp_path / "set", tmp_path / "home").images == (8, 2)


def test_a_test_table_without_a_column_of_labels(tmp_path: Path) -> None:
    as_table(tmp_path / "set", TRAIN, ".csv", each=True)
    write(tmp_path / "set" / "test" / "0.png", Row("", "", "0.png"))
    (tmp_path / "set" / "test" / "metadata.csv").write_text("file_name\n0.png\n")
    got = answer("", tmp_path / "set", tmp_path / "home")
    assert got.images == (8, 2)
    assert any("the test part" in line and "has no labels, and is not read" in line for line in got.lines)


def test_a_parquet_test_part_without_a_column_of_labels(tmp_path: Path) -> None:
    as_parquet(tmp_path / "set", [*TRAIN, *TEST])
    file = tmp_path / "set" / "test-00000.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).drop_columns(["label"]), file)
    got = answer("", tmp_path / "set", tmp_path / "home")
    assert got.images == (8, 2)
    assert any("the test part" in line and "has no labels, and is not read" in line for line in got.lines)


# -- arrays -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [np.full(6, -1), None])
def test_arrays_of_a_test_without_labels_are_left_aside(labels: np.ndarray | None, tmp_path: Path) -> None:
    from helpers_data import npz

    lines: list[str] = []
    data = load(f"npz:{npz(tmp_path / 'a.npz', y_test=labels)}", progress=lines.append)
    assert (len(data.y_train), len(data.y_test)) == (16, 4)
    assert any("has no labels, and is not read" in line for line in lines)


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ([COMPOSED, TAKEN_APART], "class names that occur twice"),
        (["cat", "cat "], "class names that occur twice"),
        (["cat", " "], "is empty"),
        (["cat", "x" * 1000], "has 1,000 characters"),
        (["cat", "caf\udce9"], "is not UTF-8"),
    ],
)
def test_names_of_arrays_are_held_to_the_same_rule(names: list[str], error: str, tmp_path: Path) -> None:
    from helpers_data import npz

    with pytest.raises(UsageError, match=error):
        load(f"npz:{npz(tmp_path / 'a.npz', classes=np.array(names))}")
