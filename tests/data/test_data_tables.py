"""Image folders as Hugging Face's tools leave them: metadata beside the images, or images within parquet files."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet
import pytest
from PIL import Image

import nas.data.readers.metadata
import nas.data.readers.parquet
from nas.data import load
from nas.data.names import label_text, part_named, sorted_names
from nas.errors import UsageError

WORDS = ("cat", "dog")


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), number, np.uint8))


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


def images(folder: Path, count: int = 10) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(folder / f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def rows_of(names: list[str]) -> list[dict[str, Any]]:
    return [{"file_name": name, "label": WORDS[number % 2]} for number, name in enumerate(names)]


def write(table: Path, rows: list[dict[str, Any]]) -> Path:
    table.parent.mkdir(parents=True, exist_ok=True)
    if table.suffix == ".csv":
        keys = list(rows[0])
        table.write_text("\n".join([",".join(keys), *(",".join(str(row[key]) for key in keys) for row in rows)]) + "\n")
    elif table.suffix == ".jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(arrow.Table.from_pylist(rows), table)
    return table


def read(root: Path, home: Path, **options: Any):
    return load(f"imagefolder:{root}", root=home, **options)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


# -- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", nas.data.readers.metadata.NAMES)
def test_one_table_for_all_has_a_fifth_carved(name: str, root: Path, home: Path) -> None:
    write(root / name, rows_of([f"images/{file}" for file in images(root / "images")]))
    data = read(root, home)
    assert data.classes == WORDS
    assert (len(data.y_train), len(data.y_test)) == (8, 2)
    assert f"labelled by {name}, 2 of them held out" in data.source
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert (x[:, 0, 0, 0] % 2 == y).all()


@pytest.mark.parametrize("name", nas.data.readers.metadata.NAMES)
def test_a_table_in_each_part(name: str, root: Path, home: Path) -> None:
    for part, count in (("train", 10), ("validation", 6), ("test", 4)):
        write(root / part / name, rows_of(images(root / part, count)))
    said: list[str] = []
    data = read(root, home, progress=said.append)
    assert (len(data.y_train), len(data.y_test)) == (10, 4)
    assert "trained on train and tested on test, without its validation part" in data.source
    assert any("the validation part" in line and "not read" in line for line in said)


def test_one_table_that_names_files_in_parts(root: Path, home: Path) -> None:
    names = [f"{part}/{file}" for part, count in (("train", 10), ("test", 4)) for file in images(root / part, count)]
    write(root / "metadata.csv", rows_of(names))
    data = read(root, home)
    assert (len(data.y_train), len(data.y_test)) == (10, 4)


def test_labels_that_are_numbers_are_sorted_as_numbers(root: Path, home: Path) -> None:
    names = images(root, 44)
    write(root / "metadata.jsonl", [{"file_name": name, "label": number % 11} for number, name in enumerate(names)])
    data = read(root, home)
    assert data.classes == tuple(str(number) for number in range(11))
    assert (data.x_train[:, 0, 0, 0] % 11 == data.y_train).all()


def test_class_folders_count_where_the_table_says_nothing_of_labels(root: Path, home: Path) -> None:
    for word in WORDS:
        images(root / word)
    for rows, said in (
        ([{"id": 1}], "no column file_name"),
        ([{"file_name": "cat/0.png", "text": "a"}], "no column label"),
    ):
        write(root / "metadata.csv", rows)
        lines: list[str] = []
        assert read(root, home, progress=lines.append).classes == WORDS
        assert any(said in line and "not read" in line for line in lines)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"file_name": "../secret.png", "label": "cat"}, "row 11: .*must be a path below"),
        ({"file_name": "a/../../secret.png", "label": "cat"}, "row 11: .*must be a path below"),
        ({"file_name": "/etc/passwd", "label": "cat"}, "row 11: .*must be a path below"),
        ({"file_name": "a\0b", "label": "cat"}, "row 11: .*must be a path below"),
        ({"file_name": ".", "label": "cat"}, "row 11: .*must be a path below"),
        ({"file_name": "", "label": "cat"}, "row 11: file_name is ''"),
        ({"file_name": 3, "label": "cat"}, "row 11: file_name is 3"),
        ({"file_name": "nowhere.png", "label": "cat"}, "names 1 files that are not there: nowhere.png"),
        ({"file_name": "./3.png", "label": "cat"}, "row 11: 3.png is named twice"),
        ({"file_name": "x.png", "label": None}, "row 11: x.png has no label"),
        ({"file_name": "x.png", "label": "  "}, "row 11: x.png has no label"),
        ({"file_name": "x.png", "label": [1]}, r"row 11: x.png has no label, but \[1\]"),
        ({"file_name": "x.png", "label": float("nan")}, "row 11: x.png has no label, but nan"),
        ({"file_name": "x.png"}, "row 11: x.png has no label"),
        ({"file_name": "0.png"}, "row 11: 0.png is named twice"),
        ([], "line 11 is no JSON object"),
    ],
)
def test_a_bad_row_is_named(row: Any, said: str, root: Path, home: Path) -> None:
    Image.new("RGB", (8, 8)).save(root.parent / "secret.png")
    write(root / "metadata.jsonl", [*rows_of(images(root)), row])
    with pytest.raises(UsageError, match=said):
        read(root, home)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "names no image"),
        (b"file_name,label\n", "names no image"),
        (b"file_name,text\n0.png,a\n", "has no column label; it has file_name, text"),
        (b"file_name,label\n0.png,\xff\n", "can't be read"),
        (b'file_name,label\n"' + b"x" * 200_000, "can't be read: field larger than"),
    ],
)
def test_a_bad_table_is_refused(content: bytes, said: str, root: Path, home: Path) -> None:
    images(root)
    (root / "metadata.csv").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read(root, home)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"file_name": ', b'"' + b"x" * (1 << 21) + b'"'])
def test_bad_json_is_refused(content: bytes, root: Path, home: Path) -> None:
    images(root)
    (root / "metadata.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match="can't be read"):
        read(root, home)


def test_a_huge_table_is_refused_unread(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "metadata.csv", rows_of(images(root)))
    monkeypatch.setattr(nas.data.readers.metadata, "MOST_BYTES", 10)
    with pytest.raises(UsageError, match="a table of images has less than"):
        read(root, home)


def test_two_tables_and_one_class_are_refused(root: Path, home: Path) -> None:
    names = images(root)
    write(root / "metadata.csv", [{"file_name": name, "label": "cat"} for name in names])
    with pytest.raises(UsageError, match=r"has 1 class \(cat\); it takes two"):
        read(root, home)
    write(root / "metadata.jsonl", rows_of(names))
    with pytest.raises(UsageError, match=r"has metadata\.csv and metadata\.jsonl; leave the one"):
        read(root, home)


def test_test_classes_without_train_images_are_refused(root: Path, home: Path) -> None:
    write(root / "train" / "metadata.csv", rows_of(images(root / "train")))
    write(root / "test" / "metadata.csv", [{"file_name": name, "label": "cow"} for name in images(root / "test")])
    with pytest.raises(UsageError, match="test part has classes without train images: cow"):
        read(root, home)


# -- parquet ----------------------------------------------------------------------------------------------------------


def parquet(
    file: Path, numbers: range, *, names: tuple[str, ...] | None = WORDS, label: Any = None, column: str = "label"
) -> Path:
    """As `datasets` writes them, with its features in the schema's metadata."""
    labels = [number % 2 if label is None else label for number in numbers]
    table = arrow.table(
        {"image": [{"bytes": encoded(number), "path": f"../{number}.png"} for number in numbers], column: labels}
    )
    if names is not None:
        features = {"image": {"_type": "Image"}, column: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, file, row_group_size=7)
    return file


