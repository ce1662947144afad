"""Lines laid over a space: what covers what, --set, and what is wrong with one."""

from __future__ import annotations

import random

import pytest
from helpers_search import CONDITIONAL, space_of
from helpers_space import first_choices
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.spaces.space import SearchSpace, load_space, names, space_from_text
from nas.spaces.yaml_format import laid, parse_overrides

LINES = {"block": 1, "stage*.block": 2, "stage2.block": 3, "blocks": 4, "stage1.depth": 5}


@pytest.mark.parametrize(
    ("over", "kept"),
    [
        ("block", ["blocks", "stage1.depth"]),
        ("stage*.block", ["block", "blocks", "stage1.depth"]),
        ("stage2.block", ["block", "stage*.block", "blocks", "stage1.depth"]),
        ("stage1.block", [*LINES]),
        ("depth", ["block", "stage*.block", "stage2.block", "blocks"]),
    ],
)
def test_a_line_replaces_what_it_covers(over, kept):
    assert laid(LINES, {over: 9}) == {**{key: LINES[key] for key in kept}, over: 9}


layers = st.dictionaries(
    st.sampled_from(
        [f"{place}{name}" for place in ("", "stage*.", "stage1.", "stage2.") for name in ("depth", "width")]
    ),
    st.integers(1, 9),
)


@given(layers, layers, layers)
def test_laws_of_laying(a, b, c):
    assert laid(a, {}) == laid({}, a) == a
    assert laid(laid(a, b), c) == laid(a, laid(b, c))
    assert laid(laid(a, b), b) == laid(a, b)
    assert b.items() <= laid(a, b).items()


def facts(space: SearchSpace) -> dict:
    """What a space is, whatever the order of its lines."""
    return {slot.key: slot for slot in space.slots}


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("resolution", [8, 32, 224])
def test_setting_nothing_changes_nothing(name, resolution):
    space = load_space(name, resolution=resolution)
    assert load_space(name, resolution=resolution, overrides={}) == space
    assert space.narrowed({}) is space
    extended = space_from_text(f"space: mine\nextends: {name}\n", resolution=resolution, channels=3, classes=10)
    assert extended.slots == space.slots
    assert (extended.variant, extended.budget, extended.design) == (space.variant, space.budget, space.design)
    assert extended.name == "mine" and extended.description == space.description
    assert [extended.sample(seed) for seed in range(5)] == [space.sample(seed) for seed in range(5)]


OVERRIDES = {
    "stage*.block": "bottleneck",
    "depth": [1, 2],
    "stage2.width": {"from": 8, "to": 16, "step": 8},
    "cardinality": [1, 2],
    "shortcut": "projection",
    "stem_width": 4,
}


@given(st.dictionaries(st.sampled_from(sorted(OVERRIDES)), st.none()))
@settings(max_examples=40)
def test_what_is_set_is_what_is_searched(chosen):
    overrides = {key: OVERRIDES[key] for key in chosen}
    base = space_of(CONDITIONAL)
    try:
        space = base.narrowed(overrides)
    except UsageError as error:
        # The shared conditional lines of the space need a shared block.
        assert "block" in str(error)
        return
    assert (space.name, space.resolution, space.classes) == (base.name, base.resolution, base.classes)
    assert facts(space_of(space.source)) == facts(space)  # a run keeps the text, and needs nothing else
    assert space.narrowed(overrides).slots == space.slots
    rng = random.Random(0)
    for _ in range(20):
        stages = space.architecture(space.any(rng)).stages
        if "depth" in overrides:
            assert len({stage.depth for stage in stages}) == 1
        if "stage2.width" in overrides:
            assert stages[1].width in (8, 16)
        if "stage*.block" in overrides:
            assert {stage.branch.kind for stage in stages} == {"bottleneck"}


@given(st.data())
@settings(max_examples=40)
def test_a_narrowed_space_is_a_part_of_the_whole(data):
    """Fewer values of some knobs: not larger, and every network of it is one of the whole space."""
    space = space_of(CONDITIONAL)
    keys = data.draw(st.lists(st.sampled_from(sorted(space.knobs)), min_size=1, max_size=3, unique=True))
    overrides = {}
    for key in keys:
        knob = space.knobs[key]
        values = data.draw(st.lists(st.sampled_from(knob.values), min_size=1, unique=True).map(lambda v: sorted(v)))
        when = {name: list(met) for name, met in knob.when}
        overrides[key] = {"values": values, **({"when": when} if when else {})}
    narrow = space.narrowed(overrides)
    assert narrow.size() <= space.size()
    rng = random.Random(1)
    for _ in range(20):
        choices = narrow.any(rng)
        assert narrow.architecture(choices) == space.architecture(choices)


