"""What a space may say of a network: the attributes, whose options they are, and in which order they are chosen.

An attribute is the network's (`stem`, `resolution`) or a stage's (`depth`, `block`). Each option of each part that is
registered is one too: a block's by its own name (`cardinality`), the others' behind the part's (`stem_width`, `merge_bias`).
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

STAGE_ATTRIBUTES = ("depth", "width", "stride", "block", "shortcut", "merge")
NETWORK_ATTRIBUTES = ("stem", "head", "resolution")
REGNET_ATTRIBUTES = ("network_depth", "w0", "wa", "wm", "group_width")  # in place of the stages' depth and width
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
MAX_SHARE = 16.0  # of the data's own side
SHARED_ACT = "act"  # the one option that, said for all stages, goes to the stem and the head too

# The attribute that names a kind of part -> the registry of the kinds, and what stands before their options' names.
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

    readers: a searched option exists only where one of these parts is of one of these kinds; () if it always does.
    """

    key: str
    stage: int
    attribute: str
    domain: Domain
    readers: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def exists(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the knob means something beside what was chosen before it."""
        assert isinstance(self.domain, Knob)
        for name, values in self.domain.when:
            if chosen.get(name) not in values:
                return False
        return not self.readers or any(chosen.get(part) in kinds for part, kinds in self.readers)


def option_of(attribute: str) -> tuple[str, str] | None:
    """The part and its option that an attribute is: `merge_bias` -> ("merge", "bias"); None for any other attribute."""
    if attribute in FROM_DATA:
        return None
    for part, (registry, prefix) in PARTS.items():
        option = attribute.removeprefix(prefix)
        if attribute.startswith(prefix) and any(option in kind.options() for kind in registry.values()):
            return part, option
    return None


def known(design: str) -> tuple[set[str], set[str]]:
    """Attributes that a space of this design may say for all stages at once, and those that it may say for one stage."""
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
    """The part that the values of its kind and its options mean; a stem or a head takes the shared `act` too."""
    kind: Any = PARTS[part][0].find(values[part])
    options: dict[str, Value] = dict(fixed)
    for attribute, option in _spelled(part, kind):
        if attribute in values:
            options[option] = values[attribute]
        elif option == SHARED_ACT and part in ENDS and SHARED_ACT in values:
            options[option] = values[SHARED_ACT]
    return _made(kind, tuple(options.items()), tuple(map(type, options.values())))


@lru_cache(maxsize=1 << 14)  # a search takes the same parts again and again; the types tell 1 from True
def _made(kind: Any, options: tuple[tuple[str, Value], ...], types: tuple[type, ...]) -> Any:
    return kind.make(dict(options))


@lru_cache(maxsize=1024)
def _spelled(part: str, kind: Any) -> tuple[tuple[str, str], ...]:
    prefix = PARTS[part][1]
    return tuple((f"{prefix}{option}", option) for option in kind.options() if f"{prefix}{option}" not in FROM_DATA)


def pixels(value: Value, side: int) -> int:
    """A resolution in pixels: a whole number is that, a fraction is a share of the data's own side, at least 4."""
    if isinstance(value, int):
        return value
    return max(MIN_PIXELS, round(float(value) * side))


def check_value(attribute: str, value: Value) -> None:
    """UsageError if no network at all can have this value of an attribute."""
    if attribute in PARTS:
        PARTS[attribute][0].find(value)
    elif attribute in ("depth", "width", "stride"):
        sizes: dict[str, Any] = {"depth": 1, "width": 1, attribute: value}
        Stage(next(iter(BRANCHES.values()))(), **sizes)
    elif attribute == "resolution":
        _check_resolution(value)
    elif (found := option_of(attribute)) is not None:
        part, option = found
        refusals = []
        for kind in PARTS[part][0].values():
            if option in kind.options():
                try:
                    kind.make({option: value})
                    return
                except UsageError as error:
                    refusals.append(error)
        raise refusals[-1]
    else:
        regnet.check(attribute, value)


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
    """The place and the attribute of a line's key: `stage2.depth` -> ("2", "depth"), `stage*.depth` -> ("*", ...); "" is all."""
    match = re.fullmatch(r"(?:stage(\*|\d{1,4})\.)?(\w+)", key)
    if match is None:
        return "", key
    place = match[1] or ""
    return (str(int(place)) if place.isdigit() else place), match[2]


def check_key(key: str, design: str) -> None:
    """UsageError for a key that no line of a space of this design can have."""
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
    """Slots in the order in which they are chosen: what all stages share, then stage by stage; first what others depend on.

    UsageError for a line that can't be one, or that has values which no network can have.
    """
    shared: dict[str, Domain] = {name: value for name, value in DEFAULTS.items() if name not in domains}
    if design == "regnet" and "stride" in shared:
        shared["stride"] = 2
    own: dict[int, dict[str, Domain]] = {number: {} for number in range(1, stages + 1)}
    for wild in (True, False):  # the narrower line is laid over the wider one
        for key, domain in domains.items():
            try:
                check_key(key, design)
            except UsageError:
                _check_kinds(domains)  # an option of a part that is not registered is missed because the part is
                raise
            place, attribute = split_key(key)
            if not place:
                shared[attribute] = domain
            elif place == "*" and wild:
                for number in own:
                    own[number][attribute] = domain
            elif place != "*" and not wild:
                if int(place) not in own:
                    raise UsageError(f"{key}: there are {stages} stages")
                own[int(place)][attribute] = domain
    # What every stage says for itself, whatever is chosen, has no shared value left to search; but the ends may read `act`.
    always = ({name for name, domain in lines.items() if not conditional(domain)} for lines in own.values())
    unread = set.intersection(*always) - ({SHARED_ACT} if _ends_reading(shared) else set())
    shared = {name: domain for name, domain in shared.items() if name not in unread}
    found = [Slot(name, 0, name, shared[name], _shared_readers(name, shared, own, design)) for name in _ordered(shared)]
    for number, lines in own.items():
        found += [Slot(f"stage{number}.{name}", number, name, lines[name], _readers(name)) for name in _ordered(lines)]
    _check_slots(found)
    return _narrowed(found)


def _check_kinds(domains: Mapping[str, Domain]) -> None:
    """UsageError for a kind of part that there isn't."""
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
    """`block` first, then as written, save that what an attribute depends on comes before it."""
    done: list[str] = []
    met: set[str] = set()

    def visit(name: str) -> None:
        if name not in lines or name in met:
            return
        met.add(name)
        for other in _depends(name, lines[name]):
            visit(other)
        done.append(name)

    for name in sorted(lines, key=lambda name: name != "block"):
        visit(name)
    return done


def _depends(name: str, domain: Domain) -> Iterable[str]:
    if (found := option_of(name)) is not None:
        yield found[0]
    if name == SHARED_ACT:
        yield from ENDS
    if isinstance(domain, Knob):
        yield from (other for other, _ in domain.when)


def _readers(name: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = option_of(name)
    return () if found is None else ((found[0], _having(*found)),)


def _having(part: str, option: str) -> tuple[str, ...]:
    return tuple(name for name, kind in PARTS[part][0].items() if option in kind.options())


def _ends_reading(shared: Mapping[str, Domain]) -> list[str]:
    """The ends that take the shared `act` because no line of their own always says it."""
    own = (f"{part}_{SHARED_ACT}" for part in ENDS)
    return [
        part
        for part, name in zip(ENDS, own, strict=True)
        if (name not in shared or conditional(shared[name]))
        and SHARED_ACT in shared
        and any(value in _having(part, SHARED_ACT) for value in values_of(shared[part]))
    ]


def _shared_readers(
    name: str, shared: Mapping[str, Domain], own: Mapping[int, Mapping[str, Domain]], design: str
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Where an option that all stages share is read: by the shared kind of part, or by what a stage chooses for itself."""
    if design == "regnet" and name in REGNET_ATTRIBUTES:
        return ()
    readers = _readers(name)
    if not readers or readers[0][0] in ENDS:
        return readers
    part, kinds = readers[0]
    for lines in own.values():
        silent = name not in lines or conditional(lines[name])
        if silent and part in lines and set(values_of(lines[part])) & set(kinds):
            return ()  # which kind that stage takes is chosen later
    everywhere = all(name in lines and not conditional(lines[name]) for lines in own.values())
    found = () if everywhere or part not in shared else readers
    if name == SHARED_ACT:
        found += tuple((end, _having(end, SHARED_ACT)) for end in _ends_reading(shared))
    return found or ((part, ()),)


def _check_slots(slots: Iterable[Slot]) -> None:
    """What can be wrong in single lines: a condition on what isn't chosen before, a value that no part takes."""
    slots = list(slots)
    own = {(slot.stage, slot.attribute) for slot in slots}
    before: set[tuple[int, str]] = set()
    for slot in slots:
        knob = slot.domain if isinstance(slot.domain, Knob) else Knob((slot.domain,))
        for name, _ in knob.when:
            decided_by = (slot.stage, name) if (slot.stage, name) in own else (0, name)
            if decided_by not in before:
                raise UsageError(f"{slot.key}: its condition names {name!r}, which is not chosen before it")
        before.add((slot.stage, slot.attribute))
        try:
            for name, values in (*knob.when, (slot.attribute, knob.values)):
                for value in values:
                    check_value(name, value)
        except UsageError as error:
            raise UsageError(f"{slot.key}: {error}") from None


def _narrowed(slots: list[Slot]) -> list[Slot]:
    """The slots without the knobs that can never exist, and without the conditions that always hold."""
    while True:
        places = {(slot.stage, slot.attribute): slot for slot in slots}
        kept = [slot for slot in (_simplified(slot, places) for slot in slots) if slot is not None]
        if kept == slots:
            return kept
        slots = kept


def _simplified(slot: Slot, places: Mapping[tuple[int, str], Slot]) -> Slot | None:
    if not isinstance(slot.domain, Knob):
        return slot
    when = []
    for name, values in slot.domain.when:
        possible, certain = _possible(places, slot.stage, name)
        if not set(possible) & set(values):
            # What no network can be without is missed elsewhere, with its line in the message.
            missed = slot.attribute in REQUIRED and (slot.stage == 0 or (0, slot.attribute) not in places)
            return slot if missed else None
        if not certain or not set(possible) <= set(values):
            when.append((name, values))
    readers: list[tuple[str, tuple[str, ...]]] = []
    for part, kinds in slot.readers:
        possible, certain = _possible(places, slot.stage, part)
        met = tuple(str(kind) for kind in possible if kind in kinds)
        told = next((values for name, values in when if name == part), None)
        if (certain and len(met) == len(possible)) or (told is not None and set(told) <= set(kinds)):
            readers = []
            break
        if met:
            readers.append((part, met))
    else:
        if slot.readers and not readers:
            return None
    return replace(slot, domain=replace(slot.domain, when=tuple(when)), readers=tuple(readers))


def _possible(places: Mapping[tuple[int, str], Slot], stage: int, name: str) -> tuple[tuple[Value, ...], bool]:
    """Values that an attribute may have at a stage, and whether it has one for sure."""
    values: dict[Value, None] = {}
    for place in dict.fromkeys((stage, 0)):  # the stage's own line, and under it the shared one
        slot = places.get((place, name))
        if slot is not None:
            values.update(dict.fromkeys(values_of(slot.domain)))
            if not conditional(slot.domain) and not slot.readers:
                return tuple(values), True
    return tuple(values), False
