"""Arrays in an .npz file: what is read, what is refused, before memory is used."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import image_folder, npz, random_images
from PIL import Image

import nas.data
import nas.data.readers.decoded_cache
import nas.data.readers.images
from nas.data import load
from nas.errors import UsageError


def test_npz_round_trip(tmp_path: Path) -> None:
    arrays = {"x_train": random_images(20), "y_train": np.arange(20, dtype=np.uint8) % 2}
    data = load(f"npz:{npz(tmp_path / 'a.npz', **arrays)}")
    np.testing.assert_array_equal(data.x_train, arrays["x_train"])
    np.testing.assert_array_equal(data.y_train, arrays["y_train"])
    np.testing.assert_array_equal(data.x_test, random_images(6))
    assert data.classes == ("cat", "dog")
    np.savez_compressed(
        tmp_path / "b.npz",
        x_train=data.x_train, y_train=data.y_train, x_test=data.x_test, y_test=data.y_test, classes=data.classes,
    )  # fmt: skip
    assert load(f"npz:{tmp_path / 'b.npz'}").fingerprint == data.fingerprint


def test_npz_without_classes_and_test_part(tmp_path: Path) -> None:
    labels = np.arange(20) % 2
    for dtype in (np.uint8, np.int32, np.uint64):
        path = npz(tmp_path / "a.npz", x_test=None, y_test=None, classes=None, y_train=labels.astype(dtype))
        data = load(f"npz:{path}")
        assert data.classes == ("0", "1")
        assert np.bincount(data.y_test).tolist() == [2, 2]
        assert len(data.y_train) == 16


def test_npz_says_whether_it_may_be_mirrored(tmp_path: Path) -> None:
    assert load(f"npz:{npz(tmp_path / 'a.npz')}").flip
    assert not load(f"npz:{npz(tmp_path / 'b.npz', flip=np.array(False))}").flip


def test_npz_images_of_any_number_of_channels_are_resized(tmp_path: Path) -> None:
    five = random_images(20, 12, channels=5)
    path = npz(tmp_path / "a.npz", x_train=five, x_test=random_images(6, 12, channels=5))
    data = load(f"npz:{path}", resolution=6)
    assert data.x_train.shape == (20, 6, 6, 5)
    expected = Image.fromarray(five[3, :, :, 4]).resize((6, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.x_train[3, :, :, 4], np.asarray(expected))


IMAGES = random_images(20)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": IMAGES / 255.0}, "x_train is float64; images must be uint8 in 0..255; if .* multiply by 255"),
        ({"x_test": random_images(6).astype(np.int64)}, "x_test is int64; images must be uint8"),
        ({"x_train": IMAGES[..., 0]}, "x_train has shape .*give gray images a last axis of length 1"),
        ({"x_train": IMAGES[:0], "y_train": np.zeros(0, int)}, "x_train has shape .*there is no image"),
        ({"x_train": IMAGES[:, :6]}, "x_train holds images of 6 x 8 pixels.*give a resolution"),
        ({"x_train": random_images(20, 8, 8, height=3)}, "holds images of 3 x 8 .*transpose"),
        ({"x_test": random_images(6, 9)}, "train images are 8 x 8 x 3, test images 9 x 9 x 3"),
        ({"x_test": random_images(6, 8, 1)}, "train images are 8 x 8 x 3, test images 8 x 8 x 1"),
        ({"y_train": np.arange(20) % 3}, "y_train holds 0 to 2; labels of 2 classes go from 0 to 1"),
        ({"y_train": np.arange(20) % 2 - 1}, "y_train holds -1 to 0"),
        ({"y_test": np.full(6, 2)}, "y_test holds 2 to 2"),
        ({"y_train": np.arange(20) % 2 + 1, "classes": None}, "begin at 1; they count from 0: subtract 1"),
        ({"y_train": np.eye(2)[np.arange(20) % 2]}, "y_train is float64; .*of one-hot rows, they are y.argmax"),
        ({"y_train": np.arange(20) % 2 * 1.0}, "y_train is float64; labels must be integers"),
        ({"y_train": np.arange(20) % 2 == 0}, "y_train is bool; labels must be integers"),
        ({"y_train": np.arange(19) % 2}, r"y_train has shape \(19,\).*\(20,\)"),
        ({"y_train": np.arange(20)[:, np.newaxis] % 2}, r"y_train has shape \(20, 1\)"),
        ({"y_train": np.repeat([0, 1], [17, 3])}, "'dog' has 3; each needs at least 4"),
        ({"y_train": np.repeat([0, 10**6], 10), "classes": None}, "labels of 20 classes go from 0 to 19"),
        ({"classes": np.array(["cat"]), "y_train": np.zeros(20, int)}, "has 1 class"),
        ({"classes": np.array(["cat", "cat"])}, "names that occur twice: cat"),
        ({"classes": np.array([["cat", "dog"]])}, r"classes has shape \(1, 2\)"),
        ({"x_train": None}, "lacks the arrays x_train; it has y_train, x_test"),
        ({"x_test": None}, "has y_test without x_test; give both, or neither"),
        ({"classes": np.array(["cat", "dog"], object)}, "classes holds pickled objects"),
        ({"y_train": np.array([0, 1] * 10, object)}, "y_train holds pickled objects"),
    ],
)
def test_bad_arrays_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", **changes)
    with pytest.raises(UsageError, match=f"{path}.*{said}") as error:
        load(f"npz:{path}")
    assert "\n" not in str(error.value)


def test_non_square_arrays_are_welcome_with_a_resolution(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x_train=random_images(20, 12, height=9), x_test=random_images(6, 9))
    data = load(f"npz:{path}", resolution=9)
    np.testing.assert_allclose(
        data.x_train[0, :, 4].astype(int), random_images(20, 12, height=9)[0, :, 5:7].mean(1), atol=1
    )
    np.testing.assert_array_equal(data.x_test, random_images(6, 9))


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    text, array, cut, damaged, other = (tmp_path / name for name in ("a.npz", "b.npy", "c.npz", "d.npz", "e.npz"))
    text.write_text("x_train")
    np.save(array, IMAGES)
    cut.write_bytes(npz(tmp_path / "whole.npz").read_bytes()[:-500])
    whole = bytearray((tmp_path / "whole.npz").read_bytes())
    whole[1000:1100] = bytes(100)
    damaged.write_bytes(whole)
    for path in (text, array, cut):
        with pytest.raises(UsageError, match=r"is no \.npz file, or is cut short; write it with numpy.savez"):
            load(f"npz:{path}")
    with pytest.raises(UsageError, match=r"can't be read: BadZipFile: Bad CRC-32"):
        load(f"npz:{damaged}")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x_train", b"raw")
        archive.writestr("y_train.npy", b"raw")
    with pytest.raises(UsageError, match="can't be read"):
        load(f"npz:{other}")
    with pytest.raises(UsageError, match="does not exist"):
        load(f"npz:{tmp_path / 'nowhere.npz'}")
    with pytest.raises(UsageError, match=r"is no \.npz"):
        load(f"npz:{tmp_path}")


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path / "set", count=6)
    for file in (tmp_path / "set").rglob("*.png"):
        file.write_bytes(b"broken")  # so that decoding any would end in another error
    path = npz(tmp_path / "a.npz")
    need = 12 * 1024 * 1024 * 3
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: need - 1)
    with pytest.raises(
        UsageError,
        match=r"12 images .* at 1024 px need 0\.0 GiB, and 0\.0 GiB .*smaller resolution \(--resolution\).*--max-images",
    ):
        load(f"imagefolder:{tmp_path / 'set'}", resolution=1024)
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: need)
    with pytest.raises(UsageError, match="12 of 12 images"):
        load(f"imagefolder:{tmp_path / 'set'}", resolution=1024)
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"the arrays of .*a\.npz need"):
        load(f"npz:{path}")
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: 10_000_000)
    with pytest.raises(UsageError, match="x_train at 512 px need"):
        load(f"npz:{path}", resolution=512)


def test_an_array_that_claims_to_be_enormous_is_judged_by_its_header(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (10**9, 1024, 1024, 3), "fortran_order": False, "descr": "|u1"}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
        archive.writestr("y_train.npy", header.getvalue())
    with pytest.raises(UsageError, match=r"need 11718750\.0 GiB"):
        load(f"npz:{tmp_path / 'a.npz'}")


def test_available_memory_is_that_of_this_machine() -> None:
    available = nas.data.readers.images.available_memory()
    assert available is None or 2**20 < available < 2**50
