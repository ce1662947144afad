"""Cells of a CSV table: recognition and conversion of numbers, and of words that encode choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.utils import limits

Floats: TypeAlias = NDArray[np.float64]
Value: TypeAlias = int | float | str

MAX_LEVELS = limits.LEVELS
_LARGEST = 1 << 63


def is_code(values: Sequence[str]) -> bool:
    """Whether these are alphanumeric words of one length, in which each character can be a choice."""
    return len(values[0]) > 1 and all(len(value) == len(values[0]) and value.isalnum() for value in values)


def is_choice(values: Sequence[str]) -> bool:
    """Whether these are words or integers with few distinct values, which do not identify the rows."""
    distinct = set(values)
    fractions = any(isinstance(value, float) for value in map(number_of_cell, distinct))
    return len(distinct) <= MAX_LEVELS and len(distinct) < len(values) and not fractions


def number_of_cell(text: str) -> Value | None:
    """An int, a finite float, or None."""
    try:
        if abs(whole := int(text)) < _LARGEST:  # larger ones have no precise float, or none at all
            return whole
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def key_of_cell(text: str) -> Value:
    """A key that is equal for equal numbers in any notation, and for equal words."""
    number = number_of_cell(text)
    return text if number is None else number


def levels_of(values: Sequence[str], categorical: bool) -> Sequence[Value]:
    """The values as numbers if all are numbers and no codes."""
    if categorical:
        return values
    numbers = {value: number_of_cell(value) for value in set(values)}
    if any(number is None for number in numbers.values()):
        return values
    converted = [numbers[value] for value in values]
    whole = all(isinstance(number, int) for number in converted)
    return [number if whole else float(number) for number in converted if number is not None]


def numbers_of(name: str, column: str, values: Sequence[str], positive: bool = False) -> Floats:
    numbers = np.empty(len(values))
    for row, text in enumerate(values):
        number = number_of_cell(text)
        if number is None:
            raise UsageError(f"{name}: row {row + 1}: {column} is {text[:40]!r}, not a finite number")
        if positive and float(number) <= 0:
            raise UsageError(
                f"{name}: row {row + 1}: {column} is {text[:40]}; a cost must be above 0 (its axis is logarithmic)"
            )
        numbers[row] = float(number)
    return numbers
