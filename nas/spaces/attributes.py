"""The attributes that a space may set, the options that they stand for, and their values.

An attribute belongs to the network (`stem`, `resolution`) or to a stage (`depth`, `block`). Each option of each registered part is an
attribute, too: an option of a block under its own name (`cardinality`), any other option with its part as a prefix (`stem_width`,
`merge_bias`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from nas.errors import UsageError
from nas.networks import regnet_design as regnet
from nas.networks.architecture import MAX_RESOLUTION, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.networks.blocks._base import Value
from nas.spaces.knobs import Knob
from nas.utils.registry import Registry, did_you_mean

Domain: TypeAlias = Knob | Value
Readers: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]  # parts, and the kinds of each that have an option

STAGE_ATTRIBUTES = ("depth", "width", "stride", "block", "shortcut", "merge")
NETWORK_ATTRIBUTES = ("stem", "head", "resolution")
REGNET_ATTRIBUTES = ("network_depth", "w0", "wa", "wm", "group_width")  # these replace the stages' depth and width
REQUIRED = {*STAGE_ATTRIBUTES, *REGNET_ATTRIBUTES, "stem", "head"}
DESIGNS = ("stages", "regnet")
DEFAULTS: Mapping[str, Value] = {
    "stem": "cifar",
    "head": "linear",
    "merge": "add",
    "shortcut": "projection",
    "stride": 1,
}
MIN_PIXELS = 4
MAX_SHARE = 16.0  # of the images' side
SHARED_ACT = "act"  # the only option of all stages that also applies to the stem and the head

# The attribute that names a kind of part -> the registry of the kinds, and the prefix of their options.
PARTS: Mapping[str, tuple[Registry[Any], str]] = {
    "block": (BRANCHES, ""),
    "shortcut": (SHORTCUTS, "shortcut_"),
    "merge": (MERGES, "merge_"),
    "stem": (STEMS, "stem_"),
    "head": (HEADS, "head_"),
}
ENDS = ("stem", "head")
FROM_DATA = {"head_classes"}


@dataclass(frozen=True, slots=True)
class Slot:
    """One attribute at one place: its key in `Choices`, its stage (0: the network, or all stages), its name and its domain.

    readers: a searched option exists only if one of these parts has one of these kinds. (): it always exists.
    """

    key: str
    stage: int
    attribute: str
    domain: Domain
    readers: Readers = ()

    def exists(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the knob exists, given what was chosen before it."""
        assert isinstance(self.domain, Knob)
        for name, values in self.domain.when:
            if chosen.get(name) not in values:
                return False
        return not self.readers or any(chosen.get(part) in kinds for part, kinds in self.readers)


def option_of(attribute: str) -> tuple[str, str] | None:
    """The part and the option that an attribute stands for: `merge_bias` -> ("merge", "bias"). None for other attributes."""
    if attribute in FROM_DATA:
        return None
    for part, (registry, prefix) in PARTS.items():
        option = attribute.removeprefix(prefix)
        if attribute.startswith(prefix) and any(option in kind.options() for kind in registry.values()):
            return part, option
    return None


def known(design: str) -> tuple[set[str], set[str]]:
    """Attributes that a space of this design may set for all stages at once, and those that it may set for one stage."""
    options = {part: _options(part) for part in PARTS}
    network = {*NETWORK_ATTRIBUTES, *options["stem"], *options["head"]}
    stage = {*STAGE_ATTRIBUTES, *options["block"], *options["shortcut"], *options["merge"]}
    if design == "regnet":
        return (network | stage | set(REGNET_ATTRIBUTES)) - {"depth", "width", "cardinality"}, {"stride"}
    return network | stage, stage


def _options(part: str) -> set[str]:
    registry, prefix = PARTS[part]
    return {f"{prefix}{option}" for kind in registry.values() for option in kind.options()} - FROM_DATA


def make_part(part: str, values: Mapping[str, Value], **fixed: Value) -> Any:
    """The part with the kind and the options in `values`. A stem or a head also uses the shared `act`."""
    kind: Any = PARTS[part][0].find(values[part])
    options: dict[str, Value] = dict(fixed)
    for attribute, option in _option_attributes(part, kind):
        if attribute in values:
            options[option] = values[attribute]
        elif option == SHARED_ACT and part in ENDS and SHARED_ACT in values:
            options[option] = values[SHARED_ACT]
    return _made(kind, tuple(options.items()), tuple(map(type, options.values())))


