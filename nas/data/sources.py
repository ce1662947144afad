"""`DATASETS`: where images come from by name, and how what was read becomes a checked `Dataset`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import Dataset, check_counts, check_images, check_labels, crop_padding_at
from nas.data.images import Say, fit
from nas.data.splits import split, subset
from nas.errors import NasError, UsageError
from nas.registry import Registry

TEST_FRACTION = 0.2
SEED = 0  # of the carved test part and the subset: they belong to the data, and must not move with a run's seed
LEAST_PER_CLASS = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What `nas.data.load` was asked for, defaults resolved."""

    path: str
    root: Path
    download: bool
    resolution: int | None
    max_images: int | None
    say: Say


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `DATASETS`. about: a phrase for listings. takes_path: whether it is asked for as name:PATH."""

    about: str
    read: Callable[[Request], Dataset]
    takes_path: bool = False


DATASETS: Registry[Source] = Registry("dataset")


def assemble(
    request: Request,
    *,
    name: str,
    source: str,
    train: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]] | None,
    classes: tuple[str, ...],
    flip: bool,
) -> Dataset:
    """Raw (images, labels) to a `Dataset`: checked, a missing test part carved, subsampled, resized.

    `source` has no full stop: what is done here is added to it.
    """
    for part, (images, labels) in {"train": train, **({"test": test} if test else {})}.items():
        check_images(f"{name}: x_{part}", images)
        check_labels(f"{name}: y_{part}", labels, len(images), classes)
    x_train, y_train = train
    check_counts(f"{name}: y_train", y_train, classes, least=LEAST_PER_CLASS)
    if test is None:
        kept, held_out = split(y_train, TEST_FRACTION, SEED)
        test = x_train[held_out], y_train[held_out]
        x_train, y_train = x_train[kept], y_train[kept]
        source += f", {len(held_out):,} of them held out for the test"
    x_test, y_test = test
    if request.max_images is not None and request.max_images < len(y_train):
        source += f", {request.max_images:,} of the {len(y_train):,} train images"
        kept = subset(y_train, request.max_images, SEED)
        x_train, y_train = x_train[kept], y_train[kept]
    if request.resolution is not None and x_train.shape[1:3] != (request.resolution, request.resolution):
        source += f", resized from {x_train.shape[1]} x {x_train.shape[2]} to {request.resolution} px"
    if request.resolution is not None:
        x_train = fit(x_train, request.resolution, f"{name}: x_train", request.say)
        x_test = fit(x_test, request.resolution, f"{name}: x_test", request.say)
    return Dataset(
        name=name,
        source=f"{source}.",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=classes,
        flip=flip,
        crop_padding=crop_padding_at(x_train.shape[1]),
    )


def _read_digits(request: Request) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return assemble(
        request,
        name="digits",
        source="Optical recognition of handwritten digits: 1,797 real 8 x 8 scans of 0 to 9 (Alpaydin and Kaynak, 1998), "
        "as scikit-learn carries them",
        train=(images, digits.target.astype(np.int64)),
        test=None,
        classes=_DIGITS,
        flip=False,
    )


_DIGITS = tuple("0123456789")
DATASETS.register("digits")(Source("1,797 handwritten digits at 8 px; comes with scikit-learn, no download", _read_digits))


@dataclass(frozen=True, slots=True)
class _Published:
    """A published data set that torchvision downloads and reads. paths: what it unpacks, under the root."""

    name: str
    torchvision: str
    megabytes: int
    paths: tuple[str, ...]
    source: str
    flip: bool
    classes: tuple[str, ...] | None = None

    def read(self, request: Request) -> Dataset:
        request.say(f"reading {self.name} from {request.root}")
        try:
            parts = self._parts(request.root, download=False)
        except Exception as error:  # torchvision raises what its parsers raise; absent files are a bare RuntimeError
            if not request.download:
                raise UsageError(self._remedy(request.root, error)) from error
            parts = self._download(request)
        (train, names), (test, _) = parts
        return assemble(
            request,
            name=self.name,
            source=self.source,
            train=train,
            test=test,
            classes=self.classes or tuple(names),
            flip=self.flip,
        )

    def _parts(self, root: Path, *, download: bool) -> list[tuple[tuple[NDArray[Any], NDArray[Any]], list[str]]]:
        """[train, test], each ((images NHWC, labels), class names)."""
        from torchvision import datasets

        reader = getattr(datasets, self.torchvision)
        arguments = [{"split": "train"}, {"split": "test"}] if self.name == "svhn" else [{"train": True}, {"train": False}]
        parts = []
        for argument in arguments:
            raw = reader(root, download=download, **argument)
            images = np.asarray(raw.data)
            if self.name == "svhn":
                images = images.transpose(0, 2, 3, 1)
            images = np.ascontiguousarray(images[..., np.newaxis] if images.ndim == 3 else images)
            labels = np.asarray(raw.labels if self.name == "svhn" else raw.targets, dtype=np.int64)
            parts.append(((images, labels), list(getattr(raw, "classes", ()))))
        return parts

    def _download(self, request: Request) -> list[tuple[tuple[NDArray[Any], NDArray[Any]], list[str]]]:
        request.say(f"downloading {self.name} (about {self.megabytes} MB) to {request.root}")
        try:
            request.root.mkdir(parents=True, exist_ok=True)
            # torchvision prints; standard output belongs to what the command answers.
            with contextlib.redirect_stdout(sys.stderr):
                return self._parts(request.root, download=True)
        except Exception as error:  # the network, the disk, the archive: whatever it was, it is named
            raise NasError(
                f"{self.name} could not be downloaded to {request.root}: {_said(error)}; try again, or put the files of "
                f"another machine there ({', '.join(self.paths)})"
            ) from error

    def _remedy(self, root: Path, error: Exception) -> str:
        download = f"--download gets it (about {self.megabytes} MB)"
        elsewhere = "where it is elsewhere, set NAS_DATA to the folder that holds it"
        if not all((root / path).exists() for path in self.paths):
            return f"{self.name} is not in {root}: there is no {' and '.join(self.paths)}; {download}; {elsewhere}"
        damaged = " and ".join(str(root / path) for path in self.paths)
        return f"{self.name} can't be read from {root}: {_said(error)}; remove {damaged}, then {download}"


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


_CIFAR = "photos at 32 x 32 (Krizhevsky, 2009), 50,000 to train and 10,000 to test, as torchvision reads them"
for _published in (
    _Published(
        "cifar10", "CIFAR10", 170, ("cifar-10-batches-py",), f"CIFAR-10: 10 classes of {_CIFAR}", flip=True
    ),
    _Published("cifar100", "CIFAR100", 169, ("cifar-100-python",), f"CIFAR-100: 100 classes of {_CIFAR}", flip=True),
    _Published(
        "svhn",
        "SVHN",
        246,
        ("train_32x32.mat", "test_32x32.mat"),
        "Street View House Numbers: 99,289 cropped digits at 32 x 32 (Netzer et al., 2011) without the extra part, "
        "as torchvision reads them",
        flip=False,
        classes=_DIGITS,
    ),
    _Published(
        "fashion_mnist",
        "FashionMNIST",
        31,
        ("FashionMNIST/raw",),
        "Fashion-MNIST: 70,000 gray photos of 10 kinds of clothing at 28 x 28 (Xiao et al., 2017), as torchvision reads them",
        flip=True,
    ),
    _Published(
        "mnist",
        "MNIST",
        12,
        ("MNIST/raw",),
        "MNIST: 70,000 handwritten digits at 28 x 28 (LeCun et al., 1998), as torchvision reads them",
        flip=False,
        classes=_DIGITS,
    ),
):
    _about = f"{_published.source.partition(', as torchvision')[0]}; a download of {_published.megabytes} MB"
    DATASETS.register(_published.name)(Source(_about, _published.read))
