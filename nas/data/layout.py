"""Where the parts of a folder of images lie: the names that torchvision, Hugging Face and the web give to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.errors import UsageError

# Whatever their case. The first one that is there is read.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VALIDATION_NAMES = ("val", "valid", "validation", "dev")


@dataclass(frozen=True, slots=True)
class Layout:
    """train, test: folders of class folders; without a test, it is carved. unused: other parts, which are not read."""

    train: Path
    test: Path | None
    unused: tuple[Path, ...] = ()


def layout_of(root: Path) -> Layout:
    """root/train/ with root/test/, or failing that root/val/, as the test part; or root itself, if it has no train/.

    A train/ without folders, beside other folders than those of parts, is a class of trains. Raises UsageError for a
    test/ without train/, and for a root that only holds the folder that was meant.
    """
    folders = folders_in(root)
    train, test, validation = (_named(folders, names) for names in (TRAIN_NAMES, TEST_NAMES, VALIDATION_NAMES))
    parts = {*train, *test, *validation}
    if train and (folders_in(train[0]) or not set(folders) - parts):
        held_out = [*test, *validation]
        return Layout(train[0], held_out[0] if held_out else None, (*train[1:], *held_out[1:]))
    if test and not train:
        raise UsageError(
            f"{root} has {test[0].name}/ but no train/; it needs train/CLASS/ and {test[0].name}/CLASS/, or CLASS/ alone"
        )
    if len(folders) == 1 and (inner := _named(folders_in(folders[0]), TRAIN_NAMES)):
        raise UsageError(f"{inner[0]} is a folder deeper than imagefolder expects; write imagefolder:{folders[0]}")
    return Layout(root, None)


def visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def folders_in(root: Path) -> list[Path]:
    """The visible folders of a folder, by name; UsageError if it can't be listed."""
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir() and visible(entry.name))
    except OSError as error:
        raise UsageError(f"{error.filename} can't be listed: {error.strerror}") from error


def _named(folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    """Those of the folders that have one of the names, in the order of the names."""
    found = [folder for folder in folders if folder.name.lower() in names]
    return sorted(found, key=lambda folder: (names.index(folder.name.lower()), folder.name.lower() != folder.name))
