"""The text of a search space: what it extends, what is laid over it, which variant holds; read into domains by key.

Three layers, each laid over the one before: the space that a file `extends`, the file itself with its variant, and the
user's overrides. A line of a layer replaces all lines of the layers under it that it covers: `block` replaces `block`,
`stage*.block` and `stage2.block`, but `stage2.block` only that.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.spaces.attributes import DESIGNS, Domain, check_key, check_value, split_key, values_of
from nas.spaces.budget import METRICS, Budget
from nas.spaces.knobs import parse
from nas.utils import limits
from nas.utils.registry import did_you_mean
from nas.utils.yaml_text import dump, parse_yaml, read_text

KEYS = ("space", "extends", "description", "design", "stages", "values", "budgets", "variants")
VARIANT_KEYS = ("name", "max_resolution", "stages", "values", "budgets")
MAX_STAGES, MAX_CHAIN = limits.SPACE_STAGES, limits.CHAIN


@dataclass(frozen=True, slots=True)
class SpaceText:
    """A space as it is written, for images of one size: one variant, with everything that is laid over it."""

    name: str
    description: str
    variant: str
    design: str
    stages: int
    domains: Mapping[str, Domain]  # by the lines' keys: "stage*.depth"
    budget: Budget
    source: str  # YAML that means the same by itself, all variants included


def folder() -> Path:
    """Where the shipped spaces lie: inside the installed package or, in a checkout, beside it."""
    installed = Path(str(importlib.resources.files("nas"))) / "search_spaces"
    return installed if installed.is_dir() else installed.parent.parent / "search_spaces"


def names() -> list[str]:
    """Names of the shipped spaces."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(name_or_path: str | Path, beside: Path | None = None) -> Path:
    """The file of a shipped space, or the one at a path, relative to the folder `beside`. UsageError for an unknown name."""
    text_name = str(name_or_path)
    if text_name in names():
        return folder() / f"{text_name}.yaml"
    path = Path(name_or_path) if beside is None else beside / name_or_path
    if re.fullmatch(r"[\w-]{1,200}", text_name) and not path.exists():
        known = f"{', '.join(names())}, or the path of a YAML file"
        raise UsageError(f"unknown space {text_name!r}{did_you_mean(text_name, names())}; known: {known}")
    return path


