"""Which files of a folder of images are read: parts by their usual names, links, and ignored files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO

from nas.data.names import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES
from nas.data.readers.images import formats_by_suffix, opens
from nas.errors import UsageError

# Created by operating systems and storage devices, in lower case. Their thumbnails and copies must not get into the data.
SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information"})
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
# Formats of images that Pillow may not decode; such files are reported with a hint.
_CONVERTIBLE = frozenset((
    ".avif", ".eps", ".exr", ".hdr", ".heic", ".heif", ".hif", ".icns", ".ico", ".jp2", ".jxl", ".jxr", ".pfm", ".psd", ".svg",
    ".webp", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2",
))  # fmt: skip
_SHOWN = 8  # reasons


@dataclass(frozen=True, slots=True)
class Layout:
    """train, test: folders of class folders. If test is None, it is split from train. unused: other parts, which are not read.

    unlabelled: test parts without folders of classes.
    """

    train: Path
    test: Path | None
    unused: tuple[Path, ...] = ()
    unlabelled: tuple[Path, ...] = ()


@dataclass(slots=True)
class Unread:
    """Counts of the files of a folder that are not read, by the reason."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, noun: str, why: str, count: int = 1) -> None:
        """noun: in the singular. why: text that continues it."""
        if count:
            self.counts[noun, why] += count

    def __str__(self) -> str:
        """ "not read: 12 .heic files (...), 40 files in @eaDir folders"; empty if everything was read."""
        if not self.counts:
            return ""
        each = [f"{n:,} {noun}{'s' if n > 1 else ''}{why}" for (noun, why), n in self.counts.most_common(_SHOWN)]
        rest = self.counts.total() - sum(n for _, n in self.counts.most_common(_SHOWN))
        return f"not read: {', '.join([*each, *([f'{rest:,} others'] if rest else [])])}"


def layout_of(root: Path) -> Layout:
    """root/train/ with root/test/, or else root/val/, as the test part; or root itself if it has no train/.

    A train/ without folders, next to folders that are not parts, is a class with that name. A test/ without folders of classes, as
    in competitions, is ignored. Raises UsageError for a test/ without train/, and for a root that only contains the folder that
    was probably meant.
    """
    folders = folders_in(root)
    train, test, validation = (_named(folders, names) for names in (TRAIN_NAMES, TEST_NAMES, VALIDATION_NAMES))
    parts = {*train, *test, *validation}
    if train and (folders_in(train[0]) or not set(folders) - parts):
        unlabelled = [folder for folder in test if not _has_classes(folder)]
        held_out = [*(folder for folder in test if folder not in unlabelled), *validation]
        return Layout(train[0], held_out[0] if held_out else None, (*train[1:], *held_out[1:]), tuple(unlabelled))
    if test and not train:
        raise UsageError(
            f"{root} has {test[0].name}/ but no train/; it needs train/CLASS/ and {test[0].name}/CLASS/, or CLASS/ alone"
        )
    if len(folders) == 1 and (inner := _named(folders_in(folders[0]), TRAIN_NAMES)):
        raise UsageError(f"{inner[0]} is a folder deeper than imagefolder expects; write imagefolder:{folders[0]}")
    return Layout(root, None)


def visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SYSTEM_FOLDERS


def folders_in(root: Path) -> list[Path]:
    """The visible folders of a folder by name, without links to itself or its parents; UsageError if it can't be listed."""
    try:
        entries = sorted(entry for entry in root.iterdir() if entry.is_dir() and visible(entry.name))
        above = {root.resolve(), *root.resolve().parents}
        return [entry for entry in entries if not (entry.is_symlink() and entry.resolve() in above)]
    except OSError as error:
        raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error


def is_image(name: str) -> bool:
    """Whether a file with this name in a folder of images is read."""
    return visible(name) and _suffix(name) in formats_by_suffix()


