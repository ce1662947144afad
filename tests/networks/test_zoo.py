"""The zoo against what its papers, torchvision and timm publish, and against torchvision's and timm's own modules."""

from __future__ import annotations

import math
import re
import runpy
from pathlib import Path

import pytest
import torch
import torchvision
from oracles import measured
from torch import nn

from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of

SCRIPT = Path(__file__).parents[2] / "docs" / "make_zoo_table.py"  # not part of every distribution
NEEDS_SCRIPT = pytest.mark.skipif(not SCRIPT.exists(), reason="the pages are not part of this distribution")

# In torchvision under the same names. ResNets are its v1.5.
TORCHVISION = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
    *("mobilenet_v2", *(f"efficientnet_b{number}" for number in range(8))),
    *(f"efficientnet_v2_{size}" for size in "sml"),
    *(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
    *(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf")),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
]

# In timm under the same names, with timm's parameter counts.
TIMM = {
    "resnet18d": 11_708_744,
    "resnet50d": 25_576_264,
    "seresnet50": 28_088_024,
    "seresnext50_32x4d": 27_559_896,
    "res2net50_26w_4s": 25_699_120,
    "res2net50_48w_2s": 25_287_304,
    "res2net50_14w_8s": 25_059_816,
    "res2net50_26w_6s": 37_051_448,
    "res2net50_26w_8s": 48_403_776,
    "res2net101_26w_4s": 45_206_688,
    "res2next50": 24_671_464,
    "efficientnet_cc_b0_4e": 13_314_116,
    "efficientnet_cc_b0_8e": 24_013_284,
}

# Those of both whose modules are quick to count.
QUICK = {
    "resnet18",
    "resnet50d",
    "seresnet50",
    "res2next50",
    "mobilenet_v2",
    "efficientnet_b0",
    "efficientnet_cc_b0_4e",
}
QUICK |= {"regnet_x_400mf", "regnet_y_400mf", "convnext_tiny"}

# Parameters as counted by the networks' public implementations, at 10 classes.
PARAMS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "preact_resnet164": 1_703_258,
    "wrn_16_8": 10_961_370,
    "wrn_28_10": 36_479_194,
    "wrn_40_4": 8_949_210,
    "resnext29_8x64d": 34_426_698,
    **TIMM,
}

# Multiply-adds: of ResNet-20 summed by hand (see the test), of the others as the pruning literature gives them
# ("HRank", Lin et al., CVPR 2020).
MACS = {"resnet20": 40_551_040, "resnet56": 125.49e6, "resnet110": 252.89e6}


def slow_but_for(quick, names):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def script():
    """The names of the script that makes docs/zoo.md."""
    return runpy.run_path(str(SCRIPT))


def test_names_are_these():
    assert set(zoo.names()) == {
        *TORCHVISION,
        *TIMM,
        *("resnet50_v1", "resnet101_v1", "resnet152_v1"),
        *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202", "plain20", "plain56"),
        *("preact_resnet164", "wrn_16_8", "wrn_28_10", "wrn_40_4", "resnext29_8x64d", "resnext29_16x64d"),
        *("highway110", "skipnet38", "skipnet74", "skipnet110"),
    }
    assert len(set(zoo.names())) == len(zoo.names())


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("resnet18", "149b94e633e6bcdf"),
        ("resnet50", "c42c9630e93e243e"),
        ("resnet50_v1", "8448ca6e260642f2"),
        ("resnext101_64x4d", "209f4682e876f43f"),
        ("plain20", "26130e956160a8f0"),
        ("preact_resnet164", "531f2fdd529638d0"),
        ("wrn_28_10", "096135a39206882b"),
    ],
)
def test_digests_of_the_first_release_stay(name, digest):
    assert zoo.get(name).digest == digest


@pytest.mark.parametrize(
    ("alias", "name"),
    [("se_resnet50", "seresnet50"), ("SE-ResNet50", "seresnet50"), ("se_resnext50_32x4d", "seresnext50_32x4d")],
)
def test_alias_is_the_network(alias, name):
    assert zoo.get(alias) == zoo.get(name)
    assert zoo.about(alias) == zoo.about(name)
    assert alias not in zoo.names()


