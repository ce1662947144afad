"""A user's own images: a folder of image files (`imagefolder:PATH`) or one file of arrays (`npz:PATH`)."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import Dataset, crop_padding_at
from nas.data.names import NO_LABEL
from nas.data.readers.decoded_cache import decode_once
from nas.data.readers.images import require_memory
from nas.data.readers.listing import existing, list_images, without
from nas.data.sources import Request, assemble
from nas.errors import UsageError, reason_of


def read_folder(request: Request) -> Dataset:
    """The images of a folder (`nas.data.readers.listing`), decoded, as squares of one size.

    Without a resolution, images that are all squares of one size up to 64 px keep their size; all others are center-cropped to a
    square and resized to 64 px. Decoded images are cached on the disk (`nas.data.readers.decoded_cache`).
    """
    listed = list_images(request)
    every, labels, test_labels = listed.files, listed.y_train, listed.y_test
    # A single array; the parts are views of it.
    decoded = decode_once(
        every,
        listed.root,
        request.resolution,
        kept_in=request.root / "decoded",
        skip_corrupt=request.skip_corrupt,
        paged=request.paged,
        say=request.say,
    )
    images, corrupt, resolution = decoded.images, decoded.corrupt, decoded.images.shape[1]
    resized = "keep their size" if decoded.own_size else "were centre-cropped to squares and resized (--resolution)"
    request.say(f"images of {resolution} px: they {resized}; gray ones are made RGB")
    source = listed.source
    if corrupt:
        whole = without(corrupt, listed, request.say)
        labels, test_labels = labels[whole[: len(labels)]], test_labels[whole[len(labels) :]]
        source += f", without {len(corrupt):,} that can't be decoded"
    return Dataset(
        name=f"imagefolder:{listed.folder}",
        source=f"{source}, as RGB squares of {resolution} px.",
        x_train=images[: len(labels)],
        y_train=labels,
        x_test=images[len(labels) :],
        y_test=test_labels,
        classes=listed.classes,
        flip=True,
        crop_padding=crop_padding_at(resolution),
        skipped=len(corrupt),
    )


def read_npz(request: Request) -> Dataset:
    """Arrays of an .npz file: x_train, y_train and optionally x_test, y_test, classes, flip.

    Images are uint8 (n, height, width, channels), labels integers from 0. Without x_test and y_test, a fifth of the train images
    becomes the test part. Without classes, they are called "0", "1", ... flip: whether a mirrored image keeps its class; default
    true. Pickled objects are never read.
    """
    path = existing(request.path, "npz")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is no .npz file, or is cut short; write it with numpy.savez(path, x_train=..., ...)")
    try:
        arrays = _read_arrays(path)
        classes = _class_names(path, arrays)  # may fail: NumPy accepts characters that Python's str does not
    except UsageError:
        raise
    except Exception as error:  # of zipfile, its compression methods or NumPy's headers
        kind = type(error).__name__
        raise UsageError(f"{path} can't be read: {kind}: {reason_of(error, 200)}; write it again") from error
    if "x_test" in arrays and _unlabelled(arrays.get("y_test")):
        request.say(f"the test part of {path} has no labels, and is not read")
        del arrays["x_test"]
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return assemble(
        request,
        name=f"npz:{path}",
        source=f"The arrays of {path}",
        train=(arrays["x_train"], arrays["y_train"]),
        test=test,
        classes=classes,
        flip=bool(np.all(arrays.get("flip", True))),
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a data set. All headers are checked before any array is read into memory."""
    with np.load(path, allow_pickle=False) as archive:
        names = set(archive.files)
        if missing := {"x_train", "y_train"} - names:
            has = ", ".join(archive.files) or "none"
            raise UsageError(f"{path} lacks the arrays {', '.join(sorted(missing))}; it has {has}")
        if "y_test" in names and "x_test" not in names:
            raise UsageError(
                f"{path} has y_test without x_test; give both, or neither to split a test part from the train part"
            )
        wanted = [name for name in ("x_train", "y_train", "x_test", "y_test", "classes", "flip") if name in names]
        needed = 0
        for name in wanted:
            shape, dtype = _header(path, name)
            if dtype.hasobject:
                raise UsageError(
                    f"{path}: {name} holds pickled objects, which are not read; save it as numbers or text"
                )
            needed += math.prod(shape) * dtype.itemsize
        # Splitting off a test part copies the images once more.
        require_memory(f"the arrays of {path}", 1, needed if "x_test" in names else 2 * needed)
        return {name: archive[name] for name in wanted}


def _unlabelled(labels: NDArray[Any] | None) -> bool:
    if labels is None:
        return True
    return bool(labels.size) and np.issubdtype(labels.dtype, np.integer) and bool((labels == int(NO_LABEL)).all())


def _header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        return shape, dtype


def _class_names(path: Path, arrays: dict[str, NDArray[Any]]) -> tuple[str, ...]:
    if "classes" in arrays:
        names = arrays["classes"]
        if names.ndim != 1:
            raise UsageError(f"{path}: classes has shape {names.shape}; it must be one name per class")
        return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
    labels = arrays["y_train"]
    countable = labels.size > 0 and np.issubdtype(labels.dtype, np.integer)
    if countable and (least := int(labels.min())) > 0:
        raise UsageError(f"{path}: the labels of y_train begin at {least}; they count from 0: subtract {least}")
    # At most one class for each image, so that a wrong label does not create a billion names; `assemble` reports it.
    count = min(max(int(labels.max()) + 1, 2), len(labels)) if countable else 2
    return tuple(str(label) for label in range(count))
