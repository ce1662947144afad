"""The engine's forms of a convolution are equal, and the choice between them is recorded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_one_function
from torch import nn

from nas.networks.blocks.modules import GroupedConv2d
from nas.training.conv_kernels import MERGED, Engine, probe

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(2, 12),
    per_group=st.integers(1, 4),
    out=st.integers(1, 3),
    kernel=st.sampled_from((1, 3, 5)),
    stride=st.integers(1, 2),
    channels=st.integers(0, 40),
)
def test_merged_groups_compute_what_torch_does(groups, per_group, out, kernel, stride, channels):
    torch.manual_seed(0)
    width, outs = groups * per_group, groups * out
    ours = GroupedConv2d(width, outs, kernel, stride, kernel // 2, groups).double()
    theirs = nn.Conv2d(width, outs, kernel, stride, kernel // 2, groups=groups, bias=False).double()
    ours.merge_to(channels)
    assert groups % ours.merged == 0 and (ours.merged == 1 or ours.merged * per_group <= channels)
    assert_one_function(ours, theirs, torch.randn(2, width, 7, 7, dtype=torch.double))


def test_merging_keeps_names_and_weights():
    layer = GroupedConv2d(8, 8, 3, 1, 1, 8)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.merge_to(8)
    assert layer.merged == 8
    assert {name: tensor.shape for name, tensor in layer.state_dict().items()} == {"weight": (8, 1, 3, 3)}
    assert torch.equal(layer.state_dict()["weight"], before["weight"])


def test_in_bf16_the_merged_kernel_is_cast_before_it_grows():
    layer = GroupedConv2d(16, 16, 3, 1, 1, 16)
    layer.merge_to(16)
    x = torch.randn(2, 16, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    layer.merge_to(0)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


def test_an_engine_sets_depthwise_and_other_groups_apart_and_only_in_bf16():
    network = nn.Sequential(GroupedConv2d(32, 32, 3, 1, 1, 32), GroupedConv2d(32, 32, 3, 1, 1, 8), nn.Conv2d(32, 4, 1))
    engine = Engine(grouped=16, depthwise=8)
    engine.prepare(network, "bf16")
    assert [layer.merged for layer in list(network)[:2]] == [8, 4]
    engine.prepare(network, "fp32")
    assert [layer.merged for layer in list(network)[:2]] == [1, 1]


def test_the_probe_tries_nothing_where_nothing_is_gained():
    assert probe(torch.device("cpu"), "fp32") == Engine()
    assert probe(torch.device("cuda"), "bf16") == Engine()


def test_the_probe_chooses_among_what_it_tries_and_leaves_the_random_state():
    state = torch.random.get_rng_state()
    found = probe(torch.device("cpu"), "bf16")
    assert found.grouped in MERGED and found.depthwise in MERGED
    assert torch.equal(state, torch.random.get_rng_state())
    assert Engine.from_dict(found.to_dict()) == found
    assert Engine.from_dict({"of another version": 1}) == Engine()
