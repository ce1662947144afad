"""What a folder of images says of them (`Found`), and the parts of it that tables name, as Hugging Face's do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nas import limits
from nas.data.layout import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES
from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.data.dataset import Labels

LABEL_COLUMNS = ("label", "labels")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Samples:
    """Image files and their labels (n,) int64."""

    files: Sequence[Path]
    labels: Labels


@dataclass(frozen=True, slots=True)
class Found:
    """The samples of a folder as it gives them: nothing carved, nothing left out.

    root: the folder that the files' names count from. what: the place of the train part, for errors. about, unread: what is to
    be said of the parts, behind the folder's name and at the end.
    """

    root: Path
    what: str
    train: Samples
    test: Samples | None
    classes: tuple[str, ...]
    about: str
    unread: str = ""


def part_named(word: str) -> str:
    """ "train", "test" or "validation" for a usual name of it; "" for any other word."""
    for part, names in (("train", TRAIN_NAMES), ("test", TEST_NAMES), ("validation", VALIDATION_NAMES)):
        if word.lower() in names:
            return part
    return ""


def choose_parts(parts: Mapping[str, T], what: str) -> tuple[T, T | None, str, str]:
    """(train, test, about, unread) of parts by the names that `part_named` gives; a single one without a name is the train part.

    UsageError if there is no train part, or if files that name no part lie beside those that do.
    """
    if set(parts) == {""}:
        return parts[""], None, "", ""
    if "" in parts:
        raise UsageError(f"{what} has files of a part ({', '.join(sorted(filter(None, parts)))}) beside files of none")
    if "train" not in parts:
        raise UsageError(f"{what} has a part {' and '.join(sorted(parts))}, but no train")
    held_out = [name for name in ("test", "validation") if name in parts]
    if not held_out:
        return parts["train"], None, "", ""
    unread = f", without its {held_out[1]} part" if len(held_out) > 1 else ""
    return parts["train"], parts[held_out[0]], f", trained on train and tested on {held_out[0]}", unread


def label_column(names: Sequence[str], what: str, *, typed: Sequence[str] = ()) -> str:
    """The column of the labels: `label` or `labels`, or else the only one that is `typed` as classes. UsageError if unclear."""
    found = next((name for name in LABEL_COLUMNS if name in names), typed[0] if len(typed) == 1 else None)
    if found is None:
        several = f"; several hold classes, {', '.join(typed)}: rename the one that is meant" if typed else ""
        raise UsageError(f"{what} has no column label; it has {', '.join(map(str, names))}{several}")
    return found


def label_text(value: Any) -> str | None:
    """A label as the name of its class; None if there is none."""
    if isinstance(value, bool) or value is None or isinstance(value, (list, dict)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip() or None


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: by number if all are whole numbers, otherwise by letters."""
    once = set(names)
    numbers = all(name.isascii() and name.isdigit() and len(name) <= limits.DIGITS for name in once)
    return tuple(sorted(once, key=(lambda name: (int(name), name)) if numbers else None))


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few, and how many more there are."""
    return ", ".join(map(one_line, items[:most])) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def one_line(text: str) -> str:
    """A name as an error shows it: not its line breaks, and not all of thousands of characters."""
    short = text[:200]
    return short if short.isprintable() else repr(short)