def test_parquet_of_parts_and_shards(root: Path, home: Path) -> None:
    parquet(root / "data" / "train-00000-of-00002.parquet", range(20))
    parquet(root / "data" / "train-00001-of-00002.parquet", range(20, 30))
    parquet(root / "data" / "test-00000-of-00001.parquet", range(40, 46))
    said: list[str] = []
    data = read(root, home, progress=said.append)
    assert data.classes == WORDS
    assert data.x_train[:, 0, 0, 0].tolist() == list(range(30))
    assert data.x_test[:, 0, 0, 0].tolist() == list(range(40, 46))
    assert (data.x_train[:, 0, 0, 0] % 2 == data.y_train).all()
    assert "from parquet files, trained on train and tested on test" in data.source
    assert any(line.startswith(f"unpacked {root}") for line in said)
    (unpacked,) = (home / "unpacked").iterdir()
    assert {path.suffix for path in unpacked.rglob("*") if path.is_file()} == {".png", ".json"}
    said.clear()
    assert read(root, home, progress=said.append).fingerprint == data.fingerprint
    assert not any("unpacked" in line for line in said)


@pytest.mark.parametrize("place", ["0000.parquet", "data/part.parquet", "train.parquet", "train/0000.parquet"])
def test_parquet_of_one_part_has_a_fifth_carved(place: str, root: Path, home: Path) -> None:
    parquet(root / place, range(20))
    data = read(root, home)
    assert (len(data.y_train), len(data.y_test)) == (16, 4)


def test_class_folders_count_beside_parquet_of_something_else(root: Path, home: Path) -> None:
    for word in WORDS:
        images(root / word)
    pyarrow.parquet.write_table(arrow.table({"price": [1.0]}), root / "notes.parquet")
    said: list[str] = []
    assert read(root, home, progress=said.append).classes == WORDS
    assert said[0].startswith("notes.parquet of") and "no column of images" in said[0]