@lru_cache(maxsize=1 << 14)  # a search uses the same parts repeatedly; `types` distinguishes 1 from True
def _made(kind: Any, options: tuple[tuple[str, Value], ...], types: tuple[type, ...]) -> Any:
    return kind.make(dict(options))


@lru_cache(maxsize=1024)
def _option_attributes(part: str, kind: Any) -> tuple[tuple[str, str], ...]:
    prefix = PARTS[part][1]
    return tuple((f"{prefix}{option}", option) for option in kind.options() if f"{prefix}{option}" not in FROM_DATA)


def pixels(value: Value, side: int) -> int:
    """A resolution in pixels. An integer is a number of pixels; a float is a share of the images' side, at least `MIN_PIXELS` pixels."""
    if isinstance(value, int):
        return value
    return max(MIN_PIXELS, round(float(value) * side))


def check_value(attribute: str, value: Value) -> None:
    """UsageError if no network can have this value of an attribute."""
    if attribute in PARTS:
        PARTS[attribute][0].find(value)
    elif attribute in ("depth", "width", "stride"):
        sizes: dict[str, Any] = {"depth": 1, "width": 1, attribute: value}
        Stage(next(iter(BRANCHES.values()))(), **sizes)
    elif attribute == "resolution":
        _check_resolution(value)
    elif (option := option_of(attribute)) is not None:
        _check_option(*option, value)
    else:
        regnet.check(attribute, value)


def _check_option(part: str, option: str, value: Value) -> None:
    """UsageError if no kind of the part takes this value of its option."""
    refusals = []
    for kind in PARTS[part][0].values():
        if option in kind.options():
            try:
                kind.make({option: value})
                return
            except UsageError as error:
                refusals.append(error)
    raise refusals[-1]


def _check_resolution(value: Value) -> None:
    if isinstance(value, int) and not MIN_PIXELS <= value <= MAX_RESOLUTION:
        hint = "; the data's own size is 1.0" if value == 1 else ""
        raise UsageError(f"resolution must be from {MIN_PIXELS} to {MAX_RESOLUTION:,} pixels, not {value!r}{hint}")
    if isinstance(value, float) and not 0 < value <= MAX_SHARE:
        raise UsageError(
            f"resolution as a share of the data's side must be above 0 and at most {MAX_SHARE:g}, not {value!r}"
        )
    if isinstance(value, str):
        raise UsageError(
            f"resolution must be pixels (a whole number) or a share of the data's side (as 0.75), not {value!r}"
        )


# -- lines of a space --------------------------------------------------------------------------------------------------


def split_key(key: str) -> tuple[str, str]:
    """Place and attribute of a line's key: `stage2.depth` -> ("2", "depth"), `stage*.depth` -> ("*", "depth"), `depth` -> ("", "depth")."""
    match = re.fullmatch(r"(?:stage(\*|\d{1,4})\.)?(\w+)", key)
    if match is None:
        return "", key
    place = match[1] or ""
    return (str(int(place)) if place.isdigit() else place), match[2]


def check_key(key: str, design: str) -> None:
    """UsageError for a key that a space of this design can't have."""
    shared, staged = known(design)
    place, attribute = split_key(key)
    if attribute in (staged if place else shared):
        return
    if place and attribute in shared:
        whose = (
            "a regnet's stages differ in their strides only" if design == "regnet" else f"{attribute} is the network's"
        )
        raise UsageError(f"unknown attribute {key!r}: {whose}; write {attribute}, without a stage")
    near = did_you_mean(key.split(".")[-1], sorted(shared)) or f"; known: {', '.join(sorted(shared))}"
    raise UsageError(f"unknown attribute {key!r}{near}")


def conditional(domain: Domain) -> bool:
    return isinstance(domain, Knob) and bool(domain.when)


def values_of(domain: Domain) -> tuple[Value, ...]:
    return domain.values if isinstance(domain, Knob) else (domain,)
