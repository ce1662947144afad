"""Data sets: every source read from files of its real format, every bad input refused with a message that helps."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import nas.data
import nas.data.decoded
import nas.data.images
from nas.data import DATASETS, Dataset, load, split, subset
from nas.errors import NasError, UsageError

RNG = np.random.default_rng(0)


def random_images(count: int, size: int = 8, channels: int = 3, height: int | None = None) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height or size, size, channels), dtype=np.uint8)


def save_image(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10, size: int = 8) -> Path:
    for number, name in enumerate(classes):
        for index, pixels in enumerate(random_images(count + number, size)[:count]):
            save_image(root / name / f"{index:03d}.png", pixels)
    return root


def npz(path: Path, **changes: Any) -> Path:
    """A valid file of arrays, with `changes` to some; None leaves one out."""
    arrays: dict[str, Any] = {
        "x_train": random_images(20),
        "y_train": np.arange(20) % 2,
        "x_test": random_images(6),
        "y_test": np.arange(6) % 2,
        "classes": np.array(["cat", "dog"]),
    }
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return path


# ---- published data sets, as tiny files of the formats on disk


def write_cifar(root: Path, coarse: int) -> None:
    """cifar-10-batches-py (coarse = 10) or cifar-100-python: pickled dicts, images as rows of 3 x 32 x 32."""
    folder = root / ("cifar-10-batches-py" if coarse == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"] if coarse == 10 else ["train", "test"]
    label, meta = ("labels", "label_names") if coarse == 10 else ("fine_labels", "fine_label_names")
    for number, name in enumerate(names):
        rows = np.random.default_rng(number).integers(0, 256, (4 * coarse, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": rows, label: [k % coarse for k in range(4 * coarse)]}))
    classes = [f"class{k}" for k in range(coarse)]
    (folder / ("batches.meta" if coarse == 10 else "meta")).write_bytes(pickle.dumps({meta: classes}))


def idx(array: np.ndarray) -> bytes:
    """Yann LeCun's idx format: magic number with type and rank, big-endian lengths, bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_idx(root: Path, name: str) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for number, (part, count) in enumerate((("train", 50), ("t10k", 20))):
        images = np.random.default_rng(number).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))


def write_svhn(root: Path) -> None:
    """MATLAB files: X (32, 32, 3, n), y (n, 1) with 10 for the digit 0."""
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    for number, (part, count) in enumerate((("train", 50), ("test", 20))):
        images = np.random.default_rng(number).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(root / f"{part}_32x32.mat", {"X": images, "y": (np.arange(count) % 10 + 1)[:, np.newaxis]})


WRITERS: dict[str, Callable[[Path], None]] = {
    "digits": lambda root: None,
    "cifar10": lambda root: write_cifar(root, 10),
    "cifar100": lambda root: write_cifar(root, 100),
    "svhn": write_svhn,
    "fashion_mnist": lambda root: write_idx(root, "FashionMNIST"),
    "mnist": lambda root: write_idx(root, "MNIST"),
    "imagefolder": lambda root: image_folder(root) and None,
    "npz": lambda root: npz(root / "data.npz") and None,
}
DOWNLOADED = ("cifar10", "cifar100", "svhn", "fashion_mnist", "mnist")


