"""Values of a foreign file, each checked for type and range. Errors are collected, so that all of them can be reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nas.errors import UsageError
from nas.utils import limits


class Fields:
    """A mapping of a file, at `place` ("ANYNET"). A wrong value adds a line to `faults` and is replaced by its default."""

    def __init__(self, data: object, place: str, faults: list[str]) -> None:
        self.place, self.faults = place, faults
        self.data: Mapping[Any, Any] = {}
        if isinstance(data, Mapping):
            self.data = data
        else:
            faults.append(f"{place or 'the file'} must be a mapping, not {_said(data)}")

    def __contains__(self, name: str) -> bool:
        return name in self.data

    def section(self, name: str) -> Fields:
        return Fields(self.data.get(name, {}), self._at(name), self.faults)

    def whole(self, name: str, default: int | None = None, *, least: int = 1, most: int = limits.WIDTH) -> int:
        return int(self._checked(name, self._value(name, default), default, least, most, whole=True))

    def number(self, name: str, default: float | None = None, *, least: float, most: float) -> float:
        return float(self._checked(name, self._value(name, default), default, least, most, whole=False))

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.data.get(name, default)
        if isinstance(value, bool):
            return value
        self.faults.append(f"{self._at(name)} must be true or false, not {_said(value)}")
        return default

    def word(self, name: str, default: str = "") -> str:
        value = self.data.get(name, default)
        if isinstance(value, str):
            return value
        self.faults.append(f"{self._at(name)} must be a word, not {_said(value)}")
        return default

    def wholes(self, name: str, *, least: int = 1, most: int = limits.WIDTH) -> list[int]:
        return [self._checked(name, value, least, least, most, whole=True) for value in self._list(name)]

    def numbers(self, name: str, *, least: float, most: float) -> list[float]:
        return [float(self._checked(name, value, most, least, most, whole=False)) for value in self._list(name)]

    def refuse(self, name: str, reason: str) -> None:
        self.faults.append(f"{self._at(name)} {reason}")

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def _value(self, name: str, default: object) -> object:
        return self.data.get(name, default)

    def _list(self, name: str) -> list[object]:
        value = self.data.get(name, [])
        if not isinstance(value, (list, tuple)):
            self.faults.append(f"{self._at(name)} must be a list, not {_said(value)}")
            return []
        if len(value) > limits.STAGES:
            self.faults.append(f"{self._at(name)} has {len(value):,} entries, of at most {limits.STAGES}")
            return []
        return list(value)

    def _checked(self, name: str, value: object, default: Any, least: float, most: float, *, whole: bool) -> Any:
        kind = "a whole number" if whole else "a number"
        if value is None and default is None:
            self.faults.append(f"{self._at(name)} is missing")
            return least
        right = isinstance(value, int) if whole else isinstance(value, (int, float)) and math.isfinite(value)
        if right and not isinstance(value, bool) and least <= value <= most:  # type: ignore[operator]  # a number
            return value
        self.faults.append(f"{self._at(name)} must be {kind} from {least:,} to {most:,}, not {_said(value)}")
        return least if default is None else default


def entries(data: object, where: str) -> list[Any]:
    """The list in a file; UsageError if it is not a list, is empty or is far too long."""
    if not isinstance(data, list) or not data:
        raise UsageError(f"{where}: expected a list with at least one entry, found {_said(data)}")
    if len(data) > limits.ROWS:
        raise UsageError(f"{where}: {len(data):,} entries are too many (at most {limits.ROWS:,})")
    return data


def _said(value: object) -> str:
    return f"{value!r:.60}" if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"
