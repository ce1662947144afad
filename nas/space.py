"""Search spaces: YAML -> SearchSpace -> Choices -> Architecture.

A space gives every attribute of a network a fixed value or a knob (`nas.knobs`). An attribute of the stages (`depth`,
`width`, `stride`, `block`, `shortcut`, `merge`, and each option of a block) may be said for one stage (`stage2.depth`), for
each stage by itself (`stage*.depth`) or once for all (`depth`); the narrowest line wins. The stem's and the head's are
`stem`, `stem_width`, `head`. A knob exists only where it means something: where its `when` holds and the chosen block has
that option.
"""

from __future__ import annotations

import importlib.resources
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nas import budget as budgets
from nas.architecture import Architecture, Stage, parse_yaml, read_text
from nas.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.budget import METRICS, Budget
from nas.cost import Cost
from nas.errors import UsageError
from nas.knobs import Choices, Knob, Value, parse
from nas.network import cost_of
from nas.registry import Registry, did_you_mean

STAGE_ATTRIBUTES = ("depth", "width", "stride", "block", "shortcut", "merge")
NETWORK_ATTRIBUTES = ("stem", "stem_width", "head")
DEFAULTS: Mapping[str, Value] = {
    "stem": "cifar",
    "head": "linear",
    "merge": "add",
    "shortcut": "projection",
    "stride": 1,
}
MAX_STAGES = 16
Domain = Knob | Value


@dataclass(frozen=True, slots=True)
class Slot:
    """One attribute at one place: its key in `Choices`, its stage (0: none), its name and its domain."""

    key: str
    stage: int
    attribute: str
    domain: Domain


@dataclass(frozen=True)
class SearchSpace:
    """A finite set of architectures for images of one size, within a budget.

    Made by `nas.load_space`; `for_data` and `within` give the same space for other images and budgets.
    """

    name: str
    description: str
    variant: str
    slots: tuple[Slot, ...]
    stages: int
    resolution: int
    channels: int
    classes: int
    budget: Budget = Budget()  # noqa: RUF009 - frozen
    source: str = field(default="", repr=False)  # the YAML text, which a run keeps

    def suggest(self, pick: Callable[[str, Knob], Value]) -> Choices:
        """Choices by asking `pick(key, knob)` for each knob that exists, given what was picked before it."""
        return self._walk(pick)[0]

    def any(self, rng: random.Random) -> Choices:
        """Uniform choices, knob by knob, without regard to the budget."""
        return self.suggest(lambda key, knob: knob.sample(rng))

    def sample(self, seed: int) -> Choices:
        """Random choices within the budget; the same for the same seed. UsageError if nothing meets the budget."""
        return budgets.sample(self, random.Random(seed))

    def completed(self, choices: Choices, rng: random.Random) -> Choices:
        """`choices` made whole: keys without a knob dropped, knobs without a value drawn at random."""
        return self.suggest(lambda key, knob: choices[key] if key in choices else knob.sample(rng))

    def architecture(self, choices: Choices) -> Architecture:
        """The network that these choices mean, canonical. UsageError for a missing, unknown or foreign value."""
        made, resolved = self._walk(lambda key, knob: _chosen(choices, key, knob))
        surplus = [key for key in choices if key not in made]
        if surplus:
            raise UsageError(f"choices: {surplus[0]!r} has no meaning in space {self.name!r} beside the other choices")
        network = resolved[0]
        head = HEADS.find(network["head"]).make({"classes": self.classes})
        stem = STEMS.find(network["stem"]).make({"width": network["stem_width"]} if "stem_width" in network else {})
        stages = tuple(_stage({**network, **resolved[number]}) for number in range(1, self.stages + 1))
        return Architecture(stem, stages, head, self.resolution, self.channels).canonical()

    def cost(self, choices: Choices) -> Cost:
        """Exact cost of the network that these choices mean."""
        return cost_of(self.architecture(choices))

    def feasible(self, choices: Choices) -> bool:
        """Whether the network lies within the budget."""
        return self.budget.violation(self.cost(choices)) == 0

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """All searched values by key, those that exist for some choices only included."""
        return {slot.key: slot.domain for slot in self.slots if isinstance(slot.domain, Knob)}

    def knob(self, key: str) -> Knob:
        return self.knobs[key]

    def size(self) -> int:
        """Number of different `Choices`, budgets aside, counted exactly.

        Choices that build the same network (two shortcut kinds where no stage changes the shape) count separately.
        """
        controlling = {"block"} | {name for knob in self.knobs.values() for name, _ in knob.when}
        return self._count([slot for slot in self.slots if slot.stage == 0], {}, controlling, last=False)

    def within(self, budget: Budget) -> SearchSpace:
        """The same space with these bounds in place of its own."""
        return replace(self, budget=self.budget.merged(budget))

    def for_data(self, *, resolution: int, channels: int, classes: int) -> SearchSpace:
        """The same space for other images: the variant that fits their size, with the budget kept."""
        data = parse_yaml(self.source, self.name)
        space = _parse(data, self.name, self.source, resolution, channels, classes, None)
        return space.within(self.budget)

    def _walk(self, pick: Callable[[str, Knob], Value]) -> tuple[Choices, dict[int, dict[str, Value]]]:
        choices: Choices = {}
        resolved: dict[int, dict[str, Value]] = {number: {} for number in range(self.stages + 1)}
        for slot in self.slots:
            domain = slot.domain
            if not isinstance(domain, Knob):
                resolved[slot.stage][slot.attribute] = domain
            elif _exists(slot, domain, {**resolved[0], **resolved[slot.stage]}):
                choices[slot.key] = resolved[slot.stage][slot.attribute] = pick(slot.key, domain)
        return choices, resolved

    def _count(self, slots: list[Slot], chosen: dict[str, Value], controlling: set[str], last: bool) -> int:
        if not slots:
            if last:
                return 1
            total = 1
            for number in range(1, self.stages + 1):
                total *= self._count(
                    [slot for slot in self.slots if slot.stage == number], chosen, controlling, last=True
                )
            return total
        slot, rest = slots[0], slots[1:]
        if not isinstance(slot.domain, Knob):
            return self._count(rest, {**chosen, slot.attribute: slot.domain}, controlling, last)
        if not _exists(slot, slot.domain, chosen):
            return self._count(rest, chosen, controlling, last)
        if slot.attribute not in controlling:
            return len(slot.domain) * self._count(rest, chosen, controlling, last)
        return sum(
            self._count(rest, {**chosen, slot.attribute: value}, controlling, last) for value in slot.domain.values
        )


