"""`nas spaces`: the search spaces that ship, and one of them in detail: knobs, size, costs, and whether a budget can be met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import budget_of, budget_options, examples, json_option

if TYPE_CHECKING:
    from nas.budget import Budget, Survey
    from nas.cost import Cost
    from nas.knobs import Choices, Knob
    from nas.space import SearchSpace, Slot

LARGE = 256  # pixels; a variant without a limit is listed as it is for images of this size
NAMES = {"params": "params", "macs": "MACs", "activations": "activations"}


@click.command(
    epilog=examples(
        "nas spaces",
        "nas spaces resnext --resolution 32 --max-params 2M",
        "nas spaces my-space.yaml --resolution 224 --classes 1000 --json",
    )
)
@click.argument("name", metavar="[NAME|PATH]", required=False)
@click.option("--resolution", type=click.IntRange(4, 1 << 14), help="Side of the images in pixels.  [default: 32]")
@click.option("--classes", type=click.IntRange(2), help="Number of classes.  [default: 10]")
@budget_options
@json_option
def spaces(name: str | None, resolution: int | None, classes: int | None, as_json: bool, **bounds: int | None) -> None:
    """List the search spaces, or describe one.

    Without a name: all that ship, their variants for small and large images, and how many configurations each has. With a
    name or the path of a YAML file: the knobs, what they may be and when they exist, the exact costs that the space spans,
    and whether a budget can be met.
    """
    budget = budget_of(**bounds)
    if name is not None:
        _describe(name, resolution or 32, classes or 10, budget, as_json)
    elif budget.bounds or resolution or classes:
        raise click.UsageError(
            "--resolution, --classes and budgets go with a space: nas spaces NAME ...", click.get_current_context()
        )
    else:
        _list(as_json)


def _list(as_json: bool) -> None:
    from nas import space
    from nas.commands.output import print_json, print_table, say

    found = [(name, _variants(name)) for name in space.names()]
    if as_json:
        print_json([_listed(name, variants) for name, variants in found])
        return
    rows = []
    for name, variants in found:
        for number, (limit, variant) in enumerate(variants):
            about = "" if number else variant.description
            images = f"up to {limit} px" if limit else "larger" if number else "any"
            rows.append(("" if number else name, variant.variant, images, _large(variant.size()), about))
    print_table(("Space", "Variant", "Images", ">Configurations", "Description"), rows)
    say("\nThe variant follows from the size of the images. `nas spaces NAME` describes a space.")


def _listed(name: str, variants: list[tuple[int | None, SearchSpace]]) -> dict[str, Any]:
    sizes = [{"name": space.variant, "max_resolution": limit, "size": space.size()} for limit, space in variants]
    return {"name": name, "description": variants[0][1].description, "variants": sizes}


def _variants(name: str) -> list[tuple[int | None, SearchSpace]]:
    """A space's variants with their largest resolutions (None: no limit); the space itself if it has none."""
    from nas.architecture import parse_yaml
    from nas.space import load_space

    default = load_space(name, resolution=4)
    data: Any = parse_yaml(default.source, name)
    entries = data.get("variants") or []
    if not entries:
        return [(None, default)]
    limits = [entry.get("max_resolution") for entry in entries]
    return [
        (limit, load_space(name, resolution=limit or LARGE, variant=entry["name"]))
        for limit, entry in zip(limits, entries, strict=True)
    ]


def _describe(name: str, resolution: int, classes: int, budget: Budget, as_json: bool) -> None:
    from nas.budget import survey
    from nas.commands.output import print_json
    from nas.space import load_space

    space = load_space(name, resolution=resolution, classes=classes).within(budget)
    example = space.sample(0) if space.budget.bounds else None  # a budget that can't be met ends the command here
    found = survey(space)
    if as_json:
        print_json(_as_json(space, found, example))
    else:
        _print(space, found, example)


def _as_json(space: SearchSpace, found: Survey, example: Choices | None) -> dict[str, Any]:
    costs = {
        metric: {
            "min": getattr(found.smallest, metric),
            "median": getattr(found.median, metric),
            "max": getattr(found.largest, metric),
        }
        for metric in NAMES
    }
    return {
        "name": space.name,
        "description": space.description,
        "variant": space.variant,
        "resolution": space.resolution,
        "channels": space.channels,
        "classes": space.classes,
        "size": space.size(),
        "stages": space.stages,
        "knobs": {
            slot.key: {
                "values": list(knob.values),
                "when": {key: list(values) for key, values in _conditions(space, slot, knob).items()},
            }
            for slot, knob in _knobs(space)
        },
        "fixed": _fixed(space),
        "costs": costs,
        "samples": found.samples,
        "budget": {metric: list(ends) for metric, ends in space.budget.bounds.items()},
        "feasible_share": found.feasible,
        "example": None if example is None else {"choices": example, **_cost_dict(space.cost(example))},
    }


