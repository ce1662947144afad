"""PyTorch modules that are more than a chain of layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.networks.blocks.dynamic_modules import Skip


def _in_bf16(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type)


class PatchConv(nn.Conv2d):
    """Convolution whose kernel is its stride, on an input padded to whole patches by zeros below and on the right.

    In bf16 on a CPU, an input of one patch is computed as a matrix product: there oneDNN's convolution of 4x4 pixels of 16
    channels or more with a 4x4 kernel gives different numbers (PyTorch 2.15, AVX-512; `benchmarks/kernels.py`).
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__(width_in, width_out, stride, stride)

    def forward(self, input: Tensor) -> Tensor:
        height, width = -input.shape[2] % self.stride[0], -input.shape[3] % self.stride[1]
        x = F.pad(input, (0, width, 0, height)) if height or width else input
        if x.shape[2:] == self.weight.shape[2:] and x.device.type == "cpu" and _in_bf16(x):
            return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        return super().forward(x)


class PointwiseConv2d(nn.Conv2d):
    """y = W x[:, :, ::s, ::s] + b: 1x1 convolution with stride s, (b, c, h, w) -> (b, c', ceil(h / s), ceil(w / s)).

    In training on a CPU with fewer than `VECTOR` channels, pixels are dropped before the convolution, not by it: oneDNN's
    kernel for the weight gradient of a strided 1x1 convolution on AVX2 writes whole vectors, past the end of its
    buffer (PyTorch 2.15, fp32; `benchmarks/kernels.py` scans for it). Both forms give the same sums.
    """

    VECTOR = 8  # floats in a register of AVX2

    def __init__(self, width_in: int, width_out: int, stride: int, bias: bool) -> None:
        super().__init__(width_in, width_out, 1, stride, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.in_channels < self.VECTOR and input.device.type == "cpu" and torch.is_grad_enabled():
            return F.conv2d(input[:, :, :: self.stride[0], :: self.stride[1]], self.weight, self.bias)
        return super().forward(input)


class GroupedConv2d(nn.Conv2d):
    """Grouped convolution without bias. `merge_to` computes several groups as one; the weights stay the same.

    A dense kernel over m merged groups, with zeros between them, gives the same sums with m times the multiply-adds. This is
    faster where a library is slow on narrow groups (`nas.training.conv_kernels`).
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int, padding: int, groups: int) -> None:
        super().__init__(width_in, width_out, kernel, stride, padding, groups=groups, bias=False)
        self.merged = 1  # groups that are computed as one

    def merge_to(self, channels: int) -> None:
        """Merge as many groups as divide all groups evenly and have at most `channels` input channels together."""
        most = max(1, min(self.groups, channels // self.weight.shape[1]))
        self.merged = max(m for m in range(1, most + 1) if self.groups % m == 0)

    def forward(self, input: Tensor) -> Tensor:
        if self.merged == 1:
            return super().forward(input)
        weight = self.weight
        if torch.is_autocast_enabled(input.device.type):  # casting is cheaper before the weight is expanded
            weight = weight.to(torch.get_autocast_dtype(input.device.type))
        out, per_group, height, width = weight.shape
        groups, m = self.groups // self.merged, self.merged
        block = weight.new_zeros(groups, m, out // self.groups, m, per_group, height, width)
        diagonal = torch.arange(m, device=weight.device)
        block[:, diagonal, :, diagonal] = weight.view(
            groups, m, out // self.groups, per_group, height, width
        ).transpose(0, 1)
        dense = block.view(out, m * per_group, height, width)
        return F.conv2d(input, dense, None, self.stride, self.padding, self.dilation, groups)


class Cascade(nn.Module):
    """Res2Net's hierarchical convolutions: x split into groups x_1 .. x_s along the channels, y_i = conv_i(x_i + y_{i-1}).

    The last group passes unchanged. Where the convolutions have a stride or the block changes the width, it passes through the
    3x3 mean `pool`, and the groups are not added (`linked` False).
    """

    def __init__(self, convs: list[nn.Module], pool: nn.Module | None, linked: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.pool = pool
        self.linked = linked

    def extra_repr(self) -> str:
        return f"linked={self.linked}"

    def forward(self, x: Tensor) -> Tensor:
        groups = x.chunk(len(self.convs) + 1, dim=1)
        outputs: list[Tensor] = []
        for conv, group in zip(self.convs, groups, strict=False):
            outputs.append(conv(group + outputs[-1] if self.linked and outputs else group))
        outputs.append(groups[-1] if self.pool is None else self.pool(groups[-1]))
        return torch.cat(outputs, dim=1)


class Dropped(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training an image loses its branch with probability `rate`.

    The remaining branches are divided by 1 - rate, so that evaluation needs no correction. `rate` grows linearly with the
    block's position: `Network` sets it from `final_rate`, the last block's.
    """

    def __init__(self, final_rate: float) -> None:
        super().__init__()
        self.final_rate = self.rate = final_rate

    def extra_repr(self) -> str:
        return f"final_rate={self.final_rate}"

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) < keep
        return branch * (kept.to(branch.dtype) / keep)