def _chosen(choices: Choices, key: str, knob: Knob) -> Value:
    if key not in choices:
        raise UsageError(f"choices: {key!r} is missing")
    if choices[key] not in knob.values:
        raise UsageError(f"choices: {key} can't be {choices[key]!r}; it is one of {', '.join(map(str, knob.values))}")
    return choices[key]


def _exists(slot: Slot, knob: Knob, chosen: Mapping[str, Value]) -> bool:
    if any(chosen.get(name) not in values for name, values in knob.when):
        return False
    if slot.attribute in STAGE_ATTRIBUTES or slot.attribute in NETWORK_ATTRIBUTES or "block" not in chosen:
        return True
    return slot.attribute in BRANCHES[str(chosen["block"])].options()


def _stage(values: Mapping[str, Value]) -> Stage:
    branch = BRANCHES.find(values["block"])
    options = {name: values[name] for name in branch.options() if name in values}
    return Stage(
        branch=branch.make(options),
        depth=values["depth"],  # type: ignore[arg-type]  # Stage checks that it is a whole number
        width=values["width"],  # type: ignore[arg-type]
        stride=values["stride"],  # type: ignore[arg-type]
        shortcut=SHORTCUTS.find(values["shortcut"]).make({}),
        merge=MERGES.find(values["merge"]).make({}),
    )


def folder() -> Path:
    """Where the shipped spaces lie: inside the installed package or, in a checkout, beside it."""
    installed = Path(str(importlib.resources.files("nas"))) / "search_spaces"
    return installed if installed.is_dir() else installed.parent.parent / "search_spaces"


