"""Files of search spaces: slips are named, spaces extend one another, and lines of the user are laid over them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import yaml
from helpers_search import space_of
from helpers_space import refusal, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.spaces.space import MAX_STAGES, load_space
from nas.utils.yaml_text import MAX_BYTES

# -- what a file may not say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"widht": "8"}, "unknown attribute 'widht' (did you mean 'width'?)"),
        ({"stage1.widht": "8"}, "unknown attribute 'stage1.widht' (did you mean 'width'?)"),
        ({"stages.width": "8"}, "unknown attribute 'stages.width' (did you mean 'width'?)"),
        ({"stage1.stem": "cifar"}, "unknown attribute 'stage1.stem'"),
        ({"stage*.stem_width": "8"}, "unknown attribute 'stage*.stem_width'"),
        ({"stage1": "8"}, "unknown attribute 'stage1'"),
        ({"1": "8"}, "unknown attribute '1'"),
        ({"stage3.width": "8"}, "stage3.width: there are 2 stages"),
        ({"stage0.width": "8"}, "stage0.width: there are 2 stages"),
        ({"block": ""}, "stage 1 has no block"),
        ({"depth": ""}, "stage 1 has no depth"),
        ({"width": "", "stage1.width": "8"}, "stage 2 has no width; write width, stage*.width or stage2.width"),
        ({"block": "bottelneck"}, "block: unknown block 'bottelneck' (did you mean 'bottleneck'?)"),
        ({"block": "[basic, bottelneck]"}, "block: unknown block 'bottelneck'"),
        ({"block": "3"}, "block: unknown block 3"),
        ({"stage2.shortcut": "projektion"}, "stage2.shortcut: unknown shortcut 'projektion'"),
        ({"merge": "multiply"}, "merge: unknown merge 'multiply'"),
        ({"stem": "[cifar, imagnet]"}, "stem: unknown stem 'imagnet'"),
        ({"head": "conv"}, "head: unknown head 'conv'"),
        ({"depth": "0"}, "depth: "),
        ({"depth": "[1, 2, 2.5, 3]"}, "depth: depth must be a whole number from 1 to 1,024, not 2.5"),
        ({"depth": "{values: [1, 5000, 6000]}"}, "depth: depth must be"),
        ({"depth": "shallow"}, "depth: depth must be a whole number"),
        ({"stage2.width": "[-8, 8]"}, "stage2.width: width must be"),
        ({"stage2.stride": "17"}, "stage2.stride: stride must be"),
        ({"stem_width": "[8, 0.5]"}, "stem_width: the numbers"),
        ({"stem_width": "[0, 8, 16]"}, "stem_width: "),
        ({"cardinality": "[0, 1, 2]", "block": "[basic, bottleneck]"}, "cardinality: "),
        ({"order": "[post, pro, pre]"}, "order: "),
        ({"shortcut": "identity", "stage2.width": "16"}, "identity can't lead from "),
        ({"cardinality": "{values: [1, 2], when: {blokc: bottleneck}}"}, "names 'blokc'"),
        (
            {"stage1.cardinality": "{values: [1, 2], when: {order: pre}}"},
            "names 'order', which is not chosen before it",
        ),
        (
            {
                "group_width": "{values: [4], when: {cardinality: 1}}",
                "cardinality": "{values: [1], when: {group_width: 4}}",
            },
            "which is not chosen before it",
        ),
        ({"stage1.group_width": "{values: [4], when: {stage2.depth: 1}}"}, "names 'stage2.depth'"),
        ({"stage1.width": "{values: [4, 8], when: {width: 4}}"}, "which is not chosen before it"),
        ({"cardinality": "{values: [1, 2], when: {block: bottelneck}}", "block": "[basic, bottleneck]"}, "bottelneck"),
        ({"stage1.width": "{values: [4, 8], when: {stem: imagnet}}"}, "stage1.width: unknown stem 'imagnet'"),
        ({"depth": "{values: [1, 2], when: {block: bottleneck}}", "block": "[basic, bottleneck]"}, "depth"),
        ({"block": "{values: [basic], when: {stem: imagenet}}", "stem": "[cifar, imagenet]"}, "block"),
        ({"shortcut": "{values: [projection], when: {block: bottleneck}}", "block": "[basic, bottleneck]"}, "shortcut"),
        (
            {"stem": "{values: [cifar], when: {head: linear}}", "head": "[linear, expanded]"},
            "stem: where its condition",
        ),
        (
            {"depth": "{values: [1, 2], when: {block: bottleneck}}"},
            "depth: where its condition doesn't hold there is no",
        ),
        ({"width": "true"}, "width: True is neither"),
        ({"width": "null"}, "width: None is neither"),
        ({"width": "[]"}, "width: an empty list"),
        ({"width": "[8, 8]"}, "width: [8, 8] names a value twice"),
        ({"width": "{from: 8, to: 4}"}, "width: from 8 to 4 is empty"),
    ],
)
def test_slips_in_values_are_named(values, says):
    message = refusal(text_of(values=values))
    assert message.startswith("space: ") and says in message


def test_a_condition_reads_the_choice_of_its_own_stage():
    """A stage's own line that comes after the condition must not leave the shared value to be read in its place."""
    text = text_of(
        values={"depth": "[1, 2]", "stage2.width": "{values: [4, 16], when: {depth: 3}}", "stage2.depth": "[1, 3]"}
    )
    space = space_of(text)
    assert space.size() == 2 * (1 + 2)
    choices = {"depth": 1, "stage2.depth": 3, "stage2.width": 16}
    assert [(stage.depth, stage.width) for stage in space.architecture(choices).stages] == [(1, 8), (3, 16)]