class Add(nn.Module):
    """y = shortcut(x) + scale * branch(x), with optional stochastic depth.

    `scales` 0: no scale; 1: one number; otherwise one per channel. They are initialized to `start`.
    """

    def __init__(self, drop: float = 0.0, scales: int = 0, start: float = 1.0) -> None:
        super().__init__()
        self.start = start
        self.scale = nn.Parameter(torch.full((scales, 1, 1), start)) if scales else None
        self.drop = Dropped(drop) if drop else None

    def extra_repr(self) -> str:
        return "" if self.scale is None else f"scales={len(self.scale)}, start={self.start}"

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        if self.scale is not None:
            branch = branch * self.scale
        if self.drop is not None:
            branch = self.drop(branch)
        return shortcut + branch


class Highway(nn.Module):
    """y = t branch(x) + (1 - t) shortcut(x), t = sigmoid(W x + b): W is 1x1 with the block's stride, b is initialized to `bias`."""

    def __init__(self, width_in: int, width_out: int, stride: int, bias: float) -> None:
        super().__init__()
        self.gate = PointwiseConv2d(width_in, width_out, stride, bias=True)
        self.start = bias
        self.initialise()

    def extra_repr(self) -> str:
        return f"start={self.start}"

    def initialise(self) -> None:
        nn.init.constant_(self.gate.bias, self.start)  # type: ignore[arg-type]  # it has a bias

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        through: Tensor = self.gate(x).sigmoid()
        return shortcut + through * (branch - shortcut)


class Residual(nn.Module):
    """y = act(merge(r, shortcut(r), branch(a))), (b, c, h, w) -> (b, c', h', w').

    Without an entry a = r = x. With an entry (the norm and activation of a pre-activated block, the patches of ConvNeXt)
    a = entry(x), and r is a where the block changes the shape and x elsewhere ("Identity Mappings in Deep Residual
    Networks", He et al. 2016). `merge` None: y = act(branch(a)), a block without a path around its branch.
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module | None,
        merge: nn.Module | None,
        pre: nn.Module | None,
        act: nn.Module | None,
        reshapes: bool,
    ) -> None:
        super().__init__()
        self.pre = pre
        self.branch = branch
        self.shortcut = shortcut
        self.merge = merge
        self.act = act
        self.reshapes = reshapes

    def forward(self, x: Tensor) -> Tensor:
        a = x if self.pre is None else self.pre(x)
        y: Tensor
        if self.merge is None or self.shortcut is None:
            y = self.branch(a)
        else:
            around = a if self.reshapes else x
            if isinstance(self.merge, Skip) and self.merge.selects and not self.training:
                y = self.merge.select(around, self.shortcut(around), self.branch, a)
            else:
                y = self.branch(a)
                y = self.merge(around, self.shortcut(around), y)
        return y if self.act is None else self.act(y)


class Network(nn.Module):
    """Stem, stages, head: (b, c, h, w) images -> (b, classes) logits. `Network.stages` is a list of `nn.Sequential`."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.apply(initialise)
        blocks = [module for module in self.modules() if isinstance(module, Residual)]
        for number, block in enumerate(blocks, 1):
            for module in block.modules():
                if isinstance(module, Dropped):  # Huang et al. 2016, eq. 4
                    module.rate = module.final_rate * number / len(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        y: Tensor = self.head(x)
        return y


def initialise(module: nn.Module) -> None:
    """Initialize convolutions by Kaiming normal (fan out, ReLU; He et al., ICCV 2015), norms as the identity, biases as 0.

    A module with another initialization has a method `initialise`, which is called after its children's.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        bound = 1 / module.in_features**0.5
        with torch.no_grad():
            module.weight.uniform_(-bound, bound)
            module.bias.uniform_(-bound, bound)
    elif callable(special := getattr(module, "initialise", None)):
        special()
