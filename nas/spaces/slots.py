"""The lines of a space as slots, in the order in which their attributes are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nas.errors import UsageError
from nas.networks.blocks._base import Value
from nas.spaces.attributes import (
    DEFAULTS,
    ENDS,
    PARTS,
    REGNET_ATTRIBUTES,
    REQUIRED,
    SHARED_ACT,
    Domain,
    Readers,
    Slot,
    check_key,
    check_value,
    conditional,
    option_of,
    split_key,
    values_of,
)
from nas.spaces.knobs import Knob


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
