"""How numbers, networks and times are written wherever people read them, so that a page and a terminal agree to the digit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.architecture import Architecture, Stage
    from nas.blocks import Branch

_PREFIXES = ("", "k", "M", "G", "T")


def format_count(n: int) -> str:
    """A count to four significant digits with its SI prefix: `25.56 M`, `272.5 k`, `4.089 G`; exact below 10,000."""
    if n < 1000:
        return str(n)
    mantissa, exponent = f"{n:.3e}".split("e")  # rounds first, so that 999,990 is 1.000 M and never 1000 k
    group = min(int(exponent) // 3, len(_PREFIXES) - 1)
    shift = int(exponent) - 3 * group
    return f"{float(mantissa) * 10**shift:.{max(3 - shift, 0)}f} {_PREFIXES[group]}"


def format_percent(share: float) -> str:
    """A share in [0, 1] in percent, two decimals, without the sign: 0.9312 is `93.12`."""
    return f"{100 * share:.2f}"


def points(share: float, other: float) -> float:
    """How many percentage points `share` lies above `other`, as the difference of the two as they are written."""
    return round(float(format_percent(share)) - float(format_percent(other)), 2)


def format_seconds(seconds: float) -> str:
    """A duration in its two largest units: `12 s`, `3 min 20 s`, `2 h 5 min`, `1 d 3 h`."""
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{whole} s"


def describe(architecture: Architecture) -> str:
    """A network in one line: depth x width of each stage, then what all stages share; what differs stands in brackets.

    `3×256 (32×4d), 4×512 (32×8d); bottleneck, projection shortcut; imagenet stem 64`. A stage's stride is said where it
    isn't the usual one (1 in the first stage, 2 in the others), an option where it isn't the default or is a number.
    """
    traits = [_traits(stage) for stage in architecture.stages]
    shared = [trait for trait in traits[0] if all(trait in others for others in traits)]
    stages = []
    for number, (stage, own) in enumerate(zip(architecture.stages, traits, strict=True)):
        stride = "" if stage.stride == (2 if number else 1) else f"/{stage.stride}"
        differing = ", ".join(trait for trait in own if trait not in shared)
        stages.append(f"{stage.depth}×{stage.width}{stride}" + (f" ({differing})" if differing else ""))
    stem = f"{architecture.stem.kind} stem {architecture.stem.width}"
    return "; ".join(filter(None, (", ".join(stages), ", ".join(shared), stem)))


def _traits(stage: Stage) -> list[str]:
    traits = _branch(stage.branch)
    if not stage.merge.uses_shortcut:
        return [*traits, "no shortcut"]
    traits.append(f"{stage.shortcut.kind.replace('_', '-')} shortcut")
    if stage.merge.kind != "add":
        traits.append(f"{stage.merge.kind} merge")
    return traits


def _branch(branch: Branch) -> list[str]:
    options = {field.name: (getattr(branch, field.name), field.default) for field in dataclasses.fields(branch)}
    traits = [branch.kind]
    if {"cardinality", "group_width"} <= options.keys():
        traits.append(f"{options.pop('cardinality')[0]}×{options.pop('group_width')[0]}d")
    for name, (value, default) in options.items():
        if (name, value) == ("order", "pre"):
            traits.append("pre-activated")
        elif value != default or not isinstance(value, str):
            traits.append(f"{name.replace('_', ' ')} {value}")
    return traits
