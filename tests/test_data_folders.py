"""Folders that people have: parts by their usual names, uneven classes, corrupt files, images that are decoded once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import SMALL, nas_
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nas.data.decoded
import nas.data.images
from nas.data import Dataset, load
from nas.errors import UsageError
from nas.run import load_run


def folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6, size: int = 8) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        for index, image in enumerate(pixels):
            Image.fromarray(image).save(root / name / f"{index:03d}.png")
    return root


def spoil(*files: Path) -> None:
    for file in files:
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))


def arrays(data: Dataset) -> tuple[np.ndarray, ...]:
    return data.x_train, data.y_train, data.x_test, data.y_test


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where decoded images are kept, be they ever so few."""
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(nas.data.decoded, "LEAST_BYTES", 0)
    return tmp_path / "home" / "decoded"


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    seen: list[Path] = []
    read = nas.data.images.square_rgb
    monkeypatch.setattr(nas.data.images, "square_rgb", lambda file, side: (seen.append(file), read(file, side))[1])
    return seen


# ---- parts


@pytest.mark.parametrize(
    ("parts", "train", "test", "unused"),
    [
        (("train", "test"), "train", "test", None),
        (("train", "val"), "train", "val", None),
        (("train", "valid"), "train", "valid", None),
        (("train", "validation"), "train", "validation", None),
        (("Training", "Testing"), "Training", "Testing", None),
        (("train", "validation", "test"), "train", "test", "validation"),
    ],
)
def test_parts_by_their_usual_names(
    parts: tuple[str, ...], train: str, test: str, unused: str | None, tmp_path: Path
) -> None:
    for number, part in enumerate(parts):
        folder(tmp_path / part, count=4 + number)
    said: list[str] = []
    data = load(f"imagefolder:{tmp_path}", progress=said.append)
    assert f"trained on {train}/ and tested on {test}/" in data.source
    assert len(data.y_train) == 2 * (4 + parts.index(train))
    assert len(data.y_test) == 2 * (4 + parts.index(test))
    assert any(line.startswith(f"{unused}/ of") and "not read" in line for line in said) == (unused is not None)
    assert (f"without {unused}/" in data.source) == (unused is not None)


def test_a_train_folder_without_classes_is_a_class_of_trains(tmp_path: Path) -> None:
    assert load(f"imagefolder:{folder(tmp_path, ('plane', 'train', 'test'))}").classes == ("plane", "test", "train")


def test_a_folder_around_the_folder_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "archive" / "train")
    with pytest.raises(UsageError, match=f"write imagefolder:{tmp_path}/archive$"):
        load(f"imagefolder:{tmp_path}")


# ---- classes of unequal size


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6))
def test_imbalance_is_of_the_train_images(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    names = tuple(f"class{k}" for k in range(len(counts)))
    found = Dataset("toy", "Nothing.", images, labels, images[:2], labels[:2], names, True, 1).imbalance
    assert (found.largest_images, found.smallest_images) == (max(counts), min(counts))
    assert counts[names.index(found.largest)] == max(counts)
    assert counts[names.index(found.smallest)] == min(counts)
    assert found.ratio == max(counts) / min(counts)


@pytest.mark.parametrize(("cats", "told"), [(12, True), (11, False)])
def test_uneven_classes_are_said_from_three_to_one(cats: int, told: bool, tmp_path: Path) -> None:
    folder(tmp_path / "train", ("cat",), cats)
    folder(tmp_path / "train", ("dog",), 4)
    folder(tmp_path / "test", count=1)
    said: list[str] = []
    load(f"imagefolder:{tmp_path}", progress=said.append)
    line = "uneven classes: 'cat' has 12 train images, 'dog' has 4 (3.0 to 1)"
    assert any(text.startswith(line) for text in said) == told
    assert any(text.startswith("uneven") for text in said) == told


# ---- corrupt files


@pytest.mark.parametrize("cached", [False, True])
def test_corrupt_files_are_left_out_on_request_and_said(
    cached: bool, tmp_path: Path, kept: Path, decoding: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.data.decoded, "LEAST_BYTES", 0 if cached else 1 << 40)
    folder(tmp_path / "set" / "train", count=70)
    folder(tmp_path / "set" / "test", count=3)
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
    spoil(*sorted(folder(tmp_path, count=30).glob("*/*.png"))[:25])
    with pytest.raises(UsageError, match=r"25 of 60 images .*; and 5 more; replace") as error:
        load(f"imagefolder:{tmp_path}")
    assert str(error.value).count(".png (") == 20
    assert "\n" not in str(error.value)


def test_a_class_without_a_whole_image_is_refused(tmp_path: Path) -> None:
    spoil(*folder(tmp_path, count=6).glob("cat/*.png"))
    with pytest.raises(UsageError, match=r"without the images that can't be decoded: too few .*'cat' has 0"):
        load(f"imagefolder:{tmp_path}", skip_corrupt=True)
    spoil(*tmp_path.glob("dog/*.png"))
    with pytest.raises(UsageError, match="too few"):
        load(f"imagefolder:{tmp_path}", skip_corrupt=True)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError("Permission denied")])
