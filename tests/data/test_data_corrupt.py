"""Folders with files that can't be decoded: refused, or left out on request and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import SMALL, nas_
from helpers_data import decoding as decoding  # a fixture
from helpers_data import image_folder, spoil
from helpers_data import kept as kept  # a fixture

import nas.data.readers.decoded_cache
import nas.data.readers.images
from nas.data import load
from nas.errors import UsageError
from nas.runs.run import load_run


@pytest.mark.parametrize("cached", [False, True])
def test_corrupt_files_are_left_out_on_request_and_said(
    cached: bool, tmp_path: Path, kept: Path, decoding: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.data.readers.decoded_cache, "LEAST_BYTES", 0 if cached else 1 << 40)
    image_folder(tmp_path / "set" / "train", count=70)
    image_folder(tmp_path / "set" / "test", count=3)
    whole = load(f"imagefolder:{tmp_path / 'set'}")
    spoil(tmp_path / "set/train/cat/001.png", tmp_path / "set/train/dog/069.png", tmp_path / "set/test/dog/000.png")
    with pytest.raises(UsageError, match=r"3 of 146 images .* can't be read: train/cat/001\.png .*--skip-corrupt"):
        load(f"imagefolder:{tmp_path / 'set'}")
    for again in range(2):
        decoding.clear()
        said: list[str] = []
        data = load(f"imagefolder:{tmp_path / 'set'}", skip_corrupt=True, progress=said.append)
        assert bool(decoding) == (not cached or not again)
        assert any("3 of 146 images" in line and "left out: train/cat/001.png (" in line for line in said)
        assert "without 3 that can't be decoded" in data.source
        assert (data.skipped, whole.skipped) == (3, 0)
        np.testing.assert_array_equal(data.x_train, np.delete(whole.x_train, [1, 139], axis=0))
        np.testing.assert_array_equal(data.y_train, np.delete(whole.y_train, [1, 139]))
        np.testing.assert_array_equal(data.x_test, np.delete(whole.x_test, 3, axis=0))
        np.testing.assert_array_equal(data.y_test, np.delete(whole.y_test, 3))
        assert data.fingerprint != whole.fingerprint
    with pytest.raises(UsageError, match="3 of 146 images"):
        load(f"imagefolder:{tmp_path / 'set'}")


def test_many_corrupt_files_are_listed_up_to_a_cap(tmp_path: Path) -> None:
    spoil(*sorted(image_folder(tmp_path, count=30).glob("*/*.png"))[:25])
    with pytest.raises(UsageError, match=r"25 of 60 images .*; and 5 more; replace") as error:
        load(f"imagefolder:{tmp_path}")
    assert str(error.value).count(".png (") == 20
    assert "\n" not in str(error.value)


def test_a_class_without_a_whole_image_is_refused(tmp_path: Path) -> None:
    spoil(*image_folder(tmp_path, count=6).glob("cat/*.png"))
    with pytest.raises(UsageError, match=r"without the images that can't be decoded: too few .*'cat' has 0"):
        load(f"imagefolder:{tmp_path}", skip_corrupt=True)
    spoil(*tmp_path.glob("dog/*.png"))
    with pytest.raises(UsageError, match="too few"):
        load(f"imagefolder:{tmp_path}", skip_corrupt=True)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError("Permission denied")])
def test_what_the_system_withholds_is_never_skipped(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path, count=6)
    read = nas.data.readers.images.square_rgb

    def refuse(file: Path, side: int) -> np.ndarray:
        if file.name == "002.png":
            raise error
        return read(file, side)

    monkeypatch.setattr(nas.data.readers.images, "square_rgb", refuse)
    with pytest.raises(UsageError, match=r"2 of 12 images .*Permission denied.*make them readable"):
        load(f"imagefolder:{tmp_path}", skip_corrupt=True)


# ---- from the command line


def test_compare_trains_without_the_corrupt_files_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    spoil(image_folder(tmp_path / "photos", count=20) / "cat" / "007.png")
    command = [
        "compare",
        "small.yaml",
        "--dataset",
        "imagefolder:photos",
        "--epochs",
        1,
        "--device",
        "cpu",
        "--out",
        "o",
    ]
    refused = nas_(*command)
    assert refused.exit_code == 2
    assert "1 of 40 images" in refused.stderr
    assert "cat/007.png" in refused.stderr
    assert "--skip-corrupt" in refused.stderr
    for _ in range(2):  # the second time it finds what the first one trained
        done = nas_(*command, "--skip-corrupt", "--json")
        assert done.exit_code == 0, done.output
        assert "left out: cat/007.png" in done.stderr
        assert "without 1 that can't be decoded" in json.loads(done.stdout)["dataset"]["source"]
    assert "1 of 1 trainings are done already" in done.stderr


def test_a_search_resumes_without_the_files_that_it_began_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(image_folder(tmp_path / "photos", count=20) / "cat" / "007.png")
    command = ["search", "--dataset", "imagefolder:photos", "--space", "resnet", "--trials", 1, "--epochs", 1]
    command += ["--max-params", "300k", "--executor", "local", "--device", "cpu", "--out", "run"]
    refused = nas_(*command)
    assert refused.exit_code == 2
    assert "cat/007.png" in refused.stderr
    assert not (tmp_path / "run").exists()
    begun = nas_(*command, "--skip-corrupt")
    assert begun.exit_code == 0, begun.output
    facts = load_run(tmp_path / "run").config["dataset"]
    assert facts["skipped_images"] == 1
    assert "without 1 that can't be decoded" in facts["source"]
    more = nas_("resume", "run", "--trials", 2)
    assert more.exit_code == 0, more.output
    assert load_run(tmp_path / "run").count("complete") == 2
    spoil(tmp_path / "photos" / "dog" / "003.png")
    changed = nas_("resume", "run", "--trials", 3)
    assert changed.exit_code == 2
    assert "has changed since the run began" in changed.stderr
