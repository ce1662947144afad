"""Data sets: every source read from files of its real format, every bad input refused with a message that helps."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import image_folder, npz, random_images
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data import DATASETS, Dataset, load, split, subset
from nas.errors import NasError, UsageError

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


# ---- what is refused


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