def test_what_the_system_withholds_is_never_skipped(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path)
    read = nas.data.images.square_rgb

    def refuse(file: Path, side: int) -> np.ndarray:
        if file.name == "002.png":
            raise error
        return read(file, side)

    monkeypatch.setattr(nas.data.images, "square_rgb", refuse)
    with pytest.raises(UsageError, match=r"2 of 12 images .*Permission denied.*make them readable"):
        load(f"imagefolder:{tmp_path}", skip_corrupt=True)


# ---- decoded once


def test_the_second_load_decodes_nothing_and_gives_the_same(tmp_path: Path, kept: Path, decoding: list[Path]) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set', count=70, size=12)}"
    said: list[str] = []
    first = load(name, progress=said.append)
    assert len(decoding) == 140
    assert any(f"kept in {kept}" in line for line in said)
    said.clear()
    second = load(name, progress=said.append)
    assert len(decoding) == 140
    assert any("decoded before: 140 images" in line for line in said)
    assert second.fingerprint == first.fingerprint
    assert second.source == first.source
    assert not second.x_train.flags.writeable
    assert type(second.x_train) is np.ndarray
    assert len(list(kept.iterdir())) == 2
    shutil.rmtree(kept)  # a map outlives its file
    np.testing.assert_array_equal(second.x_train, first.x_train)


def test_the_fingerprint_is_that_of_images_that_are_not_kept(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set', size=20)}"
    mapped = [load(name, resolution=side).fingerprint for side in (None, 9)]
    monkeypatch.setattr(nas.data.decoded, "LEAST_BYTES", 1 << 40)
    shutil.rmtree(kept)
    assert [load(name, resolution=side).fingerprint for side in (None, 9)] == mapped
    assert not kept.exists()


def test_any_change_of_the_files_or_the_resolution_is_decoded_anew(
    tmp_path: Path, kept: Path, decoding: list[Path]
) -> None:
    root = folder(tmp_path / "set")
    load(f"imagefolder:{root}")
    image = root / "cat" / "003.png"

    def same_size_and_time() -> None:
        before, status = image.read_bytes(), image.stat()
        Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
        image.write_bytes(image.read_bytes().ljust(len(before), b"\0")[: max(len(before), image.stat().st_size)])
        os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))

    for change in (
        same_size_and_time,
        lambda: image.rename(root / "cat" / "renamed.png"),
        lambda: (root / "dog" / "000.png").unlink(),
    ):
        change()
        decoding.clear()
        changed = load(f"imagefolder:{root}")
        assert decoding
        shutil.rmtree(kept)
        assert load(f"imagefolder:{root}").fingerprint == changed.fingerprint
    decoding.clear()
    assert load(f"imagefolder:{root}", resolution=5).resolution == 5
    assert decoding


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other array", "no about", "torn about", "foreign about"])
def test_an_entry_that_is_torn_or_foreign_is_made_anew(
    damage: str, tmp_path: Path, kept: Path, decoding: list[Path]
) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set')}"
    first = load(name).fingerprint
    array, about = next(kept.glob("*.npy")), next(kept.glob("*.json"))
    match damage:
        case "cut":
            array.write_bytes(array.read_bytes()[:-1])
        case "empty":
            array.write_bytes(b"")
        case "text":
            array.write_text("no array")
        case "other array":
            np.save(array, np.zeros((12, 9, 9, 3), np.uint8))
        case "no about":
            about.unlink()
        case "torn about":
            about.write_text(about.read_text()[:-9])
        case "foreign about":
            about.write_text(json.dumps(json.loads(about.read_text()) | {"corrupt": [["x", 1]], "resolution": None}))
    for expected in (12, 0):
        decoding.clear()
        assert load(name).fingerprint == first
        assert len(decoding) == expected


