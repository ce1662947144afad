"""Search spaces: every sample of the shipped ones is legal, counts are exact, and slips in a file are named."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path

import pytest
import yaml
from helpers_search import CONDITIONAL, TINY, every_choice, space_of, write_space
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import MAX_BYTES, Architecture
from nas.blocks import BRANCHES
from nas.budget import Budget
from nas.errors import UsageError
from nas.network import cost_of
from nas.space import MAX_STAGES, load_space, names, space_from_text

RESOLUTIONS = (8, 32, 224)
SHIPPED = [(name, resolution) for name in names() for resolution in RESOLUTIONS]
every_shipped = pytest.mark.parametrize(("name", "resolution"), SHIPPED)


def text_of(*lines: str, stages: int = 2, values: dict[str, str] | None = None) -> str:
    """A small space with some lines of `values` replaced or added, and other lines at the end."""
    found = {"block": "basic", "depth": "1", "width": "8", **(values or {})}
    body = "".join(f"  {key}: {value}\n" for key, value in found.items() if value)
    return f"space: test\nstages: {stages}\nvalues:\n{body}" + "".join(f"{line}\n" for line in lines)


def refusal(text: str, **options) -> str:
    with pytest.raises(UsageError) as error:
        space_of(text, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


# -- the shipped spaces ------------------------------------------------------------------------------------------------


@every_shipped
def test_a_thousand_samples_are_all_legal(name, resolution):
    space = load_space(name, resolution=resolution, classes=7)
    rng = random.Random(5)
    seen = set()
    for _ in range(1000):
        choices = space.any(rng)
        architecture = space.architecture(choices)
        cost = cost_of(architecture)
        assert min(cost.params, cost.macs, cost.activations) > 0
        assert (architecture.resolution, architecture.channels, architecture.head.classes) == (resolution, 3, 7)
        assert architecture == architecture.canonical()
        assert all(type(key) is str and type(value) in (int, float, str) for key, value in choices.items())
        again = json.loads(json.dumps(choices))
        assert again == choices and space.architecture(again) == architecture
        seen.update((key, value) for key, value in choices.items())
    # Each value of each knob occurs: a thousand draws miss one of 36 with probability 36 exp(-1000 / 36).
    assert Architecture.from_yaml(architecture.to_yaml()) == architecture
    assert seen == {(key, value) for key, knob in space.knobs.items() for value in knob.values}


@every_shipped
def test_every_knob_changes_some_network(name, resolution):
    """A knob without effect would only make the space look larger."""
    space, rng = load_space(name, resolution=resolution), random.Random(1)
    for key, knob in space.knobs.items():
        digests = set()
        for _ in range(50):
            choices = space.any(rng)
            if key in choices:
                fixed = [space.completed({**choices, key: value}, random.Random(0)) for value in knob.values]
                digests = {space.architecture(candidate).digest for candidate in fixed}
                if len(digests) > 1:
                    break
        assert len(digests) > 1, key


@every_shipped
def test_the_same_seed_gives_the_same_sample(name, resolution):
    first, second = (load_space(name, resolution=resolution) for _ in range(2))
    samples = [first.sample(seed) for seed in range(30)]
    assert samples == [second.sample(seed) for seed in range(30)]
    assert len({json.dumps(choices) for choices in samples}) == 30


@every_shipped
def test_suggested_choices_and_only_those_are_accepted(name, resolution):
    space, rng = load_space(name, resolution=resolution), random.Random(2)
    for _ in range(30):
        choices = space.any(rng)
        space.architecture(choices)
        for key in choices:
            with pytest.raises(UsageError, match=key.replace(".", r"\.")):
                space.architecture({other: value for other, value in choices.items() if other != key})
            for foreign in (-1, 10**6, 3.5, "nonsense", "", None, [1]):
                with pytest.raises(UsageError, match=key.replace(".", r"\.")):
                    space.architecture({**choices, key: foreign})
        for surplus in ("stage9.depth", "nonsense", "", *(key for key in space.knobs if key not in choices)):
            with pytest.raises(UsageError, match="has no meaning"):
                space.architecture({**choices, surplus: 1})


@pytest.mark.parametrize("name", names())
def test_a_shipped_space_takes_every_image_size(name):
    taken = {
        resolution: load_space(name, resolution=resolution).variant
        for resolution in (1, 8, 16, 17, 32, 64, 65, 224, 1024)
    }
    assert list(taken.values()) == ["tiny"] * 3 + ["cifar"] * 3 + ["imagenet"] * 3
    for resolution in taken:
        space = load_space(name, resolution=resolution)
        space.cost(space.sample(0))


@pytest.mark.parametrize("name", names())
def test_a_variant_can_be_asked_for(name):
    assert load_space(name, resolution=32, variant="imagenet").stages == 4
    with pytest.raises(UsageError, match="no variant 'huge'; it has: tiny, cifar, imagenet"):
        load_space(name, variant="huge")


def test_shipped_spaces_by_name_or_path(tmp_path):
    assert {"resnet", "resnext"} <= set(names())
    with pytest.raises(UsageError, match=r"unknown space 'resnxt' \(did you mean 'resnext'\?\)"):
        load_space("resnxt")
    by_path = load_space(write_space(tmp_path, load_space("resnext").source, "mine.yaml"), resolution=32)
    assert by_path.slots == load_space("resnext", resolution=32).slots


# -- counting ----------------------------------------------------------------------------------------------------------

COUNTED = {
    "fixed": (text_of(), 1),
    "shared": (text_of(values={"depth": "[1, 2, 3]"}), 3),
    "each stage": (text_of(values={"stage*.depth": "[1, 2, 3]"}), 9),
    "one stage": (text_of(values={"stage2.depth": "[1, 2, 3]"}), 3),
    "both kinds": (text_of(values={"width": "[4, 8]", "stage*.depth": "[1, 2, 3]"}), 18),
    "shared condition": (
        text_of(
            values={"block": "[basic, bottleneck]", "cardinality": "{values: [1, 2, 4], when: {block: bottleneck}}"}
        ),
        1 + 3,
    ),
    "condition in each stage": (
        text_of(
            values={
                "block": "",
                "stage*.block": "[basic, bottleneck]",
                "stage*.cardinality": "{values: [1, 2, 4], when: {block: bottleneck}}",
            }
        ),
        (1 + 3) ** 2,
    ),
    "shared block, conditions in each stage": (
        text_of(
            values={"block": "[basic, bottleneck]", "stage*.cardinality": "{values: [1, 2], when: {block: bottleneck}}"}
        ),
        1 + 2 * 2,
    ),
    "an option that only one block has": (
        text_of(values={"block": "[basic, bottleneck]", "group_width": "[2, 4, 8]"}),
        1 + 3,
    ),
    "an option that both have": (text_of(values={"block": "[basic, bottleneck]", "order": "[post, pre]"}), 4),
    "a condition on a depth": (
        text_of(values={"depth": "", "stage*.depth": "[1, 2]", "stage*.width": "{values: [4, 8], when: {depth: 2}}"}),
        (1 + 2) ** 2,
    ),
    "a condition on a condition": (
        text_of(
            values={
                "block": "[basic, bottleneck]",
                "cardinality": "{values: [1, 2], when: {block: bottleneck}}",
                "group_width": "{values: [4, 8, 16], when: {cardinality: 2}}",
            }
        ),
        1 + 1 + 3,
    ),
    "tiny": (TINY, 16),
    "conditional": (CONDITIONAL, 3 * 2 * (3 * 2) ** 2 + 3 * 2 * (3 * 2 * 2) * (3 * 2 + 3 * 2 * 3)),
}


@pytest.mark.parametrize("label", COUNTED)
def test_size_is_the_number_of_different_choices(label):
    text, expected = COUNTED[label]
    space = space_of(text)
    listed = [json.dumps(choices) for choices in every_choice(space)]
    assert space.size() == expected == len(listed) == len(set(listed))


def domains():
    words = st.sampled_from(["[1, 2]", "[1]", "[1, 2, 3]", "2"])
    where = st.sampled_from(["", "stage*.", "stage1.", "stage2."])
    conditions = st.sampled_from(["", "block: bottleneck", "depth: 2", "cardinality: 2"])
    names_ = st.sampled_from(["depth", "width", "cardinality", "group_width"])
    return st.lists(st.tuples(where, names_, words, conditions), max_size=6, unique_by=lambda line: line[:2])


@given(st.sampled_from(["basic", "bottleneck", "[basic, bottleneck]"]), st.sampled_from(["", "stage*."]), domains())
@settings(max_examples=200)
def test_size_of_any_space_is_what_enumeration_counts(block, where, lines):
    values = {"block": "basic", f"{where}block": block}
    for place, name, words, condition in lines:
        values[f"{place}{name}"] = (
            f"{{values: {words if '[' in words else [2]}, when: {{{condition}}}}}" if condition else words
        )
    try:
        space = space_of(text_of(values=values))
    except UsageError:
        return
    listed = [json.dumps(choices) for choices in every_choice(space)]
    assert space.size() == len(listed) == len(set(listed))
    for choices in map(json.loads, listed[:20]):
        space.cost(choices)


# -- which line holds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backwards", [False, True])
def test_the_narrowest_line_wins_wherever_it_stands(backwards):
    values = {
        "depth": "1",
        "stage*.depth": "2",
        "stage2.depth": "3",
        "width": "8",
        "stage3.width": "16",
        "block": "basic",
    }
    lines = [f"  {key}: {value}" for key, value in values.items()]
    text = "space: test\nstages: 3\nvalues:\n" + "\n".join(lines[::-1] if backwards else lines) + "\n"
    stages = space_of(text).architecture({}).stages
    assert [stage.depth for stage in stages] == [2, 3, 2]
    assert [stage.width for stage in stages] == [8, 8, 16]


def test_a_searched_line_under_a_narrower_fixed_one_is_still_searched_elsewhere():
    space = space_of(text_of(stages=3, values={"depth": "[1, 2]", "stage2.depth": "5"}))
    assert set(space.knobs) == {"depth"}
    assert [stage.depth for stage in space.architecture({"depth": 2}).stages] == [2, 5, 2]


def test_a_shared_line_that_every_stage_overrides_is_no_knob():
    space = space_of(text_of(values={"depth": "[1, 2, 3]", "stage1.depth": "1", "stage2.depth": "[1, 2]"}))
    assert set(space.knobs) == {"stage2.depth"}
    assert space.size() == 2


def test_defaults():
    space = space_of("space: least\nstages: 1\nvalues: {block: basic, depth: 1, width: 8}\n")
    (stage,) = space.architecture({}).stages
    assert (stage.stride, stage.shortcut.kind, stage.merge.kind) == (1, "projection", "add")
    architecture = space.architecture({})
    assert (architecture.stem.kind, architecture.head.kind) == ("cifar", "linear")
    assert space.size() == 1 and space.sample(3) == {}


def test_a_variant_is_laid_over_the_space():
    text = """\