@pytest.fixture
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares MD5 sums with the published files'; ours are other images in the same formats."""

    def exists(path: str, md5: str | None = None) -> bool:
        return Path(path).is_file()

    for module in ("cifar", "svhn", "mnist"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", exists)


def written(name: str, root: Path) -> str:
    """Write the data set's files under `root`; the name that `load` takes."""
    root.mkdir(parents=True, exist_ok=True)
    WRITERS[name](root)
    return {"imagefolder": f"imagefolder:{root}", "npz": f"npz:{root / 'data.npz'}"}.get(name, name)


@pytest.mark.usefixtures("no_checksums")
@pytest.mark.parametrize("name", DATASETS)
def test_contract_of_every_data_set(name: str, tmp_path: Path) -> None:
    full_name = written(name, tmp_path)
    data = load(full_name, root=tmp_path)
    assert data.name == full_name
    assert data.source.endswith(".")
    assert len(data.classes) == len(set(data.classes)) >= 2
    for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), data.resolution, data.resolution, data.channels)
        assert images.max() > 200  # the whole range is used, not 0..1 or 0..16
        assert labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(len(data.classes)))
        assert not images.flags.writeable
        assert not labels.flags.writeable
    assert data.crop_padding == {8: 1, 28: 4, 32: 4}[data.resolution]
    assert data.flip == (name not in ("digits", "mnist", "svhn"))
    scaled = data.x_train.reshape(-1, data.channels) / 255.0
    np.testing.assert_allclose(data.mean, scaled.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.std, scaled.std(axis=0), rtol=1e-9)
    again = load(full_name, root=tmp_path)
    assert again.fingerprint == data.fingerprint
    assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint

    small = load(full_name, root=tmp_path, resolution=16, max_images=2 * len(data.classes))
    assert small.resolution == 16
    assert small.crop_padding == 2
    assert np.bincount(small.y_train).tolist() == [2] * len(data.classes)
    assert len(small.y_test) == len(data.y_test)
    assert small.fingerprint != data.fingerprint
    assert "16" in small.source


def test_every_data_set_has_a_writer_here_and_a_phrase_for_listings() -> None:
    assert list(WRITERS) == list(DATASETS)
    assert all(source.about for source in DATASETS.values())


@pytest.mark.usefixtures("no_checksums")
def test_published_pixels_and_labels_arrive_where_they_belong(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10)
    cifar = load("cifar10", root=tmp_path)
    third = pickle.loads((tmp_path / "cifar-10-batches-py" / "data_batch_3").read_bytes())
    np.testing.assert_array_equal(cifar.x_train[80 + 7, :, :, 1], third["data"][7, 1024:2048].reshape(32, 32))
    assert cifar.classes[cifar.y_train[80 + 7]] == "class7"

    write_idx(tmp_path, "MNIST")
    raw = (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte").read_bytes()
    mnist = load("mnist", root=tmp_path)
    assert mnist.x_test[2].tobytes() == raw[16 + 2 * 784 : 16 + 3 * 784]
    assert mnist.classes == tuple("0123456789")

    write_svhn(tmp_path)
    from scipy.io import loadmat

    svhn = load("svhn", root=tmp_path)
    np.testing.assert_array_equal(svhn.x_test[5], loadmat(tmp_path / "test_32x32.mat")["X"][..., 5])
    assert svhn.y_train[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_absent_files_say_how_to_get_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not in .*--download gets it \(about \d+ MB\).*NAS_DATA") as error:
        load(name, root=tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_told_from_an_absent_one(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10)  # of other checksums than the published ones
    with pytest.raises(
        UsageError, match=r"cifar10 can't be read.*corrupted.*remove .*cifar-10-batches-py, then --download"
    ):
        load("cifar10", root=tmp_path)
    write_idx(tmp_path, "MNIST")
    images = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"mnist can't be read.*remove .*MNIST/raw"):
        load("mnist", root=tmp_path)


def test_the_root_is_the_argument_then_the_environment_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NAS_DATA", raising=False)
    with pytest.raises(UsageError, match=str(tmp_path / "home/.cache/nas/data")):
        load("mnist")
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "environment"))
    with pytest.raises(UsageError, match=str(tmp_path / "environment")):
        load("mnist")
    with pytest.raises(UsageError, match=str(tmp_path / "argument")):
        load("mnist", root=tmp_path / "argument")


