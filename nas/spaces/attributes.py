"""The attributes that a space may set, the options that they stand for, and the order in which they are chosen.

An attribute belongs to the network (`stem`, `resolution`) or to a stage (`depth`, `block`). Each option of each registered part is an
attribute, too: an option of a block under its own name (`cardinality`), any other option with its part as a prefix (`stem_width`,
`merge_bias`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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


# -- from lines to slots -----------------------------------------------------------------------------------------------


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


def slots_of(domains: Mapping[str, Domain], stages: int, design: str) -> list[Slot]:
    """Slots in the order in which they are chosen: first those of all stages together, then stage by stage.

    An attribute comes after those that it depends on. UsageError for an invalid line, or for values that no network can have.
    """
    shared, staged = _by_place(domains, stages, design)
    # A shared value is not searched if every stage always overrides it. But the stem or the head may read the shared `act`.
    always = ({name for name, domain in lines.items() if not conditional(domain)} for lines in staged.values())
    unread = set.intersection(*always) - ({SHARED_ACT} if _ends_reading(shared) else set())
    shared = {name: domain for name, domain in shared.items() if name not in unread}
    slots = [
        Slot(name, 0, name, shared[name], _shared_readers(name, shared, staged, design)) for name in _ordered(shared)
    ]
    for number, lines in staged.items():
        slots += [Slot(f"stage{number}.{name}", number, name, lines[name], _readers(name)) for name in _ordered(lines)]
    _check_slots(slots)
    return _narrowed(slots)


def _by_place(
    domains: Mapping[str, Domain], stages: int, design: str
) -> tuple[dict[str, Domain], dict[int, dict[str, Domain]]]:
    """The lines by attribute: those that all stages share, with the defaults; and those of each stage."""
    shared: dict[str, Domain] = {name: value for name, value in DEFAULTS.items() if name not in domains}
    if design == "regnet" and "stride" in shared:
        shared["stride"] = 2
    staged: dict[int, dict[str, Domain]] = {number: {} for number in range(1, stages + 1)}
    narrow: list[tuple[int, str, Domain]] = []  # these lines replace those of `stage*`
    for key, domain in domains.items():
        try:
            check_key(key, design)
        except UsageError:
            _check_kinds(domains)  # the option may be unknown because its part is not registered
            raise
        place, attribute = split_key(key)
        if not place:
            shared[attribute] = domain
        elif place == "*":
            for lines in staged.values():
                lines[attribute] = domain
        elif int(place) not in staged:
            raise UsageError(f"{key}: there are {stages} stages")
        else:
            narrow.append((int(place), attribute, domain))
    for number, attribute, domain in narrow:
        staged[number][attribute] = domain
    return shared, staged


def _check_kinds(domains: Mapping[str, Domain]) -> None:
    """UsageError for an unknown kind of part."""
    for key, domain in domains.items():
        if (attribute := split_key(key)[1]) in PARTS:
            for value in values_of(domain):
                try:
                    PARTS[attribute][0].find(value)
                except UsageError as error:
                    raise UsageError(f"{key}: {error}") from None


def conditional(domain: Domain) -> bool:
    return isinstance(domain, Knob) and bool(domain.when)


def values_of(domain: Domain) -> tuple[Value, ...]:
    return domain.values if isinstance(domain, Knob) else (domain,)


def _ordered(lines: Mapping[str, Domain]) -> list[str]:
    """`block` first, then the order of the lines; but each attribute comes after those that it depends on."""
    ordered: list[str] = []
    visited: set[str] = set()

    def visit(name: str) -> None:
        if name not in lines or name in visited:
            return
        visited.add(name)
        for other in _dependencies(name, lines[name]):
            visit(other)
        ordered.append(name)

    for name in sorted(lines, key=lambda name: name != "block"):
        visit(name)
    return ordered


def _dependencies(name: str, domain: Domain) -> Iterable[str]:
    if (option := option_of(name)) is not None:
        yield option[0]
    if name == SHARED_ACT:
        yield from ENDS
    if isinstance(domain, Knob):
        yield from (other for other, _ in domain.when)


def _readers(name: str) -> Readers:
    option = option_of(name)
    return () if option is None else ((option[0], _having(*option)),)


def _having(part: str, option: str) -> tuple[str, ...]:
    return tuple(name for name, kind in PARTS[part][0].items() if option in kind.options())


def _ends_reading(shared: Mapping[str, Domain]) -> list[str]:
    """Those of the stem and the head that use the shared `act`, because no unconditional line sets their own one."""
    return [
        part
        for part in ENDS
        if ((name := f"{part}_{SHARED_ACT}") not in shared or conditional(shared[name]))
        and SHARED_ACT in shared
        and any(value in _having(part, SHARED_ACT) for value in values_of(shared[part]))
    ]


def _shared_readers(
    name: str, shared: Mapping[str, Domain], staged: Mapping[int, Mapping[str, Domain]], design: str
) -> Readers:
    """The readers of an option that all stages share; () if a stage chooses its own kind of part, which may have the option."""
    if design == "regnet" and name in REGNET_ATTRIBUTES:
        return ()
    readers = _readers(name)
    if not readers or readers[0][0] in ENDS:
        return readers
    part, kinds = readers[0]
    for lines in staged.values():
        inherits = name not in lines or conditional(lines[name])
        if inherits and part in lines and set(values_of(lines[part])) & set(kinds):
            return ()  # the stage's kind is chosen later
    overridden = all(name in lines and not conditional(lines[name]) for lines in staged.values())
    if overridden or part not in shared:
        readers = ()
    if name == SHARED_ACT:
        readers += tuple((end, _having(end, SHARED_ACT)) for end in _ends_reading(shared))
    return readers or ((part, ()),)


def _check_slots(slots: Iterable[Slot]) -> None:
    """UsageError for a condition on an attribute that is not chosen before, or for a value that no part takes."""
    slots = list(slots)
    places = {(slot.stage, slot.attribute) for slot in slots}
    before: set[tuple[int, str]] = set()
    for slot in slots:
        knob = slot.domain if isinstance(slot.domain, Knob) else Knob((slot.domain,))
        for name, _ in knob.when:
            place = (slot.stage, name) if (slot.stage, name) in places else (0, name)
            if place not in before:
                raise UsageError(f"{slot.key}: its condition names {name!r}, which is not chosen before it")
        before.add((slot.stage, slot.attribute))
        try:
            for name, values in (*knob.when, (slot.attribute, knob.values)):
                for value in values:
                    check_value(name, value)
        except UsageError as error:
            raise UsageError(f"{slot.key}: {error}") from None


def _narrowed(slots: list[Slot]) -> list[Slot]:
    """The slots without knobs that can never exist and without conditions that always hold."""
    while True:
        places = {(slot.stage, slot.attribute): slot for slot in slots}
        kept = [slot for slot in (_simplified(slot, places) for slot in slots) if slot is not None]
        if kept == slots:
            return kept
        slots = kept


def _simplified(slot: Slot, places: Mapping[tuple[int, str], Slot]) -> Slot | None:
    """The slot without conditions and readers that always hold; None if it never exists."""
    if not isinstance(slot.domain, Knob):
        return slot
    when = []
    for name, values in slot.domain.when:
        possible, certain = _possible(places, slot.stage, name)
        if not set(possible) & set(values):
            # A missing required attribute is reported later, with its line, so its slot stays.
            required = slot.attribute in REQUIRED and (slot.stage == 0 or (0, slot.attribute) not in places)
            return slot if required else None
        if not certain or not set(possible) <= set(values):
            when.append((name, values))
    readers = _simplified_readers(slot, places, dict(when))
    if readers is None:
        return None
    return replace(slot, domain=replace(slot.domain, when=tuple(when)), readers=readers)


def _simplified_readers(
    slot: Slot, places: Mapping[tuple[int, str], Slot], when: Mapping[str, tuple[Value, ...]]
) -> Readers | None:
    """The readers with the kinds that may be chosen; () if one of them always reads the option, None if none ever does."""
    readers = []
    for part, kinds in slot.readers:
        possible, certain = _possible(places, slot.stage, part)
        matching = tuple(str(kind) for kind in possible if kind in kinds)
        if (certain and len(matching) == len(possible)) or (part in when and set(when[part]) <= set(kinds)):
            return ()
        if matching:
            readers.append((part, matching))
    return tuple(readers) if readers or not slot.readers else None


def _possible(places: Mapping[tuple[int, str], Slot], stage: int, name: str) -> tuple[tuple[Value, ...], bool]:
    """Values that an attribute may have at a stage, and whether it always has one."""
    values: dict[Value, None] = {}
    for place in dict.fromkeys((stage, 0)):  # the stage's own line, then the shared one
        slot = places.get((place, name))
        if slot is not None:
            values.update(dict.fromkeys(values_of(slot.domain)))
            if not conditional(slot.domain) and not slot.readers:
                return tuple(values), True
    return tuple(values), False
