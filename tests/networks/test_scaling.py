"""Scaling: EfficientNet-b1 to b7 out of b0, the rules of rounding, targets, and networks of all parts."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import measured
from strategies import architectures

from nas.errors import UsageError
from nas.networks import zoo
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.networks.build import build, cost_of
from nas.networks.scaling import (
    EFFICIENTNETS,
    LEAST,
    METHODS,
    MOST,
    Scaling,
    compound,
    fitted,
    growth,
    phi_scaling,
    published,
    scaled,
    scaled_depth,
    scaled_resolution,
    scaled_width,
)

FACTORS = st.floats(0.1, 4)


def efficientnet_b0() -> Architecture:
    """By table 1 of the paper: expansion, kernel, stride, width, depth."""
    rows = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3)]
    rows += [(6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]
    stages = [
        Stage(BRANCHES["mbconv"](expansion, kernel), depth, width, stride, SHORTCUTS["matching"](), MERGES["add"](0.2))
        for expansion, kernel, stride, width, depth in rows
    ]
    return Architecture(STEMS["strided"](32), tuple(stages), HEADS["expanded"](1000, 1280), 224, name="b0")


# Compound scaling.


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_b0_scales_to_torchvisions_efficientnets(name):
    """Their costs and their paths. The canonical b0 calls its single blocks that change the shape plain; more of them are not."""
    open_, closed = (scaled(b0, published(name)) for b0 in (efficientnet_b0(), efficientnet_b0().canonical()))
    assert open_.digest == closed.digest
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"efficientnet_{name}")
    pixels = EFFICIENTNETS[name][2]
    assert open_.resolution == closed.resolution == pixels
    assert cost_of(open_) == cost_of(closed) == measured(theirs, (3, pixels, pixels))[0]
    paths = sum(getattr(module, "use_res_connect", False) for module in theirs.modules())
    ours = sum(
        (block.path() is not None) * times
        for stage, width in zip(closed.stages, [closed.stem.width, *(s.width for s in closed.stages)], strict=False)
        for block, times in stage.blocks(width)
    )
    assert ours == paths


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_the_zoos_b0_scales_to_the_others_but_for_what_regularises_them(name):
    """Their dropout, and the norm_eps of b5 to b7, are part of no scaling."""
    ours, theirs = scaled(zoo.get("efficientnet_b0"), published(name)), zoo.get(f"efficientnet_{name}")
    head = dataclasses.replace(theirs.head, dropout=ours.head.dropout)
    assert dataclasses.replace(theirs, head=head, norm_eps=ours.norm_eps).digest == ours.digest


def test_plain_networks_stay_plain():
    plain = zoo.get("plain20")
    shallow = dataclasses.replace(
        plain, stages=tuple(dataclasses.replace(stage, depth=1) for stage in plain.stages)
    ).canonical()
    assert all(stage.merge.kind == "none" for stage in scaled(shallow, Scaling(depth=3)).stages)


def test_phi_is_a_power_of_the_papers_coefficients():
    assert phi_scaling(0) == Scaling()
    for phi in (-2.0, 0.5, 1.0, 3.0):
        scaling = phi_scaling(phi)
        assert scaling.depth == pytest.approx(1.2**phi)
        assert scaling.width == pytest.approx(1.1**phi)
        assert scaling.resolution == pytest.approx(1.15**phi)
    assert growth() == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    assert phi_scaling(2, 1.5, 1.0, 1.25).width == 1


def test_uniform_and_fast_are_the_papers():
    """Dollár et al. 2021, table 2: uniform d, w, r share a factor of 8 as 2, 2^(1/2), 2^(1/2); fast d s^0.1, w s^0.4."""
    uniform, fast = METHODS["uniform"].scaling(8), METHODS["fast"].scaling(1024)
    assert (uniform.depth, uniform.width, uniform.resolution) == pytest.approx((2, math.sqrt(2), math.sqrt(2)))
    assert (fast.depth, fast.width, fast.resolution) == pytest.approx((2, 16, math.sqrt(2)))


@pytest.mark.parametrize("name", METHODS)
def test_method_multiplies_multiply_adds_by_its_factor(name):
    method = METHODS[name]
    assert method.depth + 2 * method.width + 2 * method.resolution == pytest.approx(1)
    wide = Architecture(STEMS["cifar"](512), (Stage(BRANCHES["basic"](), 60, 512),), HEADS["linear"](1), 512)
    after = scaled(wide, method.scaling(3))
    assert cost_of(after).macs / cost_of(wide).macs == pytest.approx(3, rel=0.03)


# Rounding.


@given(st.integers(1, 4096), FACTORS, st.integers(1, 32))
def test_width_is_a_multiple_and_never_far_below(width, factor, divisor):
    unit, result = math.gcd(width, divisor), scaled_width(width, factor, divisor)
    assert result >= 1 and result % unit == 0
    assert result >= 0.9 * width * factor
    assert result <= width * factor + unit


@given(st.integers(1, 512), FACTORS, FACTORS, st.integers(1, 16))
def test_sizes_grow_with_their_factors(size, one, other, divisor):
    low, high = sorted((one, other))
    assert scaled_width(size, low, divisor) <= scaled_width(size, high, divisor)
    assert scaled_depth(size, low) <= scaled_depth(size, high)
    assert scaled_resolution(size, low) <= scaled_resolution(size, high)


@pytest.mark.parametrize(
    ("width", "factor", "result"),
    [(32, 1.1, 32), (16, 1.4, 24), (24, 1.4, 32), (40, 2.2, 88), (16, 0.1, 8), (26, 1.1, 28), (7, 1.3, 9), (8, 1.1, 8)],
)
def test_widths_are_these(width, factor, result):
    assert scaled_width(width, factor) == result


def test_a_divisor_of_one_takes_the_nearest_width():
    assert [scaled_width(16, factor, 1) for factor in (1.0, 1.04, 1.1, 0.9)] == [16, 17, 18, 14]


@pytest.mark.parametrize(("depth", "factor", "result"), [(10, 1.1, 11), (3, 1.2, 4), (5, 1.2, 6), (1, 0.1, 1)])
def test_depth_is_rounded_up_and_not_by_the_errors_of_floats(depth, factor, result):
    assert scaled_depth(depth, factor) == result


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("resnext50_32x4d", [(32, 5), (32, 10), (32, 20), (32, 40)]),
        ("resnet50", [(1, 80), (1, 160), (1, 320), (1, 640)]),
    ],
)
def test_cardinality_stays_and_the_group_width_scales(name, groups):
    stages = scaled(zoo.get(name), Scaling(width=1.25)).stages
    assert [(stage.branch.cardinality, stage.branch.group_width) for stage in stages] == groups


# Networks of any parts.


@given(architectures(), st.integers(1, 16))
def test_scaling_by_one_is_the_identity(architecture, divisor):
    assert scaled(architecture, Scaling(divisor=divisor)) is architecture


@given(architectures(), FACTORS, FACTORS, FACTORS, st.integers(1, 16))
def test_what_is_scaled_is_legal_and_survives_a_file(architecture, depth, width, resolution, divisor):
    result = scaled(architecture, Scaling(depth, width, resolution, divisor))
    assert cost_of(result).params > 0
    assert Architecture.from_yaml(result.to_yaml()) == result
    assert result.head.classes == architecture.head.classes


@given(architectures(), FACTORS, FACTORS, st.sampled_from(("depth", "resolution")))
def test_more_depth_and_resolution_never_cost_less(architecture, one, other, name):
    low, high = (cost_of(scaled(architecture, Scaling(**{name: factor}))) for factor in sorted((one, other)))
    assert low.params <= high.params and low.macs <= high.macs and low.activations <= high.activations


@settings(max_examples=25)
@given(architectures(most_stages=2, most_width=6, most_pixels=20), FACTORS, FACTORS, FACTORS)
def test_cost_of_what_is_scaled_is_what_pytorch_counts(architecture, depth, width, resolution):
    result = scaled(architecture, Scaling(min(depth, 2), width, resolution))
    sides = result.channels, result.resolution, result.resolution
    assert cost_of(result) == measured(build(result), sides, "cpu")[0]


@pytest.mark.parametrize("name", ["resnet20", "resnext29_8x64d", "preact_resnet164", "plain20", "resnet50"])
def test_wider_networks_of_the_zoo_never_cost_less(name):
    costs = [cost_of(scaled(zoo.get(name), Scaling(width=0.2 + k / 40))) for k in range(80)]
    for low, high in itertools.pairwise(costs):
        assert low.params <= high.params and low.macs <= high.macs and low.activations <= high.activations


@pytest.mark.parametrize("kind", ["bottleneck", "regnet", "res2net"])
def test_grouped_branches_cost_what_pytorch_counts(kind):
    branch = dataclasses.replace(BRANCHES[kind](), cardinality=5, group_width=4, se_ratio=0.25)
    base = Architecture(
        STEMS["cifar"](12), (Stage(branch, 2, 20, 2, SHORTCUTS["projection"]()),), HEADS["linear"](3), 9
    )
    for width in (0.1, 0.7, 1.3, 2.6):
        network = scaled(base, Scaling(width=width))
        assert cost_of(network) == measured(build(network), (3, 9, 9), "cpu")[0]


def test_names_say_the_factors():
    named = scaled(efficientnet_b0(), published("b3"))
    assert named.name == "b0-d1.4-w1.2-300px"
    assert scaled(dataclasses.replace(named, name=""), Scaling(depth=2)).name == ""
    long = scaled(dataclasses.replace(named, name="x" * 200), Scaling(depth=2))
    assert len(long.name) == 200 and long.name.endswith("x-d2")


# Targets.

FITTED = ["resnet18", "resnet50", "resnext50_32x4d", "wrn_28_10"]


@pytest.mark.parametrize("times", [0.4, 1.0, 1.15, 2.0])
@pytest.mark.parametrize("how", ["compound", "uniform", "fast"])
@pytest.mark.parametrize("name", ["resnet50", "wrn_28_10", "efficientnet_b0"])
def test_target_of_macs_is_met_to_2_percent_and_never_exceeded(name, how, times):
    base = zoo.get(name)
    target = round(cost_of(base).macs * times)
    scaling, network = fitted(base, METHODS[how], {"macs": target})
    assert network == scaled(base, scaling)
    assert 0.98 * target <= cost_of(network).macs <= target


@pytest.mark.parametrize("times", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("how", ["compound", "uniform", "fast", "width"])
@pytest.mark.parametrize("name", FITTED)
def test_target_of_params_is_met_to_10_percent_and_never_exceeded(name, how, times):
    base = zoo.get(name)
    target = round(cost_of(base).params * times)
    _, network = fitted(base, METHODS[how], {"params": target})
    assert 0.9 * target <= cost_of(network).params <= target


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("name", ["resnet20", "resnet50", "b0"])
def test_a_networks_own_costs_are_met_by_itself(name, how):
    base = efficientnet_b0() if name == "b0" else zoo.get(name)
    cost = cost_of(base)
    assert fitted(base, METHODS[how], {"macs": cost.macs, "params": cost.params})[1].digest == base.digest


@settings(max_examples=30)
@given(architectures(most_stages=2), st.sampled_from(list(METHODS)), st.floats(0.3, 5))
def test_targets_are_never_exceeded(architecture, how, times):
    target = max(1, round(cost_of(architecture).macs * times))
    try:
        _, network = fitted(architecture, METHODS[how], {"macs": target})
    except UsageError as error:
        assert "smallest has" in str(error) or "out of reach" in str(error)
    else:
        assert cost_of(network).macs <= target


def test_both_targets_hold():
    base = zoo.get("resnet50")
    targets = {"params": 20_000_000, "macs": 8_000_000_000}
    cost = cost_of(fitted(base, METHODS["compound"], targets)[1])
    assert cost.params <= 20_000_000 and cost.macs <= 8_000_000_000
    assert max(cost.params / 20e6, cost.macs / 8e9) > 0.9


@pytest.mark.parametrize("how", ["width", "depth", "resolution"])
def test_a_method_of_one_dimension_leaves_the_others(how):
    scaling, _ = fitted(zoo.get("resnet50"), METHODS[how], {"macs": 7_000_000_000})
    assert [name for name in ("width", "depth", "resolution") if getattr(scaling, name) != 1] == [how]


@pytest.mark.parametrize(
    ("how", "targets", "message"),
    [
        ("compound", {"params": 100}, "no scaling meets 100 params: the smallest has"),
        (
            "depth",
            {"macs": 10**12},
            r"1,000,000,000,000 macs is out of reach: the largest scaling has 2,715,992,704 macs",
        ),
        ("resolution", {"params": 10**6}, "the resolution does not change params"),
        ("width", {"macs": 0}, "a target of macs is at least 1"),
    ],
)
def test_targets_out_of_reach_say_what_is_reached(how, targets, message):
    with pytest.raises(UsageError, match=message):
        fitted(zoo.get("resnet20"), METHODS[how], targets)


def test_the_largest_network_is_said_where_its_limits_come_first():
    with pytest.raises(UsageError, match="the largest network has"):
        fitted(zoo.get("resnet1202"), METHODS["depth"], {"macs": 10**14})


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf, LEAST / 2, MOST * 2])
def test_senseless_factors_are_refused(factor):
    for name in ("depth", "width", "resolution"):
        with pytest.raises(UsageError, match=f"{name}: a factor is from 1/64 to 64"):
            Scaling(**{name: factor})


def test_senseless_coefficients_are_refused():
    for arguments in ((1, 1, 1), (0.5, 1.1, 1.1), (math.nan, 1.1, 1.1)):
        with pytest.raises(UsageError, match=r"alpha"):
            compound(*arguments)
    for phi in (1e9, -1e9, math.nan):
        with pytest.raises(UsageError, match="phi is from"):
            phi_scaling(phi)
    for times in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="finite number above 0"):
            METHODS["fast"].scaling(times)
    with pytest.raises(UsageError, match="divisor must be at least 1"):
        Scaling(divisor=0)


def test_a_network_that_grows_beyond_its_limits_is_refused():
    with pytest.raises(UsageError, match="depth must be a whole number from 1 to 1,024"):
        scaled(zoo.get("resnet1202"), Scaling(depth=10))


def test_torch_is_not_needed(python):
    code = "import sys, nas.networks.scaling, nas.cli.commands.scale; print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules])"
    assert python(code).strip() == "[]"
