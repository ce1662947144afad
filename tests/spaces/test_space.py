"""Search spaces: every sample of the shipped ones is legal, counts are exact, and every option of every part is a knob."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
from helpers_search import CONDITIONAL, TINY, every_choice, space_of, write_space
from helpers_space import refusal, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.spaces.attributes import pixels
from nas.spaces.budget import Budget
from nas.spaces.space import load_space, names, space_from_text

RESOLUTIONS = (8, 32, 224)
SHIPPED = [(name, resolution) for name in names() for resolution in RESOLUTIONS]
every_shipped = pytest.mark.parametrize(("name", "resolution"), SHIPPED)


# -- the shipped spaces ------------------------------------------------------------------------------------------------


@every_shipped
def test_hundreds_of_samples_are_all_legal(name, resolution):
    space = load_space(name, resolution=resolution, classes=7)
    rng = random.Random(5)
    seen = set()
    for number in range(400):
        choices = space.any(rng)
        architecture = space.architecture(choices)
        cost = cost_of(architecture)
        assert min(cost.params, cost.macs, cost.activations) > 0
        own = pixels(choices.get("resolution", resolution), resolution)
        assert (architecture.resolution, architecture.channels, architecture.head.classes) == (own, 3, 7)
        assert architecture == architecture.canonical()
        assert all(type(key) is str and type(value) in (int, float, str) for key, value in choices.items())
        if number < 100:
            again = json.loads(json.dumps(choices))
            assert again == choices and space.architecture(again) == architecture
        seen.update((key, value) for key, value in choices.items())
    # Each value of each knob occurs: 400 draws miss one of 36 with probability 36 exp(-400 / 36).
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
    samples = [first.sample(seed) for seed in range(10)]
    assert samples == [second.sample(seed) for seed in range(10)]
    assert len({json.dumps(choices) for choices in samples}) == 10


@every_shipped
def test_suggested_choices_and_only_those_are_accepted(name, resolution):
    space, rng = load_space(name, resolution=resolution), random.Random(2)
    for _ in range(10):
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
    spaces = [load_space(name, resolution=resolution) for resolution in (1, 8, 16, 17, 32, 64, 65, 224, 1024)]
    assert [space.variant for space in spaces] == ["tiny"] * 3 + ["cifar"] * 3 + ["imagenet"] * 3
    for space in spaces:
        space.cost(space.sample(0))


@pytest.mark.parametrize("name", names())
def test_a_variant_can_be_asked_for(name):
    assert load_space(name, resolution=32, variant="imagenet").variant == "imagenet"
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


# -- the resolution ----------------------------------------------------------------------------------------------------


def test_resolution_in_pixels_and_as_a_share():
    text = text_of(values={"resolution": "[0.5, 0.75, 1.0, 20]"})
    space = space_of(text, resolution=32)
    assert space.resolution == 32
    assert [space.architecture({"resolution": value}).resolution for value in (0.5, 0.75, 1.0, 20)] == [16, 24, 32, 20]
    assert space.cost({"resolution": 0.5}).macs < space.cost({"resolution": 1.0}).macs
    assert space.cost({"resolution": 0.5}).params == space.cost({"resolution": 1.0}).params
    fixed = space_of(text_of(values={"resolution": "0.75"}), resolution=32)
    assert fixed.architecture({}).resolution == 24 and fixed.size() == 1


def test_shares_that_round_to_one_size_are_one_network():
    space = space_of(text_of(values={"resolution": "[0.1, 0.2, 0.9, 1.0]"}), resolution=10)
    networks = {share: space.architecture({"resolution": share}) for share in (0.1, 0.2, 0.9, 1.0)}
    assert [network.resolution for network in networks.values()] == [4, 4, 9, 10]
    assert networks[0.1].digest == networks[0.2].digest != networks[0.9].digest


@given(st.floats(1e-6, 16), st.integers(1, 4096))
def test_any_share_is_a_whole_number_of_pixels(share, side):
    found = pixels(share, side)
    assert type(found) is int and found >= 4
    assert found == 4 or abs(found - share * side) <= 0.5


def test_the_share_1_is_no_pixel():
    """JSON of other programs may write 1.0 as 1."""
    space = space_of(text_of(values={"resolution": "[0.5, 1.0]"}), resolution=32)
    assert space.architecture({"resolution": 1}).resolution == 32
    with pytest.raises(UsageError, match="resolution can't be True"):
        space.architecture({"resolution": True})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1", "from 4 to 16,384 pixels, not 1; the data's own size is 1.0"),
        ("[3, 8]", "from 4 to 16,384 pixels, not 3"),
        ("0.0", "above 0 and at most 16, not 0.0"),
        ("[-0.5, 1.0]", "above 0 and at most 16, not -0.5"),
        ("17.0", "above 0 and at most 16, not 17.0"),
        ("large", "resolution must be pixels (a whole number) or a share of the data's side (as 0.75), not 'large'"),
    ],
)
def test_wrong_resolutions(value, says):
    assert says in refusal(text_of(values={"resolution": value}))
    assert "resolution is the network's" in refusal(text_of(values={"stage1.resolution": value}))
