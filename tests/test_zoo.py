"""The zoo against what its papers and torchvision publish, and against torchvision's own modules."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from oracles import measured

from nas import zoo
from nas.architecture import Architecture
from nas.errors import UsageError
from nas.network import build, cost_of

# v1.5 and its descendants, in torchvision under the same names.
TORCHVISION = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
]

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
}

# Multiply-adds: of ResNet-20 summed by hand (see the test), of the others as the pruning literature gives them
# ("HRank", Lin et al., CVPR 2020).
MACS = {"resnet20": 40_551_040, "resnet56": 125.49e6, "resnet110": 252.89e6}


def test_names_are_these():
    assert set(zoo.names()) == {
        *TORCHVISION,
        *("resnet50_v1", "resnet101_v1", "resnet152_v1"),
        *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202", "plain20", "plain56"),
        *("preact_resnet164", "wrn_16_8", "wrn_28_10", "wrn_40_4", "resnext29_8x64d", "resnext29_16x64d"),
    }
    assert len(set(zoo.names())) == len(zoo.names())


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
def test_unknown_name_is_answered_with_the_known(name):
    for function in (zoo.get, zoo.about):
        with pytest.raises(UsageError, match=r"unknown network .*; known: resnet18, resnet34") as caught:
            function(name)
        assert "\n" not in str(caught.value)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        UsageError, match=re.escape("unknown network 'preact_resnet146' (did you mean 'preact_resnet164'?)")
    ):
        zoo.get("preact-resnet146")


# Published numbers.


@pytest.mark.parametrize("name", TORCHVISION)
def test_cost_is_what_torchvision_publishes_with_its_weights(name):
    cost = cost_of(zoo.get(name))
    for weights in torchvision.models.get_model_weights(name):
        assert cost.params == weights.meta["num_params"]
        assert round(cost.macs / 1e9, 3) == weights.meta["_ops"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_cost_is_what_pytorch_counts_in_torchvisions_module(name):
    """Also at a resolution that is odd at every stage, where a wrong rounding would show."""
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    for resolution in (224, 193):
        cost, _ = measured(theirs, (3, resolution, resolution))
        assert cost_of(zoo.get(name), resolution) == cost


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in zoo.names()])
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


@pytest.mark.parametrize("name", zoo.names())
def test_depth_in_the_name_is_the_number_of_weighted_layers(name):
    """Stem, the blocks' convolutions and the linear layer; wide ResNets' 6 n + 4 counts three projections instead of it."""
    architecture = zoo.get(name)
    a_block = {"basic": 2, "bottleneck": 3}[architecture.stages[0].branch.kind]
    convolutions = sum(stage.depth for stage in architecture.stages) * a_block
    assert int(re.search(r"\d+", name)[0]) == 1 + convolutions + (3 if name.startswith("wrn") else 1)


@pytest.mark.parametrize("name", zoo.names())
def test_about_is_one_line_whose_numbers_are_ours_too(name):
    """Parameters and multiply-adds to the last digit that is said; papers cut as often as they round."""
    line = zoo.about(name)
    assert "\n" not in line
    assert re.search(r'^".+", .+ (CVPR|ECCV|BMVC) 20\d\d', line)
    cost = cost_of(zoo.get(name))
    said = re.findall(r"([\d.]+) ([MG]) (parameters|multiply-adds)", line)
    assert said
    for number, unit, measure in said:
        ours = {"parameters": cost.params, "multiply-adds": cost.macs}[measure] / {"M": 1e6, "G": 1e9}[unit]
        last_digit = 10.0 ** -len(number.partition(".")[2])
        assert ours == pytest.approx(float(number), abs=last_digit)


@pytest.mark.parametrize("name", TORCHVISION)
def test_about_quotes_the_accuracy_of_torchvisions_first_weights(name):
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    assert f"ImageNet top-1 {weights.meta['_metrics']['ImageNet-1K']['acc@1']:.3f} % (torchvision)" in zoo.about(name)
