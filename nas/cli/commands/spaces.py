"""`nas spaces`: lists the shipped search spaces, or describes one: knobs, size, costs, and whether a budget can be met."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.options import budget_of, budget_options, examples, json_option

if TYPE_CHECKING:
    from nas.networks.cost import Cost
    from nas.spaces.budget import Budget
    from nas.spaces.knobs import Choices, Knob
    from nas.spaces.sampling import Survey
    from nas.spaces.space import SearchSpace, Slot

DRAWN = 200  # samples from which the number of stages is estimated
LARGE = 256  # pixels; a variant without a limit is listed for images of this size
SET_HELP = "Replace a line of the space, for example 'stage*.block=bottleneck' or 'depth=[1, 2]'; may be repeated."
NAMES = {"params": "params", "macs": "MACs", "activations": "activations"}


@click.command(
    epilog=examples(
        "nas spaces",
        "nas spaces resnext --resolution 32 --max-params 2M",
        "nas spaces resnext --set 'stage*.block=bottleneck' --set cardinality=1,2,4",
        "nas spaces my-space.yaml --resolution 224 --classes 1000 --json",
    )
)
@click.argument("name", metavar="[NAME|PATH]", required=False)
@click.option("--resolution", type=click.IntRange(4, 1 << 14), help="Side of the images in pixels.  [default: 32]")
@click.option("--classes", type=click.IntRange(2), help="Number of classes.  [default: 10]")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP)
@budget_options
@json_option
def spaces(
    name: str | None,
    resolution: int | None,
    classes: int | None,
    settings: tuple[str, ...],
    as_json: bool,
    **bounds: int | None,
) -> None:
    """List the search spaces, or describe one.

    Without a name: all shipped spaces, their variants for small and large images, and their numbers of configurations. With
    a name or the path of a YAML file: the knobs with their values and conditions, the range of exact costs, and whether a
    budget can be met.
    """
    from nas.spaces.yaml_format import parse_overrides

    budget, overrides = budget_of(**bounds), parse_overrides(settings)
    if name is not None:
        _describe(name, resolution or 32, classes or 10, overrides, budget, as_json)
    elif budget.bounds or resolution or classes or overrides:
        raise click.UsageError(
            "--resolution, --classes, --set and budgets need a space: nas spaces NAME ...", click.get_current_context()
        )
    else:
        _list(as_json)


def _list(as_json: bool) -> None:
    from nas.cli.commands.output import print_json, print_table, say
    from nas.spaces import space

    spaces_with_variants = [(name, _variants(name)) for name in space.names()]
    if as_json:
        print_json([_listed(name, variants) for name, variants in spaces_with_variants])
        return
    rows = []
    for name, variants in spaces_with_variants:
        for number, (limit, variant) in enumerate(variants):
            about = "" if number else variant.description
            images = f"up to {limit} px" if limit else "larger" if number else "any"
            rows.append(("" if number else name, variant.variant, images, _large(variant.size()), about))
    print_table(("Space", "Variant", "Images", ">Configurations", "Description"), rows)
    say("\nThe variant follows from the size of the images. `nas spaces NAME` describes a space.")


def _listed(name: str, variants: list[tuple[int | None, SearchSpace]]) -> dict[str, object]:
    sizes = [{"name": space.variant, "max_resolution": limit, "size": space.size()} for limit, space in variants]
    return {"name": name, "description": variants[0][1].description, "variants": sizes}


def _variants(name: str) -> list[tuple[int | None, SearchSpace]]:
    """A space's variants with their largest resolutions (None: no limit); the space itself if it has no variants."""
    from nas.spaces.space import load_space
    from nas.utils.yaml_text import parse_yaml

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


def _describe(
    name: str, resolution: int, classes: int, overrides: Mapping[str, object], budget: Budget, as_json: bool
) -> None:
    from nas.cli.commands.output import print_json
    from nas.spaces.sampling import survey
    from nas.spaces.space import load_space

    space = load_space(name, resolution=resolution, classes=classes, overrides=overrides).within(budget)
    example = space.sample(0) if space.budget.bounds else None  # UsageError if the budget can't be met
    costs = survey(space)
    if as_json:
        print_json(_as_json(space, costs, example))
    else:
        _print(space, costs, example)


def _as_json(space: SearchSpace, costs: Survey, example: Choices | None) -> dict[str, object]:
    ends = {"min": costs.smallest, "median": costs.median, "max": costs.largest}
    return {
        "name": space.name,
        "description": space.description,
        "variant": space.variant,
        "resolution": space.resolution,
        "channels": space.channels,
        "classes": space.classes,
        "size": space.size(),
        "design": space.design,
        "stages": space.stages,
        "knobs": {slot.key: {"values": list(knob.values), **_conditions(slot, knob)} for slot, knob in _knobs(space)},
        "fixed": _fixed(space),
        "costs": {metric: {end: getattr(cost, metric) for end, cost in ends.items()} for metric in NAMES},
        "samples": costs.samples,
        "budget": {metric: list(bounds) for metric, bounds in space.budget.bounds.items()},
        "feasible_share": costs.feasible,
        "example": None if example is None else {"choices": example, **_cost_dict(space.cost(example))},
    }


def _cost_dict(cost: Cost) -> dict[str, int]:
    return {metric: getattr(cost, metric) for metric in NAMES}