@pytest.mark.parametrize("name", zoo.names())
def test_network_is_canonical_named_and_survives_a_file(name):
    architecture = zoo.get(name)
    assert architecture.name == name
    assert architecture == architecture.canonical() == Architecture.from_yaml(architecture.to_yaml())


def test_networks_differ():
    assert len({zoo.get(name).digest for name in zoo.names()}) == len(zoo.names())


@pytest.mark.parametrize("spelling", ["wrn_28_10", "wrn-28-10", "WRN-28-10", " wrn-28_10 "])
def test_hyphens_underscores_and_capitals_are_one_spelling(spelling):
    assert zoo.get(spelling) == zoo.get("wrn_28_10")
    assert zoo.about(spelling) == zoo.about("wrn_28_10")


@pytest.mark.parametrize("name", ["resnet51", "wrn-28-11", "", "resnet", 50, None])
def test_unknown_name_is_answered_with_where_the_known_are_listed(name):
    for function in (zoo.get, zoo.about):
        with pytest.raises(UsageError, match=r"unknown network .*; `nas profile --list` lists all$") as caught:
            function(name)
        assert "\n" not in str(caught.value)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        UsageError, match=re.escape("unknown network 'preact_resnet146' (did you mean 'preact_resnet164'?)")
    ):
        zoo.get("preact-resnet146")
    with pytest.raises(UsageError, match=re.escape("'resnet21' (did you mean 'resnet20', 'resnet18', ")):
        zoo.get("resnet21")


# Published numbers.


@pytest.mark.parametrize("name", TORCHVISION)
def test_cost_is_what_torchvision_publishes_with_its_weights(name):
    for weights in torchvision.models.get_model_weights(name):
        cost = cost_of(zoo.get(name), weights.transforms().crop_size[0])
        assert cost.params == weights.meta["num_params"]
        assert round(cost.macs / 1e9, 3) == weights.meta["_ops"]


@NEEDS_SCRIPT
@pytest.mark.parametrize("name", slow_but_for(QUICK, [*TORCHVISION, *TIMM]))
def test_cost_is_what_pytorch_counts_in_the_librarys_module(name, script):
    """Also at a resolution that is odd at every stage, where a wrong rounding would show."""
    theirs, resolution = script["theirs"](name), zoo.get(name).resolution
    # ConvNeXt of torchvision leaves the pixels out that fill no patch; ours takes them.
    for side in (resolution,) if name.startswith("convnext") else (resolution, 193):
        assert cost_of(zoo.get(name), side) == measured(theirs, (3, side, side))[0]


@NEEDS_SCRIPT
def test_library_of_each_network_is_found(script):
    assert {name for name in zoo.names() if script["library_of"](name) == "torchvision"} == set(TORCHVISION)
    assert {name for name in zoo.names() if script["library_of"](name) == "timm"} == set(TIMM)


