"""Reads the text of a search space: resolves `extends`, overrides and variants, and parses the lines into domains by key.

There are three layers: the space that a file `extends`, the file itself with its variant, and the user's overrides. Each layer is
laid over the one before. A line of a layer replaces all lines of the lower layers that it covers: `block` replaces `block`,
`stage*.block` and `stage2.block`, but `stage2.block` replaces only `stage2.block`.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.errors import UsageError
from nas.spaces.attributes import DESIGNS, Domain, check_key, check_value, split_key, values_of
from nas.spaces.budget import Budget
from nas.spaces.document import Document, Part, checked_stages, document_of
from nas.spaces.knobs import parse
from nas.utils import limits
from nas.utils.registry import did_you_mean
from nas.utils.yaml_text import parse_yaml, read_text

MAX_CHAIN = limits.CHAIN


@dataclass(frozen=True, slots=True)
class SpaceText:
    """A space as written for images of one size: one variant, with all layers applied."""

    name: str
    description: str
    variant: str
    design: str
    stages: int
    domains: Mapping[str, Domain]  # by the keys of the lines: "stage*.depth"
    budget: Budget
    source: str  # self-contained YAML of the same space, with all variants


def folder() -> Path:
    """The folder of the shipped spaces: inside the installed package or, in a checkout, next to it."""
    installed = Path(str(importlib.resources.files("nas"))) / "search_spaces"
    return installed if installed.is_dir() else installed.parent.parent / "search_spaces"


def names() -> list[str]:
    """Names of the shipped spaces."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(name_or_path: str | Path, parent: Path | None = None) -> Path:
    """The file of a shipped space, or the file at a path relative to the folder `parent`. UsageError for an unknown name."""
    text_name = str(name_or_path)
    if text_name in names():
        return folder() / f"{text_name}.yaml"
    path = Path(name_or_path) if parent is None else parent / name_or_path
    if re.fullmatch(r"[\w-]{1,200}", text_name) and not path.exists():
        known = f"{', '.join(names())}, or the path of a YAML file"
        raise UsageError(f"unknown space {text_name!r}{did_you_mean(text_name, names())}; known: {known}")
    return path