def test_conditions_that_always_or_never_hold():
    """They are no conditions, and no knobs: what a narrowed space shows is what it searches."""
    lines = {"cardinality": "{values: [1, 2], when: {block: bottleneck}}", "group_width": "[2, 4]"}
    grouped = space_of(text_of(values={"block": "bottleneck", **lines}))
    assert [knob.when for knob in grouped.knobs.values()] == [(), ()]
    assert all(slot.readers == () for slot in grouped.slots)
    assert not space_of(text_of(values={"block": "basic", **lines})).knobs


def test_a_conditional_line_may_stand_over_a_shared_one():
    space = space_of(
        text_of(
            values={"block": "[basic, bottleneck]", "stage2.width": "{values: [16, 32], when: {block: bottleneck}}"}
        )
    )
    assert space.size() == 3
    assert space.architecture({"block": "basic"}).stages[1].width == 8


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no search space"),
        ("[]", "no search space"),
        ("resnet", "no search space"),
        ("42", "no search space"),
        ("values: {}", "the key `space` with its name is missing"),
        ("space: 3\nstages: 1", "the key `space` with its name is missing"),
        ("space: a\nvaluse: {}", "unknown key 'valuse' (did you mean 'values'?)"),
        ("space: a", "stages must be a whole number from 1 to 16, not None"),
        ("space: a\nstages: 0", "not 0"),
        (f"space: a\nstages: {MAX_STAGES + 1}", "not 17"),
        ("space: a\nstages: true", "not True"),
        ("space: a\nstages: 2.0", "not 2.0"),
        ("space: a\nstages: [1, 2]", r"not [1, 2]"),
        ("space: a\nstages: 1\nvalues: [1]", "values must be a mapping"),
        ("space: a\nstages: 1\nvalues:", "values must be a mapping"),
        ("space: a\nstages: 1\nvalues: {}", "stage 1 has no depth"),
        (text_of("variants: {name: a}"), "variants must be a list"),
        (text_of("variants:"), "variants must be a list"),
        (text_of("variants: [small]"), "variant 1: expected a mapping"),
        (text_of("variants: [{name: a, resolution: 3}]"), "variant 1: unknown key 'resolution'"),
        (text_of("variants: [{max_resolution: 2e6}]"), "max_resolution must be a whole number of pixels"),
        (text_of("variants: [{max_resolution: true}]"), "max_resolution must be a whole number of pixels"),
        (text_of("variants: [{max_resolution: 4}, {max_resolution: 7}]"), "no variant takes images of 8 px"),
        (text_of("budgets: 3"), "budgets: expected a mapping of params"),
        (text_of("budgets: {parms: {max: 3}}"), "'parms' (did you mean 'params'?)"),
        (text_of("budgets: {params: 3}"), "budgets: params"),
        (text_of("budgets: {params: {most: 3}}"), "budgets: params: unknown key 'most'"),
        (text_of("budgets: {params: {max: 2M}}"), "budgets: params: max must be a number, not '2M'"),
        (text_of("budgets: {params: {max: true}}"), "budgets: params: max must be a number"),
        (text_of("budgets: {params: {max: [1]}}"), "budgets: params: max must be a number"),
        (text_of("budgets: {params: {max: -1}}"), "params"),
        (text_of("budgets: {params: {max: .nan}}"), "params"),
        (text_of("budgets: {params: {max: .inf}}"), "params"),
        (text_of("budgets: {params: {min: 3, max: 2}}"), "the lower bound 3 is above the upper bound 2"),
        (text_of("budgets: {flops: {max: 3}, macs: {min: 2}}"), "flops"),
    ],
)
def test_slips_outside_of_values_are_named(text, says):
    message = refusal(text)
    assert says in message and message.startswith("space")


