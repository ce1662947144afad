"""Names of classes and parts, and missing labels: the common rules of all readers of images.

Two spellings are the same class if they agree in Unicode's composed normal form (NFC) without surrounding white space: macOS
decomposes "é", Linux and Windows don't. A class keeps the spelling of its train images.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.utils import limits
from nas.utils.text import Say

Labels = NDArray[np.int64]

# Case-insensitive. The first of them that exists is read.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VALIDATION_NAMES = ("val", "valid", "validation", "dev")
NO_LABEL = "-1"  # Hugging Face and others write it for an image without a label
_SHOWN = 5


def part_named(word: str) -> str:
    """ "train", "test" or "validation" for a usual name of that part; "" for any other word."""
    for part, names in (("train", TRAIN_NAMES), ("test", TEST_NAMES), ("validation", VALIDATION_NAMES)):
        if word.lower() in names:
            return part
    return ""


def key_of_class(name: str) -> str:
    """The key that all spellings of one class share."""
    return unicodedata.normalize("NFC", name).strip()


def label_text(value: object) -> str | None:
    """A label as the name of its class; None for a missing label."""
    if isinstance(value, bool) or value is None or isinstance(value, (list, dict)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip() or None


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct names, in numerical order if all are integers, otherwise in alphabetical order."""
    once = set(names)
    numbers = all(name.isascii() and name.isdigit() and len(name) <= limits.DIGITS for name in once)
    return tuple(sorted(once, key=(lambda name: (int(name), name)) if numbers else None))


def unlabelled(labels: Iterable[str | None]) -> bool:
    """Whether a part has no labels, like a test part whose labels are kept secret; also true without images."""
    return all(label is None or label == NO_LABEL for label in labels)


def require_labels(names: Collection[str], what: str) -> None:
    """UsageError if -1, which stands for a missing label, occurs together with other labels; with 1 alone it is a class."""
    if NO_LABEL in names and set(names) != {NO_LABEL, "1"}:
        raise UsageError(
            f"{what} has images of label {NO_LABEL}, which stands for none; each image needs its class: remove them, or give "
            "the class another name"
        )


def require_names(names: Sequence[str], what: str) -> None:
    """UsageError unless each name is a valid name of a class, and no two are spellings of the same class."""
    for name in names:
        fault = ""
        if not name.strip():
            fault = "is empty"
        elif len(name) > limits.CLASS_NAME:
            fault = f"has {len(name):,} characters; at most {limits.CLASS_NAME} are read"
        elif any("\ud800" <= letter <= "\udfff" for letter in name):
            fault = "is not UTF-8; rename it"
        if fault:
            raise UsageError(f"{what}: the name of class {one_line(name, 40)} {fault}")
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(key_of_class(name), name)) is not name:
            how = "" if other == name else f" ({other!a} and {name!a})"
            raise UsageError(f"{what} has class names that occur twice: {one_line(name)}{how}; give each class its own")


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a data set in order, each with one spelling. Constructed by `of`."""

    names: tuple[str, ...]
    _labels: Mapping[str, int]

    @classmethod
    def of(cls, spellings: Sequence[str], what: str, say: Say) -> Classes:
        """The classes of the train part. Several spellings of one class are joined and reported.

        spellings: in the order of the labels. UsageError for invalid names.
        """
        require_labels(spellings, what)
        joined: dict[str, list[str]] = {}
        for name in spellings:
            joined.setdefault(key_of_class(name), []).append(name)
        names = tuple(several[0] for several in joined.values())
        require_names(names, what)
        for several in joined.values():
            if len(several) > 1:
                say(f"{what}: {' and '.join(map(ascii, several))} are read as one class, {one_line(several[0])}")
        return cls(names, {key: label for label, key in enumerate(joined)})

    def labels(self, names: Iterable[str]) -> Labels:
        """The labels of names that `require` has accepted, (n,) int64."""
        every = list(names)
        known = {name: self._labels[key_of_class(name)] for name in set(every)}
        return np.array([known[name] for name in every], np.int64)

    def require(self, names: Collection[str], what: str, train: str, say: Say) -> None:
        """UsageError if the held-out part `what` has images of a class that `train` lacks; classes without images are reported."""
        there = {key_of_class(name): name for name in names}
        if strange := sorted(name for key, name in there.items() if key not in self._labels):
            known = {key.casefold(): self.names[label] for key, label in self._labels.items()}
            near = known.get(key_of_class(strange[0]).casefold())
            hint = f" (it has {one_line(near)}: the case of letters counts)" if near else ""
            raise UsageError(
                f"{what} has classes without train images: {some(strange)}{hint}; the classes of {train} and {what} must have the "
                "same names"
            )
        if lacking := [name for key, name in zip(self._labels, self.names, strict=True) if key not in there]:
            say(f"{what} has no images of {len(lacking):,} of {len(self.names):,} classes: {some(lacking)}")


def some(items: Sequence[str], most: int = _SHOWN) -> str:
    """The first few items, and the number of the others."""
    return ", ".join(map(one_line, items[:most])) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def one_line(text: str, most: int = 200) -> str:
    """A name for an error message: shortened, with line breaks and unprintable characters escaped."""
    short = text[:most]
    return short if short.isprintable() else repr(short)
