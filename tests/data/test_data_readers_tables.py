"""Tables and arrays of images: names, labels, parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet
import pytest
from helpers_readers import COMPOSED, TAKEN_APART, TEST, TRAIN, Row, answer, as_parquet, as_table, rows, unread, write
from helpers_readers import folders as folders  # a fixture

from nas.data import load
from nas.errors import UsageError

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
