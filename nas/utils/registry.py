"""A registry is a dict that refuses duplicates and, asked for a name that it lacks, says which it has.

An installed package adds entries by an entry point of the group `nas.blocks` that names its module. These modules are imported when
a registry is first listed, or first asked for a name that it lacks: by then nas itself is imported, which they import in turn.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, TypeVar

from nas.errors import UsageError

T = TypeVar("T")
NEAR = 4  # names that are suggested where too many are known to list
ENTRY_POINTS = "nas.blocks"
ABSENT: dict[
    str, str
] = {}  # "block pyramid" -> why it is not registered here although a run has it (`nas.utils.extensions`)


class Registry(Mapping[str, T], Generic[T]):
    """Names of one noun ("block", "dataset", ...) mapped to their implementations, in order of registration."""

    every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, noun: str, listed: str = "") -> None:
        """listed: where a registry's names are listed that are too many for an error message."""
        self.noun, self._listed = noun, listed
        self._entries: dict[str, T] = {}
        self._modules: dict[str, str] = {}  # where each entry was registered
        Registry.every.append(self)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files an implementation under `name`; ValueError if the name is taken."""
        module = sys._getframe(1).f_globals.get("__name__", "__main__")

        def file(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.noun} {name!r} is registered already, as {self._entries[name]!r}")
            self._entries[name] = entry
            self._modules[name] = module
            return entry

        return file

    def module_of(self, name: str) -> str:
        """The module outside of nas that registered an entry; "" for one of nas's own, or none."""
        module = self._modules.get(name, "") if name in self else ""
        return "" if module.partition(".")[0] == "nas" else module

    def forget(self, module: str) -> None:
        """Drop what a module registered before the rest of it failed."""
        for name in [name for name, registered_in in self._modules.items() if registered_in == module]:
            del self._modules[name], self._entries[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            _import_installed()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        _import_installed()
        return iter(self._entries)

    def __len__(self) -> int:
        _import_installed()
        return len(self._entries)

    def find(self, name: object) -> T:
        """The entry called `name`; UsageError with the nearest names, and all of them or where they are listed, if there is none.

        The error says what to do where a run has such an entry, of a module that is not imported here.
        """
        if isinstance(name, str) and name in self:
            return self[name]
        near = did_you_mean(name, self._entries, NEAR if self._listed else 1)
        known = self._listed or f"known: {', '.join(self._entries)}"
        why = ABSENT.get(f"{self.noun} {name}", "")
        if not why and not near and not self._listed and isinstance(name, str):
            why = "one that a module of yours registers needs that module: --import MODULE"
        raise UsageError(f"unknown {self.noun} {name!r}{near}; {'; '.join(filter(None, (known, why, *_broken)))}")


_installed = False
_broken: list[str] = []  # entry points that can't be imported


def _import_installed() -> None:
    """Import, once, what installed packages declare. One that can't be imported is told where a name is missed."""
    global _installed
    if _installed:
        return
    _installed = True
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            words = " ".join(str(error).split())
            _broken.append(f"the installed package {package} can't be imported: {type(error).__name__}: {words}")


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
