"""Networks of torchvision and timm read from their modules: `READERS` by class, and what they share.

A reader translates each block of a network into our parts; anything else adds a line to `faults`. Its result is not trusted:
`nas.interop.importers.libraries` compares costs, options of layers and logits with the network, and sets eps, dropout and
stochastic depth. The readers are in `readers_resnet` and `readers_mobile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nas.errors import UsageError
from nas.networks.architecture import Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, Branch, Head, Stem

ACTIVATION_TYPES = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "SiLU": "silu",
    "GELU": "gelu",
    "Hardswish": "hardswish",
    "ELU": "elu",
}
# Modules without children that our parts have too, or that do nothing in evaluation mode.
KNOWN = {
    *ACTIVATION_TYPES,
    *("Conv2d", "BatchNorm2d", "Linear", "Identity", "Flatten", "Sigmoid", "CondConv2d"),
    *("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "FastAdaptiveAvgPool"),
    *("Dropout", "StochasticDepth", "DropPath"),
}
RATIOS = (0.25, 0.5, 0.125, 0.0625)  # of squeeze-excitations, tried before others
# By the name of the class. Each fills the blocks of a `Read` and returns stem and head.
READERS: dict[str, Callable[[Any, Read], tuple[Stem, Head]]] = {}


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One block as a stage of depth 1. group: the library's stage that it is in."""

    group: object
    branch: Branch
    width: int
    stride: int
    shortcut: str


class Read:
    """What is read from one network: its blocks in order, and the reasons against it."""

    def __init__(self) -> None:
        self.blocks: list[ReadBlock] = []
        self._faults: dict[str, list[str]] = {}  # reason -> where

    def refuse(self, reason: str, where: str = "") -> None:
        self._faults.setdefault(reason, []).append(where)

    @property
    def faults(self) -> list[str]:
        """The reasons against the network, each once, with the first place where it applies."""
        reasons = []
        for reason, (first, *others) in self._faults.items():
            more = f" and {len(others)} more" if others else ""
            reasons.append(f"{first}{more}: {reason}" if first else reason)
        return reasons

    def block(
        self, where: str, group: object, kind: str, options: dict[str, object], width: int, stride: int, shortcut: str
    ) -> None:
        """Add a block of our `kind`, or a fault at `where` if our kind doesn't have its options."""
        try:
            self.blocks.append(ReadBlock(group, BRANCHES[kind].make(options), width, stride, shortcut))
        except UsageError as error:
            self.refuse(str(error), where)

    def stages(self) -> tuple[Stage, ...]:
        """The blocks as stages: consecutive equal blocks in a stage of the library are one stage."""
        stages: list[Stage] = []
        before: ReadBlock | None = None
        for block in self.blocks:
            same = (
                before is not None
                and before.group == block.group
                and (block.width, block.stride) == (before.width, 1)
                and block.shortcut in ("identity", "matching")
                and block.branch.canonical(1) == stages[-1].branch.canonical(1)
            )
            if same:
                stages[-1] = replace(stages[-1], depth=stages[-1].depth + 1)
            else:
                shortcut, merge = SHORTCUTS[block.shortcut](), MERGES["add"]()
                stages.append(Stage(block.branch, 1, block.width, block.stride, shortcut, merge))
            before = block
        return tuple(stages)


def strangers(network: nn.Module) -> Iterator[str]:
    """Reasons against a network: its modules that none of our parts has."""
    for name in sorted({type(module).__name__ for module in network.modules() if not any(module.children())} - KNOWN):
        if name not in ("BatchNormAct2d",):
            yield f"{name}, which no block of ours has"
    for name in sorted(
        {type(module).__name__ for module in network.modules()}
    ):  # also norms that contain an activation
        if "Norm" in name and name not in ("BatchNorm2d", "BatchNormAct2d", "ConvNormAct", "Conv2dNormActivation"):
            yield f"{name} in place of a batch norm"
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if module.dilation != (1, 1):
                yield "dilated convolutions"
            elif len(set(module.kernel_size)) > 1 or len(set(module.stride)) > 1:
                yield "oblong convolutions"


def reader(*names: str) -> Callable[[Any], Any]:
    def file(function: Any) -> Any:
        READERS.update(dict.fromkeys(names, function))
        return function

    return file


def act_of(module: nn.Module | None, read: Read) -> str:
    """Our name of an activation, or of the activation in a norm (timm's BatchNormAct2d)."""
    module = getattr(module, "act", module)
    name = ACTIVATION_TYPES.get(type(module).__name__)
    if name is None:
        read.refuse(f"activation {type(module).__name__}")
    return name or "relu"


def classes_of(network: Any, linear: Any, read: Read) -> int:
    """The number of classes of a network's classifier; a fault if the pooling before it is not the mean."""
    pool = getattr(network, "global_pool", None)
    kind = getattr(pool, "pool_type", "avg")
    if kind != "avg":
        read.refuse(f"{kind} pooling before the classifier")
    if not isinstance(linear, nn.Linear):
        read.refuse(f"a classifier of {type(linear).__name__}")
        return 1
    return int(linear.out_features)


def head_of(kind: str, classes: int, **options: Any) -> Head:
    return HEADS[kind].make({"classes": classes, **options})


def se_ratio_of(
    module: Any, width: int, act: str, where: str, read: Read, squeeze: Callable[[int, float], int]
) -> float:
    """The ratio with which our formula gives a squeeze-excitation's inner width; 0 if there is none. act: of our block."""
    if module is None or isinstance(module, nn.Identity):
        return 0.0
    inner = getattr(module, "fc1", getattr(module, "conv_reduce", None))
    gate = getattr(module, "gate", getattr(module, "scale_activation", None))
    norm = getattr(module, "bn", None)
    if (
        not isinstance(inner, nn.Conv2d)
        or type(gate).__name__ != "Sigmoid"
        or not isinstance(norm, (nn.Identity, type(None)))
    ):
        read.refuse(f"{type(module).__name__}, which is no squeeze-excitation of ours")
        return 0.0
    activation = getattr(module, "act1", getattr(module, "activation", getattr(module, "act", None)))
    if ACTIVATION_TYPES.get(type(activation).__name__) != act:
        read.refuse(where=where, reason=f"squeeze-excitation with {type(activation).__name__} in a block with {act}")
    channels = inner.out_channels
    for ratio in (*RATIOS, channels / width, (channels + 0.5) / width):
        if ratio <= 1 and squeeze(width, ratio) == channels:
            return ratio
    read.refuse(where=where, reason=f"squeeze-excitation of {channels} channels for {width}")
    return 0.0


def foreign(convs: Iterable[Any]) -> str:
    return next(type(conv).__name__ for conv in convs if type(conv) is not nn.Conv2d)


def nearest(width: int, ratio: float) -> int:
    return max(1, round(width * ratio))


def below(width: int, ratio: float) -> int:
    return max(1, int(width * ratio))
