"""The image files of a folder and their classes, by tables or by folders of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import check_classes, check_counts
from nas.data.names import Classes, Labels, one_line, some
from nas.data.readers.images import Corrupt, skipped
from nas.data.readers.metadata import read_metadata
from nas.data.readers.parquet import unpacked
from nas.data.readers.split_folders import Unread, add_unread_outside, folders_in, images_under, is_image, layout_of
from nas.data.readers.tables import FolderSamples, Samples
from nas.data.sources import LEAST_PER_CLASS, SEED, TEST_FRACTION, Request
from nas.data.splits import split, subset
from nas.errors import UsageError
from nas.utils.text import Say


@dataclass(frozen=True, slots=True)
class Listed:
    """Image files and their labels (n,) int64, in a train and a test part.

    root: the folder to which the files' names in errors are relative. folder: the requested one. source: a sentence about the
    data, without its full stop.
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
    """The images of imagefolder:PATH: by Hugging Face's parquet files, else by metadata tables, else by folders of classes.

    Without a test part, a fifth of each class is split from the train part. `max_images` reduces the train part.

    Raises UsageError if the folder does not define the classes of its images, or has too few images.
    """
    folder = existing(request.path, "imagefolder")
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder; imagefolder:PATH takes a folder with one folder of images per class"
        )
    folder_samples = (
        unpacked(folder, request.root / "unpacked", request.say)
        or read_metadata(folder, request.say)
        or _class_folders(folder, request)
    )
    files, labels, classes = folder_samples.train.files, folder_samples.train.labels, folder_samples.classes
    check_classes(folder_samples.what, classes)
    check_counts(folder_samples.what, labels, classes, least=LEAST_PER_CLASS)
    source = f"The images of {folder}{folder_samples.about}"
    if folder_samples.test is None:
        kept, held_out = split(labels, TEST_FRACTION, SEED)
        test = Samples([files[index] for index in held_out], labels[held_out])
        files, labels = [files[index] for index in kept], labels[kept]
        source += f", {len(held_out):,} of them held out for the test"
    else:
        test = folder_samples.test
    source += folder_samples.unread
    if request.max_images is not None and request.max_images < len(files):
        source += f", {request.max_images:,} of the {len(files):,} train images"
        kept = subset(labels, request.max_images, SEED)
        files, labels = [files[index] for index in kept], labels[kept]
    request.say(f"reading {folder}: {len(files) + len(test.files):,} images of {len(classes)} classes")
    return Listed(folder_samples.root, folder, files, labels, test.files, test.labels, classes, source)


def without(corrupt: Sequence[Corrupt], listed: Listed, say: Say) -> NDArray[np.bool_]:
    """Mask of the listed images that are not corrupt, (n,); reports the others. UsageError if too few of a class remain."""
    whole = np.ones(len(listed.labels), np.bool_)
    whole[[place.index for place in corrupt]] = False
    say(skipped(corrupt, len(whole), listed.root))
    labels = listed.y_train[whole[: len(listed.y_train)]]
    check_counts(f"{listed.folder} without the images that can't be decoded", labels, listed.classes, least=2)
    return whole


def existing(path: str, kind: str) -> Path:
    """The absolute path of an existing file or folder; UsageError if it does not exist."""
    if not path:
        raise UsageError(f"{kind} needs a path: {kind}:PATH")
    absolute = Path(path).expanduser().resolve()
    try:
        absolute.stat()
    except PermissionError as error:
        raise UsageError(f"{absolute} can't be read: {error.strerror}") from error
    except OSError:
        raise UsageError(
            f"{absolute} does not exist; PATH of {kind}:PATH is absolute, or counts from the current folder"
        ) from None
    return absolute


def _class_folders(root: Path, request: Request) -> FolderSamples:
    """PATH/train/CLASS/** and PATH/test/CLASS/** (or val), or PATH/CLASS/**. Folders and files that are not read are reported."""
    layout, unread = layout_of(root), Unread()
    train = _listing(layout.train, unread)
    classes = Classes.of(train.classes, str(layout.train), request.say)
    test, about, left_aside = None, "", ""
    for folder in layout.unlabelled:
        request.say(f"{folder.name}/ of {root} has no labels, and is not read: it has no folders of classes")
    if layout.test is not None:
        held_out = _listing(layout.test, unread)
        classes.require(set(held_out.names), f"{layout.test.name}/", f"{layout.train.name}/", request.say)
        test = Samples(held_out.files, classes.labels(held_out.names))
        about = f", trained on {layout.train.name}/ and tested on {layout.test.name}/"
    if layout.unused:
        unused = " and ".join(f"{folder.name}/" for folder in layout.unused)
        left_aside = f", without {unused}"
        request.say(f"{unused} of {root} is not read: validation images are split from {layout.train.name}/")
    if layout.train != root:
        add_unread_outside(root, unread)
        read = {layout.train, layout.test, *layout.unused, *layout.unlabelled}
        if others := [f"{folder.name}/" for folder in folders_in(root) if folder not in read]:
            request.say(f"{some(others)} of {root} is not read: its name is not that of a part")
    if line := str(unread):
        request.say(line)
    samples = Samples(train.files, classes.labels(train.names))
    return FolderSamples(root, str(layout.train), samples, test, classes.names, about, left_aside)


@dataclass(frozen=True, slots=True)
class _Listing:
    """The images of a part, and the name of each one's class folder. classes: names of all class folders, in order."""

    files: list[Path]
    names: list[str]
    classes: tuple[str, ...]


def _listing(root: Path, unread: Unread) -> _Listing:
    """The images of root/CLASS/**: the classes in alphabetical order, as in torchvision, the files by path."""
    try:
        folders = folders_in(root)
        images = [images_under(folder, unread) for folder in folders]
        loose = next((entry for entry in sorted(root.iterdir()) if is_image(entry.name)), None)
        add_unread_outside(root, unread)
    except OSError as error:
        raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error
    if not any(images):
        where = f"its images, such as {one_line(loose.name)}, lie outside of any" if loose else "there are no images"
        raise UsageError(
            f"{root} has no class folders with images ({where}); it needs {root.name}/CLASS/IMAGE for each class, and images such "
            f"as .jpg or .png, or a metadata.csv with the columns file_name and label{f'; {unread}' if str(unread) else ''}"
        )
    names = [folder.name for folder, files in zip(folders, images, strict=True) for _ in files]
    return _Listing([file for files in images for file in files], names, tuple(folder.name for folder in folders))
