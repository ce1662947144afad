"""Conditionally parameterised convolutions: each image mixes its own kernel from experts.

"CondConv: Conditionally Parameterized Convolutions for Efficient Inference", Yang et al., NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks import cost as closed_form
from nas.networks.blocks._base import BRANCHES, Convolutional, Layer, cost_of_layers, option
from nas.networks.blocks.primitives import Conv
from nas.networks.cost import Cost, Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ConditionalConv:
    """y = (sum_e r_e W_e) * x with the image's routing weights r, then norm and activation; within `Routed` only.

    Mixing costs experts x weights multiply-adds an image.
    """

    out: int
    kernel: int
    stride: int
    groups: int
    act: str
    experts: int

    @property
    def _one(self) -> Conv:
        return Conv(self.out, self.kernel, self.stride, self.groups, norm=False, act="")

    def width(self, width_in: int) -> int:
        return self.out

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        one, result = self._one.cost(shape)
        mixed = self.experts * one.params
        return Cost(mixed, one.macs + mixed, one.activations) + closed_form.norm(self.out), result

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.dynamic_modules import ConditionalUnit

        return ConditionalUnit(width_in, self.out, self.kernel, self.stride, self.groups, self.act, self.experts)


@dataclass(frozen=True, slots=True)
class Routed:
    """Layers of which the conditional ones share the routing weights r = sigmoid(W mean(x) + b) of what comes in."""

    layers: tuple[Layer, ...]
    experts: int

    def width(self, width_in: int) -> int:
        for layer in self.layers:
            width_in = layer.width(width_in)
        return width_in

    def cost(self, shape: Shape) -> tuple[Cost, Shape]:
        cost, result = cost_of_layers(self.layers, shape)
        return cost + closed_form.linear(shape.channels, self.experts), result

    def module(self, width_in: int) -> nn.Module:
        from nas.networks.blocks.dynamic_modules import RoutedLayers

        width, modules = width_in, []
        for layer in self.layers:
            modules.append(layer.module(width))
            width = layer.width(width)
        return RoutedLayers(width_in, self.experts, modules)


@BRANCHES.register("condconv")
@dataclass(frozen=True, slots=True)
class CondConv(Convolutional):
    """A basic block whose two 3x3 convolutions are mixed from `experts` kernels for each image. Yang et al. 2019."""

    kind = "condconv"
    experts: int = option(4, minimum=1)

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        first = ConditionalConv(width_out, 3, stride, 1, self.act, self.experts)
        second = ConditionalConv(width_out, 3, 1, 1, "", self.experts)
        return (Routed((first, second), self.experts), *self.excitation(width_out))