def _cost_dict(cost: Cost) -> dict[str, int]:
    return {metric: getattr(cost, metric) for metric in NAMES}


def _print(space: SearchSpace, found: Survey, example: Choices | None) -> None:
    from nas.commands.output import MACS_NOTE, print_table, say
    from nas.text import format_count, format_percent

    variant = f", variant {space.variant}" if space.variant else ""
    say(f"{space.name}{variant}: {space.description or 'no description'}")
    say(f"{space.size():,} configurations, for images of {space.resolution} px and {space.classes} classes\n")
    rows = []
    for slot, knob in _knobs(space):
        when = "; ".join(
            f"{key} is {' or '.join(map(str, values))}" for key, values in _conditions(space, slot, knob).items()
        )
        rows.append((slot.key, _domain(knob), when))
    print_table(("Knob", "Values", "Exists where"), rows)
    fixed = ", ".join(f"{key} {value}" for key, value in _fixed(space).items())
    say(f"\nFixed: {fixed or 'nothing'}\n")
    costs = [
        (noun, *(format_count(getattr(cost, metric)) for cost in (found.smallest, found.median, found.largest)))
        for metric, noun in NAMES.items()
    ]
    print_table(("Cost", ">Smallest", ">Median", ">Largest"), costs)
    say(f"\n{MACS_NOTE} Median of {found.samples:,} uniform samples; ends by descent from them.")
    if example is not None:
        cost = space.cost(example)
        share = f"{format_percent(found.feasible)} %" if found.feasible else "none"
        say(
            f"\nBudget {space.budget}: can be met. Of {found.samples:,} uniform samples {share} lie within it. "
            f"One that does has {format_count(cost.params)} params and {format_count(cost.macs)} MACs."
        )


def _knobs(space: SearchSpace) -> list[tuple[Slot, Knob]]:
    knobs = space.knobs
    return [(slot, knobs[slot.key]) for slot in _in_order(space) if slot.key in knobs]


def _fixed(space: SearchSpace) -> dict[str, Any]:
    knobs = space.knobs
    return {slot.key: slot.domain for slot in _in_order(space) if slot.key not in knobs}


def _in_order(space: SearchSpace) -> list[Slot]:
    """The slots as one reads them: the network's, what all stages share, stage by stage; options of the block last."""
    from nas.space import NETWORK_ATTRIBUTES, STAGE_ATTRIBUTES

    order = [*NETWORK_ATTRIBUTES, "block", *STAGE_ATTRIBUTES]
    return sorted(
        space.slots,
        key=lambda slot: (slot.stage, order.index(slot.attribute) if slot.attribute in order else len(order)),
    )


def _conditions(space: SearchSpace, slot: Slot, knob: Knob) -> Mapping[str, tuple[Any, ...]]:
    """When a knob exists: what its `when` says and, for an option that only some of the blocks have, those blocks."""
    from nas.blocks import BRANCHES
    from nas.knobs import Knob
    from nas.space import NETWORK_ATTRIBUTES, STAGE_ATTRIBUTES

    conditions = dict(knob.when)
    if slot.attribute in (*STAGE_ATTRIBUTES, *NETWORK_ATTRIBUTES) or "block" in conditions:
        return conditions
    for place in space.slots:
        if place.attribute == "block" and place.stage in (0, slot.stage) and isinstance(place.domain, Knob):
            having = tuple(kind for kind in place.domain.values if slot.attribute in BRANCHES[str(kind)].options())
            if having != place.domain.values:
                conditions["block"] = having
    return conditions


def _domain(knob: Knob) -> str:
    values = knob.values
    if knob.step is None or len(values) < 4:
        return ", ".join(map(str, values))
    step = f" step {knob.step}" if knob.step != 1 else ""
    return f"{values[0]} to {values[-1]}{step}"


def _large(number: int) -> str:
    """A number of configurations to three digits: 303 million, 1.21 billion, 4.2e18."""
    for digits, word in ((6, "million"), (9, "billion"), (12, "trillion")):
        if 10**digits <= number < 10 ** (digits + 3):
            mantissa = number / 10**digits
            return f"{mantissa:.{2 - (mantissa >= 10) - (mantissa >= 100)}f} {word}"
    if number < 10**6:
        return f"{number:,}"
    text = str(number)
    return f"{text[0]}.{text[1:3]}e{len(text) - 1}"
