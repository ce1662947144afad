"""Parts and architectures for the tests, drawn from the registries: a part that is registered tomorrow is in them."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import strategies as st

from nas.architecture import Architecture, Stage
from nas.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS, Part
from nas.errors import UsageError


def option_values(field: dataclasses.Field) -> tuple:
    """A few small legal values of one option, from its default and its metadata."""
    if isinstance(field.default, str):
        return field.metadata["among"]
    if isinstance(field.default, float):
        return (field.default, field.default / 2 or 0.5)
    least = field.metadata["minimum"]
    return (field.default,) if least is None else (least, least + 2)


def variants(kind: type[Part]) -> list[Part]:
    """A kind of part with every combination of its options' small values."""
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    return [kind(**dict(zip(names, values, strict=True))) for values in itertools.product(*map(option_values, fields))]


def all_variants(registry) -> list[Part]:
    return [part for kind in registry.values() for part in variants(kind)]


def label(value: object) -> str:
    """How a part is called in a test's id."""
    return "-".join(str(item) for item in value.to_dict().values()) if isinstance(value, Part) else str(value)


def fits(shortcut, merge, width_in: int, width_out: int, stride: int) -> bool:
    """Whether a block of these can stand; identity is the one shortcut that can't change the shape."""
    if not merge.uses_shortcut:
        return True
    try:
        shortcut.layers(width_in, width_out, stride, True)
    except UsageError:
        return False
    return True


def parts(registry):
    return st.sampled_from(all_variants(registry))


@st.composite
def architectures(draw, most_stages=3, most_depth=3, most_width=12, most_pixels=40):
    """Small legal architectures of all registered parts."""
    stem = dataclasses.replace(draw(parts(STEMS)), width=draw(st.integers(1, most_width)))
    stages, width_in = [], stem.width
    for _ in range(draw(st.integers(1, most_stages))):
        width, stride = draw(st.integers(1, most_width)), draw(st.integers(1, 3))
        merge = draw(parts(MERGES))
        legal = [part for part in all_variants(SHORTCUTS) if fits(part, merge, width_in, width, stride)]
        shortcut = draw(st.sampled_from(legal))
        stages.append(Stage(draw(parts(BRANCHES)), draw(st.integers(1, most_depth)), width, stride, shortcut, merge))
        width_in = width
    return Architecture(
        stem=stem,
        stages=tuple(stages),
        head=dataclasses.replace(draw(parts(HEADS)), classes=draw(st.integers(1, 12))),
        resolution=draw(st.integers(1, most_pixels)),
        channels=draw(st.integers(1, 4)),
        name=draw(st.text(max_size=8).filter(str.isprintable)),
    )
