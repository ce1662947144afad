"""Published data sets, read from tiny files of the formats that they have on disk."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import image_folder, npz

from nas.data import DATASETS, load
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