def test_no_place_to_keep_them_costs_a_line(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set')}"
    first = load(name).fingerprint
    shutil.rmtree(kept)

    def told() -> str:
        said: list[str] = []
        assert load(name, progress=said.append).fingerprint == first
        return next(line for line in said if "can't be kept" in line)

    kept.write_text("a file where the folder would be")
    assert str(kept) in told()
    kept.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    assert "0.0 MiB left" in told()
    monkeypatch.undo()
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(nas.data.decoded, "LEAST_BYTES", 0)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in told()
    assert list(kept.iterdir()) == []  # nothing half-written stays


def test_a_disk_that_fills_up_while_decoding_leaves_no_thread_and_no_file(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set', count=100, size=16)}"
    before, filters = threading.active_count(), list(warnings.filters)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said: list[str] = []
    try:
        # The system refuses to let any file grow beyond this, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        data = load(name, progress=said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert any("can't be kept" in line and "File too large" in line for line in said)
    assert (threading.active_count(), list(warnings.filters)) == (before, filters)
    assert list(kept.iterdir()) == []
    assert load(name).fingerprint == data.fingerprint
    assert len(list(kept.iterdir())) == 2


def test_nothing_is_written_into_the_folder_of_images(tmp_path: Path, kept: Path, decoding: list[Path]) -> None:
    root = folder(tmp_path / "set")

    def listing() -> list[Path]:
        return sorted(root.rglob("*"))

    before = listing()
    for data_root in (root, root / "cat", tmp_path / "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(root)
        assert load(f"imagefolder:{root}", root=data_root).classes == ("cat", "dog")
        assert listing() == before
    load(f"imagefolder:{root}", root=tmp_path)
    assert listing() == before
    assert len(list((tmp_path / "decoded").iterdir())) == 2


def test_processes_that_decode_at_once_agree(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", count=100, size=16)
    script = (
        "import nas.data, nas.data.decoded; nas.data.decoded.LEAST_BYTES = 0;"
        f"print(*(nas.data.load('imagefolder:{root}').fingerprint for _ in range(3)))"
    )
    environment = os.environ | {"NAS_DATA": str(tmp_path / "home")}
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    fingerprints = {word for process in running for word in process.communicate(timeout=60)[0].split()}
    assert fingerprints == {load(f"imagefolder:{root}").fingerprint}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(path.suffix for path in (tmp_path / "home" / "decoded").iterdir()) == [".json", ".npy"]


def test_the_entries_are_bounded_and_the_oldest_go_first(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set')}"
    for age, side in ((300, 8), (200, 9), (100, 10)):
        present = set(kept.glob("*.npy"))
        load(name, resolution=side)
        (new,) = set(kept.glob("*.npy")) - present
        os.utime(new, (new.stat().st_mtime - age,) * 2)
    (kept / "notes.txt").write_text("not ours")
    abandoned = kept / f".{'0' * 64}.npy.123"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    load(name, resolution=8)  # used again: the youngest now
    monkeypatch.setattr(nas.data.decoded, "MOST_BYTES", 12 * 3 * (8**2 + 11**2) + 2 * 128)
    load(name, resolution=11)
    assert {np.load(path).shape[1] for path in kept.glob("*.npy")} == {8, 11}
    assert len(list(kept.glob("*.json"))) == 2
    assert (kept / "notes.txt").exists()
    assert not abandoned.exists()


def test_few_bytes_of_files_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    load(f"imagefolder:{folder(tmp_path / 'set')}")
    assert not (tmp_path / "home").exists()


def test_mapped_images_that_would_not_fit_into_memory_are_refused_with_what_would(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{folder(tmp_path / 'set')}"
    load(name)
    monkeypatch.setattr(nas.data.images, "available_memory", lambda: 11 * 8 * 8 * 3)
    with pytest.raises(
        UsageError, match=r"12 images .* at 8 px need .*--resolution.*--max-images\); 11 of these would"
    ):
        load(name)


# ---- from the command line


def test_compare_trains_without_the_corrupt_files_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    spoil(folder(tmp_path / "photos", count=20) / "cat" / "007.png")
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
    spoil(folder(tmp_path / "photos", count=20) / "cat" / "007.png")
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
