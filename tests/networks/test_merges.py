"""What each merge computes, on numbers, and the modules of dynamic networks against loops written out by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas.networks.blocks import MERGES, SHORTCUTS, Block, basic
from nas.networks.blocks.dynamic_modules import ConditionalConv2d
from nas.networks.blocks.modules import Dropped

pytestmark = pytest.mark.usefixtures("one_thread")


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, AROUND, H = randn(6, 4, 5, 5, seed=1), randn(6, 4, 5, 5, seed=2), randn(6, 4, 5, 5, seed=3)


def merge(kind: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return MERGES[kind](**options).module(4, 4, 1)


# -- sums and scales ---------------------------------------------------------------------------------------------------


def test_sum_adds():
    assert torch.equal(merge("add")(X, AROUND, H), AROUND + H)


@pytest.mark.parametrize("start", [0.0, 0.25])
def test_skip_init_scales_the_branch_by_one_learnt_number(start):
    module = merge("skip_init", start=start)
    assert [p.numel() for p in module.parameters()] == [1]
    torch.testing.assert_close(module(X, AROUND, H), AROUND + start * H, rtol=0, atol=0)


def test_layer_scale_scales_each_channel():
    module = merge("layer_scale", start=0.5)
    (scale,) = module.parameters()
    assert scale.numel() == 4 and bool((scale == 0.5).all())
    with torch.no_grad():
        scale.copy_(torch.tensor([0.0, 1.0, -2.0, 3.0]).view_as(scale))
    expected = torch.stack([AROUND[:, k] + s * H[:, k] for k, s in enumerate((0.0, 1.0, -2.0, 3.0))], 1)
    torch.testing.assert_close(module(X, AROUND, H), expected)


# -- highway -----------------------------------------------------------------------------------------------------------


def test_highway_is_its_shortcut_at_minus_20_and_its_branch_at_20():
    torch.testing.assert_close(merge("highway", bias=-20.0)(X, AROUND, H), AROUND, rtol=0, atol=1e-5)
    torch.testing.assert_close(merge("highway", bias=20.0)(X, AROUND, H), H, rtol=0, atol=1e-5)


def test_highway_mixes_by_its_gate():
    module = merge("highway", bias=-1.0)
    assert bool((module.gate.bias == -1).all())
    t = torch.einsum("oi,bihw->bohw", module.gate.weight[:, :, 0, 0], X).sub(1).sigmoid()
    torch.testing.assert_close(module(X, AROUND, H), t * H + (1 - t) * AROUND)


# -- stochastic depth --------------------------------------------------------------------------------------------------


def test_stochastic_depth_drops_whole_branches_and_keeps_their_mean():
    dropped = Dropped(0.25).train()
    torch.manual_seed(0)
    kept = dropped(torch.ones(20_000, 2, 1, 1))
    assert {round(value, 5) for value in kept.unique().tolist()} == {0.0, round(1 / 0.75, 5)}
    assert torch.equal(kept[:, 0], kept[:, 1])
    standard_error = math.sqrt(0.25 / 0.75 / 20_000)
    assert abs(kept[:, 0].mean().item() - 1) < 4 * standard_error
    assert torch.equal(dropped.eval()(H), H)


# -- skip gates --------------------------------------------------------------------------------------------------------


def opened(module: nn.Module, shift: float = 0.0) -> nn.Module:
    """The gate decides by the image's first channel: open where its mean is at least `shift` (NaN: the batch's median)."""

    class Sign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(3.0))

        def forward(self, x):
            means = x[:, 0].mean((1, 2))
            return self.weight * (means - (means.median() if math.isnan(shift) else shift)).view(-1, 1)

    module.gate = Sign()
    return module


def test_skip_gate_is_hard_for_each_image_and_its_gradient_that_of_p():
    module = opened(merge("skip")).eval()
    means = X[:, 0].mean((1, 2))
    g = (means >= 0).float()
    assert 0 < g.sum() < len(g)
    assert torch.equal(module(X, AROUND, H), AROUND + g.view(-1, 1, 1, 1) * H)
    assert torch.equal(module.executed, g)

    module.train()
    weights = randn(*H.shape, seed=9)
    y = module(X, AROUND, H)
    torch.testing.assert_close(y, AROUND + g.view(-1, 1, 1, 1) * H)  # up to g + p - p
    (y * weights).sum().backward()
    p = (3 * means).sigmoid()
    expected = ((weights * H).sum((1, 2, 3)) * p * (1 - p) * means).sum()  # of closed gates too: they can open again
    torch.testing.assert_close(module.gate.weight.grad, expected)


@pytest.mark.parametrize("gate", ["pooled", "conv"])
@pytest.mark.parametrize("start", [0.05, 0.9])
def test_skip_gate_starts_at_its_start(gate, start):
    module = merge("skip", gate=gate, start=start).eval()
    zeros = torch.zeros_like(X)
    hidden = [layer for layer in module.gate if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer in hidden[:-1]:
            layer.bias.zero_()
        assert module.gate(zeros).sigmoid().flatten().tolist() == pytest.approx([start] * 6)


def test_a_gate_in_training_can_be_copied():
    module = merge("skip").train()
    module(X, AROUND, H)
    assert module.executed.requires_grad
    assert copy.deepcopy(module).executed is None


@pytest.mark.parametrize(("shift", "run"), [(-100.0, 6), (math.nan, 4), (100.0, 0)])
@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("stride", [1, 2])
def test_selected_branches_give_what_masks_give(shift, run, order, stride):
    torch.manual_seed(0)
    width = 4 * stride
    block = Block(basic.Basic(order), SHORTCUTS["projection"](), MERGES["skip"](), 4, width, stride).module()
    block(randn(64, 4, 6, 6))  # running statistics that are not at their start
    opened(block.merge, shift).eval()
    block.eval()
    calls = []
    block.branch.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    x = X.clone()
    with torch.no_grad():
        masked = block(x)
        block.merge.selects = True
        selected = block(x)
    torch.testing.assert_close(selected, masked, rtol=0, atol=1e-6)
    assert torch.equal(x, X)
    assert calls == ([6, run] if run else [6])


# -- conditional convolutions ------------------------------------------------------------------------------------------


def by_image(conv: ConditionalConv2d, x: torch.Tensor, routing: torch.Tensor) -> torch.Tensor:
    """The images one after another, each with the kernel that it mixes."""
    rows = []
    for image, shares in zip(x, routing, strict=True):
        kernel = sum(share * expert.view(conv.shape) for share, expert in zip(shares, conv.weight, strict=True))
        rows.append(F.conv2d(image[None], kernel, stride=conv.stride, padding=conv.shape[3] // 2, groups=conv.groups))
    return torch.cat(rows)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 1, 1), (3, 2, 2), (5, 2, 4), (1, 1, 1)])
def test_conditional_convolution_is_a_mixed_kernel_for_each_image(kernel, stride, groups, images, channels_last):
    torch.manual_seed(0)
    conv = ConditionalConv2d(8, 12, kernel, stride, groups, experts=3)
    x, routing = randn(images, 8, 7, 6), randn(images, 3, seed=1).sigmoid()
    if channels_last:
        conv, x = conv.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    expected = by_image(conv, x, routing)
    torch.testing.assert_close(conv(x, routing), expected, rtol=1e-5, atol=1e-5)
    seen, wanted = (torch.autograd.grad((y**2).sum(), conv.weight) for y in (conv(x, routing), expected))
    torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-4)


def test_conditional_convolution_under_autocast_is_near_the_exact_one():
    torch.manual_seed(0)
    conv = ConditionalConv2d(8, 12, 3, 1, 1, experts=3)
    x, routing = randn(4, 8, 7, 6), randn(4, 3, seed=1).sigmoid()
    expected = by_image(conv, x, routing)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x, routing)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.1)
