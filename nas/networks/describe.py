"""An architecture in words, for tables and pages: one line, or one line per stage."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture, Stage
    from nas.networks.blocks import Branch, Part, Shortcut
    from nas.networks.blocks._base import Value


def describe(architecture: Architecture) -> str:
    """A network in one line: depth × width of each stage, what the stages share, the stem.

    `3×256 (32×4d), 4×512 (32×8d); bottleneck, projection shortcut; imagenet stem 64`. What differs between stages is in
    brackets; 32×4d is cardinality × group width. A stride is given unless it is the usual one (1 in the first stage, 2 in
    the others). Options without effect are left out, as are most options at their defaults.
    """
    network, shortcut = _canonical(architecture)
    mixed = len({stage.branch.kind for stage in network.stages}) > 1
    by_stage = [_aspects(stage, mixed, shortcut) for stage in network.stages]
    shared = dict(pair for aspects in by_stage for pair in aspects.items())
    shared = {key: text for key, text in shared.items() if all(aspects.get(key, text) == text for aspects in by_stage)}
    stages = []
    for number, (stage, aspects) in enumerate(zip(network.stages, by_stage, strict=True)):
        stride = "" if stage.stride == (2 if number else 1) else f"/{stage.stride}"
        differing = ", ".join(filter(None, (text for key, text in aspects.items() if key not in shared)))
        stages.append(f"{stage.depth}×{stage.width}{stride}" + (f" ({differing})" if differing else ""))
    ends = [_end(network.stem, f"stem {network.stem.width}", {"width"})]
    if (head := _end(network.head, "head", {"classes"})) != "linear head":
        ends.append(head)
    if "norm_eps" in (data := network.to_dict()):  # which has it only if it is not the default
        ends.append(f"norm eps {data['norm_eps']:g}")
    return "; ".join(filter(None, (", ".join(stages), ", ".join(filter(None, shared.values())), *ends)))


def describe_stages(architecture: Architecture) -> list[tuple[str, str]]:
    """Each stage's block, and its shortcut and merge: pairs such as `("bottleneck 32×4d", "projection shortcut")`."""
    network, shortcut = _canonical(architecture)
    by_stage = [_aspects(stage, True, shortcut) for stage in network.stages]
    return [(stage["block"], ", ".join(filter(None, (stage["shortcut"], stage["merge"])))) for stage in by_stage]


def _end(part: Part, noun: str, aside: set[str]) -> str:
    """A stem or a head: its kind and its options that are not at their defaults, without those in `aside`."""
    options = (f"{name} {value}" for name, value in part.changed_options().items() if name not in {"kind", *aside})
    return " ".join((part.kind, noun, *options))


def _aspects(stage: Stage, mixed: bool, shortcut: Shortcut | None) -> dict[str, str]:
    """Descriptions of a stage other than its size, by aspect; an option without effect in this stage is missing.

    `mixed`: the stages have different kinds of blocks, so that the block's options belong to its name. `shortcut`: the one
    that all stages share, if there is one.
    """
    aspects = {"block": stage.branch.kind}
    options = {field.name: field for field in dataclasses.fields(stage.branch)}
    if {"cardinality", "group_width"} <= options.keys():
        groups, group_width = (getattr(stage.branch, name) for name in ("cardinality", "group_width"))
        aspects["groups"] = f"{groups}×{group_width}d"
        del options["cardinality"], options["group_width"]
    for name, field in options.items():
        if _matters(stage.branch, name, stage.stride):
            aspects[name] = _option(name, getattr(stage.branch, name), field.default)
    if mixed:
        aspects = {"block": " ".join(filter(None, aspects.values()))}
    if shortcut or stage.merge.uses_shortcut:
        aspects["shortcut"] = f"{_named(shortcut or stage.shortcut)} shortcut"
    else:
        aspects["shortcut"] = "no shortcut"
    aspects["merge"] = "" if stage.merge.kind in ("add", "none") else f"{_named(stage.merge)} merge"
    return aspects


@lru_cache(maxsize=64)  # `describe` and `describe_stages` are called one after the other
def _canonical(architecture: Architecture) -> tuple[Architecture, Shortcut | None]:
    network = architecture.canonical()
    return network, _common_shortcut(network)


def _common_shortcut(network: Architecture) -> Shortcut | None:
    """The shortcut that gives this network if every stage has it: most kinds are the identity where the shapes agree."""
    for shortcut in dict.fromkeys(stage.shortcut for stage in network.stages):
        stages = tuple(dataclasses.replace(stage, shortcut=shortcut) for stage in network.stages)
        if dataclasses.replace(network, stages=stages).canonical() == network:
            return shortcut if all(stage.merge.uses_shortcut for stage in network.stages) else None
    return None


def _named(part: Part) -> str:
    options = (_option(name, value, None) for name, value in part.changed_options().items() if name != "kind")
    return " ".join((part.kind.replace("_", "-"), *options))


@lru_cache(maxsize=1024)  # the networks of a space have few kinds of branches
def _matters(branch: Branch, name: str, stride: int) -> bool:
    """Whether another value of this option would give another branch; True unless the option lists its values."""
    field = next(field for field in dataclasses.fields(branch) if field.name == name)
    others = [value for value in field.metadata["among"] if value != getattr(branch, name)]
    same = branch.canonical(stride)
    return not others or any(dataclasses.replace(branch, **{name: value}).canonical(stride) != same for value in others)


def _option(name: str, value: Value, default: object) -> str:
    if (name, value) == ("order", "pre"):
        return "pre-activated"
    plain = value == default and (isinstance(value, (str, float)) or name == "experts")
    return "" if plain else f"{name.replace('_', ' ')} {value}"
