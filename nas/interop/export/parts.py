"""Parts of stand-alone files: `nas.interop.export.python` copies those that a network uses. Nothing imports this file.

These are simpler than the modules that train here, or functions in place of layers' methods. Modules that are the same in both
are in `nas.networks.blocks.plain_modules`. Plain PyTorch without imports from nas. Tensors are named as in
`nas.networks.blocks`, so that weights fit both. Every line ends before column 88 or breaks after a comma, so that formatters
leave the copies unchanged, at 88 columns and at 120.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-05


def conv_norm(
    width_in: int,
    width: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution that keeps the size (but for the stride), norm, activation."""
    conv = nn.Conv2d(
        width_in,
        width,
        kernel,
        stride,
        kernel // 2,
        groups=groups,
        bias=False,
    )
    norm = nn.BatchNorm2d(width, eps=NORM_EPS)
    return nn.Sequential(conv, norm) if act is None else nn.Sequential(conv, norm, act)


def norm_act(width: int, act: nn.Module) -> nn.Sequential:
    """Norm and activation, as they stand before a pre-activated branch."""
    return nn.Sequential(nn.BatchNorm2d(width, eps=NORM_EPS), act)


class PatchConv(nn.Conv2d):
    """Convolution whose kernel is its stride; zeros fill the last patch up."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__(width_in, width, stride, stride)

    def forward(self, input: Tensor) -> Tensor:
        height = -input.shape[2] % self.stride[0]
        width = -input.shape[3] % self.stride[1]
        return super().forward(F.pad(input, (0, width, 0, height)))


class Cascade(nn.Module):
    """Groups of channels x_1 .. x_s, y_i = conv_i(x_i + y_{i-1}); x_s has no conv.

    Where the block changes the shape, the groups are not linked and x_s is averaged
    (Res2Net, Gao et al., TPAMI 2021).
    """

    def __init__(
        self,
        scale: int,
        group: int,
        act: Callable[[], nn.Module],
        stride: int = 1,
        cardinality: int = 1,
        first: bool = False,
    ) -> None:
        super().__init__()
        conv = (group, group, 3, stride, cardinality)
        convs = [conv_norm(*conv, act()) for _ in range(scale - 1)]
        self.convs = nn.ModuleList(convs)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if first else None

    def forward(self, x: Tensor) -> Tensor:
        groups = x.chunk(len(self.convs) + 1, dim=1)
        outputs: list[Tensor] = []
        for conv, group in zip(self.convs, groups, strict=False):
            linked = self.pool is None and len(outputs) > 0
            outputs.append(conv(group + outputs[-1] if linked else group))
        outputs.append(groups[-1] if self.pool is None else self.pool(groups[-1]))
        return torch.cat(outputs, dim=1)


class ConditionalConv(nn.Module):
    """A kernel for each image, sum_e r_e W_e; x (b, c, h, w), routing r (b, e)."""

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int,
        stride: int,
        groups: int,
        experts: int,
    ) -> None:
        super().__init__()
        self.shape = (width, width_in // groups, kernel, kernel)
        self.stride = stride
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(experts, math.prod(self.shape)))
        for expert in self.weight.detach():
            nn.init.kaiming_normal_(expert.view(self.shape), mode="fan_out")

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        images, channels, height, width = x.shape
        kernels = (routing @ self.weight).view(-1, *self.shape[1:])
        y = F.conv2d(
            x.reshape(1, images * channels, height, width),
            kernels,
            stride=self.stride,
            padding=self.shape[-1] // 2,
            groups=images * self.groups,
        )
        return y.view(images, self.shape[0], *y.shape[2:])


class ConditionalUnit(nn.Module):
    """Conditional convolution, norm, activation."""

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: nn.Module | None = None,
        *,
        experts: int,
    ) -> None:
        super().__init__()
        self.conv = ConditionalConv(width_in, width, kernel, stride, groups, experts)
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPS)
        self.act = act

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x, routing))
        return y if self.act is None else self.act(y)


class Routed(nn.Module):
    """Layers; the conditional ones share r = sigmoid(W mean(x) + b) (CondConv)."""

    def __init__(self, width_in: int, experts: int, *layers: nn.Module) -> None:
        super().__init__()
        self.routing = nn.Linear(width_in, experts)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        routing = self.routing(x.mean((2, 3))).sigmoid()
        for layer in self.layers:
            x = layer(x, routing) if isinstance(layer, ConditionalUnit) else layer(x)
        return x


class StochasticDepth(nn.Module):
    """In training an image loses its branch with probability `rate` (Huang, 2016).

    `Network` lets it grow from the first block to the last one, which has `rate`.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) < keep
        return branch * (kept.to(branch.dtype) / keep)


class Scale(nn.Module):
    """A learnt factor, one for all channels or one for each."""

    def __init__(self, scales: int, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((scales, 1, 1), start))

    def forward(self, branch: Tensor) -> Tensor:
        return branch * self.scale


class HighwayGate(nn.Module):
    """t = sigmoid(W x + b), b starting at `bias` (Highway Networks, 2015)."""

    def __init__(self, width_in: int, width: int, stride: int, bias: float) -> None:
        super().__init__()
        self.gate = nn.Conv2d(width_in, width, 1, stride)
        self.start = bias

    def initialise(self) -> None:
        assert self.gate.bias is not None
        nn.init.constant_(self.gate.bias, self.start)

    def forward(self, x: Tensor) -> Tensor:
        t: Tensor = self.gate(x).sigmoid()
        return t


class SkipGate(nn.Module):
    """1 for an image with p = sigmoid(gate(x)) >= 1/2, else 0 (SkipNet, ECCV 2018).

    In training the gradient of p passes through the step. `start`: p at the beginning.
    The loss that pays for executed branches is not part of this file.
    """

    def __init__(self, start: float, *gate: nn.Module) -> None:
        super().__init__()
        self.gate = nn.Sequential(*gate)
        self.start = start

    def initialise(self) -> None:
        last = self.gate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, math.log(self.start / (1 - self.start)))

    def forward(self, x: Tensor) -> Tensor:
        p: Tensor = self.gate(x).float().sigmoid().view(-1, 1, 1, 1)
        executed = (p >= 0.5).to(p.dtype)
        if self.training:
            executed = executed + p - p.detach()
        return executed.to(x.dtype)


def stage(
    block: Callable[[int, int, int], nn.Module],
    depth: int,
    width_in: int,
    width: int,
    stride: int = 1,
) -> nn.Sequential:
    """`depth` blocks; the first one changes the width and carries the stride."""
    blocks = [block(width_in, width, stride)]
    blocks += [block(width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)
