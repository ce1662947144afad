"""A registry is a dict that refuses duplicates and, asked for a name that it lacks, says which it has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from nas.errors import UsageError

T = TypeVar("T")
NEAR = 4  # names that are suggested where too many are known to list


class Registry(Mapping[str, T], Generic[T]):
    """Names of one noun ("branch", "dataset", ...) mapped to their implementations, in order of registration."""

    def __init__(self, noun: str, listed: str = "") -> None:
        """listed: where a registry's names are listed that are too many for an error message."""
        self.noun, self._listed = noun, listed
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files an implementation under `name`; ValueError if the name is taken."""

        def file(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.noun} {name!r} is registered already, as {self._entries[name]!r}")
            self._entries[name] = entry
            return entry

        return file

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: object) -> T:
        """The entry called `name`; UsageError with the nearest names, and all of them or where they are listed, if there is none."""
        if isinstance(name, str) and name in self._entries:
            return self._entries[name]
        near = did_you_mean(name, self._entries, NEAR if self._listed else 1)
        known = self._listed or f"known: {', '.join(self._entries)}"
        raise UsageError(f"unknown {self.noun} {name!r}{near}; {known}")


def did_you_mean(name: object, known: Mapping[str, object] | list[str], most: int = 1) -> str:
    """' (did you mean "x"?)' for the nearest of `known`, or '' if none is near; up to `most` of them.

    By the share of letters in common; of names with equally many the one whose first number is nearer, if they differ in it alone:
    resnet21 is nearer to resnet20 than to resnet32.
    """
    text, number = _split(str(name))

    def distance(found: str) -> tuple[float, bool, int]:
        unlike = -difflib.SequenceMatcher(None, found, str(name)).ratio()
        other, its = _split(found)
        return (unlike, False, abs(its - number)) if other == text else (unlike, True, 0)

    near = sorted(difflib.get_close_matches(str(name), list(known), n=max(most, 8)), key=distance)[:most]
    if not near:
        return ""
    *others, last = map(repr, near)
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)"


def _split(name: str) -> tuple[str, int]:
    """A name without its first number, of 9 digits at most, and the number; 0 if there is none."""
    found = re.search(r"[0-9]{1,9}", name)
    return (f"{name[: found.start()]}#{name[found.end() :]}", int(found[0])) if found else (name, 0)
