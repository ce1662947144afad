"""Image files that are decoded whenever they are needed (`Streamed`), for folders too large to be kept decoded.

Before anything is trained, each file is read and decoded once, on all cores, so that broken files are found then and not in the
middle of an epoch. The result is kept in `$NAS_DATA/examined/KEY.json`. It is valid until a file's name, size, or time of
modification or change differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import GREY_LEVEL, Imbalance, check_labels, imbalance_of
from nas.data.names import Labels
from nas.data.readers.decoded_cache import key_of
from nas.data.readers.images import Corrupt, corrupt_from, in_threads, quiet_pillow, refuse_corrupt, square_rgb
from nas.data.readers.listing import Listed, list_images, without
from nas.data.sources import Request
from nas.errors import NasError, UsageError
from nas.utils import limits
from nas.utils.files import read_json, write_json
from nas.utils.text import Say

FORMAT = 1
DEFAULT_RESOLUTION = 224  # of networks for ImageNet, for which these crops are usual


@dataclass(frozen=True, slots=True, eq=False)
class Names(Sequence[Path]):
    """Many paths in two arrays, so that a million of them can be sent to another process quickly.

    letters: all paths concatenated, in the file system's encoding. ends: end of each path, (n,) int64.
    """

    letters: bytes = field(repr=False)
    ends: NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Self:
        spelled = [os.fsencode(path) for path in paths]
        return cls(b"".join(spelled), np.cumsum([len(path) for path in spelled], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        begin = int(self.ends[index - 1]) if index else 0
        return Path(os.fsdecode(self.letters[begin : int(self.ends[index])]))


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """Image files with labels (n,) int64, in a train and a test part; other fields as in `nas.data.Dataset`.

    resolution: side in pixels of the images that networks get. mean, std: of the train images' central squares, by channel, in
    [0, 1]. fingerprint: SHA-256, in hex, of the files' bytes, the labels and the class names.

    Raises UsageError with the part's name if the parts are not a valid data set.
    """

    name: str
    source: str
    train: Names = field(repr=False)
    y_train: Labels = field(repr=False)
    test: Names = field(repr=False)
    y_test: Labels = field(repr=False)
    classes: tuple[str, ...]
    flip: bool
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    skipped: int = 0
    channels: int = 3

    def __post_init__(self) -> None:
        for part, names, labels in (("train", self.train, self.y_train), ("test", self.test, self.y_test)):
            if not len(names):
                raise UsageError(f"{self.name}: the {part} part has no images")
            check_labels(f"{self.name}: y_{part}", labels, len(names), self.classes)

    @property
    def imbalance(self) -> Imbalance:
        """The imbalance of the classes in the train part."""
        return imbalance_of(self.y_train, self.classes)


def read_streamed(request: Request) -> Streamed:
    """The image files of a folder (`nas.data.readers.listing`), examined, to be decoded later.

    Raises UsageError for files that can't be decoded, unless they may be skipped.
    """
    listed = list_images(request)
    resolution = request.resolution or DEFAULT_RESOLUTION
    files = listed.files
    examined = _examined(files, listed, resolution, request.root / "examined", request.say)
    refuse_corrupt(examined.corrupt, len(files), listed.root, skip=request.skip_corrupt)
    train, test, y_train, y_test = listed.train, listed.test, listed.y_train, listed.y_test
    source = listed.source
    if examined.corrupt:
        whole = without(examined.corrupt, listed, request.say)
        cut = len(train)
        train = [file for file, good in zip(train, whole[:cut], strict=True) if good]
        test = [file for file, good in zip(test, whole[cut:], strict=True) if good]
        y_train, y_test = y_train[whole[:cut]], y_test[whole[cut:]]
        source += f", without {len(examined.corrupt):,} that can't be decoded"
    return Streamed(
        name=f"imagefolder:{listed.folder}",
        source=f"{source}, decoded again in each epoch, as RGB squares of {resolution} px.",
        train=Names.of(train),
        y_train=y_train,
        test=Names.of(test),
        y_test=y_test,
        classes=listed.classes,
        flip=True,
        resolution=resolution,
        mean=examined.mean,
        std=examined.std,
        fingerprint=examined.fingerprint,
        skipped=len(examined.corrupt),
    )


@dataclass(frozen=True, slots=True)
class _Examined:
    corrupt: list[Corrupt]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Chunk:
    """For some files: the broken ones, the SHA-256 of the others' bytes, and exact sums over images of the train part.

    sums, squares: (3,) int64, of the gray levels and of their squares. pixels: their number in one channel.
    """

    corrupt: list[Corrupt]
    digests: list[bytes]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    pixels: int


def _examined(files: Sequence[Path], listed: Listed, resolution: int, kept_in: Path, say: Say) -> _Examined:
    """The result of reading all files, from the cache if no file has changed since."""
    what = f"{FORMAT} {resolution} {len(listed.train)} {listed.classes!r} {hashlib.sha256(listed.labels.tobytes()).hexdigest()}"
    try:
        record: Path | None = kept_in / f"{key_of(files, listed.root, what)[0]}.json"
    except OSError:  # reading the file reports it
        record = None
    kept: Any = read_json(record, limits.INDEX_BYTES) if record is not None else None
    try:
        corrupt = [Corrupt(index, str(reason), files[index]) for index, reason in kept["corrupt"]]
        mean, std = (tuple(float(level) for level in kept[name]) for name in ("mean", "std"))
        if len(mean) == len(std) == 3 and min(std) > 0:
            say(f"examined before: {len(files):,} images")
            return _Examined(corrupt, mean, std, str(kept["fingerprint"]))
    except (TypeError, LookupError, ValueError):
        pass
    examined = _examine(files, listed, resolution, say)
    if record is not None and not any(place.unreachable for place in examined.corrupt):
        left_out = [[place.index, place.reason] for place in examined.corrupt]
        facts = {"corrupt": left_out, "mean": examined.mean, "std": examined.std, "fingerprint": examined.fingerprint}
        try:
            write_json(record, facts)
        except NasError as error:
            say(f"the result of examining the images can't be kept for the next time: {error}")
    return examined


def _examine(files: Sequence[Path], listed: Listed, resolution: int, say: Say) -> _Examined:
    train = len(listed.train)

    def look(start: int, stop: int) -> _Chunk:
        chunk = _Chunk([], [], np.zeros(3, np.int64), np.zeros(3, np.int64), 0)
        pixels = 0
        for index in range(start, stop):
            try:
                content = files[index].read_bytes()
                levels = (
                    square_rgb(io.BytesIO(content), resolution, files[index].suffix).reshape(-1, 3).astype(np.int64)
                )
            except Exception as error:  # Pillow raises nearly every type on broken bytes
                chunk.corrupt.append(corrupt_from(error, index, files[index]))
                continue
            chunk.digests.append(hashlib.sha256(content).digest())
            if index < train:
                chunk.sums[:] += levels.sum(0)
                chunk.squares[:] += (levels * levels).sum(0)
                pixels += len(levels)
        return _Chunk(chunk.corrupt, chunk.digests, chunk.sums, chunk.squares, pixels)

    corrupt: list[Corrupt] = []
    sums, squares, pixels = np.zeros(3, np.int64), np.zeros(3, np.int64), 0
    fingerprint = hashlib.sha256(f"{train} {len(files)} {listed.classes!r}\n".encode())
    fingerprint.update(listed.labels.astype("<i8").tobytes())
    with quiet_pillow(), contextlib.closing(in_threads(look, len(files), f"examining {listed.root}", say)) as chunks:
        for chunk in chunks:
            corrupt += chunk.corrupt
            sums, squares, pixels = sums + chunk.sums, squares + chunk.squares, pixels + chunk.pixels
            fingerprint.update(b"".join(chunk.digests))
    fingerprint.update(np.array([place.index for place in corrupt], "<i8").tobytes())
    mean = sums / max(pixels, 1) / 255
    std = np.sqrt(np.maximum(squares / max(pixels, 1) / 255**2 - mean**2, 0)).clip(GREY_LEVEL)
    return _Examined(corrupt, tuple(mean.tolist()), tuple(std.tolist()), fingerprint.hexdigest())
