"""Activations by name, and the constants of normalization layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1
LAYER_NORM_EPS = 1e-6
CLASSES = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU",
    "silu": "SiLU",
    "gelu": "GELU",
    "hardswish": "Hardswish",
    "elu": "ELU",
}  # classes of torch.nn
ACTIVATIONS = tuple(CLASSES)
WITHOUT_IN_PLACE = ("gelu",)
KEEP_INPUT = ("silu", "hardswish", "gelu")  # the derivative reads the input, which is kept as well as the output


def activation(name: str) -> nn.Module:
    """A new module of the activation of this name, in place if PyTorch supports that."""
    from torch import nn

    module: nn.Module = getattr(nn, CLASSES[name])(**({} if name in WITHOUT_IN_PLACE else {"inplace": True}))
    return module
