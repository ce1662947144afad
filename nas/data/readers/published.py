"""Published data sets: the digits that come with scikit-learn, and those that torchvision downloads and reads."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.data.dataset import Dataset
from nas.data.sources import Part, Request, assemble
from nas.errors import NasError, UsageError, reason_of

_DIGITS = tuple("0123456789")


def read_digits(request: Request) -> Dataset:
    """1,797 scans of handwritten digits, 8 x 8, 0..16 rescaled to 0..255; a fixed fifth of each class is the test part."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return assemble(
        request,
        name="digits",
        source="Optical recognition of handwritten digits: 1,797 real 8 x 8 scans (Alpaydin and Kaynak, 1998), "
        "from scikit-learn",
        train=(np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis], digits.target),
        test=None,
        classes=_DIGITS,
        flip=False,
    )


@dataclass(frozen=True, slots=True)
class Published:
    """A data set that torchvision downloads and reads. paths: its files and folders in the root."""

    name: str
    torchvision: str
    about: str
    citation: str
    megabytes: int
    paths: tuple[str, ...]
    flip: bool
    classes: tuple[str, ...] = ()

    def read(self, request: Request) -> Dataset:
        request.say(f"reading {self.name} from {request.root}")
        try:
            train, test, classes = self._parts(request.root, download=False)
        except Exception as error:  # missing files, a bad checksum, or any error of its parsers
            if not request.download:
                raise UsageError(self._remedy(request.root, error)) from error
            train, test, classes = self._downloaded(request)
        return assemble(
            request,
            name=self.name,
            source=f"{self.about} ({self.citation}), read by torchvision",
            train=train,
            test=test,
            classes=self.classes or classes,
            flip=self.flip,
        )

    def _parts(self, root: Path, *, download: bool) -> tuple[Part, Part, tuple[str, ...]]:
        """(train, test, class names), images NHWC."""
        from torchvision import datasets

        reader = getattr(datasets, self.torchvision)
        if self.name == "svhn":
            raw = [reader(root, split=part, download=download) for part in ("train", "test")]
            train, test = (
                (np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), np.asarray(part.labels)) for part in raw
            )
            return train, test, ()
        raw = [reader(root, train=part, download=download) for part in (True, False)]
        train, test = ((_with_channels(np.asarray(part.data)), np.asarray(part.targets, np.int64)) for part in raw)
        return train, test, tuple(raw[0].classes)

    def _downloaded(self, request: Request) -> tuple[Part, Part, tuple[str, ...]]:
        request.say(f"downloading {self.name} (about {self.megabytes} MB) to {request.root}")
        try:
            request.root.mkdir(parents=True, exist_ok=True)
            # torchvision prints, but standard output is reserved for the command's results.
            with contextlib.redirect_stdout(sys.stderr):
                return self._parts(request.root, download=True)
        except Exception as error:  # an error of the network, the disk or the archive
            raise NasError(
                f"{self.name} could not be downloaded to {request.root}: {_kind_and_reason(error)}; try again, or copy "
                f"{' and '.join(self.paths)} there from where it is"
            ) from error

    def _remedy(self, root: Path, error: Exception) -> str:
        download = f"--download gets it (about {self.megabytes} MB)"
        if all(_holds_data(root / path) for path in self.paths):
            damaged = " and ".join(str(root / path) for path in self.paths)
            return (
                f"{self.name} can't be read from {root}: {_kind_and_reason(error)}; remove {damaged}, then {download}"
            )
        return (
            f"{self.name} is not in {root}, which has no {' and '.join(self.paths)}; {download}; "
            "if it is in another folder, set NAS_DATA to that folder"
        )


def _holds_data(path: Path) -> bool:
    """Whether the path is a file or a non-empty folder; a failed download leaves an empty one."""
    return path.is_file() or any(path.glob("*"))


def _with_channels(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images[..., np.newaxis] if images.ndim == 3 else images)


def _kind_and_reason(error: Exception) -> str:
    return reason_of(f"{type(error).__name__}: {error}")


PUBLISHED = (
    Published(
        name="cifar10",
        torchvision="CIFAR10",
        about="CIFAR-10: 60,000 photos of 10 classes, 32 px",
        citation="Krizhevsky, 2009",
        megabytes=170,
        paths=("cifar-10-batches-py",),
        flip=True,
    ),
    Published(
        name="cifar100",
        torchvision="CIFAR100",
        about="CIFAR-100: 60,000 photos of 100 classes, 32 px",
        citation="Krizhevsky, 2009",
        megabytes=169,
        paths=("cifar-100-python",),
        flip=True,
    ),
    Published(
        name="svhn",
        torchvision="SVHN",
        about="Street View House Numbers: 99,289 photos of digits, 32 px, without the extra part",
        citation="Netzer et al., 2011",
        megabytes=246,
        paths=("train_32x32.mat", "test_32x32.mat"),
        flip=False,
        classes=_DIGITS,
    ),
    Published(
        name="fashion_mnist",
        torchvision="FashionMNIST",
        about="Fashion-MNIST: 70,000 gray photos of 10 kinds of clothing, 28 px",
        citation="Xiao et al., 2017",
        megabytes=31,
        paths=("FashionMNIST/raw",),
        flip=True,
    ),
    Published(
        name="mnist",
        torchvision="MNIST",
        about="MNIST: 70,000 handwritten digits, 28 px",
        citation="LeCun et al., 1998",
        megabytes=12,
        paths=("MNIST/raw",),
        flip=False,
        classes=_DIGITS,
    ),
)