@pytest.mark.parametrize(
    "text",
    [
        "space: &a name\nstages: *a",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "space: !!python/object/apply:os.system ['true']",
        "space: !!binary aGVsbG8=",
        "!!set {a, b}",
        "space: a\nspace: b",
        "? [a, b]\n: c",
        "[" * 100_000,
        "{a: " * 5_000,
        "space: 'unclosed",
        "space: a\n\tstages: 1",
        "space: \x00",
        "space: a\nstages: " + "9" * 5000,
        "space: a\nstages: 2020-99-99",
        "# " + "x" * MAX_BYTES,
        "%YAML 9.9\n---\nspace: a",
        "--- a\n--- b",
    ],
    ids=range(17),
)
def test_hostile_yaml_is_refused(text):
    refusal(text)


def test_files_that_are_no_text_are_refused(tmp_path):
    binary = tmp_path / "weights.pt"
    binary.write_bytes(bytes(range(256)))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    for path in (
        binary,
        large,
        tmp_path,
        tmp_path / "missing.yaml",
        Path(os.devnull),
        "",
        "no/such/space.yaml",
        "a\0b",
        "x" * 5000,
    ):
        with pytest.raises(UsageError) as error:
            load_space(path)
        assert "\n" not in str(error.value)


def test_names_with_line_breaks_stay_on_one_line():
    for text in (
        text_of(values={'"de\\npth"': "[]"}),
        text_of(values={'"de\\npth"': "3"}),
        'space: "a\\nb"\n"x\\ny": 1',
        text_of(values={"block": '"ba\\nsic"'}),
        text_of(values={"cardinality": '{values: [1], when: {"x\\ny": 1}}'}),
        text_of('budgets: {"a\\nb": {max: x}}'),
    ):
        refusal(text)


yaml_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.floats(allow_nan=True)
    | st.sampled_from(["basic", "bottleneck", "pre", "post", "1x1", "projection", "identity", "cifar", "2e6", "a\nb"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "values",
                    "from",
                    "to",
                    "step",
                    "when",
                    "name",
                    "max_resolution",
                    "stages",
                    "budgets",
                    "params",
                    "max",
                    "min",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        f"{place}{name}"
        for place in ("", "stage*.", "stage2.")
        for name in ("depth", "width", "block", "cardinality", "order", "merge")
    ]
    + ["stem", "stem_width", "head", "stage9.width", "wid\nth"]
)


@given(
    st.dictionaries(keys, yaml_data, max_size=5),
    st.dictionaries(
        st.sampled_from(["description", "stages", "budgets", "variants", "values", "other"]), yaml_data, max_size=2
    ),
)
@settings(max_examples=300)
def test_any_file_is_a_legal_space_or_a_usage_error(values, fields):
    data = {"space": "any", "stages": 2, "values": {"block": "bottleneck", "depth": 1, "width": 8, **values}, **fields}
    try:
        space = space_of(yaml.safe_dump(data))
    except UsageError as error:
        assert "\n" not in str(error)
        return
    assert space.size() >= 1
    space.cost(space.any(random.Random(0)))
