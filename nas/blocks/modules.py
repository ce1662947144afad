"""The few PyTorch modules that are more than a chain of primitives. The only file of `nas.blocks` that imports torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ZeroPadShortcut(nn.Module):
    """Option A of He et al. 2015: subsample by `stride`, append `extra` zero channels (crop if negative)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class Add(nn.Module):
    """y = shortcut(x) + branch(x)."""

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        return shortcut + branch


class Residual(nn.Module):
    """y = act(merge(x, shortcut(a), branch(a))), (b, c, h, w) -> (b, c', h', w').

    Post-activated: a = x and act = ReLU. Pre-activated: a = ReLU(BN(x)) and act is none; the shortcut reads a where it
    changes the shape and the raw x where it doesn't, as in "Identity Mappings in Deep Residual Networks" (He et al. 2016).
    `shortcut` None means that the merge uses none.
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module | None,
        merge: nn.Module | None,
        pre: nn.Module | None,
        reshapes: bool,
    ) -> None:
        super().__init__()
        self.pre = pre
        self.branch = branch
        self.shortcut = shortcut
        self.merge = merge
        self.act = nn.ReLU(inplace=True) if pre is None else None
        self.reshapes = reshapes

    def forward(self, x: Tensor) -> Tensor:
        a = x if self.pre is None else self.pre(x)
        y: Tensor = self.branch(a)
        if self.merge is not None and self.shortcut is not None:
            y = self.merge(x, self.shortcut(a if self.reshapes else x), y)
        return y if self.act is None else self.act(y)


class Network(nn.Module):
    """Stem, stages, head: (b, c, h, w) images -> (b, classes) logits. `Network.stages` is a list of `nn.Sequential`."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        y: Tensor = self.head(x)
        return y


def initialise(module: nn.Module) -> None:
    """Kaiming normal (fan out, ReLU) for convolutions (He et al., ICCV 2015); norms start as the identity."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        bound = 1 / module.in_features**0.5
        with torch.no_grad():
            module.weight.uniform_(-bound, bound)
            module.bias.uniform_(-bound, bound)
