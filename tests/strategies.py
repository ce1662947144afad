"""Parts and architectures for the tests, drawn from the registries: a part that is registered tomorrow is in them."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from nas.errors import UsageError
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS, Part


def option_values(field: dataclasses.Field) -> tuple:
    """A few legal values of one option, from its default and its metadata; the default first."""
    least, most, among = (field.metadata[key] for key in ("minimum", "maximum", "among"))
    if among:
        return (field.default, *(value for value in among if value != field.default))
    if isinstance(field.default, float):
        least, most = (-1.0 if least is None else least), (1.0 if most is None else most)
        return (field.default, (least + most) / 2 if field.default in (least, most) else (field.default + most) / 2)
    return (field.default,) if least is None else (least, least + 2)


def variants(kind: type[Part]) -> list[Part]:
    """A kind of part with small values, with each of its options changed by itself, and with all of them changed."""
    values = {field.name: option_values(field) for field in dataclasses.fields(kind)}
    first = {name: some[0] for name, some in values.items()}
    singles = [{**first, name: value} for name, some in values.items() for value in some[1:]]
    last = {name: some[-1] for name, some in values.items()}
    return list(dict.fromkeys(kind(**options) for options in (first, *singles, last)))


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
