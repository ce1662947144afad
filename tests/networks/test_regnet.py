"""RegNet's quantised linear widths against torchvision's, and spaces whose stages follow from them."""

from __future__ import annotations

import json
import random

import pytest
from helpers_search import every_choice, space_of
from helpers_space import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.networks.build import cost_of
from nas.networks.regnet_design import quantised_linear
from nas.spaces.attributes import PARTS
from nas.spaces.space import MAX_STAGES

PUBLISHED = [
    f"regnet_{kind}_{size}"
    for kind, sizes in (
        ("x", ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
        ("y", ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf")),
    )
    for size in sizes
]


def theirs(depth: int, w0: int, wa: float, wm: float, group_width: int) -> list[tuple[int, int, int]]:
    from torchvision.models.regnet import BlockParams

    found = BlockParams.from_init_params(depth=depth, w_0=w0, w_a=wa, w_m=wm, group_width=group_width)
    return list(zip(found.depths, found.widths, found.group_widths, strict=True))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name, monkeypatch):
    """The numbers stand in torchvision's source; its builders are asked for them without building."""
    from torchvision.models import regnet

    asked = {}
    make = regnet.BlockParams.from_init_params
    monkeypatch.setattr(regnet, "_regnet", lambda params, *args, **options: params)
    monkeypatch.setattr(
        regnet.BlockParams, "from_init_params", lambda **options: asked.update(options) or make(**options)
    )
    found = getattr(regnet, name)()
    ours = quantised_linear(asked["depth"], asked["w_0"], asked["w_a"], asked["w_m"], asked["group_width"])
    assert [tuple(stage) for stage in ours] == list(zip(found.depths, found.widths, found.group_widths, strict=True))
    assert len(ours) == 4 and sum(stage.depth for stage in ours) == asked["depth"]


sizes = {
    "depth": st.integers(1, 40),
    "w0": st.integers(1, 40).map(lambda k: 8 * k),
    "wa": st.integers(0, 512).map(lambda k: k / 2),
    "wm": st.sampled_from([1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0]),
    "group_width": st.integers(1, 264),
}


@given(**sizes)
@settings(max_examples=300)
def test_stages_of_any_numbers(depth, w0, wa, wm, group_width):
    ours = quantised_linear(depth, w0, wa, wm, group_width)
    assert sum(stage.depth for stage in ours) == depth
    assert ours[0].width >= 8
    for stage in ours:
        assert stage.width % stage.group_width == 0 and 1 <= stage.group_width <= group_width
        assert stage.depth >= 1
    # torchvision takes logarithms of single-precision numbers, which fall on the other side of a half now and then.
    their_total = sum(step for step, _, _ in theirs(depth, w0, wa, wm, group_width))
    assert their_total == depth


def test_random_numbers_are_torchvision_s():
    rng = random.Random(0)
    for _ in range(300):
        numbers = (
            rng.randrange(1, 40),
            8 * rng.randrange(1, 33),
            rng.uniform(0, 256),
            rng.uniform(1.5, 3),
            rng.randrange(1, 130),
        )
        assert [tuple(stage) for stage in quantised_linear(*numbers)] == theirs(*numbers), numbers


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ((0, 8, 8.0, 2.0, 8), "network_depth must be a whole number from 1 to 1,024, not 0"),
        ((2.0, 8, 8.0, 2.0, 8), "network_depth must be a whole number"),
        ((True, 8, 8.0, 2.0, 8), "network_depth must be a whole number"),
        ((4, 0, 8.0, 2.0, 8), "w0 must be a whole number"),
        ((4, 12, 8.0, 2.0, 8), "w0 must be a multiple of 8, not 12"),
        ((4, 8, -1.0, 2.0, 8), "wa must be from 0"),
        ((4, 8, float("nan"), 2.0, 8), "wa must be a finite number"),
        ((4, 8, 8.0, 1.0, 8), "wm must be above 1"),
        ((4, 8, 8.0, 1e300, 8), "wm must be above 1 and at most 16"),
        ((4, 8, 8.0, "2", 8), "wm must be a finite number"),
        ((4, 8, 8.0, 2.0, 0), "group_width must be a whole number"),
    ],
)
def test_numbers_that_make_no_network(numbers, says):
    with pytest.raises(UsageError, match="must be") as error:
        quantised_linear(*numbers)
    assert says in str(error.value)


# -- spaces ------------------------------------------------------------------------------------------------------------


def text_of(stages: int = 3, **values: str) -> str:
    found = {
        "block": "regnet",
        "network_depth": "[4, 6, 9]",
        "w0": "[8, 16]",
        "wa": "[0, 6.5, 12]",
        "wm": "[2.0, 2.5]",
        "group_width": "[4, 8]",
        **values,
    }
    body = "".join(f"  {key.replace('__', '.')}: {value}\n" for key, value in found.items() if value)
    return f"space: regnets\ndesign: regnet\nstages: {stages}\nvalues:\n{body}"