def left_out(name: PurePath, content: Path | BinaryIO) -> tuple[str, str] | None:
    """Why a file named by a table is not read, as arguments of `Unread.add`; None if it is read.

    Tables may name files with any suffix, and hidden ones. Files created by systems are never read. Photos that can't be decoded
    are left out as in folders, unless `content` has another format than the suffix implies.
    """
    if folder := next(
        (part for part in name.parts[:-1] if part.lower() in SYSTEM_FOLDERS or part == ".AppleDouble"), ""
    ):
        return "file", f" in {folder} folders"
    if name.name.startswith("._"):
        return "hidden file", ""
    suffix = _suffix(name.name)
    undecoded = suffix in _CONVERTIBLE - formats_by_suffix().keys() and not opens(content)
    return _undecoded(suffix) if undecoded else None


def images_under(folder: Path, unread: Unread | None = None) -> list[Path]:
    """The image files in a folder and below it, sorted; links to folders are followed, and each folder is read once.

    Files that are not read are added to `unread`. Raises OSError if a folder can't be listed.
    """
    unread = Unread() if unread is None else unread
    seen = {_identity(parent) for parent in (folder.resolve(), *folder.resolve().parents)}
    images: list[Path] = []
    starts = [folder]
    while starts:
        # Real folders are read before links, so that a folder is read at its real path and not through a link.
        links: list[Path] = []
        for start in starts:
            for directory, names, files in os.walk(start, onerror=_refuse):
                identity = _identity(Path(directory))
                if start != folder and identity in seen:
                    unread.add("linked folder", " (read already, or around this one)")
                    names.clear()
                    continue
                seen.add(identity)
                links += _links(directory, names, unread)
                images += [Path(directory, name) for name in files if _is_read(name, unread)]
        starts = sorted(links)
    return sorted(images)


def add_unread_outside(root: Path, unread: Unread) -> None:
    """Add the images of `root` outside of its visible folders."""
    for entry in root.iterdir():
        if entry.is_dir():
            if not visible(entry.name):
                _ignored(entry, unread)
        elif is_image(entry.name):
            unread.add("file", " outside of class folders")


def _has_classes(folder: Path) -> bool:
    """Whether any folder of a folder contains images."""
    try:
        return any(_first_image(entry) for entry in folders_in(folder))
    except OSError as error:
        raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error


def _first_image(folder: Path) -> bool:
    """Whether a folder contains an image, or a link that may lead to one."""
    return any(
        any(map(is_image, files)) or any(Path(directory, name).is_symlink() for name in names)
        for directory, names, files in os.walk(folder, onerror=_refuse)
    )


def _links(directory: str, names: list[str], unread: Unread) -> Iterator[Path]:
    """The linked folders among `names`, which is reduced in place to the folders that `os.walk` shall enter."""
    kept = []
    for name in sorted(names):
        path = Path(directory, name)
        if not visible(name):
            _ignored(path, unread)
        elif path.is_symlink():
            yield path
        else:
            kept.append(name)
    names[:] = kept


def _is_read(name: str, unread: Unread) -> bool:
    suffix = _suffix(name)
    if suffix in formats_by_suffix():
        if visible(name):
            return True
        unread.add("hidden file", "")
    elif suffix in _CONVERTIBLE:
        unread.add(*_undecoded(suffix))
    elif visible(name) and name.lower() not in _SYSTEM_FILES:
        unread.add(f"{suffix[:20]} file" if suffix else "file", " (no images by their names)")
    return False


def _ignored(folder: Path, unread: Unread) -> None:
    """Count the images in an ignored folder."""
    count = sum(_suffix(name) in formats_by_suffix() for _, _, files in os.walk(folder) for name in files)
    unread.add("file", f" in {folder.name} folders", count)


def _undecoded(suffix: str) -> tuple[str, str]:
    return f"{suffix} file", " (Pillow has no decoder for them here; convert them to .png or .jpg)"


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise error


def _named(folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    """The folders with one of the names, in the order of the names."""
    named = [folder for folder in folders if folder.name.lower() in names]
    return sorted(named, key=lambda folder: (names.index(folder.name.lower()), folder.name.lower() != folder.name))
