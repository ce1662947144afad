"""Activations by name, and the constants of normalization layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1
LAYER_NORM_EPS = 1e-6
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "silu", "gelu", "hardswish", "elu")


def activation(name: str) -> nn.Module:
    """The activation of this name, a new module; in place where PyTorch's can be."""
    from torch import nn

    if name == "gelu":
        return nn.GELU()
    kinds: dict[str, Callable[..., nn.Module]] = {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "leaky_relu": nn.LeakyReLU,
        "silu": nn.SiLU,
        "hardswish": nn.Hardswish,
        "elu": nn.ELU,
    }
    return kinds[name](inplace=True)
