"""Search spaces: YAML -> SearchSpace -> Choices -> Architecture.

A space gives every attribute of a network (`nas.spaces.attributes`) a fixed value or a knob (`nas.spaces.knobs`). An attribute of the
stages may be given for one stage (`stage2.depth`), for each stage separately (`stage*.depth`), or once for all stages (`depth`). The
narrowest line wins. A knob exists only if its `when` condition holds and a part that was chosen has that option. In a space with
RegNet's design, the stages follow from a few numbers of the network (`nas.networks.regnet_design`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks._base import Value
from nas.networks.build import cost_of
from nas.networks.cost import Cost
from nas.networks.regnet_design import quantised_linear
from nas.spaces import sampling as budgets
from nas.spaces.attributes import (
    DEFAULTS,
    NETWORK_ATTRIBUTES,
    PARTS,
    REGNET_ATTRIBUTES,
    STAGE_ATTRIBUTES,
    Slot,
    conditional,
    make_part,
    pixels,
    values_of,
)
from nas.spaces.budget import Budget
from nas.spaces.document import MAX_STAGES
from nas.spaces.knobs import Choices, Knob
from nas.spaces.slots import slots_of
from nas.spaces.yaml_format import SpaceText, find, folder, names, read
from nas.utils.registry import Registry
from nas.utils.yaml_text import read_text

__all__ = [
    "DEFAULTS",
    "MAX_STAGES",
    "NETWORK_ATTRIBUTES",
    "REGNET_ATTRIBUTES",
    "STAGE_ATTRIBUTES",
    "SearchSpace",
    "Slot",
    "folder",
    "load_space",
    "names",
    "space_from_text",
]

Values = dict[str, Value]  # by attribute name


@dataclass(frozen=True)
class SearchSpace:
    """A finite set of architectures for images of one size, within a budget.

    Made by `nas.load_space`. `for_data`, `within` and `narrowed` return the same space for other images, with other budgets and with
    other lines. `resolution` is that of the images; the resolution of a network may be a knob.
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
    source: str = field(default="", repr=False)  # self-contained YAML text, which a run keeps
    design: str = "stages"

    def suggest(self, pick: Callable[[str, Knob], Value]) -> Choices:
        """Choices from `pick(key, knob)`, called for each knob that exists given the earlier picks."""
        return self._walk(pick)[0]

    def any(self, rng: random.Random) -> Choices:
        """Random choices, uniform for each knob. Ignores the budget."""
        return self.suggest(lambda key, knob: knob.sample(rng))

    def sample(self, seed: int) -> Choices:
        """Random choices within the budget, reproducible by the seed. UsageError if nothing meets the budget."""
        return budgets.sample(self, random.Random(seed))

    def completed(self, choices: Choices, rng: random.Random) -> Choices:
        """Valid choices from `choices`: keys without a knob are dropped, knobs without a value are drawn at random."""
        return self.suggest(lambda key, knob: choices[key] if key in choices else knob.sample(rng))

    def architecture(self, choices: Choices) -> Architecture:
        """The canonical network of these choices. UsageError for a missing or unknown key or a value that its knob does not have."""
        used, values = self._walk(lambda key, knob: _chosen(choices, key, knob))
        surplus = [key for key in choices if key not in used]
        if surplus:
            raise UsageError(f"choices: {surplus[0]!r} has no meaning in space {self.name!r} with the other choices")
        network = values[0]
        stages = tuple(_stage(each) for each in (_regnet(values) if self.design == "regnet" else values[1:]))
        return Architecture(
            stem=make_part("stem", network),
            stages=stages,
            head=make_part("head", network, classes=self.classes),
            resolution=pixels(network.get("resolution", self.resolution), self.resolution),
            channels=self.channels,
        ).canonical()

    def cost(self, choices: Choices) -> Cost:
        """Exact cost of the network of these choices."""
        return cost_of(self.architecture(choices))

    def feasible(self, choices: Choices) -> bool:
        """Whether the network of these choices is within the budget."""
        return self.budget.violation(self.cost(choices)) == 0

    def parts(self) -> Iterator[tuple[Registry[Any], str]]:
        """Registry and name of every kind of part that its networks may have."""
        for slot in self.slots:
            if slot.attribute in PARTS:
                yield from ((PARTS[slot.attribute][0], str(kind)) for kind in values_of(slot.domain))

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """All knobs by key, including those that exist only for some choices."""
        return {slot.key: slot.domain for slot in self.slots if isinstance(slot.domain, Knob)}

    def knob(self, key: str) -> Knob:
        return self.knobs[key]

    def size(self) -> int:
        """The exact number of different `Choices`, without regard to budgets.

        Choices that build the same network count separately, as two kinds of shortcut where no stage changes the shape.
        """
        knobs = [slot for slot in self.slots if isinstance(slot.domain, Knob)]
        controlling = {name for knob in self.knobs.values() for name, _ in knob.when}
        controlling |= {part for slot in knobs for part, _ in slot.readers}
        return self._count(list(self._by_stage[0]), {}, controlling, last=False)

    def within(self, budget: Budget) -> SearchSpace:
        """The same space; these bounds replace those of its budget."""
        return replace(self, budget=self.budget.merged(budget))

    def narrowed(self, overrides: Mapping[str, object]) -> SearchSpace:
        """The same space with these lines laid over its lines: `{"stage*.block": "bottleneck", "depth": [1, 2]}`."""
        if not overrides:
            return self
        variant = self.variant or None
        return replace(
            self._reread(self.resolution, self.channels, self.classes, variant, overrides), budget=self.budget
        )

    def for_data(self, *, resolution: int, channels: int, classes: int) -> SearchSpace:
        """The same space for other images: the variant for their size, with the same budget."""
        return self._reread(resolution, channels, classes).within(self.budget)

    def _reread(
        self,
        resolution: int,
        channels: int,
        classes: int,
        variant: str | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> SearchSpace:
        text = read(self.source, self.name, resolution=resolution, variant=variant, overrides=overrides)
        return _made(text, self.name, resolution, channels, classes)

    @cached_property
    def _by_stage(self) -> tuple[tuple[Slot, ...], ...]:
        """The slots by stage; those of the network and of all stages together are at index 0."""
        return tuple(tuple(slot for slot in self.slots if slot.stage == k) for k in range(self.stages + 1))

    def _walk(self, pick: Callable[[str, Knob], Value]) -> tuple[Choices, list[Values]]:
        """The choices, and all values by stage: those of the network at index 0, then those of each stage with the shared ones."""
        choices: Choices = {}
        resolved: list[Values] = []
        for slots in self._by_stage:
            values = dict(resolved[0]) if resolved else {}
            for slot in slots:
                domain = slot.domain
                if not isinstance(domain, Knob):
                    values[slot.attribute] = domain
                elif slot.exists(values):
                    choices[slot.key] = values[slot.attribute] = pick(slot.key, domain)
            resolved.append(values)
        return choices, resolved

    def _count(self, slots: list[Slot], chosen: Values, controlling: set[str], last: bool) -> int:
        if not slots:
            total = 1
            for stage in () if last else self._by_stage[1:]:
                total *= self._count(list(stage), chosen, controlling, last=True)
            return total
        slot, rest = slots[0], slots[1:]
        if not isinstance(slot.domain, Knob):
            return self._count(rest, {**chosen, slot.attribute: slot.domain}, controlling, last)
        if not slot.exists(chosen):
            return self._count(rest, chosen, controlling, last)
        if slot.attribute not in controlling:
            return len(slot.domain) * self._count(rest, chosen, controlling, last)
        return sum(
            self._count(rest, {**chosen, slot.attribute: value}, controlling, last) for value in slot.domain.values
        )


def _chosen(choices: Choices, key: str, knob: Knob) -> Value:
    if key not in choices:
        raise UsageError(f"choices: {key!r} is missing")
    value = choices[key]
    for known in knob.values:
        # The integer 1 stands for the share 1.0, but neither True nor 1.0 stands for a count.
        if known == value and (type(known) is type(value) or (type(known) is float and type(value) is int)):
            return known
    raise UsageError(f"choices: {key} can't be {value!r}; it is one of {', '.join(map(str, knob.values))}")


def _stage(values: Mapping[str, Any]) -> Stage:
    return Stage(
        branch=make_part("block", values),
        depth=values["depth"],  # Stage checks that it is a whole number
        width=values["width"],
        stride=values["stride"],
        shortcut=make_part("shortcut", values),
        merge=make_part("merge", values),
    )


def _regnet(values: list[Values]) -> Iterator[dict[str, Any]]:
    """The values of each stage in RegNet's design. Stages beyond those of the space have stride 1."""
    network: dict[str, Any] = values[0]
    stages = quantised_linear(*(network[name] for name in REGNET_ATTRIBUTES))
    if len(stages) > MAX_STAGES:
        numbers = ", ".join(f"{name} {network[name]}" for name in REGNET_ATTRIBUTES)
        raise UsageError(f"{numbers} give {len(stages)} stages, of at most {MAX_STAGES}; a larger wm gives fewer")
    for number, (depth, width, group_width) in enumerate(stages, 1):
        stage = values[number] if number < len(values) else {**network, "stride": 1}
        yield {**stage, "depth": depth, "width": width, "group_width": group_width, "cardinality": width // group_width}


def load_space(
    name_or_path: str | Path,
    *,
    resolution: int = 32,
    channels: int = 3,
    classes: int = 10,
    variant: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> SearchSpace:
    """The shipped space of this name, or the space in a YAML file, for square images of `resolution` pixels.

    A space may have variants for small and large images. `variant` names one; otherwise it is the first whose `max_resolution` is not
    below `resolution`. `overrides` are lines laid over the space's `values`: `{"stage*.block": "bottleneck", "depth": [1, 2]}`.
    UsageError that names the key of the line for every mistake in the file or in the overrides.
    """
    path = find(name_or_path)
    text = read(
        read_text(path),
        path.name,
        resolution=resolution,
        parent=path.parent,
        path=path,
        variant=variant,
        overrides=overrides,
    )
    return _made(text, path.name, resolution, channels, classes)


def space_from_text(
    text: str, *, resolution: int, channels: int, classes: int, overrides: Mapping[str, object] | None = None
) -> SearchSpace:
    """The space of a text that a run kept."""
    return _made(
        read(text, "space", resolution=resolution, overrides=overrides), "space", resolution, channels, classes
    )


def _made(text: SpaceText, where: str, resolution: int, channels: int, classes: int) -> SearchSpace:
    try:
        space = SearchSpace(
            name=text.name,
            description=text.description,
            variant=text.variant,
            slots=tuple(slots_of(text.domains, text.stages, text.design)),
            stages=text.stages,
            resolution=resolution,
            channels=channels,
            classes=classes,
            budget=text.budget,
            source=text.source,
            design=text.design,
        )
        _check(space)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return space


def _check(space: SearchSpace) -> None:
    """UsageError for a mistake in a space whose lines are valid one by one.

    Builds random networks with each value of each knob; of a knob of numbers, only with the ends.
    """
    _check_complete(space)
    if space.design == "regnet":
        _check_regnet(space)
    rng = random.Random(0)
    for key, knob in space.knobs.items():
        values = (knob.values[0], knob.values[-1]) if knob.ordinal else knob.values
        for value in values:
            space.cost(space.completed({**space.any(rng), key: value}, rng))
    for _ in range(32):
        space.cost(space.any(rng))


def _check_complete(space: SearchSpace) -> None:
    """UsageError if, for some choices, the network or a stage lacks an attribute that it needs."""
    staged = ("stride", "block", "shortcut", "merge") if space.design == "regnet" else STAGE_ATTRIBUTES
    needed = [(number, name) for number in range(1, space.stages + 1) for name in staged]
    network = ("stem", "head", *(REGNET_ATTRIBUTES if space.design == "regnet" else ()))
    for number, name in (*needed, *((0, name) for name in network)):
        slots = [slot for slot in space.slots if slot.attribute == name and slot.stage in (0, number)]
        if not slots and number == 0:
            raise UsageError(f"the network has no {name}")
        if not slots:
            raise UsageError(f"stage {number} has no {name}; write {name}, stage*.{name} or stage{number}.{name}")
        if all(conditional(slot.domain) for slot in slots):
            raise UsageError(
                f"{slots[-1].key}: where its condition doesn't hold there is no {name}; drop the condition"
            )


def _check_regnet(space: SearchSpace) -> None:
    """UsageError if a block lacks an option that the design sets, or if a network may have more than `MAX_STAGES` stages."""
    domains = {slot.attribute: slot.domain for slot in space.slots if slot.stage == 0}
    for kind in values_of(domains["block"]):
        options = PARTS["block"][0].find(kind).options()
        if not {"cardinality", "group_width"} <= set(options):
            raise UsageError(f"block: {kind} has no cardinality and group_width, which design regnet sets")
    # The number of stages rises with network_depth and falls with wm. With w0 and wa it may rise or fall, so all their ends are tried.
    ends = {name: (values_of(domains[name])[0], values_of(domains[name])[-1]) for name in REGNET_ATTRIBUTES}
    for w0, wa in itertools.product(ends["w0"], ends["wa"]):
        extreme: Values = {**{name: low for name, (low, _) in ends.items()}, "w0": w0, "wa": wa}
        list(_regnet([{**extreme, "network_depth": ends["network_depth"][1]}]))
