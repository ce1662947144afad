"""Registries: mappings of names to implementations that refuse duplicates and list the known names for an unknown one.

An installed package adds entries by an entry point of the group `nas.blocks` that names its module. These modules are imported when
a registry is first listed, or first asked for an unknown name: nas, which they import in turn, is then imported completely.
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
NEAR = 4  # suggestions where there are too many names to list
ENTRY_POINTS = "nas.blocks"
# "block pyramid" -> why an entry that a run uses is not registered here (`nas.utils.extensions`)
ABSENT: dict[str, str] = {}


class Registry(Mapping[str, T], Generic[T]):
    """Names of one noun ("block", "dataset", ...) mapped to their implementations, in order of registration."""

    every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, noun: str, listed: str = "") -> None:
        """listed: where the names are listed, if there are too many for an error message."""
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
        """The entry called `name`; UsageError with the nearest names, and all names or where they are listed, if there is none.

        If a run uses such an entry, of a module that is not imported here, the error says what to do.
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
    """Import, once, the modules that installed packages declare. Failures are reported when a name is unknown."""
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
    """' (did you mean "x"?)' for the nearest of `known`, up to `most` of them; '' if none is near.

    By the share of common letters; among equals, a name that differs in its first number alone goes first, the nearest number
    before others: resnet21 is nearer to resnet20 than to resnet32.
    """
    text, number = _split(str(name))

    def distance(candidate: str) -> tuple[float, bool, int]:
        unlike = -difflib.SequenceMatcher(None, candidate, str(name)).ratio()
        other_text, other_number = _split(candidate)
        return (unlike, False, abs(other_number - number)) if other_text == text else (unlike, True, 0)

    near = sorted(difflib.get_close_matches(str(name), list(known), n=max(most, 8)), key=distance)[:most]
    if not near:
        return ""
    *others, last = map(repr, near)
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)"


def _split(name: str) -> tuple[str, int]:
    """The name with # for its first number, of at most 9 digits, and the number; 0 if there is none."""
    match = re.search(r"[0-9]{1,9}", name)
    return (f"{name[: match.start()]}#{name[match.end() :]}", int(match[0])) if match else (name, 0)
