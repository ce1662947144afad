"""Files that are whole or as they were, whatever becomes of the writer or the disk."""

from __future__ import annotations

import os

import pytest

from nas.errors import NasError
from nas.training.records import RESULT
from nas.utils.files import read_json, write_json, write_with


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a" / "file.json"
    write_json(path, {"a": 1})

    def dies(file) -> None:
        file.write(b"half of a")
        file.flush()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_with(path, dies)
    assert read_json(path) == {"a": 1} and list(path.parent.iterdir()) == [path]


def test_a_disk_that_takes_nothing_is_an_error_with_the_path(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NasError, match=r"result\.json: can't be written: No space left on device"):
        write_json(tmp_path / RESULT, {})
    assert list(tmp_path.iterdir()) == []
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(NasError, match="can't be written"):
        write_json(blocked / "inside.json", {})


def test_json_that_is_torn_or_missing_reads_as_nothing(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) is None and read_json(tmp_path) is None
    for content in (b"", b'{"a"', b"\xff\xfe", b"\0" * 20):
        path.write_bytes(content)
        assert read_json(path) is None