def read(
    text: str,
    where: str,
    *,
    resolution: int,
    beside: Path | None = None,
    path: Path | None = None,
    variant: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> SpaceText:
    """The space that a text says, with `overrides` laid over it, in the variant for images of `resolution` pixels.

    beside: the folder that `extends` is relative to; path: the text's own file, which can't extend itself. UsageError that
    names the place for anything wrong.
    """
    data = parse_yaml(text, where)
    fields = _checked(data, where)
    whole = _extended(fields, where, beside, () if path is None else (path.resolve(),))
    if overrides:
        checked = check_overrides(overrides)
        stages = {"stages": checked["stages"]} if "stages" in checked else {}
        lines = {key: spec for key, spec in checked.items() if key != "stages"}
        whole = _laid_over(whole, {"space": fields["space"], **stages, "values": lines}, where)
    chosen = _variant(whole.get("variants", []), where, resolution, variant)
    stages = chosen.get("stages", whole.get("stages"))
    _check_stages(stages, where)
    design = whole.get("design", DESIGNS[0])
    if design not in DESIGNS:
        raise UsageError(
            f"{where}: unknown design {design!r}{did_you_mean(design, list(DESIGNS))}; known: {', '.join(DESIGNS)}"
        )
    lines = {**_lines(whole), **_lines(chosen)}
    return SpaceText(
        name=whole["space"],
        description=" ".join(str(whole.get("description", "")).split()),
        variant=str(chosen.get("name", "")),
        design=design,
        stages=stages,
        domains={
            key: parse(spec, f"{where}: {key if key.isprintable() else repr(key)}") for key, spec in lines.items()
        },
        budget=_budget((whole, chosen), where),
        source=text if whole is fields else _dumped(whole),
    )


# -- overrides ---------------------------------------------------------------------------------------------------------


def parse_overrides(settings: Sequence[str]) -> dict[str, object]:
    """Settings as a command line says them, as lines of `values`: `["stage*.block=bottleneck", "depth=[1, 2]"]`.

    A value is what YAML reads, and commas outside of brackets make a list. UsageError for what can't stand in any space.
    """
    overrides: dict[str, object] = {}
    for setting in settings:
        key, equals, value = (part.strip() for part in setting.partition("="))
        place = f"--set {key if key.isprintable() else repr(key)}"
        if not equals or not key or not value:
            raise UsageError(f"--set {setting!r}: write KEY=VALUE, as in --set 'stage*.block=bottleneck'")
        if key in overrides:
            raise UsageError(f"{place}: is given twice")
        items = _split(value)
        parsed = [parse_yaml(item, place) for item in items]
        overrides[key] = parsed[0] if len(parsed) == 1 else parsed
    return check_overrides(overrides, "--set ")


def check_overrides(overrides: Mapping[str, object], prefix: str = "overrides: ") -> dict[str, object]:
    """The overrides as they are; UsageError for a key or a value that no space can have."""
    for key, spec in overrides.items():
        if not isinstance(key, str):
            raise UsageError(f"{prefix}{key!r}: a key is a word, as 'stage*.block'")
        place = f"{prefix}{key if key.isprintable() else repr(key)}"
        if key == "stages":
            _check_stages(spec, place)
            continue
        _check_key(key, place)
        domain = parse(spec, place)
        for value in values_of(domain):
            try:
                check_value(split_key(key)[1], value)
            except UsageError as error:
                raise UsageError(f"{place}: {error}") from None
    return dict(overrides)


def _check_key(key: str, where: str) -> None:
    """UsageError for a key that no space has, whatever its design."""
    try:
        check_key(key, "stages")
    except UsageError as error:
        try:
            check_key(key, "regnet")
        except UsageError:
            raise UsageError(f"{where}: {error}") from None


def _split(text: str) -> list[str]:
    """The parts between the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


# -- layers ------------------------------------------------------------------------------------------------------------


def _extended(fields: Mapping[str, Any], where: str, beside: Path | None, chain: tuple[Path, ...]) -> Mapping[str, Any]:
    """The fields laid over those of the space that they extend; as they are if they extend none."""
    if "extends" not in fields:
        return fields
    name = fields["extends"]
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where}: extends must be the name of a space or the path of a YAML file, not {name!r:.80}")
    try:
        path = find(name, beside or Path())
        if path.resolve() in chain:
            raise UsageError(f"goes round in a circle: {' extends '.join(step.name for step in (*chain, path))}")
        if len(chain) >= MAX_CHAIN:
            raise UsageError(f"more than {MAX_CHAIN} spaces extend one another")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: can't be read: not a file")
        text = read_text(path)
    except (UsageError, ValueError, OSError) as error:
        raise UsageError(f"{where}: extends {name!r:.80}: {error}") from None
    base = _checked(parse_yaml(text, path.name), path.name)
    for part in (base, *base.get("variants", [])):
        for key in _lines(part):
            _check_key(key, path.name)
    return _laid_over(_extended(base, path.name, path.parent, (*chain, path.resolve())), fields, where)


def _laid_over(base: Mapping[str, Any], fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """One space in place of two: each variant with the base's lines and, laid over them, the fields' own."""
    entries = list(fields.get("variants", []))
    made: list[dict[str, Any]] = []
    for under in base.get("variants", []) or [{}] * (not entries):
        named = [entry for entry in entries if "name" in entry and entry["name"] == under.get("name")]
        entries = [entry for entry in entries if entry not in named]
        made.append(_version(base, under, fields, named[0] if named else {}, where))
    for entry in entries:  # a variant that the base lacks is found by its size, and so stands before larger ones
        limit = entry.get("max_resolution")
        larger = [k for k, other in enumerate(made) if _limit(other) > limit] if isinstance(limit, int) else []
        made.insert(larger[0] if larger else len(made), _version(base, {}, fields, entry, where))
    common = {key: spec for key, spec in made[0]["values"].items() if key in {**_lines(base), **_lines(fields)}}
    for version in made[1:]:
        common = {key: spec for key, spec in common.items() if repr(version["values"].get(key)) == repr(spec)}
    whole: dict[str, Any] = {"space": fields["space"]}
    for key in ("description", "design"):
        if key in fields or key in base:
            whole[key] = fields.get(key, base.get(key))
    if "name" not in made[0] and "max_resolution" not in made[0] and len(made) == 1:
        return {**whole, **made[0]}
    for version in made:
        version["values"] = {key: spec for key, spec in version["values"].items() if key not in common}
    return {**whole, "values": common, "variants": made}


def _limit(version: Mapping[str, Any]) -> float:
    limit = version.get("max_resolution")
    return limit if isinstance(limit, int) else float("inf")


def _version(
    base: Mapping[str, Any], under: Mapping[str, Any], fields: Mapping[str, Any], over: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """One variant made whole: the base's (`under` is its variant), with the fields and their variant laid over it."""
    version = {key: part[key] for key in ("name", "max_resolution") for part in (under, over) if key in part}
    lines = {**_lines(base), **_lines(under)}
    stages = over.get("stages", fields.get("stages"))
    if stages is not None:
        _check_stages(stages, where)
        lines = {key: spec for key, spec in lines.items() if not _beyond(key, stages)}
    else:
        stages = under.get("stages", base.get("stages"))
    if stages is not None:
        version["stages"] = stages
    version["values"] = laid(lines, {**_lines(fields), **_lines(over)})
    budget = _budget((base, under, fields, over), where)
    if budget.bounds:
        ends = {metric: dict(zip(("min", "max"), span, strict=True)) for metric, span in budget.bounds.items()}
        version["budgets"] = {m: {end: n for end, n in span.items() if n is not None} for m, span in ends.items()}
    return version


def laid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` upon `under`: each of its lines in place of all that it covers."""
    covering = [split_key(key) for key in over]

    def covered(key: str) -> bool:
        place, attribute = split_key(key)
        return any(
            attribute == name and (wide in ("", place) or (wide == "*" and place != "")) for wide, name in covering
        )

    return {**{key: spec for key, spec in under.items() if key in over or not covered(key)}, **over}


def _beyond(key: str, stages: int) -> bool:
    place = split_key(key)[0]
    return place.isdigit() and int(place) > stages


def _dumped(whole: Mapping[str, Any]) -> str:
    return dump(dict(whole), flow=None, unicode=True)


# -- checks ------------------------------------------------------------------------------------------------------------


def _checked(data: object, where: str) -> Mapping[str, Any]:
    """The fields of a file, whose parts have the types that the rest of this module takes for granted."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: no search space: expected a mapping of {', '.join(KEYS)}")
    fields = _keys(data, where, KEYS)
    if not isinstance(fields.get("space"), str):
        raise UsageError(f"{where}: no search space: the key `space` with its name is missing")
    variants = fields.get("variants", [])
    if not isinstance(variants, list):
        raise UsageError(f"{where}: variants must be a list")
    entries = [_keys(entry, f"{where}: variant {k}", VARIANT_KEYS) for k, entry in enumerate(variants, 1)]
    for part in (fields, *entries):
        if not isinstance(part.get("values", {}), Mapping):
            raise UsageError(f"{where}: values must be a mapping, one line an attribute")
    return fields


def _lines(part: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): spec for key, spec in part.get("values", {}).items()}


def _check_stages(stages: object, where: str) -> None:
    if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= MAX_STAGES:
        raise UsageError(f"{where}: stages must be a whole number from 1 to {MAX_STAGES}, not {stages!r}")


def _keys(data: object, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected a mapping of {', '.join(known)}, not {data!r:.80}")
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, list(known))}; known: {', '.join(known)}")
    return data


def _variant(variants: Sequence[Mapping[str, Any]], where: str, resolution: int, name: str | None) -> Mapping[str, Any]:
    if name is not None:
        for entry in variants:
            if entry.get("name") == name:
                return entry
        known = ", ".join(str(entry.get("name")) for entry in variants) or "none"
        raise UsageError(f"{where}: no variant {name!r}; it has: {known}")
    for entry in variants:
        limit = entry.get("max_resolution", resolution)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise UsageError(f"{where}: max_resolution must be a whole number of pixels, not {limit!r}")
        if resolution <= limit:
            return entry
    if variants:
        raise UsageError(f"{where}: no variant takes images of {resolution} px")
    return {}


def _budget(parts: Sequence[Mapping[str, Any]], where: str) -> Budget:
    """The budget that the parts of a file say, each laid over the one before."""
    total = Budget()
    for part in parts:
        bounds: dict[str, tuple[float | None, float | None]] = {}
        data = part.get("budgets")
        spans = {} if data is None else _keys(data, f"{where}: budgets", (*METRICS, "flops"))
        for metric, span in spans.items():
            fields = _keys(span, f"{where}: budgets: {metric}", ("min", "max"))
            for end, value in fields.items():
                if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                    raise UsageError(f"{where}: budgets: {metric}: {end} must be a number, not {value!r}")
            name = "macs" if metric == "flops" else metric
            if name in bounds:
                raise UsageError(f"{where}: budgets: flops and macs are the same count; write one of them")
            bounds[name] = (fields.get("min"), fields.get("max"))
        try:
            total = total.merged(Budget(bounds))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
    return total
