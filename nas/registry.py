"""A registry is a dict that refuses duplicates and, asked for a name that it lacks, says which it has."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from nas.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names of one noun ("branch", "dataset", ...) mapped to their implementations, in order of registration."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
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
        """The entry called `name`; UsageError with the nearest name and the whole list if there is none."""
        if isinstance(name, str) and name in self._entries:
            return self._entries[name]
        raise UsageError(
            f"unknown {self.noun} {name!r}{did_you_mean(name, self._entries)}; known: {', '.join(self._entries)}"
        )


def did_you_mean(name: object, known: Mapping[str, object] | list[str]) -> str:
    """' (did you mean "x"?)' for the nearest of `known`, or '' if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