def read(
    text: str,
    where: str,
    *,
    resolution: int,
    parent: Path | None = None,
    path: Path | None = None,
    variant: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> SpaceText:
    """The space of a text with `overrides` applied, in the variant for images of `resolution` pixels.

    parent: the folder that `extends` is relative to. path: the file of the text, which can't extend itself. UsageError that names the
    place for every mistake.
    """
    document = document_of(parse_yaml(text, where), where)
    whole = _extended(document, where, parent, () if path is None else (path.resolve(),))
    if overrides:
        lines = check_overrides(overrides)
        stages = checked_stages(lines.pop("stages"), where) if "stages" in lines else None
        whole = _laid_over(whole, Document(document.space, Part(stages=stages, lines=lines)), where)
    chosen = _variant(whole.variants, where, resolution, variant)
    lines = {**whole.shared.lines, **chosen.lines}
    return SpaceText(
        name=whole.space,
        description=" ".join((whole.description or "").split()),
        variant=chosen.name or "",
        design=whole.design or DESIGNS[0],
        stages=checked_stages(whole.shared.stages if chosen.stages is None else chosen.stages, where),
        domains={key: parse(spec, f"{where}: {_printable(key)}") for key, spec in lines.items()},
        budget=_merged((whole.shared, chosen), where),
        source=text if whole is document else whole.to_yaml(),
    )


# -- overrides ---------------------------------------------------------------------------------------------------------


def parse_overrides(settings: Sequence[str]) -> dict[str, object]:
    """The `--set` options of a command line, as lines of `values`: `["stage*.block=bottleneck", "depth=[1, 2]"]`.

    A value is read as YAML, and commas outside of brackets make a list. UsageError for a line that no space can have.
    """
    overrides: dict[str, object] = {}
    for setting in settings:
        key, equals, value = (part.strip() for part in setting.partition("="))
        place = f"--set {_printable(key)}"
        if not equals or not key or not value:
            raise UsageError(f"--set {setting!r}: write KEY=VALUE, as in --set 'stage*.block=bottleneck'")
        if key in overrides:
            raise UsageError(f"{place}: is given twice")
        items = _split(value)
        parsed = [parse_yaml(item, place) for item in items]
        overrides[key] = parsed[0] if len(parsed) == 1 else parsed
    return check_overrides(overrides, "--set ")


def check_overrides(overrides: Mapping[str, object], prefix: str = "overrides: ") -> dict[str, object]:
    """A copy of the overrides. UsageError for a key or a value that no space can have."""
    for key, spec in overrides.items():
        if not isinstance(key, str):
            raise UsageError(f"{prefix}{key!r}: a key is a word, as 'stage*.block'")
        place = f"{prefix}{_printable(key)}"
        if key == "stages":
            checked_stages(spec, place)
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
    """UsageError for a key that no space of any design has."""
    try:
        check_key(key, "stages")
    except UsageError as error:
        try:
            check_key(key, "regnet")
        except UsageError:
            raise UsageError(f"{where}: {error}") from None


def _split(text: str) -> list[str]:
    """Splits at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


# -- layers ------------------------------------------------------------------------------------------------------------


def _extended(document: Document, where: str, parent: Path | None, chain: tuple[Path, ...]) -> Document:
    """The document laid over the space that it extends; itself if it extends none.

    chain: the files that lead to it, each of which extends the next.
    """
    name = document.extends
    if name is None:
        return document
    try:
        path = find(name, parent or Path())
        if path.resolve() in chain:
            raise UsageError(f"goes round in a circle: {' extends '.join(step.name for step in (*chain, path))}")
        if len(chain) >= MAX_CHAIN:
            raise UsageError(f"more than {MAX_CHAIN} spaces extend one another")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: can't be read: not a file")
        text = read_text(path)
    except (UsageError, ValueError, OSError) as error:
        raise UsageError(f"{where}: extends {name!r:.80}: {error}") from None
    base = document_of(parse_yaml(text, path.name), path.name)
    for part in (base.shared, *base.variants):
        for key in part.lines:
            _check_key(key, path.name)
    return _laid_over(_extended(base, path.name, path.parent, (*chain, path.resolve())), document, where)


def _laid_over(base: Document, over: Document, where: str) -> Document:
    """One document for both: each variant has the base's lines with those of `over` laid over them."""
    variants = _variants(base, over, where)
    merged = Document(
        space=over.space,
        shared=variants[0],
        description=base.description if over.description is None else over.description,
        design=over.design or base.design,
    )
    if len(variants) == 1 and variants[0].name is None and variants[0].max_resolution is None:
        return merged
    shared = {**base.shared.lines, **over.shared.lines}
    common = {
        key: spec
        for key, spec in variants[0].lines.items()
        if key in shared and all(repr(other.lines.get(key)) == repr(spec) for other in variants[1:])
    }
    shortened = (
        replace(variant, lines={key: spec for key, spec in variant.lines.items() if key not in common})
        for variant in variants
    )
    return replace(merged, shared=Part(lines=common), variants=tuple(shortened))


def _variants(base: Document, over: Document, where: str) -> list[Part]:
    """The variants of both documents, each complete. Variants of one name are the same variant; there is at least one."""
    remaining = list(over.variants)
    variants: list[Part] = []
    for under in base.variants or [Part()] * (not remaining):
        namesakes = [part for part in remaining if part.name is not None and part.name == under.name]
        remaining = [part for part in remaining if part not in namesakes]
        variants.append(_complete(base.shared, under, over.shared, namesakes[0] if namesakes else Part(), where))
    for part in remaining:  # a new variant goes before the larger ones: the first that fits the images is taken
        larger = [k for k, other in enumerate(variants) if other.limit > part.limit]
        place = larger[0] if larger else len(variants)
        variants.insert(place, _complete(base.shared, Part(), over.shared, part, where))
    return variants


def _complete(base: Part, under: Part, fields: Part, over: Part, where: str) -> Part:
    """One variant: the base's shared part and its variant `under`, with the fields and their variant `over` laid over them."""
    lines = {**base.lines, **under.lines}
    stages = fields.stages if over.stages is None else over.stages
    if stages is None:
        stages = base.stages if under.stages is None else under.stages
    else:
        lines = {key: spec for key, spec in lines.items() if not _beyond(key, stages)}
    return Part(
        name=under.name if over.name is None else over.name,
        max_resolution=under.max_resolution if over.max_resolution is None else over.max_resolution,
        stages=stages,
        lines=laid(lines, {**fields.lines, **over.lines}),
        budget=_merged((base, under, fields, over), where),
    )


def laid(under: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """`over` laid over `under`: each of its lines replaces all lines that it covers."""
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


def _merged(parts: Sequence[Part], where: str) -> Budget:
    """The budgets of the parts, each laid over the one before."""
    total = Budget()
    for part in parts:
        try:
            total = total.merged(part.budget)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
    return total


def _variant(variants: Sequence[Part], where: str, resolution: int, name: str | None) -> Part:
    """The variant of this name, or the first one for images of `resolution` pixels; an empty one if there are no variants."""
    if name is not None:
        for variant in variants:
            if variant.name == name:
                return variant
        known = ", ".join(str(variant.name) for variant in variants) or "none"
        raise UsageError(f"{where}: no variant {name!r}; it has: {known}")
    for variant in variants:
        if resolution <= variant.limit:
            return variant
    if variants:
        raise UsageError(f"{where}: no variant takes images of {resolution} px")
    return Part()


def _printable(key: str) -> str:
    return key if key.isprintable() else repr(key)
