"""Options of every part as knobs: where they exist, in which order they are chosen."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
from helpers_search import every_choice, space_of
from helpers_space import refusal, text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import option_values

from nas.errors import UsageError
from nas.spaces.attributes import PARTS, known, option_of

ONE_OF_EACH = {"block": "basic", "shortcut": "projection", "merge": "add", "stem": "cifar", "head": "linear"}


OPTIONS = [
    (part, kind, field)
    for part, (registry, prefix) in PARTS.items()
    for kind in registry
    for field in dataclasses.fields(registry[kind])
    if f"{prefix}{field.name}" != "head_classes"
]


# Kinds with options that have no effect beside the defaults of others: one digest, by design.
WITHOUT_EFFECT = {"skip", "none", "mbconv", "condconv", "linear"}


@pytest.mark.parametrize(("part", "kind", "field"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_every_option_of_every_part_can_be_searched(part, kind, field):
    """A space knows the options of a part that is registered tomorrow."""
    name = f"{PARTS[part][1]}{field.name}"
    assert option_of(name) == (part, field.name)
    assert name in known("stages")[0] and (name in known("stages")[1]) == (part not in ("stem", "head"))
    values = sorted({*option_values(field), field.default})
    space = space_of(text_of(values={**ONE_OF_EACH, "stride": "2", part: kind, name: json.dumps(values)}))
    assert set(space.knobs) == {name}
    assert space.size() == len(values)
    networks = {space.architecture({name: value}).digest for value in values}
    assert len(networks) > 1 or len(values) == 1 or kind in WITHOUT_EFFECT


def accepted(kinds, option: str, value: object) -> bool:
    try:
        return all(kind.make({option: value}) is not None for kind in kinds if option in kind.options())
    except UsageError:
        return False


@pytest.mark.parametrize("part", PARTS)
def test_an_option_exists_only_for_the_kinds_that_have_it(part):
    registry, prefix = PARTS[part]
    rng = random.Random(0)
    for option in sorted({option for kind in registry.values() for option in kind.options()} - {"classes", "act"}):
        fields = [f for kind in registry.values() for f in dataclasses.fields(kind) if f.name == option]
        value = next(v for f in fields for v in option_values(f) if accepted(registry.values(), option, v))
        kinds, name = json.dumps(sorted(registry)), f"{prefix}{option}"
        lines = {**ONE_OF_EACH, "shortcut": "matching", "stage1.width": "16", part: kinds, name: json.dumps([value])}
        space = space_of(text_of(values=lines))
        having = {kind for kind in registry if option in registry[kind].options()}
        for _ in range(40):
            choices = space.any(rng)
            assert (name in choices) == (choices[part] in having)
        (slot,) = (slot for slot in space.slots if slot.key == name)
        assert {of: set(found) for of, found in slot.readers} == ({} if having == set(registry) else {part: having})


def test_a_part_is_chosen_before_its_options_wherever_they_stand():
    space = space_of(
        text_of(
            values={
                "merge_bias": "[-6.0, 0.0]",
                "stem_width": "[4, 8]",
                "merge": "[add, highway]",
                "stem": "[cifar, imagenet]",
                "stage2.group_width": "[2, 4]",
                "stage2.block": "[basic, bottleneck]",
            }
        )
    )
    keys = [slot.key for slot in space.slots]
    for first, then in (("merge", "merge_bias"), ("stem", "stem_width"), ("stage2.block", "stage2.group_width")):
        assert keys.index(first) < keys.index(then)
    assert space.size() == (1 + 2) * (2 * 2) * (1 + 2)


def test_options_of_a_stage_s_own_parts():
    space = space_of(
        text_of(
            values={
                "merge": "add",
                "stage2.merge": "[add, highway]",
                "stage*.merge_drop": "[0.0, 0.5]",
                "merge_bias": "[-6.0, 0.0]",
            }
        )
    )
    assert space.size() == 2 * 2 * (2 + 1)  # the shared bias may be stage 2's
    architecture = space.architecture({"merge_bias": -6.0, "stage1.merge_drop": 0.5, "stage2.merge": "highway"})
    assert (architecture.stages[0].merge.drop, architecture.stages[1].merge.bias) == (0.5, -6.0)


def test_a_shared_activation_is_the_ends_too():
    both = space_of(text_of(values={"act": "[relu, silu]", "head": "expanded"}))
    architecture = both.architecture({"act": "silu"})
    assert {architecture.stem.act, architecture.head.act, architecture.stages[0].branch.act} == {"silu"}
    own = space_of(text_of(values={"act": "[relu, silu]", "head": "expanded", "stem_act": "gelu"})).architecture(
        {"act": "silu"}
    )
    assert (own.stem.act, own.head.act) == ("gelu", "silu")
    staged = space_of(text_of(values={"stage*.act": "[relu, silu]"}))
    assert set(staged.knobs) == {"stage1.act", "stage2.act"}
    assert staged.architecture({"stage1.act": "silu", "stage2.act": "silu"}).stem.act == "relu"
    ends = space_of(text_of(values={"act": "[relu, silu]", "stage*.act": "gelu"}))
    assert set(ends.knobs) == {"act"}
    assert ends.architecture({"act": "silu"}).stem.act == "silu"
    silent = space_of(
        text_of(values={"act": "[relu, silu]", "stage*.act": "gelu", "stem_act": "elu", "head_act": "elu"})
    )
    assert not silent.knobs


def test_classes_are_the_data_s():
    assert "unknown attribute 'head_classes'" in refusal(text_of(values={"head_classes": "10"}))


@st.composite
def any_parts(draw):
    """Lines that search kinds of parts and options of any of them, for all stages or for one."""
    values = {}
    for part, (registry, _) in PARTS.items():
        kinds = draw(st.lists(st.sampled_from(sorted(registry)), max_size=3, unique=True))
        place = draw(st.sampled_from(["", "stage*.", "stage2."])) if part not in ("stem", "head") else ""
        if kinds and part != "shortcut":
            values[f"{place}{part}"] = json.dumps(kinds)
    for part, _, field in draw(st.lists(st.sampled_from(OPTIONS), max_size=4)):
        place = draw(st.sampled_from(["", "stage*.", "stage2."])) if part not in ("stem", "head") else ""
        values[f"{place}{PARTS[part][1]}{field.name}"] = json.dumps(sorted({*option_values(field), field.default})[:2])
    return values


@given(any_parts())
@settings(max_examples=60)
def test_size_of_spaces_of_any_parts(values):
    try:
        space = space_of(text_of(values={"shortcut": "matching", **values}))
    except UsageError as error:
        assert "\n" not in str(error)
        return
    if space.size() > 3000:
        return
    listed = [json.dumps(choices) for choices in every_choice(space)]
    assert space.size() == len(listed) == len(set(listed))
    for choices in map(json.loads, listed[:10]):
        space.cost(choices)
