"""What PyTorch itself says a module costs and computes, to hold ours against."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from nas.networks.cost import Cost, Shape

BATCH = 2  # more than one image, so that what is counted per image shows


class _Activations(TorchFunctionMode):
    """Counts the elements in the outputs of all convolutions and linear layers, called as modules or as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.conv2d, F.conv2d, F.linear):
            self.elements += result.numel()
        return result


def measured(module: nn.Module, shape: tuple[int, int, int], device: str = "meta") -> tuple[Cost, Shape]:
    """Cost of a module on a device as PyTorch counts it, per image of `shape`, and the shape of its output.

    `FlopCounterMode` counts a multiply and an add separately: half of it are the multiply-adds. Large networks are counted
    on the meta device, which computes nothing; small ones on the CPU, whose kernels are faster than meta's Python.
    """
    x = torch.zeros(BATCH, *shape, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Activations() as activations:
        y = module.eval()(x)
    per_image, rest = divmod(flops.get_total_flops(), 2 * BATCH)
    assert rest == 0
    params = sum(parameter.numel() for parameter in module.parameters())
    out = (*y.shape[1:], 1, 1)[:3]  # logits are a 1 x 1 image of classes
    return Cost(params, per_image, activations.elements // BATCH), Shape(*out)


def assert_one_function(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """That both modules, given the same weights, give the same outputs and gradients of input and parameters."""
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        image = x.clone().requires_grad_()
        y = layer(image)
        (y * torch.arange(y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        with torch.no_grad():
            inferred = layer(x)
        results.append((y, inferred, image.grad, *(parameter.grad for parameter in layer.parameters())))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