@NEEDS_SCRIPT
def test_page_has_our_costs_of_every_network(script):
    rows = [line for line in script["PAGE"].read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    ours = [script["our_columns"](zoo.get(name)) for name in zoo.names()]
    assert [row[: len(columns)] for row, columns in zip(rows, ours, strict=True)] == ours
    assert all(
        row.endswith("| 0 |") for row, name in zip(rows, zoo.names(), strict=True) if name in (*TORCHVISION, *TIMM)
    )


@NEEDS_SCRIPT
@pytest.mark.slow
def test_page_is_what_its_script_prints(script):
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"]()


SMALL = {
    "resnet18",
    "resnet20",
    "plain20",
    "highway110",
    "skipnet38",
    "mobilenet_v2",
    "efficientnet_b0",
    "regnet_y_400mf",
}


@pytest.mark.parametrize("name", slow_but_for(SMALL, zoo.names()))
def test_cost_is_what_pytorch_counts_in_our_module(name):
    architecture = zoo.get(name)
    with torch.device("meta"):
        module = build(architecture)
    assert cost_of(architecture) == measured(module, (3, architecture.resolution, architecture.resolution))[0]


def test_resnet50_is_25_557_032_parameters_and_4_089_giga_multiply_adds():
    cost = cost_of(zoo.get("resnet50"))
    assert (cost.params, round(cost.macs / 1e6)) == (25_557_032, 4089)


def test_v1_needs_fewer_multiply_adds_for_the_same_parameters():
    """He et al. 2015, table 1 (v1): 3.8, 7.6 and 11.3 billion; the stride in the 3x3 costs the same 0.23 more in each."""
    for name, paper in (("resnet50", 3.8), ("resnet101", 7.6), ("resnet152", 11.3)):
        v1, v15 = cost_of(zoo.get(f"{name}_v1")), cost_of(zoo.get(name))
        assert v1.params == v15.params
        assert v1.macs / 1e9 == pytest.approx(paper, abs=0.06)
        # Three 1x1 at four times the pixels: 2 C^2 more at (3/4 of) 56^2, 28^2 and 14^2 pixels and C = 256, 512, 1024.
        more = sum(c * (c // 2) * (side**2 - (side // 2) ** 2) for c, side in ((256, 56), (512, 28), (1024, 14)))
        assert v15.macs - v1.macs == more


@pytest.mark.parametrize(("name", "params"), PARAMS.items())
def test_parameters_are_the_published_ones(name, params):
    assert cost_of(zoo.get(name)).params == params


@pytest.mark.parametrize(("name", "macs"), MACS.items())
def test_multiply_adds_are_the_published_ones(name, macs):
    assert cost_of(zoo.get(name)).macs == pytest.approx(macs, abs=5e3)


def test_multiply_adds_of_resnet20_by_hand():
    stem = 27 * 16 * 32**2
    stages = sum(9 * w * (w * 6 - (w // 2 if w > 16 else 0)) * side**2 for w, side in ((16, 32), (32, 16), (64, 8)))
    assert cost_of(zoo.get("resnet20")).macs == stem + stages + 64 * 10 == MACS["resnet20"]


@pytest.mark.parametrize("depth", [20, 56])
def test_plain_networks_cost_what_the_residual_ones_with_option_a_do(depth):
    """He et al. 2015, section 4.2: "we use identity shortcuts in all cases (i.e., option A)", so that none costs anything."""
    plain, residual = zoo.get(f"plain{depth}"), zoo.get(f"resnet{depth}")
    assert cost_of(plain) == cost_of(residual)
    assert plain.digest != residual.digest


def test_highway110_is_resnet110_and_a_gate_in_each_block():
    """Gates: a 1x1 convolution with bias from the block's input to its output. He et al., ECCV 2016, section 3.1."""
    gates = sum(
        first + 17 * (width * width + width)
        for width, first in ((16, 16 * 16 + 16), (32, 16 * 32 + 32), (64, 32 * 64 + 64))
    )
    assert cost_of(zoo.get("highway110")).params == PARAMS["resnet110"] + gates
    merges = {stage.merge for stage in zoo.get("highway110").stages}
    assert [merge.to_dict() for merge in merges] == [{"kind": "highway", "bias": -6.0}]


@pytest.mark.parametrize("blocks", [6, 12, 18])
def test_skipnets_are_resnets_whose_blocks_are_gated_but_for_the_first(blocks):
    """As the paper's public implementation with its second feed-forward gate, whose two logits are one here.

    A gate on c channels is a 3x3 to c, a norm (2 c) and c weights and a bias; it reads what the block reads.
    """
    name = f"skipnet{6 * blocks + 2}"
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    resnet = 9 * 3 * 16 + 2 * 16 + 64 * 10 + 10 + projections
    resnet += sum(2 * 9 * w * w + 4 * w for w in (16, 32, 64)) * blocks - 9 * 16 * 32 - 9 * 32 * 64
    channels = [16] * (blocks - 1) + [16] + [32] * (blocks - 1) + [32] + [64] * (blocks - 1)
    gates = sum(9 * c * c + 2 * c + c + 1 for c in channels)
    assert cost_of(zoo.get(name)).params == resnet + gates
    assert f"{len(channels)} of {3 * blocks} blocks gated" in zoo.published(name)


# EfficientNet's compound scaling: width and depth factor, side of the images, dropout ("EfficientNet", Tan & Le 2019, and
# the authors' implementation).
FACTORS = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
}


@pytest.mark.parametrize(("letter", "factors"), FACTORS.items())
def test_efficientnets_are_b0_scaled_by_the_papers_factors(letter, factors):
    width, depth, resolution, dropout = factors

    def scaled(channels):
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    base, ours = zoo.get("efficientnet_b0"), zoo.get(f"efficientnet_{letter}")
    assert [stage.width for stage in ours.stages] == [scaled(stage.width) for stage in base.stages]
    assert [stage.depth for stage in ours.stages] == [math.ceil(stage.depth * depth) for stage in base.stages]
    assert (ours.stem.width, ours.head.width) == (scaled(32), 4 * scaled(320))
    assert (ours.resolution, ours.head.dropout) == (resolution, dropout)


@NEEDS_SCRIPT
@pytest.mark.parametrize("name", [name for name in TORCHVISION if name.startswith("efficientnet")])
def test_dropout_and_norm_are_torchvisions(name, script):
    """What no count shows: eps of batch normalisation, which differs between sizes, and the rate of dropout."""
    theirs, ours = script["theirs"](name), zoo.get(name)
    assert {module.eps for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)} == {ours.norm_eps}
    assert [module.p for module in theirs.modules() if isinstance(module, nn.Dropout)] == [ours.head.dropout]


NUMBERED = {
    name: re.search(r"(?:resnet|resnext|plain|wrn_|res2net|res2next|highway|skipnet)(\d+)", name)
    for name in zoo.names()
}
LAYERS = {name: int(found[1]) for name, found in NUMBERED.items() if found}


@pytest.mark.parametrize(("name", "layers"), LAYERS.items())
def test_depth_in_the_name_is_the_number_of_weighted_layers(name, layers):
    """Stem, the blocks' convolutions and the linear layer; wide ResNets' 6 n + 4 counts three projections instead of it."""
    architecture = zoo.get(name)
    a_block = {"basic": 2, "bottleneck": 3, "res2net": 3}[architecture.stages[0].branch.kind]
    convolutions = sum(stage.depth for stage in architecture.stages) * a_block
    assert layers == 1 + convolutions + (3 if name.startswith("wrn") else 1)


def test_every_network_that_is_named_for_its_depth_is_so():
    others = ("mobilenet", "efficientnet", "regnet", "convnext")
    assert set(LAYERS) == {name for name in zoo.names() if not name.startswith(others)}


@pytest.mark.parametrize("name", zoo.names())
def test_about_is_one_line_whose_numbers_are_ours_too(name):
    """Parameters and multiply-adds to the last digit that is said; papers cut as often as they round."""
    line = zoo.about(name)
    assert "\n" not in line
    assert re.search(r'^".+", .+ (CVPR|ECCV|ICML|BMVC|NeurIPS|TPAMI) 20\d\d', line)
    assert line.endswith(f"; {zoo.published(name)}")
    cost = cost_of(zoo.get(name))
    said = re.findall(r"([\d.]+) ([MG]) (parameters|multiply-adds)", line)
    assert said or name.startswith(("highway", "skipnet"))
    for number, unit, measure in said:
        ours = {"parameters": cost.params, "multiply-adds": cost.macs}[measure] / {"M": 1e6, "G": 1e9}[unit]
        last_digit = 10.0 ** -len(number.partition(".")[2])
        assert ours == pytest.approx(float(number), abs=last_digit)


@pytest.mark.parametrize("name", TORCHVISION)
def test_about_quotes_the_accuracy_of_torchvisions_first_weights_of_this_resolution(name):
    kinds = torchvision.models.get_model_weights(name)
    if name == "regnet_y_128gf":  # the first are of 384 pixels
        weights, said = kinds.IMAGENET1K_SWAG_LINEAR_V1, "torchvision, linear on SWAG"
    else:
        weights = kinds.IMAGENET1K_V1
        said = "torchvision, at 288 pixels" if name == "efficientnet_b2" else "torchvision"
    pixels = 288 if "288" in said else zoo.get(name).resolution
    assert weights.transforms().crop_size == [pixels]
    accuracy = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert f"ImageNet top-1 {accuracy:.3f} % ({said})" in zoo.about(name)


@NEEDS_SCRIPT
def test_the_pages_say_how_many_there_are():
    for name in ("README.md", "CHANGELOG.md"):
        counts = re.findall(
            r"the (\d+) published networks|The zoo has (\d+) networks", (SCRIPT.parents[1] / name).read_text()
        )
        assert [int(first or second) for first, second in counts] == [len(zoo.names())], name
