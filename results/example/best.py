"""example trial 70: images (b, 1, 8, 8) -> logits (b, 10).

211,802 parameters; 3,115,968 multiply-adds of convolutions and linear layers an
image; digest b01542e221603863. Plain PyTorch: nothing else is needed.

Provenance:
  run: example
  trial: 70
  state: complete
  accuracy: 0.9930555555555556
  accuracy_on: validation
  epochs: 10
  cost:
    params: 211802
    macs: 3115968
    activations: 15498
  dataset:
    name: digits
    fingerprint: cc4c38da241f18f25d6a08d5ff25606fda99915def539e8c8235700cf63c1ecf
  objectives:
  - accuracy
  - params
  - macs
  nas: 0.1.0
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

NORM_EPS = 1e-05


def conv_norm(
    width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    """Convolution that keeps the size (but for the stride), norm, activation."""
    conv = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(width, eps=NORM_EPS)
    return nn.Sequential(conv, norm) if act is None else nn.Sequential(conv, norm, act)


def stage(
    block: Callable[[int, int, int], nn.Module], depth: int, width_in: int, width: int, stride: int = 1
) -> nn.Sequential:
    """`depth` blocks; the first one changes the width and carries the stride."""
    blocks = [block(width_in, width, stride)]
    blocks += [block(width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class Basic(nn.Module):
    """y = act(shortcut(x) + H(x)).

    H(x) = W2 * act(bn(W1 * x)), both 3x3 with `width` channels: 18 C^2 weights at C
    channels.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(width_in, width, 3, stride=stride, act=nn.ReLU(inplace=True)), conv_norm(width, width, 3)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False), conv_norm(width_in, width, 1)
            )
        elif width_in != width:
            self.shortcut = conv_norm(width_in, width, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.shortcut(x) + self.branch(x))
        return y


class Network(nn.Module):
    """Images (b, 1, 8, 8), or of another size, -> logits (b, classes)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_norm(1, 32, 3, act=nn.ReLU(inplace=True))
        stages = [  # block, depth, width in, width
            stage(Basic, 2, 32, 24),
            stage(Basic, 4, 24, 32, stride=2),
            stage(Basic, 1, 32, 96, stride=2),
        ]
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for each in self.stages:
            x = each(x)
        logits: Tensor = self.head(x)
        return logits


def main() -> None:
    """Print the shape of the logits, parameters and multiply-adds of an image."""
    network = Network().eval()
    images = torch.zeros(1, 1, 8, 8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        logits = network(images)
    params = sum(tensor.numel() for tensor in network.parameters())
    print(f"logits: {tuple(logits.shape)}")
    print(f"parameters: {params:,}")
    print(f"multiply-adds: {counter.get_total_flops() // 2:,}")


if __name__ == "__main__":
    main()
