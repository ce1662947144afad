"""One table of situations that people's data are in; every reader must answer alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers_readers import (
    COMPOSED,
    FOLDERS,
    TAKEN_APART,
    TEST,
    TRAIN,
    Row,
    answer,
    as_folders,
    as_parquet,
    as_table,
    read,
    rows,
    unread,
    write,
)
from helpers_readers import folders as folders  # a fixture

# -- the readers: each writes the rows as its users have them -------------------------------------------------------------


READERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "folders": as_folders,
    "streamed folders": as_folders,
    "one csv": lambda root, data: as_table(root, data, ".csv", each=False),
    "csv of each part": lambda root, data: as_table(root, data, ".csv", each=True),
    "jsonl of each part": lambda root, data: as_table(root, data, ".jsonl", each=True),
    "one metadata.parquet": lambda root, data: as_table(root, data, ".parquet", each=False),
    "parquet": as_parquet,
}


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


VAL = rows("val", ("cat", "dog"), 3)

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