def test_every_choice_is_a_legal_network():
    space = space_of(text_of(stage1__stride="1", se_ratio="[0.0, 0.25]"), resolution=16)
    listed = list(every_choice(space))
    assert space.size() == len(listed) == 3 * 2 * 3 * 2 * 2 * 2
    assert len({json.dumps(choices) for choices in listed}) == len(listed)
    for choices in listed:
        architecture = space.architecture(choices)
        numbers = [choices[name] for name in ("network_depth", "w0", "wa", "wm", "group_width")]
        assert [(stage.depth, stage.width) for stage in architecture.stages] == [
            (depth, width) for depth, width, _ in quantised_linear(*numbers)
        ]
        strides = [1, 2, 2] + [1] * MAX_STAGES
        assert [stage.stride for stage in architecture.stages] == strides[: len(architecture.stages)]
        for stage in architecture.stages:
            assert stage.branch.cardinality * stage.branch.group_width == stage.width
            assert stage.branch.se_ratio == choices["se_ratio"]
        assert cost_of(architecture).params > 0
        assert architecture.digest == space.architecture(json.loads(json.dumps(choices))).digest
    assert {len(space.architecture(choices).stages) for choices in listed} >= {1, 2, 3, 4}


def test_strides_of_the_stages():
    """Each stage halves by itself; a line says it otherwise, and behind `stages` nothing is halved."""
    values = {"network_depth": "9", "w0": "8", "wa": "12", "wm": "2.5", "group_width": "4"}

    def strides(stages: int, **lines: str) -> list[int]:
        space = space_of(text_of(stages, **values, **lines), resolution=32)
        return [stage.stride for stage in space.architecture({}).stages]

    assert strides(3) == [2, 2, 2, 1]
    assert strides(4) == [2, 2, 2, 2]
    assert strides(6) == [2, 2, 2, 2]
    assert strides(2, stage1__stride="1") == [1, 2, 1, 1]
    assert strides(3, stride="1") == [1, 1, 1, 1]
    searched = space_of(text_of(3, **values, **{"stage*__stride": "[1, 2]"}), resolution=32)
    assert searched.size() == 8


@pytest.mark.parametrize("block", [name for name, kind in PARTS["block"][0].items() if "group_width" in kind.options()])
def test_any_block_with_groups_will_do(block):
    space = space_of(text_of(block=block), resolution=16)
    rng = random.Random(0)
    for _ in range(20):
        for stage in space.architecture(space.any(rng)).stages:
            assert stage.branch.cardinality * stage.branch.group_width == stage.width


def test_shared_lines_of_other_parts():
    space = space_of(
        text_of(merge="[add, highway]", merge_bias="[-6.0, 0.0]", act="[relu, silu]", stem_width="[8, 16]")
    )
    assert space.size() == 72 * (1 + 2) * 2 * 2
    rng = random.Random(0)
    for _ in range(30):
        choices = space.any(rng)
        architecture = space.architecture(choices)
        assert architecture.stem.width == choices["stem_width"] and architecture.stem.act == choices["act"]
        assert {stage.merge.kind for stage in architecture.stages} == {choices["merge"]}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"depth": "2"}, "unknown attribute 'depth'"),
        ({"width": "8"}, "unknown attribute 'width'"),
        ({"cardinality": "2"}, "unknown attribute 'cardinality'"),
        ({"stage1__block": "regnet"}, "a regnet's stages differ in their strides only; write block, without a stage"),
        ({"stage*__w0": "8"}, "unknown attribute 'stage*.w0'"),
        ({"stage4__stride": "1"}, "stage4.stride: there are 3 stages"),
        ({"w0": ""}, "the network has no w0"),
        ({"network_depth": ""}, "the network has no network_depth"),
        ({"block": ""}, "stage 1 has no block"),
        ({"block": "basic"}, "block: basic has no cardinality and group_width, which design regnet sets"),
        ({"block": "[regnet, mbconv]"}, "block: mbconv has no cardinality"),
        ({"w0": "12"}, "w0: w0 must be a multiple of 8, not 12"),
        ({"wm": "[0.5, 2.0]"}, "wm: wm must be above 1"),
        ({"wa": "steep"}, "wa: wa must be a finite number"),
        ({"network_depth": "60", "wa": "8", "wm": "1.05", "w0": "64"}, "of at most 16; a larger wm gives fewer"),
        (
            {"w0": "{values: [8], when: {block: regnet, wm: 2.0}}"},
            "w0: where its condition doesn't hold there is no w0",
        ),
    ],
)
def test_slips(values, says):
    message = refusal(text_of(**values))
    assert message.startswith("space: ") and says in message


def test_unknown_designs():
    assert "unknown design 'regnt' (did you mean 'regnet'?)" in refusal(text_of().replace("regnet\nst", "regnt\nst"))
    assert "unknown attribute 'network_depth'" in refusal(text_of().replace("design: regnet", "design: stages"))
    assert "unknown design ['regnet']" in refusal(text_of().replace("design: regnet", "design: [regnet]"))


def test_a_narrowed_regnet():
    space = space_of(text_of())
    narrow = space.narrowed({"wm": 2.5, "network_depth": [4, 6], "stage1.stride": 1})
    assert narrow.size() == space.size() * 2 // 3 // 2
    assert space_of(narrow.source).slots == narrow.slots
    assert narrow.design == "regnet"
