"""An architecture in words, for tables and pages: one line, or one line a stage."""

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

    `3×256 (32×4d), 4×512 (32×8d); bottleneck, projection shortcut; imagenet stem 64`. What differs between stages stands
    in brackets, 32×4d is cardinality × group width, and a stride is said where it isn't the usual one (1 in the first
    stage, 2 in the others). Options without effect are left out, as are words that are at their default.
    """
    network, shortcut = _canonical(architecture)
    mixed = len({stage.branch.kind for stage in network.stages}) > 1
    aspects = [_aspects(stage, mixed) for stage in network.stages]
    if shortcut:
        for found in aspects:
            found["shortcut"] = f"{_said(shortcut)} shortcut"
    shared = dict(pair for found in aspects for pair in found.items())
    shared = {key: text for key, text in shared.items() if all(found.get(key, text) == text for found in aspects)}
    stages = []
    for number, (stage, found) in enumerate(zip(network.stages, aspects, strict=True)):
        stride = "" if stage.stride == (2 if number else 1) else f"/{stage.stride}"
        own = ", ".join(filter(None, (text for key, text in found.items() if key not in shared)))
        stages.append(f"{stage.depth}×{stage.width}{stride}" + (f" ({own})" if own else ""))
    ends = [_end(network.stem, f"stem {network.stem.width}", {"width"})]
    if (head := _end(network.head, "head", {"classes"})) != "linear head":
        ends.append(head)
    if "norm_eps" in (data := network.to_dict()):  # only where it is not the usual one
        ends.append(f"norm eps {data['norm_eps']:g}")
    return "; ".join(filter(None, (", ".join(stages), ", ".join(filter(None, shared.values())), *ends)))


def describe_stages(architecture: Architecture) -> list[tuple[str, str]]:
    """What a stage's blocks are and what is around them, a pair a stage: `("bottleneck 32×4d", "projection shortcut")`."""
    network, shortcut = _canonical(architecture)
    aspects = [_aspects(stage, mixed=True) for stage in network.stages]
    if shortcut:
        for found in aspects:
            found["shortcut"] = f"{_said(shortcut)} shortcut"
    return [(found["block"], ", ".join(filter(None, (found["shortcut"], found["merge"])))) for found in aspects]


def _end(part: Part, noun: str, aside: set[str]) -> str:
    """A stem or a head by its kind and the options that are not at their defaults."""
    said = (f"{name} {value}" for name, value in part.said().items() if name not in {"kind", *aside})
    return " ".join(filter(None, (part.kind, noun, *said)))


def _aspects(stage: Stage, mixed: bool) -> dict[str, str]:
    """What can be said of a stage beside its size; an aspect that makes no difference in this stage is missing.

    `mixed`: other stages have other kinds of blocks, so that the block's options belong to its name.
    """
    found = {"block": stage.branch.kind}
    options = {field.name: field for field in dataclasses.fields(stage.branch)}
    if {"cardinality", "group_width"} <= options.keys():
        groups, group_width = (getattr(stage.branch, name) for name in ("cardinality", "group_width"))
        found["groups"] = f"{groups}×{group_width}d"
        del options["cardinality"], options["group_width"]
    for name, field in options.items():
        if _matters(stage.branch, name, stage.stride):
            found[name] = _option(name, getattr(stage.branch, name), field.default)
    if mixed:
        found = {"block": " ".join(filter(None, found.values()))}
    if not stage.merge.uses_shortcut:
        found["shortcut"] = "no shortcut"
    else:
        found["shortcut"] = f"{_said(stage.shortcut)} shortcut"
    found["merge"] = "" if stage.merge.kind in ("add", "none") else f"{_said(stage.merge)} merge"
    return found


@lru_cache(maxsize=64)  # a network is described in a line and by stages, one after the other
def _canonical(architecture: Architecture) -> tuple[Architecture, Shortcut | None]:
    network = architecture.canonical()
    return network, _common_shortcut(network)


def _common_shortcut(network: Architecture) -> Shortcut | None:
    """The kind that, taken in every stage, makes this network: all kinds but one are identity where the shapes agree."""
    for shortcut in dict.fromkeys(stage.shortcut for stage in network.stages):
        stages = tuple(dataclasses.replace(stage, shortcut=shortcut) for stage in network.stages)
        if dataclasses.replace(network, stages=stages).canonical() == network:
            return shortcut if all(stage.merge.uses_shortcut for stage in network.stages) else None
    return None


def _said(part: Part) -> str:
    options = (_option(name, value, None) for name, value in part.said().items() if name != "kind")
    return " ".join((part.kind.replace("_", "-"), *options))


@lru_cache(maxsize=1024)  # the networks of a space have few kinds of branches
def _matters(branch: Branch, name: str, stride: int) -> bool:
    """Whether another word in this option would make another branch."""
    field = next(field for field in dataclasses.fields(branch) if field.name == name)
    others = [word for word in field.metadata["among"] if word != getattr(branch, name)]
    same = branch.canonical(stride)
    return not others or any(dataclasses.replace(branch, **{name: word}).canonical(stride) != same for word in others)


def _option(name: str, value: Value, default: object) -> str:
    if (name, value) == ("order", "pre"):
        return "pre-activated"
    plain = value == default and (isinstance(value, (str, float)) or name == "experts")
    return "" if plain else f"{name.replace('_', ' ')} {value}"