def names() -> list[str]:
    """Names of the shipped spaces."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def load_space(
    name_or_path: str | Path, *, resolution: int = 32, channels: int = 3, classes: int = 10, variant: str | None = None
) -> SearchSpace:
    """The shipped space of this name, or the space in a YAML file, for square images of `resolution` pixels.

    A space may have variants for small and large images: the first whose `max_resolution` holds is taken, or `variant`.
    UsageError that names the line's key for anything wrong in the file.
    """
    text_name = str(name_or_path)
    if text_name in names():
        path = folder() / f"{text_name}.yaml"
    elif re.fullmatch(r"[\w-]{1,200}", text_name) and not Path(text_name).exists():
        known = f"{', '.join(names())}, or the path of a YAML file"
        raise UsageError(f"unknown space {text_name!r}{did_you_mean(text_name, names())}; known: {known}")
    else:
        path = Path(name_or_path)
    where, text = path.name, read_text(path)
    return _parse(parse_yaml(text, where), where, text, resolution, channels, classes, variant)


def space_from_text(text: str, *, resolution: int, channels: int, classes: int) -> SearchSpace:
    """The space that a run kept as text."""
    return _parse(parse_yaml(text, "space"), "space", text, resolution, channels, classes, None)


def _parse(
    data: object, where: str, source: str, resolution: int, channels: int, classes: int, variant: str | None
) -> SearchSpace:
    known = ("space", "description", "stages", "values", "budgets", "variants")
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: no search space: expected a mapping of {', '.join(known)}")
    fields = _keys(data, where, known)
    if not isinstance(fields.get("space"), str):
        raise UsageError(f"{where}: no search space: the key `space` with its name is missing")
    chosen = _variant(fields.get("variants", []), where, resolution, variant)
    stages = chosen.get("stages", fields.get("stages"))
    if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= MAX_STAGES:
        raise UsageError(f"{where}: stages must be a whole number from 1 to {MAX_STAGES}, not {stages!r}")
    lines: dict[str, Any] = {}
    for part in (fields, chosen):
        values = part.get("values", {})
        if not isinstance(values, Mapping):
            raise UsageError(f"{where}: values must be a mapping, one line an attribute")
        lines.update({str(key): value for key, value in values.items()})
    domains = {key: parse(value, f"{where}: {key if key.isprintable() else repr(key)}") for key, value in lines.items()}
    slots = tuple(_slots(domains, stages, where))
    space = SearchSpace(
        name=fields["space"],
        description=" ".join(str(fields.get("description", "")).split()),
        variant=str(chosen.get("name", "")),
        slots=slots,
        stages=stages,
        resolution=resolution,
        channels=channels,
        classes=classes,
        budget=_budget((fields.get("budgets"), chosen.get("budgets")), where),
        source=source,
    )
    _check(space, where)
    return space


def _keys(data: object, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected a mapping of {', '.join(known)}, not {data!r:.80}")
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, list(known))}; known: {', '.join(known)}")
    return data


def _variant(variants: object, where: str, resolution: int, name: str | None) -> Mapping[str, Any]:
    if not isinstance(variants, list):
        raise UsageError(f"{where}: variants must be a list")
    known = ("name", "max_resolution", "stages", "values", "budgets")
    parsed = [_keys(entry, f"{where}: variant {k}", known) for k, entry in enumerate(variants, 1)]
    if name is not None:
        for entry in parsed:
            if entry.get("name") == name:
                return entry
        raise UsageError(
            f"{where}: no variant {name!r}; it has: {', '.join(str(entry.get('name')) for entry in parsed) or 'none'}"
        )
    for entry in parsed:
        limit = entry.get("max_resolution", resolution)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise UsageError(f"{where}: max_resolution must be a whole number of pixels, not {limit!r}")
        if resolution <= limit:
            return entry
    if parsed:
        raise UsageError(f"{where}: no variant takes images of {resolution} px")
    return {}


def _budget(parts: Sequence[object], where: str) -> Budget:
    """The budget that the file says, each part laid over the one before."""
    total = Budget()
    for data in parts:
        bounds: dict[str, tuple[float | None, float | None]] = {}
        spans = {} if data is None else _keys(data, f"{where}: budgets", (*METRICS, "flops"))
        for metric, span in spans.items():
            fields = _keys(span, f"{where}: budgets: {metric}", ("min", "max"))
            for end, value in fields.items():
                if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                    hint = " (YAML reads 2e6 as a word; write 2.0e+6)" if isinstance(value, str) else ""
                    raise UsageError(f"{where}: budgets: {metric}: {end} must be a number, not {value!r}{hint}")
            name = "macs" if metric == "flops" else metric
            if name in bounds:
                raise UsageError(f"{where}: budgets: flops and macs are the same count; write one of them")
            bounds[name] = (fields.get("min"), fields.get("max"))
        try:
            total = total.merged(Budget(bounds))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
    return total


def _slots(domains: Mapping[str, Domain], stages: int, where: str) -> Iterator[Slot]:
    """Slots in the order in which they are resolved: what all stages share, then stage by stage; `block` before its options."""
    known = {
        *STAGE_ATTRIBUTES,
        *NETWORK_ATTRIBUTES,
        *(name for branch in BRANCHES.values() for name in branch.options()),
    }
    shared: dict[str, Domain] = {**{name: value for name, value in DEFAULTS.items() if name not in domains}}
    own: dict[int, dict[str, Domain]] = {number: {} for number in range(1, stages + 1)}
    for wild in (True, False):  # the narrower line is laid over the wider one
        for key, domain in domains.items():
            match = re.fullmatch(r"(?:stage(\*|\d+)\.)?(\w+)", key)
            if match is None or match[2] not in known or (match[1] and match[2] in NETWORK_ATTRIBUTES):
                near = did_you_mean(key.split(".")[-1], sorted(known))
                raise UsageError(f"{where}: unknown attribute {key!r}{near}; known: {', '.join(sorted(known))}")
            if match[1] is None:
                shared[match[2]] = domain
            elif match[1] == "*" and wild:
                for number in own:
                    own[number][match[2]] = domain
            elif match[1] != "*" and not wild:
                if int(match[1]) not in own:
                    raise UsageError(f"{where}: {key}: there are {stages} stages")
                own[int(match[1])][match[2]] = domain
    # What every stage says for itself, whatever is chosen, has no shared value left to search.
    always = ({name for name, domain in lines.items() if not _conditional(domain)} for lines in own.values())
    everywhere = set.intersection(*always)
    for name in sorted((name for name in shared if name not in everywhere), key=lambda name: name != "block"):
        yield Slot(name, 0, name, shared[name])
    for number, attributes in own.items():
        for name in sorted(attributes, key=lambda name: name != "block"):
            yield Slot(f"stage{number}.{name}", number, name, attributes[name])


def _conditional(domain: Domain) -> bool:
    return isinstance(domain, Knob) and bool(domain.when)


def _check(space: SearchSpace, where: str) -> None:
    """What can be wrong in a space although every line of it reads well; found before anything is searched."""
    _check_complete(space, where)
    own = {(slot.stage, slot.attribute) for slot in space.slots}
    before: set[tuple[int, str]] = set()
    for slot in space.slots:
        knob = slot.domain if isinstance(slot.domain, Knob) else Knob((slot.domain,))
        for name, _ in knob.when:
            decided_by = (slot.stage, name) if (slot.stage, name) in own else (0, name)
            if decided_by not in before:
                raise UsageError(f"{where}: {slot.key}: its condition names {name!r}, which is not chosen before it")
        before.add((slot.stage, slot.attribute))
        try:
            for name, values in (*knob.when, (slot.attribute, knob.values)):
                for value in values:
                    _try(name, value)
        except UsageError as error:
            raise UsageError(f"{where}: {slot.key}: {error}") from None
    rng = random.Random(0)
    try:
        for key, knob in space.knobs.items():
            for value in (knob.values[0], knob.values[-1]):
                space.cost(space.completed({**space.any(rng), key: value}, rng))
        for _ in range(32):
            space.cost(space.any(rng))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _check_complete(space: SearchSpace, where: str) -> None:
    """Whether the network and each stage have, whatever is chosen, all that they can't be without."""
    needed = [(number, name) for number in range(1, space.stages + 1) for name in STAGE_ATTRIBUTES]
    for number, name in (*needed, (0, "stem"), (0, "head")):
        slots = [slot for slot in space.slots if slot.attribute == name and slot.stage in (0, number)]
        if not slots:
            raise UsageError(
                f"{where}: stage {number} has no {name}; write {name}, stage*.{name} or stage{number}.{name}"
            )
        if all(_conditional(slot.domain) for slot in slots):
            raise UsageError(
                f"{where}: {slots[-1].key}: where its condition doesn't hold there is no {name}; drop the condition"
            )


def _try(attribute: str, value: Value) -> None:
    """UsageError if no network at all can have this value of an attribute."""
    registries: dict[str, Registry[Any]] = {
        "block": BRANCHES,
        "shortcut": SHORTCUTS,
        "merge": MERGES,
        "stem": STEMS,
        "head": HEADS,
    }
    if attribute in registries:
        registries[attribute].find(value)
    elif attribute in STAGE_ATTRIBUTES:
        sizes: dict[str, Any] = {"depth": 1, "width": 1, attribute: value}
        Stage(next(iter(BRANCHES.values()))(), **sizes)
    elif attribute in NETWORK_ATTRIBUTES:
        for stem in STEMS.values():
            stem.make({"width": value})
    else:
        refusals = []
        for branch in BRANCHES.values():
            if attribute in branch.options():
                try:
                    branch.make({attribute: value})
                    return
                except UsageError as error:
                    refusals.append(error)
        raise refusals[-1]
