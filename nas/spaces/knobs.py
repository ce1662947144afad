"""The finite domain of one searched value, and its notation in YAML."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from nas.errors import UsageError
from nas.networks.blocks._base import Value
from nas.utils import limits

Choices: TypeAlias = dict[str, Value]  # "stage2.depth": 3; flat, as Optuna, Ray and JSON need it

MAX_VALUES = limits.VALUES


@dataclass(frozen=True, slots=True)
class Knob:
    """One searched value: its finite `values` and, if it exists only for some choices, the condition `when`.

    `when` pairs another attribute ("block") with the values for which this knob exists. `ordinal`: whether the values are numbers, whose
    order means something (widths, depths). `step`: the constant difference of integers in arithmetic progression, else None.
    """

    values: tuple[Value, ...]
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    @property
    def ordinal(self) -> bool:
        return not any(isinstance(value, str) for value in self.values)

    @property
    def step(self) -> int | None:
        if len(self.values) < 2 or not all(isinstance(value, int) for value in self.values):
            return None
        numbers = [int(value) for value in self.values]
        step = numbers[1] - numbers[0]
        return step if all(b - a == step for a, b in pairwise(numbers)) else None

    def sample(self, rng: random.Random) -> Value:
        return self.values[rng.randrange(len(self.values))]

    def __len__(self) -> int:
        return len(self.values)


def parse(spec: object, where: str) -> Knob | Value:
    """A value of a space's YAML: a scalar is fixed, a list or a mapping is searched.

    - `[basic, bottleneck]`: these values. Numbers must rise.
    - `{from: 1, to: 6}`, `{from: 32, to: 256, step: 32}`, `{from: 16, to: 256, factor: 2}`: a progression, ends included.
    - `{values: [...], when: {block: bottleneck}}`: exists only if the stage's block is a bottleneck. `from` and `to` take `when`, too.

    UsageError for everything else; its message begins with `where`, the place in the file.
    """
    if isinstance(spec, bool) or spec is None:
        raise UsageError(f"{where}: {spec!r} is neither a number, a word, a list nor a mapping")
    if isinstance(spec, (int, float, str)):
        return _number(spec, where)
    if isinstance(spec, Sequence):
        return Knob(_values(spec, where))
    if isinstance(spec, Mapping):
        return _from_mapping(spec, where)
    raise UsageError(f"{where}: a {type(spec).__name__} can't be a value or a domain")


def _number(value: object, where: str) -> Value:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(f"{where}: {value!r} is neither a number nor a word")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: {value!r} is not a finite number")
    return value


def _values(items: Sequence[object], where: str) -> tuple[Value, ...]:
    if not items:
        raise UsageError(f"{where}: an empty list leaves nothing to choose from")
    if len(items) > MAX_VALUES:
        raise UsageError(f"{where}: {len(items):,} values; at most {MAX_VALUES:,} can be searched")
    values = tuple(_number(item, where) for item in items)
    words = sum(isinstance(value, str) for value in values)
    if words not in (0, len(values)):
        raise UsageError(f"{where}: numbers and words are mixed in {list(values)}")
    if len(set(values)) != len(values):
        raise UsageError(f"{where}: {list(values)} names a value twice")
    if not words and list(values) != sorted(values, key=float):
        raise UsageError(f"{where}: the numbers {list(values)} don't rise; write them in order")
    return values


def _from_mapping(spec: Mapping[object, object], where: str) -> Knob:
    unknown = [key for key in spec if key not in ("values", "from", "to", "step", "factor", "when")]
    if unknown:
        raise UsageError(
            f"{where}: unknown key {unknown[0]!r}; a domain has values, or from, to and step or factor; and when"
        )
    when = _condition(spec.get("when"), where)
    if "values" in spec:
        items = spec["values"]
        if (
            any(key in spec for key in ("from", "to", "step", "factor"))
            or isinstance(items, str)
            or not isinstance(items, Sequence)
        ):
            raise UsageError(f"{where}: give either values: [a, b, ...] or from and to")
        return Knob(_values(items, where), when)
    return Knob(_progression(spec, where), when)


def _progression(spec: Mapping[object, object], where: str) -> tuple[Value, ...]:
    if "from" not in spec or "to" not in spec or ("step" in spec and "factor" in spec):
        raise UsageError(f"{where}: a range needs from and to, and at most one of step and factor")
    numbers: dict[str, int] = {}
    for key in ("from", "to", "step", "factor"):
        number = spec.get(key, 1 if key == "step" else 2)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{where}: {key} must be a whole number of at least 1, not {number!r}")
        numbers[key] = number
    low, high = numbers["from"], numbers["to"]
    if high < low:
        raise UsageError(f"{where}: from {low} to {high} is empty")
    if "factor" in spec:
        if numbers["factor"] < 2:
            raise UsageError(f"{where}: factor must be at least 2")
        values = []
        while low <= high:
            values.append(low)
            low *= numbers["factor"]
        return tuple(values)
    if (high - low) // numbers["step"] >= MAX_VALUES:
        raise UsageError(f"{where}: from {low} to {high} is more than {MAX_VALUES:,} values")
    return tuple(range(low, high + 1, numbers["step"]))


def _condition(spec: object, where: str) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if spec is None:
        return ()
    if not isinstance(spec, Mapping) or not spec:
        raise UsageError(f"{where}: when must say for which values the knob exists, as in when: {{block: bottleneck}}")
    conditions = []
    for name, values in spec.items():
        items = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
        if not isinstance(name, str) or not items:
            raise UsageError(f"{where}: when: {{{name!r}: {values!r}}} is not a condition")
        conditions.append((name, tuple(_number(item, where) for item in items)))
    return tuple(conditions)
