"""PyTorch modules of dynamic networks, whose computation depends on the image: CondConv's mixtures and SkipNet's gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.networks.blocks.activations import NORM_EPS, NORM_MOMENTUM, activation


class ConditionalConv2d(nn.Module):
    """(sum_e r_e W_e) * x: (b, c, h, w) and routing (b, experts) -> (b, c', h', w').

    weight (experts, c' (c / groups) k k), one expert per row: a network with tensors of five axes can't be moved to
    channels-last memory. One grouped convolution applies the kernels of all images of the batch.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int, groups: int, experts: int) -> None:
        super().__init__()
        self.shape = (width_out, width_in // groups, kernel, kernel)  # of an expert
        self.weight = nn.Parameter(torch.empty(experts, math.prod(self.shape)))
        self.stride, self.groups = stride, groups
        self.initialise()

    def extra_repr(self) -> str:
        return f"{len(self.weight)} x {self.shape}, stride={self.stride}, groups={self.groups}"

    def initialise(self) -> None:
        for expert in self.weight.detach():
            nn.init.kaiming_normal_(expert.view(self.shape), mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        out, _, _, kernel = self.shape
        subsampled = kernel == 1 and self.stride > 1  # before the convolution, not by it: see `PointwiseConv2d`
        if subsampled:
            x = x[:, :, :: self.stride, :: self.stride]
        images, channels, height, width = x.shape
        weights = (routing @ self.weight).view(images * out, *self.shape[1:])
        y = F.conv2d(
            x.reshape(1, images * channels, height, width),
            weights.to(x.dtype),
            stride=1 if subsampled else self.stride,
            padding=kernel // 2,
            groups=images * self.groups,
        )
        return y.view(images, out, *y.shape[2:])


class ConditionalUnit(nn.Module):
    """A conditional convolution, then norm and activation ('' for none), called as `unit(x, routing)`."""

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
    """The layers in sequence; each `ConditionalUnit` is called with r = sigmoid(W mean(x) + b) too."""

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
    """shortcut + g branch with g in {0, 1} for each image; in training g has the gradient of p = sigmoid(gate(x)).

    After a call `executed` holds g, (b,), with p's gradient in training. `nas.networks.build` sets `place` to the block's name,
    `branch_macs` to the multiply-adds of its branch for one image, and `network_macs` to those of the network.
    """

    def __init__(self, gate: nn.Sequential, price: float, start: float) -> None:
        super().__init__()
        self.gate = gate
        self.price, self.start = price, start
        self.place, self.branch_macs, self.network_macs = "", 0, 0
        self.selects = False  # whether evaluation runs the branch only on the images that execute it
        self.executed: Tensor | None = None
        self.initialise()

    def extra_repr(self) -> str:
        return f"price={self.price}, start={self.start}"

    def __getstate__(self) -> dict[str, object]:
        return {
            **self.__dict__,
            "executed": None,
        }  # it belongs to one batch, and a tensor within a graph can't be copied

    def initialise(self) -> None:
        last = self.gate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, math.log(self.start / (1 - self.start)))

    def decide(self, x: Tensor) -> Tensor:
        """g, (b,) float32, from the input of the shortcut."""
        p: Tensor = self.gate(x).float().sigmoid().view(-1)
        executed = (p >= 0.5).to(p.dtype)
        if self.training:
            executed = executed + p - p.detach()
        if not torch.compiler.is_exporting():  # an exported graph can't keep it
            self.executed = executed
        return executed

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        mask = self.decide(x).view(-1, 1, 1, 1).to(branch.dtype)
        return shortcut + mask * branch

    def select(self, x: Tensor, shortcut: Tensor, branch: nn.Module, a: Tensor) -> Tensor:
        """`forward(x, shortcut, branch(a))` in evaluation, computed by running the branch on the images that execute it."""
        chosen = self.decide(x).nonzero().view(-1)
        if len(chosen) == len(a):
            whole: Tensor = branch(a)
            return shortcut + whole
        if len(chosen) == 0:
            return shortcut.clone()  # a following activation may overwrite it, and it may be x itself
        some: Tensor = branch(a[chosen])  # indexing keeps the memory format, index_select doesn't
        dtype = torch.result_type(shortcut, some)
        whole, some = shortcut.to(dtype), some.to(dtype)
        if not whole.is_contiguous(memory_format=torch.channels_last):
            return whole.index_add(0, chosen, some)
        # On channels-last memory PyTorch's index_add returns channels-first memory and takes four times as long as this.
        return whole.permute(0, 2, 3, 1).index_add(0, chosen, some.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