def _print(space: SearchSpace, costs: Survey, example: Choices | None) -> None:
    from nas.cli.commands.output import say
    from nas.utils.text import format_count, format_percent

    variant = f", variant {space.variant}" if space.variant else ""
    say(f"{space.name}{variant}: {space.description or 'no description'}")
    say(f"{space.size():,} configurations, for images of {space.resolution} px and {space.classes} classes\n")
    _print_knobs(space)
    _print_costs(costs)
    if example is not None:
        cost = space.cost(example)
        share = f"{format_percent(costs.feasible)} %" if costs.feasible else "none"
        say(
            f"\nBudget {space.budget}: can be met. Of {costs.samples:,} uniform samples {share} lie within it. "
            f"One that does has {format_count(cost.params)} params and {format_count(cost.macs)} MACs."
        )


def _print_knobs(space: SearchSpace) -> None:
    from nas.cli.commands.output import print_table, say
    from nas.spaces.attributes import REGNET_ATTRIBUTES

    rows = []
    for slot, knob in _knobs(space):
        conditions = _conditions(slot, knob)
        clauses = [_clause([condition]) for condition in conditions["when"].items()]
        if "when_any" in conditions:
            clauses.append(_clause(conditions["when_any"].items()))
        rows.append((slot.key, _domain(knob), "; ".join(clauses)))
    print_table(("Knob", "Values", "Exists where"), rows)
    fixed = ", ".join(f"{key} {value}" for key, value in _fixed(space).items())
    say(f"\nFixed: {fixed or 'nothing'}\n")
    if space.design == "regnet":
        few, many = _stages(space)
        sources = ", ".join(name for name in REGNET_ATTRIBUTES if name != "group_width")
        say(
            f"Depths and widths of the stages follow from {sources} and group_width: {few} to {many} stages in {DRAWN} samples.\n"
        )


def _print_costs(costs: Survey) -> None:
    from nas.cli.commands.output import MACS_NOTE, print_table, say
    from nas.utils.text import format_count

    rows = [
        (noun, *(format_count(getattr(cost, metric)) for cost in (costs.smallest, costs.median, costs.largest)))
        for metric, noun in NAMES.items()
    ]
    print_table(("Cost", ">Smallest", ">Median", ">Largest"), rows)
    say(f"\n{MACS_NOTE} Median of {costs.samples:,} uniform samples; smallest and largest by descent from them.")


def _stages(space: SearchSpace) -> tuple[int, int]:
    """The smallest and largest number of stages of uniform samples."""
    rng = random.Random(0)
    counts = [len(space.architecture(space.any(rng)).stages) for _ in range(DRAWN)]
    return min(counts), max(counts)


def _knobs(space: SearchSpace) -> list[tuple[Slot, Knob]]:
    knobs = space.knobs
    return [(slot, knobs[slot.key]) for slot in _in_order(space) if slot.key in knobs]


def _fixed(space: SearchSpace) -> dict[str, object]:
    knobs = space.knobs
    return {slot.key: slot.domain for slot in _in_order(space) if slot.key not in knobs}


def _in_order(space: SearchSpace) -> list[Slot]:
    """The slots in reading order: of the network, of all stages, of each stage; a part before its options."""
    from nas.spaces.attributes import NETWORK_ATTRIBUTES, REGNET_ATTRIBUTES, STAGE_ATTRIBUTES, option_of

    order = ["stem", "head", *NETWORK_ATTRIBUTES, *REGNET_ATTRIBUTES, "block", *STAGE_ATTRIBUTES]

    def place(slot: Slot) -> tuple[int, int, int]:
        part = option_of(slot.attribute)
        if slot.attribute in order:
            return slot.stage, order.index(slot.attribute), 0
        # A block has many options: they come last. The options of other parts follow their part.
        return slot.stage, len(order) if part is None or part[0] == "block" else order.index(part[0]), 1

    return sorted(space.slots, key=place)


def _conditions(slot: Slot, knob: Knob) -> dict[str, dict[str, list[Any]]]:
    """The conditions under which a knob exists: all of `when`, and at least one of `when_any`.

    `when` has the space's conditions and, if only some kinds of a part have the option, these kinds. `when_any` exists only
    if several parts read the option.
    """
    conditions: dict[str, dict[str, list[Any]]] = {"when": {key: list(values) for key, values in knob.when}}
    readers = {part: list(kinds) for part, kinds in slot.readers}
    if len(readers) > 1:
        return {**conditions, "when_any": readers}
    for part, kinds in readers.items():
        conditions["when"][part] = [kind for kind in conditions["when"].get(part, kinds) if kind in kinds]
    return conditions


def _clause(alternatives: Iterable[tuple[str, Iterable[Any]]]) -> str:
    return " or ".join(f"{key} is {' or '.join(map(str, values))}" for key, values in alternatives)


def _domain(knob: Knob) -> str:
    values = knob.values
    if knob.step is None or len(values) < 4:
        return ", ".join(map(str, values))
    step = f" step {knob.step}" if knob.step != 1 else ""
    return f"{values[0]} to {values[-1]}{step}"


def _large(number: int) -> str:
    """A number of configurations with at most three digits: 303 million, 1.21 billion, 4.20e18."""
    for digits, word in ((6, "million"), (9, "billion"), (12, "trillion")):
        if 10**digits <= number < 10 ** (digits + 3):
            mantissa = number / 10**digits
            return f"{mantissa:.{2 - (mantissa >= 10) - (mantissa >= 100)}f} {word}"
    if number < 10**6:
        return f"{number:,}"
    text = str(number)
    return f"{text[0]}.{text[1:3]}e{len(text) - 1}"