def test_overrides_go_over_base_file_and_variant():
    text = """\
space: both
stages: 2
values: {block: basic, width: 8, stage*.depth: [1, 2]}
variants:
  - {name: small, max_resolution: 16, values: {stage1.depth: [1, 2, 3]}}
  - {name: large, values: {stage2.width: [8, 16]}}
"""
    for resolution in (8, 32):
        space = space_from_text(text, resolution=resolution, channels=3, classes=10, overrides={"depth": [4, 5]})
        assert [stage.depth for stage in space.architecture({**first_choices(space), "depth": 5}).stages] == [5, 5]
        assert {key for key in space.knobs if "depth" in key} == {"depth"}
        other = space.for_data(resolution=40 - resolution, channels=1, classes=3)
        assert {key for key in other.knobs if "depth" in key} == {"depth"}
    fewer = space_from_text(text, resolution=32, channels=3, classes=10, overrides={"stages": 1})
    assert len(fewer.architecture(first_choices(fewer)).stages) == 1 and fewer.size() == 2


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("stage*.block=bottleneck", "stage*.block", "bottleneck"),
        ("depth=3", "depth", 3),
        ("depth=[1,2]", "depth", [1, 2]),
        ("cardinality=1,2,4", "cardinality", [1, 2, 4]),
        ("block=basic, bottleneck", "block", ["basic", "bottleneck"]),
        ("stage1.width={from: 16, to: 64, step: 16}", "stage1.width", {"from": 16, "to": 64, "step": 16}),
        (" se_ratio = 0.25 ", "se_ratio", 0.25),
        ("stride_on=3x3", "stride_on", "3x3"),
        ("stages=3", "stages", 3),
        ("wm=2.0,2.5", "wm", [2.0, 2.5]),
    ],
)
def test_settings_of_a_command_line(setting, key, value):
    assert parse_overrides([setting]) == {key: value}


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        (["depth"], "--set 'depth': write KEY=VALUE"),
        (["=3"], "--set '=3': write KEY=VALUE"),
        (["depth="], "--set 'depth=': write KEY=VALUE"),
        (["dpth=3"], "--set dpth: unknown attribute 'dpth' (did you mean 'depth'?)"),
        (["stage*.blok=basic"], "--set stage*.blok: unknown attribute 'stage*.blok' (did you mean 'block'?)"),
        (["stage1.stem=cifar"], "--set stage1.stem: unknown attribute 'stage1.stem': stem is the network's"),
        (["block=botleneck"], "--set block: unknown block 'botleneck' (did you mean 'bottleneck'?)"),
        (["depth=0,1"], "--set depth: depth must be a whole number from 1"),
        (["depth=2,1"], "--set depth: the numbers [2, 1] don't rise"),
        (["depth=[1"], "--set depth: line 1: not readable as YAML"),
        (["depth=1,,2"], "--set depth: None is neither"),
        (["depth={from: 4, to: 2}"], "--set depth: from 4 to 2 is empty"),
        (["depth=1", "depth=2"], "--set depth: is given twice"),
        (["stages=0"], "--set stages: stages must be a whole number from 1 to 16, not 0"),
        (["merge_bais=1.0"], "did you mean 'merge_bias'?"),
        (["block=!!str basic"], "tags"),
        (["depth=*a"], "aliases"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(settings_, says):
    with pytest.raises(UsageError) as error:
        parse_overrides(settings_)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_wrong_overrides():
    for overrides, says in (
        ({"dpth": 1}, "overrides: dpth: unknown attribute 'dpth' (did you mean 'depth'?)"),
        ({"depth": 0}, "overrides: depth: depth must be a whole number"),
        ({3: 1}, "overrides: 3: a key is a word"),
        ({"stage9.depth": 1}, "resnext.yaml: stage9.depth: there are 3 stages"),
        ({"depth": None}, "overrides: depth: None is neither"),
        ({"w0": 8}, "resnext.yaml: unknown attribute 'w0'"),
    ):
        with pytest.raises(UsageError) as error:
            load_space("resnext", overrides=overrides)
        assert says in str(error.value)
