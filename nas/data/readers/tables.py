"""The samples of a folder of images (`FolderSamples`), and the choice of train and test parts in Hugging Face's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.data.names import Labels
    from nas.utils.text import Say

LABEL_COLUMNS = ("label", "labels")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Samples:
    """Image files and their labels (n,) int64."""

    files: Sequence[Path]
    labels: Labels


@dataclass(frozen=True, slots=True)
class FolderSamples:
    """The samples of a folder before anything is split or left out.

    root: the folder to which the files' names are relative. what: location of the train part, for errors. about, unread: phrases
    about the parts, for after the folder's name and for the end of a sentence.
    """

    root: Path
    what: str
    train: Samples
    test: Samples | None
    classes: tuple[str, ...]
    about: str
    unread: str = ""


def choose_parts(
    parts: Mapping[str, T], what: str, unlabelled: Callable[[T], bool], say: Say
) -> tuple[T, T | None, str, str, str]:
    """(train, test, name of the test part, about, unread) from parts by their names (`part_named`).

    A single part without a name is the train part. A test part without labels is ignored. Parts that are not read are reported.

    UsageError if there is no train part, or if only some of the files belong to a named part.
    """
    if set(parts) == {""}:
        return parts[""], None, "", "", ""
    if "" in parts:
        raise UsageError(f"{what} has files of a part ({', '.join(sorted(filter(None, parts)))}) and files of none")
    if "train" not in parts:
        raise UsageError(f"{what} has a part {' and '.join(sorted(parts))}, but no train")
    held_out = [name for name in ("test", "validation") if name in parts]
    if "test" in held_out and unlabelled(parts["test"]):
        say(f"the test part of {what} has no labels, and is not read")
        held_out.remove("test")
    if not held_out:
        return parts["train"], None, "", "", ""
    unread = ""
    if len(held_out) > 1:
        unread = f", without its {held_out[1]} part"
        say(f"the {held_out[1]} part of {what} is not read: validation images are split from the train part")
    return parts["train"], parts[held_out[0]], held_out[0], f", trained on train and tested on {held_out[0]}", unread


def label_column(names: Sequence[str], what: str, *, typed: Sequence[str] = ()) -> str:
    """The column of the labels: `label`, `labels`, or else the only one that is `typed` as classes. UsageError if ambiguous."""
    column = next((name for name in LABEL_COLUMNS if name in names), typed[0] if len(typed) == 1 else None)
    if column is None:
        several = f"; several hold classes, {', '.join(typed)}: rename the one that is meant" if typed else ""
        raise UsageError(f"{what} has no column label; it has {', '.join(map(str, names))}{several}")
    return column
