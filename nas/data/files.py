"""A user's own images: a folder of image files (`imagefolder:PATH`) or one file of arrays (`npz:PATH`)."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import Dataset, Labels, check_classes, check_counts, crop_padding_at
from nas.data.decoded import decode_once
from nas.data.images import SUFFIXES, require_memory, skipped
from nas.data.layout import layout_of, visible
from nas.data.sources import LEAST_PER_CLASS, SEED, TEST_FRACTION, Request, assemble
from nas.data.splits import split, subset
from nas.errors import UsageError


def read_folder(request: Request) -> Dataset:
    """Images in PATH/train/CLASS and PATH/test/CLASS (or val), or in PATH/CLASS, of which a fifth is the test part.

    Class folders may nest. Hidden files, `__MACOSX` and files that are no images by their suffix don't count. Without a
    resolution, images that are all squares of one size up to 64 px stay as they are; all others are centre-cropped to a
    square and resized to 64 px. Decoded images are kept for the next time (`nas.data.decoded`).
    """
    root = _existing(request.path, "imagefolder")
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; imagefolder:PATH takes a folder with one folder of images per class")
    layout = layout_of(root)
    files, labels, classes = _listing(layout.train)
    check_classes(str(layout.train), classes)
    check_counts(str(layout.train), labels, classes, least=LEAST_PER_CLASS)
    source = f"The images of {root}"
    if layout.test is None:
        kept, held_out = split(labels, TEST_FRACTION, SEED)
        test_files, test_labels = [files[index] for index in held_out], labels[held_out]
        files, labels = [files[index] for index in kept], labels[kept]
        source += f", {len(held_out):,} of them held out for the test"
    else:
        test_files, test_labels, test_classes = _listing(layout.test)
        _require_same_classes(layout.train, classes, layout.test, test_classes)
        source += f", trained on {layout.train.name}/ and tested on {layout.test.name}/"
    if layout.unused:
        unused = " and ".join(f"{folder.name}/" for folder in layout.unused)
        source += f", without {unused}"
        request.say(f"{unused} of {root} is not read: what networks are ranked by is carved from {layout.train.name}/")
    if request.max_images is not None and request.max_images < len(files):
        source += f", {request.max_images:,} of the {len(files):,} train images"
        kept = subset(labels, request.max_images, SEED)
        files, labels = [files[index] for index in kept], labels[kept]

    every = [*files, *test_files]
    request.say(f"reading {root}: {len(every):,} images of {len(classes)} classes")
    # One array, decoded once; the parts are views of it.
    decoded = decode_once(
        every,
        root,
        request.resolution,
        kept_in=request.root / "decoded",
        skip_corrupt=request.skip_corrupt,
        say=request.say,
    )
    images, corrupt, resolution = decoded.images, decoded.corrupt, decoded.images.shape[1]
    resized = "keep their size" if decoded.own_size else "were centre-cropped to squares and resized (--resolution)"
    request.say(f"images of {resolution} px: they {resized}; gray ones are made RGB")
    train_images = len(files)
    if corrupt:
        whole = np.ones(len(every), np.bool_)
        whole[[place.index for place in corrupt]] = False
        labels, test_labels = labels[whole[: len(files)]], test_labels[whole[len(files) :]]
        train_images = len(labels)
        source += f", without {len(corrupt):,} that can't be decoded"
        request.say(skipped(corrupt, len(every), root))
        check_counts(f"{root} without the images that can't be decoded", labels, classes, least=2)
    return Dataset(
        name=f"imagefolder:{root}",
        source=f"{source}, as RGB squares of {resolution} px.",
        x_train=images[:train_images],
        y_train=labels,
        x_test=images[train_images:],
        y_test=test_labels,
        classes=classes,
        flip=True,
        crop_padding=crop_padding_at(resolution),
        skipped=len(corrupt),
    )


def read_npz(request: Request) -> Dataset:
    """Arrays of an .npz file: x_train, y_train and optionally x_test, y_test, classes, flip.

    Images are uint8 (n, height, width, channels), labels integers from 0. Without x_test and y_test, a fifth of the
    train images is the test part; without classes, they are called "0", "1", ...; `flip` (true unless given) says
    whether a mirrored image keeps its class. Pickled objects are never read.
    """
    path = _existing(request.path, "npz")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is no .npz file, or is cut short; write it with numpy.savez(path, x_train=..., ...)")
    try:
        arrays = _read_arrays(path)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {type(error).__name__}: {error}; write it again") from error
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return assemble(
        request,
        name=f"npz:{path}",
        source=f"The arrays of {path}",
        train=(arrays["x_train"], arrays["y_train"]),
        test=test,
        classes=_class_names(path, arrays),
        flip=bool(np.all(arrays.get("flip", True))),
    )


def _existing(path: str, kind: str) -> Path:
    if not path:
        raise UsageError(f"{kind} needs a path: {kind}:PATH")
    found = Path(path).expanduser().resolve()
    try:
        found.stat()
    except PermissionError as error:
        raise UsageError(f"{found} can't be read: {error.strerror}") from error
    except OSError:
        raise UsageError(
            f"{found} does not exist; PATH of {kind}:PATH is absolute, or counts from the current folder"
        ) from None
    return found


def _listing(root: Path) -> tuple[list[Path], Labels, tuple[str, ...]]:
    """(files, labels, classes) of root/CLASS/**: the classes sorted by name, the files by path."""
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and visible(entry.name))
        images = [_images_under(folder) for folder in folders]
        loose = next((entry for entry in sorted(root.iterdir()) if _is_image(entry.name)), None)
    except OSError as error:
        raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error
    if not any(images):
        where = f"its images, such as {loose.name}, lie outside of any" if loose else "there are no images"
        raise UsageError(
            f"{root} has no class folders with images ({where}); it needs {root.name}/CLASS/IMAGE for each class, "
            f"and images that end in {', '.join(sorted(SUFFIXES))}"
        )
    counts = [len(files) for files in images]
    labels = np.repeat(np.arange(len(folders)), counts)
    return [file for files in images for file in files], labels, tuple(folder.name for folder in folders)


def _images_under(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    found = []
    for directory, names, files in os.walk(folder, onerror=refuse):
        names[:] = filter(visible, names)
        found += [Path(directory, file) for file in files if _is_image(file)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return visible(name) and Path(name).suffix.lower() in SUFFIXES


def _require_same_classes(train_root: Path, train: tuple[str, ...], test_root: Path, test: tuple[str, ...]) -> None:
    for missing, where in ((set(train) - set(test), test_root), (set(test) - set(train), train_root)):
        if missing:
            raise UsageError(
                f"{where} has no folder for class {', '.join(sorted(missing)[:5])}; {train_root.name}/ and "
                f"{test_root.name}/ must have folders of the same names"
            )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that a data set is made of; their headers are judged before any of them is read into memory."""
    with np.load(path, allow_pickle=False) as archive:
        names = set(archive.files)
        if missing := {"x_train", "y_train"} - names:
            has = ", ".join(archive.files) or "none"
            raise UsageError(f"{path} lacks the arrays {', '.join(sorted(missing))}; it has {has}")
        if len({"x_test", "y_test"} & names) == 1:
            raise UsageError(f"{path} has one of x_test and y_test; give both, or neither to have a test part carved")
        wanted = [name for name in ("x_train", "y_train", "x_test", "y_test", "classes", "flip") if name in names]
        needed = 0
        for name in wanted:
            shape, dtype = _header(path, name)
            if dtype.hasobject:
                raise UsageError(
                    f"{path}: {name} holds pickled objects, which are not read; save it as numbers or text"
                )
            needed += math.prod(shape) * dtype.itemsize
        # Carving copies the images once more.
        require_memory(f"the arrays of {path}", 1, needed if "x_test" in names else 2 * needed)
        return {name: archive[name] for name in wanted}


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
    # No further than there are images, lest one stray label makes a billion names; `assemble` reports it.
    count = min(max(int(labels.max()) + 1, 2), len(labels)) if countable else 2
    return tuple(str(label) for label in range(count))