space: two sizes
stages: 2
values: {block: basic, depth: [1, 2], width: 8}
budgets: {params: {max: 10000}, macs: {max: 10000000}}
variants:
  - {name: small, max_resolution: 16, stages: 1, values: {width: 4}, budgets: {params: {max: 5000}}}
  - {name: middle, max_resolution: 32, values: {depth: 3}}
  - {name: large}
"""
    small, middle, large = (space_of(text, resolution=resolution) for resolution in (16, 17, 33))
    assert [space.variant for space in (small, middle, large)] == ["small", "middle", "large"]
    assert [space.stages for space in (small, middle, large)] == [1, 2, 2]
    assert [space.size() for space in (small, middle, large)] == [2, 1, 2]
    assert small.budget.bounds == {"params": (None, 5000), "macs": (None, 10000000)}
    assert large.budget.bounds == {"params": (None, 10000), "macs": (None, 10000000)}


def test_the_same_space_for_other_images():
    space = load_space("resnext", resolution=32, classes=10).within(Budget({"macs": (None, 1e9)}))
    other = space.for_data(resolution=224, channels=1, classes=3)
    assert (other.variant, other.resolution, other.channels, other.classes) == ("imagenet", 224, 1, 3)
    assert other.budget == space.budget
    kept = space_from_text(space.source, resolution=32, channels=3, classes=10)
    assert kept.slots == space.slots


def test_a_space_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_space("resnext").stages = 1


# -- choices -----------------------------------------------------------------------------------------------------------


def test_completing_drops_what_has_no_knob_and_draws_what_is_missing():
    space = space_of(CONDITIONAL)
    for seed in range(50):
        rng = random.Random(seed)
        choices = space.completed({"block": "basic", "stage1.cardinality": 2, "stage2.width": 16}, rng)
        assert choices["block"] == "basic" and choices["stage2.width"] == 16
        assert not any("cardinality" in key or "group_width" in key for key in choices)
        space.architecture(choices)


def test_true_is_not_one():
    space = space_of(text_of(values={"depth": "[1, 2]"}))
    for value in (True, 1.0, "1"):
        with pytest.raises(UsageError, match="depth"):
            space.architecture({"depth": value})


def test_all_choices_of_a_small_space_build():
    space = space_of(CONDITIONAL)
    assert all(space.cost(choices).params > 0 for choices in every_choice(space))


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
        ({"group_width": "{values: [4], when: {cardinality: 1}}", "cardinality": "1"}, "which is not chosen before it"),
        ({"stage1.group_width": "{values: [4], when: {stage2.depth: 1}}"}, "names 'stage2.depth'"),
        ({"stage1.width": "{values: [4, 8], when: {width: 4}}"}, "which is not chosen before it"),
        ({"cardinality": "{values: [1, 2], when: {block: bottelneck}}", "block": "[basic, bottleneck]"}, "bottelneck"),
        ({"stage1.width": "{values: [4, 8], when: {stem: imagnet}}"}, "stage1.width: unknown stem 'imagnet'"),
        ({"depth": "{values: [1, 2], when: {block: bottleneck}}", "block": "[basic, bottleneck]"}, "depth"),
        ({"block": "{values: [basic], when: {stem: imagenet}}", "stem": "[cifar, imagenet]"}, "block"),
        ({"shortcut": "{values: [projection], when: {block: bottleneck}}", "block": "[basic, bottleneck]"}, "shortcut"),
        ({"stem": "{values: [cifar], when: {head: linear}}"}, "stem"),
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
        values={"depth": "[1, 2]", "stage2.width": "{values: [4, 8], when: {depth: 2}}", "stage2.depth": "[1, 3]"}
    )
    assert "stage2.width: its condition names 'depth', which is not chosen before it" in refusal(text)


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
        (text_of("budgets: {params: {max: 2e6}}"), "budgets: params: max must be a number, not '2e6'"),
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


def test_every_option_of_every_block_can_be_searched():
    """A space knows the options of a block that is registered tomorrow."""
    for kind, branch in BRANCHES.items():
        for name in branch.options():
            default = getattr(branch(), name)
            space = space_of(text_of(values={"block": kind, f"stage*.{name}": f"[{default!r}]"}))
            assert set(space.knobs) == {f"stage1.{name}", f"stage2.{name}"}
