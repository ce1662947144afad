"""Images that are decoded once: kept between loads, made anew after any change, within bounds, or not kept at all."""

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
from helpers_data import decoding as decoding  # a fixture
from helpers_data import image_folder
from helpers_data import kept as kept  # a fixture
from PIL import Image

import nas.data.readers.decoded_cache
import nas.data.readers.images
from nas.data import load
from nas.errors import UsageError


def test_the_second_load_decodes_nothing_and_gives_the_same(tmp_path: Path, kept: Path, decoding: list[Path]) -> None:
    name = f"imagefolder:{image_folder(tmp_path / 'set', count=70, size=12)}"
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
    name = f"imagefolder:{image_folder(tmp_path / 'set', size=20, count=6)}"
    mapped = [load(name, resolution=side).fingerprint for side in (None, 9)]
    monkeypatch.setattr(nas.data.readers.decoded_cache, "LEAST_BYTES", 1 << 40)
    shutil.rmtree(kept)
    assert [load(name, resolution=side).fingerprint for side in (None, 9)] == mapped
    assert not kept.exists()


def test_any_change_of_the_files_or_the_resolution_is_decoded_anew(
    tmp_path: Path, kept: Path, decoding: list[Path]
) -> None:
    root = image_folder(tmp_path / "set", count=6)
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
    name = f"imagefolder:{image_folder(tmp_path / 'set', count=6)}"
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
    name = f"imagefolder:{image_folder(tmp_path / 'set', count=6)}"
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
    monkeypatch.setattr(nas.data.readers.decoded_cache, "LEAST_BYTES", 0)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in told()
    assert list(kept.iterdir()) == []  # nothing half-written stays


def test_a_disk_that_fills_up_while_decoding_leaves_no_thread_and_no_file(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{image_folder(tmp_path / 'set', count=100, size=16)}"
    before, filters = set(threading.enumerate()), list(warnings.filters)
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
    assert set(threading.enumerate()) <= before and list(warnings.filters) == filters
    assert list(kept.iterdir()) == []
    assert load(name).fingerprint == data.fingerprint
    assert len(list(kept.iterdir())) == 2


def test_nothing_is_written_into_the_folder_of_images(tmp_path: Path, kept: Path, decoding: list[Path]) -> None:
    root = image_folder(tmp_path / "set", count=6)

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
    root = image_folder(tmp_path / "set", count=100, size=16)
    script = (
        "import nas.data, nas.data.readers.decoded_cache; nas.data.readers.decoded_cache.LEAST_BYTES = 0;"
        f"print(*(nas.data.load('imagefolder:{root}').fingerprint for _ in range(3)))"
    )
    environment = os.environ | {"NAS_DATA": str(tmp_path / "home")}
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    fingerprints = {word for process in running for word in process.communicate(timeout=250)[0].split()}
    assert fingerprints == {load(f"imagefolder:{root}").fingerprint}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(path.suffix for path in (tmp_path / "home" / "decoded").iterdir()) == [".json", ".npy"]


def test_the_entries_are_bounded_and_the_oldest_go_first(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{image_folder(tmp_path / 'set', count=6)}"
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
    monkeypatch.setattr(nas.data.readers.decoded_cache, "MOST_BYTES", 12 * 3 * (8**2 + 11**2) + 2 * 128)
    load(name, resolution=11)
    assert {np.load(path).shape[1] for path in kept.glob("*.npy")} == {8, 11}
    assert len(list(kept.glob("*.json"))) == 2
    assert (kept / "notes.txt").exists()
    assert not abandoned.exists()


def test_few_bytes_of_files_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    load(f"imagefolder:{image_folder(tmp_path / 'set', count=6)}")
    assert not (tmp_path / "home").exists()


def test_mapped_images_that_would_not_fit_into_memory_are_refused_with_what_would(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imagefolder:{image_folder(tmp_path / 'set', count=6)}"
    load(name)
    monkeypatch.setattr(nas.data.readers.images, "available_memory", lambda: 11 * 8 * 8 * 3)
    with pytest.raises(
        UsageError, match=r"12 images .* at 8 px need .*--resolution.*--max-images\); 11 of these would"
    ):
        load(name)
