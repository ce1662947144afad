"""PyTorch modules that stand alone: stand-alone files hold copies of their source (`nas.interop.export.python`).

They use PyTorch only, and every line ends before column 88 or breaks after a comma, so that formatters leave the copies
unchanged, at 88 columns and at 120.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Around(nn.Module):
    """x + inside(x)."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.inside(x)
        return x + inside


class SqueezeExcite(nn.Module):
    """x * sigmoid(fc2(act(fc1(mean(x))))) (Hu et al., CVPR 2018)."""

    def __init__(self, width: int, squeeze: int, act: nn.Module) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, squeeze, 1)
        self.act = act
        self.fc2 = nn.Conv2d(squeeze, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.fc2(self.act(self.fc1(mean)))
        return x * gate.sigmoid()


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ZeroPad(nn.Module):
    """Every stride-th pixel; `extra` channels of zeros (fewer if negative)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride

    def extra_repr(self) -> str:
        return f"extra={self.extra}, stride={self.stride}"

    def forward(self, x: Tensor) -> Tensor:
        pixels = x[:, :, :: self.stride, :: self.stride]
        return F.pad(pixels, (0, 0, 0, 0, 0, self.extra))


class Blur(nn.Module):
    """3x3 binomial filter on each channel, borders repeated (Zhang, ICML 2019)."""

    kernel: Tensor

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width = width
        self.stride = stride
        line = torch.tensor([1.0, 2.0, 1.0])
        kernel = (line[:, None] * line / 16).expand(width, 1, 3, 3).clone()
        self.register_buffer("kernel", kernel, persistent=False)

    def extra_repr(self) -> str:
        return f"{self.width}, stride={self.stride}"

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, self.kernel, stride=self.stride, groups=self.width)
