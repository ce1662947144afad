"""The fields of a space's YAML file, with their types checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.errors import UsageError
from nas.spaces.attributes import DESIGNS
from nas.spaces.budget import METRICS, Budget
from nas.utils import limits
from nas.utils.registry import did_you_mean
from nas.utils.yaml_text import dump

KEYS = ("space", "extends", "description", "design", "stages", "values", "budgets", "variants")
VARIANT_KEYS = ("name", "max_resolution", "stages", "values", "budgets")
MAX_STAGES = limits.SPACE_STAGES


@dataclass(frozen=True, slots=True)
class Part:
    """One variant of a file, or the part that all its variants share. None: not given."""

    name: str | None = None  # of a variant
    max_resolution: int | None = None  # pixels of the largest images that a variant is for
    stages: int | None = None
    lines: Mapping[str, object] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)

    @property
    def limit(self) -> float:
        return math.inf if self.max_resolution is None else self.max_resolution

    def entries(self) -> dict[str, object]:
        """As they stand in a file."""
        entries: dict[str, object] = {"name": self.name, "max_resolution": self.max_resolution, "stages": self.stages}
        entries = {**{key: value for key, value in entries.items() if value is not None}, "values": dict(self.lines)}
        if self.budget.bounds:
            ends = {metric: zip(("min", "max"), span, strict=True) for metric, span in self.budget.bounds.items()}
            entries["budgets"] = {m: {end: n for end, n in span if n is not None} for m, span in ends.items()}
        return entries


@dataclass(frozen=True, slots=True)
class Document:
    """The fields of a space's file. None: not given."""

    space: str
    shared: Part
    variants: tuple[Part, ...] = ()
    description: str | None = None
    design: str | None = None
    extends: str | None = None

    def to_yaml(self) -> str:
        fields = {"space": self.space, "description": self.description, "design": self.design}
        entries: dict[str, object] = {key: value for key, value in fields.items() if value is not None}
        entries |= self.shared.entries()
        if self.variants:
            entries["variants"] = [variant.entries() for variant in self.variants]
        return dump(entries, flow=None, unicode=True)


def document_of(data: object, where: str) -> Document:
    """The fields of a file. UsageError for unknown keys and wrong types; specifications of the lines are parsed later."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: no search space: expected a mapping of {', '.join(KEYS)}")
    fields = _keys(data, where, KEYS)
    space, design = fields.get("space"), fields.get("design", DESIGNS[0])
    if not isinstance(space, str):
        raise UsageError(f"{where}: no search space: the key `space` with its name is missing")
    extends = fields.get("extends")
    if "extends" in fields and not (isinstance(extends, str) and extends):
        raise UsageError(
            f"{where}: extends must be the name of a space or the path of a YAML file, not {extends!r:.80}"
        )
    variants = fields.get("variants", [])
    if not isinstance(variants, list):
        raise UsageError(f"{where}: variants must be a list")
    entries = [_keys(entry, f"{where}: variant {k}", VARIANT_KEYS) for k, entry in enumerate(variants, 1)]
    parts = [_part(part, where) for part in (fields, *entries)]
    if not isinstance(design, str) or design not in DESIGNS:
        raise UsageError(
            f"{where}: unknown design {design!r}{did_you_mean(design, list(DESIGNS))}; known: {', '.join(DESIGNS)}"
        )
    return Document(
        space=space,
        shared=parts[0],
        variants=tuple(parts[1:]),
        description=str(fields["description"]) if "description" in fields else None,
        design=design if "design" in fields else None,
        extends=str(extends) if extends else None,
    )


def _part(fields: Mapping[str, object], where: str) -> Part:
    lines, name, limit = fields.get("values", {}), fields.get("name"), fields.get("max_resolution")
    if not isinstance(lines, Mapping):
        raise UsageError(f"{where}: values must be a mapping, one line an attribute")
    if "max_resolution" in fields and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise UsageError(f"{where}: max_resolution must be a whole number of pixels, not {limit!r}")
    return Part(
        name=None if name is None else str(name),
        max_resolution=limit if isinstance(limit, int) else None,
        stages=checked_stages(fields["stages"], where) if "stages" in fields else None,
        lines={str(key): spec for key, spec in lines.items()},
        budget=_budget(fields.get("budgets"), where),
    )


def _budget(data: object, where: str) -> Budget:
    bounds: dict[str, tuple[float | None, float | None]] = {}
    spans = {} if data is None else _keys(data, f"{where}: budgets", (*METRICS, "flops"))
    for metric, span in spans.items():
        ends = _keys(span, f"{where}: budgets: {metric}", ("min", "max"))
        name = "macs" if metric == "flops" else metric
        low, high = (_bound(ends.get(end), f"{where}: budgets: {metric}: {end}") for end in ("min", "max"))
        if name in bounds:
            raise UsageError(f"{where}: budgets: flops and macs are the same count; write one of them")
        bounds[name] = (low, high)
    try:
        return Budget(bounds)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _bound(value: object, where: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise UsageError(f"{where} must be a number, not {value!r}")
    return value


def checked_stages(stages: object, where: str) -> int:
    if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= MAX_STAGES:
        raise UsageError(f"{where}: stages must be a whole number from 1 to {MAX_STAGES}, not {stages!r}")
    return stages


def _keys(data: object, where: str, known: tuple[str, ...]) -> Mapping[str, object]:
    """The mapping. UsageError if `data` is none, or has a key that is not among `known`."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected a mapping of {', '.join(known)}, not {data!r:.80}")
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, list(known))}; known: {', '.join(known)}")
    return data
