"""PyTorch modules of dynamic networks, which compute otherwise for each image: CondConv's mixtures and SkipNet's gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.blocks.primitives import NORM_EPS, NORM_MOMENTUM, activation


class ConditionalConv2d(nn.Module):
    """(sum_e r_e W_e) * x: (b, c, h, w) and routing (b, experts) -> (b, c', h', w'). weight (experts, c', c / groups, k, k).

    The images' kernels stand in one grouped convolution over the whole batch.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int, groups: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width_out, width_in // groups, kernel, kernel))
        self.stride, self.groups = stride, groups
        self.initialise()

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, stride={self.stride}, groups={self.groups}"

    def initialise(self) -> None:
        for expert in self.weight:
            nn.init.kaiming_normal_(expert, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        images, channels, height, width = x.shape
        out, kernel = self.weight.shape[1], self.weight.shape[3]
        weights = (routing @ self.weight.flatten(1)).view(-1, *self.weight.shape[2:])
        y = F.conv2d(
            x.reshape(1, images * channels, height, width),
            weights.to(x.dtype),
            stride=self.stride,
            padding=kernel // 2,
            groups=images * self.groups,
        )
        return y.view(images, out, *y.shape[2:])


class ConditionalUnit(nn.Module):
    """A conditional convolution, its norm and its activation ('' for none), called as `unit(x, routing)`."""

    def __init__(
        self, width_in: int, width_out: int, kernel: int, stride: int, groups: int, act: str, experts: int
    ) -> None:
        super().__init__()
        self.conv = ConditionalConv2d(width_in, width_out, kernel, stride, groups, experts)
        self.norm = nn.BatchNorm2d(width_out, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.act = activation(act) if act else None

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x, routing))
        return y if self.act is None else self.act(y)


class RoutedLayers(nn.Module):
    """r = sigmoid(W mean(x) + b), then the layers, of which each `ConditionalUnit` is called with r."""

    def __init__(self, width_in: int, experts: int, layers: list[nn.Module]) -> None:
        super().__init__()
        self.routing = nn.Linear(width_in, experts)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        routing = self.routing(x.mean((2, 3))).sigmoid()
        for layer in self.layers:
            x = layer(x, routing) if isinstance(layer, ConditionalUnit) else layer(x)
        return x


class Skip(nn.Module):
    """shortcut + g branch with g in {0, 1} for each image; in training the gradient of p = sigmoid(gate(x)) passes as g's.

    After a call `executed` holds g, (b,), with p's gradient in training. `branch_macs`: multiply-adds of the branch for one
    image at the network's resolution, set where the network is built.
    """

    def __init__(self, gate: nn.Sequential, price: float, start: float) -> None:
        super().__init__()
        self.gate = gate
        self.price, self.start = price, start
        self.branch_macs = 0
        self.executed: Tensor | None = None
        self.initialise()

    def extra_repr(self) -> str:
        return f"price={self.price}, start={self.start}"

    def initialise(self) -> None:
        last = self.gate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, math.log(self.start / (1 - self.start)))

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        p: Tensor = self.gate(x).float().sigmoid().view(-1)
        executed = (p >= 0.5).to(p.dtype)
        if self.training:
            executed = executed + p - p.detach()
        self.executed = executed
        mask = executed.view(-1, 1, 1, 1).to(branch.dtype)
        return shortcut + mask * branch