def test_a_download_runs_torchvisions_code_and_leaves_standard_output_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, sums = tmp_path / "server", []
    write_idx(server, "MNIST")
    for file in sorted((server / "MNIST/raw").iterdir()):
        packed = gzip.compress(file.read_bytes())
        (server / f"{file.name}.gz").write_bytes(packed)
        sums.append((f"{file.name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [f"{server.as_uri()}/"])
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", sums)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(
        "torchvision.datasets.utils._urlretrieve",
        lambda url, path: print("fetching") or Path(path).write_bytes((server / Path(url).name).read_bytes()),
    )
    said: list[str] = []
    data = load("mnist", root=tmp_path / "new", download=True, progress=said.append)
    assert data.x_train.shape == (50, 28, 28, 1)
    assert any("downloading mnist (about 12 MB)" in line for line in said)
    assert capsys.readouterr().out == ""
    assert load("mnist", root=tmp_path / "new").fingerprint == data.fingerprint


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_failed_download_names_its_cause(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(request: Any) -> None:
        from urllib.error import URLError

        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(NasError, match=f"{name} could not be downloaded .*Name or service not known") as error:
        load(name, root=tmp_path, download=True)
    assert not isinstance(error.value, UsageError)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="is not in"):
        load(name, root=tmp_path)


# ---- digits


def test_digits_are_scikit_learns_and_their_split_never_moves() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert (len(data.y_train), len(data.y_test)) == (1438, 359)
    digits = load_digits()
    known = {image.tobytes(): target for image, target in zip(digits.images, digits.target, strict=True)}
    for image, label in zip(data.x_test[:50, :, :, 0], data.y_test[:50], strict=True):
        assert known[np.rint(image.astype(float) * 16 / 255).tobytes()] == label
    assert data.fingerprint == "cc4c38da241f18f25d6a08d5ff25606fda99915def539e8c8235700cf63c1ecf"


# ---- the image folder


def test_a_folder_with_train_and_test_is_read_as_it_is(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", ("b", "a"), 5)
    image_folder(tmp_path / "test", ("b", "a"), 3)
    data = load(f"imagefolder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert data.y_train.tolist() == [0] * 5 + [1] * 5
    np.testing.assert_array_equal(data.x_train[5], np.asarray(Image.open(tmp_path / "train/b/000.png")))
    np.testing.assert_array_equal(data.x_test[2], np.asarray(Image.open(tmp_path / "test/a/002.png")))


def test_val_stands_in_for_a_test_folder_that_is_not_there(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", count=5)
    image_folder(tmp_path / "val", count=3)
    data = load(f"imagefolder:{tmp_path}")
    assert len(data.y_test) == 6
    assert "tested on val/" in data.source


@pytest.mark.parametrize("inner", ["", "train"])
def test_a_folder_without_test_has_a_fifth_carved(tmp_path: Path, inner: str) -> None:
    image_folder(tmp_path / inner, count=10)
    data = load(f"imagefolder:{tmp_path}")
    assert np.bincount(data.y_test).tolist() == [2, 2]
    every = {image.tobytes() for image in np.concatenate([data.x_train, data.x_test])}
    assert len(every) == 20
    assert "4 of them held out" in data.source


def test_hidden_files_and_other_files_are_ignored_and_class_folders_may_nest(tmp_path: Path) -> None:
    image_folder(tmp_path, count=5)
    (tmp_path / "cat" / "deep").mkdir()
    (tmp_path / "cat" / "000.png").rename(tmp_path / "cat" / "deep" / "000.PNG")
    for name in (".DS_Store", "._001.png", "notes.txt", ".thumbnails/1.png", "deep/.2.png"):
        (tmp_path / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(b"no image")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "README.md").write_text("about")
    data = load(f"imagefolder:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert len(data.y_train) + len(data.y_test) == 10


def test_every_kind_of_pixel_becomes_8_bit_rgb(tmp_path: Path) -> None:
    gray = np.array([[0, 64], [128, 255]], np.uint8).repeat(4, 0).repeat(4, 1)
    rgb = np.stack([gray, gray, gray], axis=2)
    palette = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE)
    alpha = np.dstack([rgb, np.full((8, 8), 255, np.uint8)])
    see_through = np.dstack([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)])
    cases: dict[str, tuple[Image.Image, np.ndarray]] = {
        "gray.png": (Image.fromarray(gray), rgb),
        "rgb.png": (Image.fromarray(rgb), rgb),
        "palette.png": (palette, rgb),
        "rgba.png": (Image.fromarray(alpha), rgb),
        "la.png": (Image.fromarray(alpha).convert("LA"), rgb),
        "clear.png": (Image.fromarray(see_through), np.full((8, 8, 3), 255, np.uint8)),
        "bits16.png": (Image.fromarray(gray.astype(np.uint16) * 257), rgb),
        "bits16.tif": (Image.fromarray(gray.astype(np.uint16) * 257), rgb),
        "bit.png": (Image.fromarray(gray > 100), np.where(rgb > 100, 255, 0)),
        "cmyk.tif": (Image.fromarray(rgb).convert("CMYK"), rgb),
    }
    for name in ("a", "b"):
        for file, (image, _) in cases.items():
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "train" / name / file)
    image_folder(tmp_path / "test", ("a", "b"), 1)
    data = load(f"imagefolder:{tmp_path}")
    for shown, file in zip(data.x_train, sorted(cases), strict=False):
        np.testing.assert_allclose(shown.astype(int), cases[file][1].astype(int), atol=1, err_msg=file)


def test_palette_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image_folder(tmp_path, count=4)
    image = Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P")
    image.save(tmp_path / "cat" / "clear.png", transparency=0)
    data = load(f"imagefolder:{tmp_path}")
    assert any((picture == 255).all() for picture in np.concatenate([data.x_train, data.x_test]))


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", count=4, size=16)
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 255  # bright above; orientation 6 means that the camera lay on its side: bright on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    image_folder(tmp_path / "test", count=1, size=16)
    Image.fromarray(half).save(tmp_path / "test" / "cat" / "000.jpg", quality=95, exif=exif)
    (tmp_path / "test" / "cat" / "000.png").unlink()
    shown = load(f"imagefolder:{tmp_path}").x_test[0].mean(axis=(0, 2))
    assert shown[:6].max() < 40
    assert shown[-6:].min() > 215


def test_resolution_of_a_folder(tmp_path: Path) -> None:
    image_folder(tmp_path, count=5, size=20)
    assert load(f"imagefolder:{tmp_path}").resolution == 20  # squares of one size stay as they are
    assert load(f"imagefolder:{tmp_path}", resolution=12).resolution == 12
    save_image(tmp_path / "cat" / "wide.png", random_images(1, 40, height=30)[0])
    assert load(f"imagefolder:{tmp_path}").resolution == nas.data.decoded.DEFAULT_RESOLUTION == 64


def test_a_folder_of_large_squares_is_not_kept_at_their_size(tmp_path: Path) -> None:
    image_folder(tmp_path, count=5, size=80)
    assert load(f"imagefolder:{tmp_path}").resolution == 64


def test_oblong_images_become_what_torchvisions_resize_and_center_crop_make_of_them(tmp_path: Path) -> None:
    from torchvision.transforms import functional

    for name in ("cat", "dog"):
        for index in range(5):
            wide = random_images(index + 1, 60, height=20)[0]
            save_image(tmp_path / "train" / name / f"{index}.png", wide)
            save_image(tmp_path / "test" / name / f"{index}.png", wide.transpose(1, 0, 2))
    data = load(f"imagefolder:{tmp_path}", resolution=10)
    for part, images in (("train", data.x_train), ("test", data.x_test)):
        for index in range(5):
            resized = functional.resize(Image.open(tmp_path / part / "cat" / f"{index}.png"), 10)
            np.testing.assert_array_equal(images[index], np.asarray(functional.center_crop(resized, [10, 10])))


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    checkered = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    path = npz(
        tmp_path / "a.npz",
        x_train=np.repeat(checkered[np.newaxis, :, :, np.newaxis].astype(np.uint8), 20, axis=0),
        x_test=np.repeat(checkered[np.newaxis, :, :, np.newaxis].astype(np.uint8), 6, axis=0),
    )
    data = load(f"npz:{path}", resolution=8)
    assert np.abs(data.x_train.astype(int) - 127.5).max() < 8


def test_a_large_jpeg_decoded_at_a_fraction_of_its_size_looks_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[0:512, 0:512] / 512
    picture = np.stack([255 * x, 255 * y, 127 + 120 * np.sin(20 * x * y)], axis=2).astype(np.uint8)
    save_image(tmp_path / "a.jpg", picture, quality=95)
    decoded = nas.data.images.decode([tmp_path / "a.jpg"], tmp_path, 32, say=lambda _: None)[0][0]
    averaged = picture.reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
    assert np.abs(decoded[1:-1, 1:-1] - averaged[1:-1, 1:-1]).mean() < 2


def test_max_images_of_a_folder_spares_the_other_files(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", count=50)
    image_folder(tmp_path / "test", count=2)
    for file in sorted((tmp_path / "train").glob("*/*.png")):
        file.write_bytes(b"broken")
    with pytest.raises(UsageError, match="10 of 14 images"):
        load(f"imagefolder:{tmp_path}", max_images=10)


def test_progress_is_reported_while_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path, count=50)
    said: list[str] = []
    monkeypatch.setattr("nas.data.images._QUIET_SECONDS", 0.0)
    load(f"imagefolder:{tmp_path}", progress=said.append)
    assert said[0].endswith("100 images of 2 classes")
    told = [line.rpartition(": ")[2].rpartition(", ") for line in said[1:-1]]
    assert [line[0] for line in told] == ["64 of 100 images", "100 of 100 images"]
    assert told[0][2].endswith(" s left")
    assert told[1][2] == "0 s left"
    assert said[-1] == "images of 8 px: they keep their size; gray ones are made RGB"


# ---- the npz file


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


# ---- what is refused


def broken_folder(problem: str, root: Path) -> str:
    image_folder(root / "set", count=6)
    cat = root / "set" / "cat"
    match problem:
        case "corrupt":
            for index in range(4):
                (cat / f"{index:03d}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
            (cat / "005.png").write_bytes(b"")
        case "truncated":
            whole = (cat / "001.png").read_bytes()
            (cat / "001.png").write_bytes(whole[: len(whole) * 2 // 3])
            file = io.BytesIO()
            Image.fromarray(random_images(1, 64)[0]).save(file, "JPEG")
            (cat / "photo.jpg").write_bytes(file.getvalue()[: file.tell() // 2])
        case "bomb":
            Image.new("1", (20_000, 20_000)).save(cat / "bomb.png")
        case "warned bomb":
            Image.new("1", (10_000, 10_000)).save(cat / "bomb.png")
        case "float":
            Image.fromarray(np.zeros((8, 8), np.float32)).save(cat / "float.tif")
        case "postscript":
            (cat / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
        case "few":
            for index in range(3):
                (cat / f"{index:03d}.png").unlink()
        case "empty class":
            (root / "set" / "bird").mkdir()
        case "one class":
            (root / "set" / "dog").rename(root / "dog")
        case "no images":
            for file in root.rglob("*.png"):
                file.unlink()
        case "no classes":
            for number, file in enumerate(list(root.rglob("*.png"))):
                file.rename(root / "set" / f"{number}.png")
            cat.rmdir()
            (root / "set" / "dog").rmdir()
        case "test alone":
            (root / "set").rename(root / "test")
            return f"imagefolder:{root}"
        case "classes differ" | "unsorted test":
            (root / "set").rename(root / "train")
            (root / "test").mkdir()
            if problem == "classes differ":
                image_folder(root / "test", ("cat", "Dog"), 2)
            else:
                save_image(root / "test" / "0.png", random_images(1)[0])
            return f"imagefolder:{root}"
        case "missing":
            return f"imagefolder:{root / 'nowhere'}"
        case "file":
            return f"imagefolder:{cat / '000.png'}"
    return f"imagefolder:{root / 'set'}"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            "corrupt",
            r"5 of 12 images in .*set can't be read: cat/000.png \(.*; cat/005.png .*; replace or remove.*--skip-corrupt",
        ),
        (
            "truncated",
            r"2 of 13 images .*: cat/001.png \(.*; cat/photo.jpg \(image file is truncated.*replace or remove",
        ),
        ("bomb", r"1 of 13 .*cat/bomb.png \(Image size \(400000000 pixels\) exceeds limit .* decompression bomb"),
        ("warned bomb", r"1 of 13 .*cat/bomb.png \(Image size \(100000000 pixels\) exceeds limit"),
        ("float", "cat/float.tif .*floating-point pixels.*save it as 8 or 16 bits"),
        ("postscript", "cat/program.png .no image"),
        ("few", "too few images of a class: 'cat' has 3; each needs at least 4: add images or remove the class"),
        ("empty class", "'bird' has 0; each needs at least 4"),
        ("one class", r"has 1 class \(cat\)"),
        ("no images", r"no class folders with images \(there are no images\).*set/CLASS/IMAGE.*\.jpg"),
        ("no classes", r"its images, such as 0.png, lie outside of any\).*set/CLASS/IMAGE"),
        ("test alone", r"has test/ but no train/; it needs train/CLASS/ and test/CLASS/"),
        ("classes differ", "test has no folder for class dog; train/ and test/ must have folders of the same names"),
        ("unsorted test", "test has no class folders with images"),
        ("missing", "nowhere does not exist"),
        ("file", "is not a folder; imagefolder:PATH takes"),
    ],
)
def test_a_bad_folder_is_refused(problem: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as error:
        load(broken_folder(problem, tmp_path))
    assert "\n" not in str(error.value)


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
        ({"y_test": None}, "has one of x_test and y_test; give both, or neither"),
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
    monkeypatch.setattr("nas.data.images.available_memory", lambda: need - 1)
    with pytest.raises(
        UsageError,
        match=r"12 images .* at 1024 px need 0\.0 GiB, and 0\.0 GiB .*smaller resolution \(--resolution\).*--max-images",
    ):
        load(f"imagefolder:{tmp_path / 'set'}", resolution=1024)
    monkeypatch.setattr("nas.data.images.available_memory", lambda: need)
    with pytest.raises(UsageError, match="12 of 12 images"):
        load(f"imagefolder:{tmp_path / 'set'}", resolution=1024)
    monkeypatch.setattr("nas.data.images.available_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"the arrays of .*a\.npz need"):
        load(f"npz:{path}")
    monkeypatch.setattr("nas.data.images.available_memory", lambda: 10_000_000)
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
    available = nas.data.images.available_memory()
    assert available is None or 2**20 < available < 2**50


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar", "unknown dataset 'cifar' .did you mean 'cifar10'.*known: digits, cifar10"),
        ("digit:x", "unknown dataset 'digit'"),
        ("digits:x", "takes no path"),
        ("imagefolder", "needs a path: imagefolder:PATH"),
        ("npz:", "needs a path: npz:PATH"),
    ],
)
def test_a_bad_name_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(name)


def test_a_bare_path_is_told_its_prefix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"write imagefolder:{tmp_path}"):
        load(str(tmp_path))
    with pytest.raises(UsageError, match=f"write npz:{tmp_path / 'a.npz'}"):
        load(str(npz(tmp_path / "a.npz")))


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="resolution is 3"):
        load("digits", resolution=3)
    with pytest.raises(UsageError, match="max_images is 0"):
        load("digits", max_images=0)
    with pytest.raises(UsageError, match="15 images are too few for 10 classes; take 20 or more"):
        load("digits", max_images=15)


# ---- Dataset


def dataset(**changes: Any) -> Dataset:
    arguments: dict[str, Any] = {
        "name": "toy",
        "source": "Noise.",
        "x_train": random_images(20),
        "y_train": np.arange(20) % 2,
        "x_test": random_images(6),
        "y_test": np.arange(6) % 2,
        "classes": ("cat", "dog"),
        "flip": True,
        "crop_padding": 1,
    }
    return Dataset(**(arguments | changes))


def test_the_fingerprint_sees_every_array_and_class_name_and_nothing_else() -> None:
    base = dataset().fingerprint
    assert len(base) == 64
    assert dataset(name="other", source="Else.", flip=False, crop_padding=2).fingerprint == base
    assert dataset(y_train=(np.arange(20) % 2).astype(np.uint8)).fingerprint == base
    pixel = random_images(20)
    pixel[7, 3, 2, 1] ^= 1
    others = [
        dataset(x_train=pixel),
        dataset(y_train=np.arange(1, 21) % 2),
        dataset(x_test=random_images(20)[:6]),
        dataset(y_test=np.arange(1, 7) % 2),
        dataset(classes=("cat", "cow")),
        dataset(x_train=random_images(20)[:19], y_train=np.arange(19) % 2),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 7


def test_a_constant_channel_has_one_grey_level_of_spread() -> None:
    images = random_images(20)
    images[..., 1] = 255
    data = dataset(x_train=images)
    assert data.mean[1] == 1.0
    assert data.std[1] == 1 / 255


def test_a_data_set_is_frozen() -> None:
    data = dataset()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0
    assert dataclasses.replace(data, flip=False).flip is False
    images = random_images(20)
    dataset(x_train=images)
    images[0] = 0  # the caller's own array stays the caller's to write


def test_a_data_set_made_by_hand_is_checked_too() -> None:
    with pytest.raises(UsageError, match="toy: y_train: too few images of a class: 'dog' has 1; each needs at least 2"):
        dataset(y_train=np.repeat([0, 1], [19, 1]))
    with pytest.raises(UsageError, match="crop_padding is -1"):
        dataset(crop_padding=-1)


# ---- splits


LABELS = st.lists(st.integers(2, 30), min_size=1, max_size=8).flatmap(
    lambda counts: st.permutations([3 * label for label, count in enumerate(counts) for _ in range(count)])
)


@given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_split_properties(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels)
    train, validation = split(array, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    classes, counts = np.unique(array, return_counts=True)
    assert set(array[train]) == set(array[validation]) == set(classes)
    least, most = len(classes), len(labels) - len(classes)
    assert len(validation) == min(max(round(fraction * len(labels)), least), most)
    again = split(array, fraction, seed)
    np.testing.assert_array_equal(again[1], validation)
    if (fraction * counts >= 1).all() and ((1 - fraction) * counts >= 1).all():
        held_out = np.array([(array[validation] == label).sum() for label in classes])
        assert (np.abs(held_out - len(validation) * counts / len(labels)) < 1).all()


@given(labels=LABELS, size=st.integers(1, 300), seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_subset_properties(labels: list[int], size: int, seed: int) -> None:
    array = np.array(labels)
    classes, counts = np.unique(array, return_counts=True)
    if size < 2 * len(classes) and size < len(labels):
        with pytest.raises(UsageError, match="too few for"):
            subset(array, size, seed)
        return
    index = subset(array, size, seed)
    assert len(index) == len(set(index.tolist())) == min(size, len(labels))
    assert (np.diff(index) > 0).all()
    kept = np.array([(array[index] == label).sum() for label in classes])
    assert (kept >= 2).all()
    shares = len(index) * counts / len(labels)
    if (shares >= 2).all():
        assert (np.abs(kept - shares) < 1).all()


def test_a_split_depends_on_its_seed_and_mixes_the_order() -> None:
    labels = np.repeat([0, 1], 500)
    first, second = split(labels, 0.2, 0)[1], split(labels, 0.2, 1)[1]
    assert 0 < len(np.intersect1d(first, second)) < 80  # 200 of 1,000, twice: 40 expected in common
    assert 180 < np.median(first[:100]) < 320  # of class 0, not only its beginning or end


def test_a_split_never_moves() -> None:
    labels = np.arange(12) % 3
    assert split(labels, 0.5, 7)[1].tolist() == [0, 2, 4, 5, 9, 10]


@pytest.mark.parametrize(
    ("labels", "fraction", "said"),
    [
        ([0, 0, 1], 0.5, "class 1 has a single image"),
        ([0, 0, 1, 1], 0.0, "between 0 and 1"),
        ([0, 0, 1, 1], 1.0, "between 0 and 1"),
        ([0, 0, 1, 1], float("nan"), "between 0 and 1"),
        ([], 0.5, "non-empty"),
        ([0.0, 0.0], 0.5, "integers"),
        ([[0, 0]], 0.5, "integers"),
    ],
)
def test_a_bad_split_is_refused(labels: list[Any], fraction: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split(np.array(labels), fraction, 0)


def test_importing_the_data_sets_loads_neither_torch_nor_sklearn_nor_pillow() -> None:
    code = "import sys, nas.data; print([m for m in ('torch', 'torchvision', 'sklearn', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