def test_labels_without_names_are_their_own(root: Path, home: Path) -> None:
    parquet(root / "train.parquet", range(20), names=None)
    assert read(root, home).classes == ("0", "1")


def test_a_test_part_without_labels_gives_way_to_validation(root: Path, home: Path) -> None:
    parquet(root / "train.parquet", range(20))
    parquet(root / "validation.parquet", range(4))
    parquet(root / "test.parquet", range(4), label=-1)
    said: list[str] = []
    data = read(root, home, progress=said.append)
    assert "tested on validation" in data.source
    assert len(data.y_test) == 4
    assert any("the test part" in line and "no labels" in line for line in said)


def test_a_class_column_of_another_name_is_found(root: Path, home: Path) -> None:
    parquet(root / "train.parquet", range(20), column="animal")
    assert read(root, home).classes == WORDS


def test_a_broken_image_in_parquet_is_named(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded
    monkeypatch.setattr(sys.modules[__name__], "encoded", lambda number: whole(number)[: 40 if number == 13 else None])
    parquet(root / "train.parquet", range(20))
    with pytest.raises(UsageError, match=r"1 of 20 images .*train/0000/00000013\.png .*--skip-corrupt"):
        read(root, home)
    assert read(root, home, skip_corrupt=True).skipped == 1


def wrong(problem: str, root: Path) -> None:
    numbers = range(10)
    file = root / "train.parquet"
    if problem == "cut short":
        parquet(file, numbers)
        file.write_bytes(file.read_bytes()[:-100])
    elif problem == "no images":
        root.mkdir()
        pyarrow.parquet.write_table(arrow.table({"label": [0, 1]}), file)
    elif problem == "no label":
        parquet(file, numbers, names=None, column="text")
    elif problem == "beside":
        root.mkdir()
        rows = [{"image": {"bytes": None, "path": "/etc/passwd"}, "label": n % 2} for n in numbers]
        schema = arrow.schema(
            {"image": arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}), "label": arrow.int64()}
        )
        pyarrow.parquet.write_table(arrow.Table.from_pylist(rows, schema), file)
    elif problem == "beyond":
        parquet(file, numbers, label=2)
    elif problem == "unlabelled":
        parquet(file, numbers, label=-1)
    elif problem == "one class":
        parquet(file, numbers, names=("cat",), label=0)
    elif problem == "no train":
        parquet(root / "test.parquet", numbers)
    elif problem == "mixed":
        parquet(file, numbers)
        parquet(root / "more.parquet", numbers)
    elif problem == "other names":
        parquet(file, numbers)
        parquet(root / "test.parquet", numbers, names=("a", "b"))
    elif problem == "configurations":
        parquet(root / "small" / "train-00000-of-00001.parquet", numbers)
        parquet(root / "large" / "train" / "0000.parquet", numbers)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("cut short", "is no parquet file, or is cut short"),
        ("no images", r"has no class folders with images \(there are no images\)"),
        ("no label", "has no column label; it has image, text"),
        ("beside", "row 1: image holds no bytes"),
        ("beyond", "row 1: label is '2'; there are 2 classes"),
        ("unlabelled", "row 1: label is -1; each image needs its class"),
        ("one class", r"has 1 class \(cat\)"),
        ("no train", "has a part test, but no train"),
        ("mixed", r"has files of a part \(train\) and files of none"),
        ("other names", "don't name the same classes"),
        ("configurations", r"has parquet files in large, small; write imagefolder:.*/large$"),
    ],
)
def test_bad_parquet_is_refused_and_leaves_nothing(problem: str, said: str, root: Path, home: Path) -> None:
    wrong(problem, root)
    with pytest.raises(UsageError, match=said):
        read(root, home)
    unpacked = home / "unpacked"
    assert not unpacked.exists() or problem == "one class" or list(unpacked.iterdir()) == []


def test_without_pyarrow_it_is_said_what_to_install(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(root / "train.parquet", range(10))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"takes the package pyarrow .*uv pip install pyarrow"):
        read(root, home)


def test_parquet_that_would_fill_memory_or_disk_is_refused(
    root: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(root / "train.parquet", range(10))
    with monkeypatch.context() as patch:
        patch.setattr(nas.data.readers.parquet, "available_memory", lambda: 10)
        with pytest.raises(UsageError, match=r"row group 0 unpacks to .* more than memory has"):
            read(root, home)
    monkeypatch.setattr("nas.data.readers.parquet.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UsageError, match="choose another place with --data-root"):
        read(root, home)


def test_pieces() -> None:
    assert [part_named(word) for word in ("Train", "val", "TESTING", "cats")] == ["train", "validation", "test", ""]
    assert sorted_names(["10", "9", "10"]) == ("9", "10")
    assert sorted_names(["10", "9", "a"]) == ("10", "9", "a")
    assert [label_text(value) for value in (0, 2.0, "a ", True, None, 0.5)] == ["0", "2", "a", None, None, None]
