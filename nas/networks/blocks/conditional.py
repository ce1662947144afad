"""Conditionally parameterized convolutions: each image has its own kernel, a mixture of experts.

"CondConv: Conditionally Parameterized Convolutions for Efficient Inference", Yang et al., NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks import cost as closed_form
from nas.networks.blocks._base import BRANCHES, Convolutional, option
from nas.networks.blocks.activations import KEEP_INPUT
from nas.networks.blocks.layer import Layer, cost_of_layers
from nas.networks.blocks.primitives import Conv, conv_sizes
from nas.networks.blocks.source import Column, Expression, Term, Writer, activation_call, call
from nas.networks.cost import Cost, Kept, Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ConditionalConv(Layer):
    """y = (sum_e r_e W_e) * x with the image's routing weights r, then norm and activation; only within `Routed`.

    Mixing costs experts x weights multiply-adds per image.
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

    def kept(self, shape: Shape) -> Kept:
        cost, _ = self.cost(shape)
        mixed = cost.params // self.experts  # each image has its own weights
        return Kept(cost.activations * (1 + (self.act in KEEP_INPUT)) + mixed)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        act = write.activation(uses.act)
        sizes, out = conv_sizes(uses, before, write)
        more = {"act": activation_call(act)} if act else {}
        return call("ConditionalUnit", *sizes, **more, experts=write.option("experts", uses.experts)), out


@dataclass(frozen=True, slots=True)
class Routed(Layer):
    """Consecutive layers; the conditional ones share the routing weights r = sigmoid(W mean(x) + b) of the first input x."""

    per_image = True
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

    def kept(self, shape: Shape) -> Kept:
        total = 0
        for number, layer in enumerate(self.layers):
            elements, _ = layer.kept(shape)
            shape = layer.cost(shape)[1]
            total += elements + (shape.elements if number < len(self.layers) - 1 else 0)
        return Kept(total)

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> tuple[Expression, Term]:
        experts = write.option("experts", uses.experts)
        layers, after = write.layers(uses.layers, before)
        return call("Routed", before.text, experts, *layers), after


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
