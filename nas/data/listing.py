"""Which image files a folder holds and of which class each of them is, however the folder says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import Labels, check_classes, check_counts
from nas.data.images import SUFFIXES, Corrupt, Say, skipped
from nas.data.layout import folders_in, layout_of, visible
from nas.data.metadata import read_metadata
from nas.data.parquet import unpacked
from nas.data.sources import LEAST_PER_CLASS, SEED, TEST_FRACTION, Request
from nas.data.splits import split, subset
from nas.data.tables import Found, Samples
from nas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Listed:
    """Image files and their labels (n,) int64, in a train and a test part.

    root: the folder that errors count the files' names from. folder: the one that was asked for. source: a sentence without
    its full stop that says what data this is.
    """

    root: Path
    folder: Path
    train: Sequence[Path]
    y_train: Labels
    test: Sequence[Path]
    y_test: Labels
    classes: tuple[str, ...]
    source: str

    @property
    def files(self) -> list[Path]:
        return [*self.train, *self.test]

    @property
    def labels(self) -> Labels:
        return np.concatenate([self.y_train, self.y_test])


def list_images(request: Request) -> Listed:
    """The images of imagefolder:PATH: tables of Hugging Face first, parquet or metadata, then folders of classes.

    Without a test part a fifth of each class is carved; `max_images` takes fewer of the train part.

    Raises UsageError for a folder that doesn't say of which class its images are, or has too few of them.
    """
    folder = existing(request.path, "imagefolder")
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder; imagefolder:PATH takes a folder with one folder of images per class"
        )
    found = (
        unpacked(folder, request.root / "unpacked", request.say)
        or read_metadata(folder, request.say)
        or _class_folders(folder, request)
    )
    files, labels, classes = found.train.files, found.train.labels, found.classes
    check_classes(found.what, classes)
    check_counts(found.what, labels, classes, least=LEAST_PER_CLASS)
    source = f"The images of {folder}{found.about}"
    if found.test is None:
        kept, held_out = split(labels, TEST_FRACTION, SEED)
        test = Samples([files[index] for index in held_out], labels[held_out])
        files, labels = [files[index] for index in kept], labels[kept]
        source += f", {len(held_out):,} of them held out for the test"
    else:
        test = found.test
    source += found.unread
    if request.max_images is not None and request.max_images < len(files):
        source += f", {request.max_images:,} of the {len(files):,} train images"
        kept = subset(labels, request.max_images, SEED)
        files, labels = [files[index] for index in kept], labels[kept]
    request.say(f"reading {folder}: {len(files) + len(test.files):,} images of {len(classes)} classes")
    return Listed(found.root, folder, files, labels, test.files, test.labels, classes, source)


def without(corrupt: Sequence[Corrupt], listed: Listed, say: Say) -> NDArray[np.bool_]:
    """Which of all the listed images are whole, (n,); says which are not. UsageError if a class keeps too few of them."""
    whole = np.ones(len(listed.labels), np.bool_)
    whole[[place.index for place in corrupt]] = False
    say(skipped(corrupt, len(whole), listed.root))
    labels = listed.y_train[whole[: len(listed.y_train)]]
    check_counts(f"{listed.folder} without the images that can't be decoded", labels, listed.classes, least=2)
    return whole


def existing(path: str, kind: str) -> Path:
    """The absolute path of what is there; UsageError if nothing is."""
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


def _class_folders(root: Path, request: Request) -> Found:
    """PATH/train/CLASS/** and PATH/test/CLASS/** (or val), or PATH/CLASS/**, without hidden files and other ones."""
    layout = layout_of(root)
    train, classes = _listing(layout.train)
    test, about, unread = None, "", ""
    if layout.test is not None:
        test, test_classes = _listing(layout.test)
        _require_same_classes(layout.train, classes, layout.test, test_classes)
        about = f", trained on {layout.train.name}/ and tested on {layout.test.name}/"
    if layout.unused:
        unused = " and ".join(f"{folder.name}/" for folder in layout.unused)
        unread = f", without {unused}"
        request.say(f"{unused} of {root} is not read: what networks are ranked by is carved from {layout.train.name}/")
    return Found(root, str(layout.train), train, test, classes, about, unread)


def _listing(root: Path) -> tuple[Samples, tuple[str, ...]]:
    """The samples and classes of root/CLASS/**: the classes sorted by name, the files by path."""
    try:
        folders = folders_in(root)
        images = [_images_under(folder) for folder in folders]
        loose = next((entry for entry in sorted(root.iterdir()) if _is_image(entry.name)), None)
    except OSError as error:
        raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error
    if not any(images):
        where = f"its images, such as {loose.name}, lie outside of any" if loose else "there are no images"
        raise UsageError(
            f"{root} has no class folders with images ({where}); it needs {root.name}/CLASS/IMAGE for each class, "
            f"and images that end in {', '.join(sorted(SUFFIXES))}, or a metadata.csv with the columns file_name and label"
        )
    labels = np.repeat(np.arange(len(folders)), [len(files) for files in images])
    return Samples([file for files in images for file in files], labels), tuple(folder.name for folder in folders)


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
