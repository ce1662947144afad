"""Networks of torchvision and timm read from their modules: ResNet, RegNet, EfficientNet and MobileNetV2 with their kin.

A reader goes over a network's blocks and says each as our parts; what it meets beside them is a line of `faults`. What it
returns is not trusted: `nas.importing.libraries` holds the result's costs against the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nas.architecture import Stage
from nas.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS, Branch, Head, Stem
from nas.errors import UsageError

ACTIVATION_TYPES = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "SiLU": "silu",
    "GELU": "gelu",
    "Hardswish": "hardswish",
    "ELU": "elu",
}
# Modules without children that our parts have too, or that do nothing in evaluation.
KNOWN = {
    *ACTIVATION_TYPES,
    *(
        "Conv2d",
        "BatchNorm2d",
        "Linear",
        "Identity",
        "Flatten",
        "Sigmoid",
        "MaxPool2d",
        "AvgPool2d",
        "AdaptiveAvgPool2d",
    ),
    *("Dropout", "StochasticDepth", "DropPath", "FastAdaptiveAvgPool"),
}
RATIOS = (0.25, 0.5, 0.125, 0.0625)  # of squeeze-excitations, tried before others
READERS: dict[str, Callable[[Any, Read], tuple[Stem, Head]]] = {}  # by the name of the class
"""Each fills the blocks of a `Read` and returns stem and head."""


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One block: what our stage of depth 1 would be, and the stage of the library that it is in."""

    group: object
    branch: Branch
    width: int
    stride: int
    shortcut: str


class Read:
    """What is read of one network: its blocks in order, and what is in the way."""

    def __init__(self) -> None:
        self.blocks: list[ReadBlock] = []
        self._faults: dict[str, list[str]] = {}  # reason -> where

    def refuse(self, reason: str, where: str = "") -> None:
        self._faults.setdefault(reason, []).append(where)

    @property
    def faults(self) -> list[str]:
        """What is in the way, each reason once, with the first place where it is."""
        said = []
        for reason, (first, *others) in self._faults.items():
            more = f" and {len(others)} more" if others else ""
            said.append(f"{first}{more}: {reason}" if first else reason)
        return said

    def block(
        self, where: str, group: object, kind: str, options: dict[str, Any], width: int, stride: int, shortcut: str
    ) -> None:
        """A block of our `kind`, or a fault at `where` if its options are not ours."""
        try:
            self.blocks.append(ReadBlock(group, BRANCHES[kind].make(options), width, stride, shortcut))
        except UsageError as error:
            self.refuse(str(error), where)

    def stages(self) -> tuple[Stage, ...]:
        """The blocks, equal ones that follow each other in a stage of the library as one stage."""
        found: list[Stage] = []
        before: ReadBlock | None = None
        for block in self.blocks:
            same = (
                before is not None
                and before.group == block.group
                and (block.width, block.stride) == (before.width, 1)
                and block.shortcut in ("identity", "matching")
                and block.branch.canonical(1) == found[-1].branch.canonical(1)
            )
            if same:
                found[-1] = replace(found[-1], depth=found[-1].depth + 1)
            else:
                shortcut, merge = SHORTCUTS[block.shortcut](), MERGES["add"]()
                found.append(Stage(block.branch, 1, block.width, block.stride, shortcut, merge))
            before = block
        return tuple(found)


def strangers(network: nn.Module) -> Iterator[str]:
    """Reasons by what modules a network has that none of our parts has."""
    for name in sorted({type(module).__name__ for module in network.modules() if not any(module.children())} - KNOWN):
        if name not in ("BatchNormAct2d",):
            yield f"{name}, which no block of ours has"
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if module.dilation != (1, 1):
                yield "dilated convolutions"
            elif len(set(module.kernel_size)) > 1 or len(set(module.stride)) > 1:
                yield "oblong convolutions"


def norm_eps(network: nn.Module, read: Read) -> float:
    found = {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)}
    if len(found) > 1:
        read.refuse(f"batch norms of different eps ({', '.join(map(str, sorted(found)))})")
    return float(max(found, default=1e-5))


def _reader(*names: str) -> Callable[[Any], Any]:
    def file(function: Any) -> Any:
        READERS.update(dict.fromkeys(names, function))
        return function

    return file


def _act(module: nn.Module | None, read: Read) -> str:
    """Our name of an activation; that of a norm with one (timm's BatchNormAct2d)."""
    module = getattr(module, "act", module)
    name = ACTIVATION_TYPES.get(type(module).__name__)
    if name is None:
        read.refuse(f"activation {type(module).__name__}")
    return name or "relu"


def _classifier(network: Any, linear: Any, read: Read) -> tuple[int, float]:
    """Classes and dropout of what ends a network; its pooling must be the mean."""
    pool = getattr(network, "global_pool", None)
    kind = getattr(pool, "pool_type", "avg")
    if kind != "avg":
        read.refuse(f"{kind} pooling before the classifier")
    if not isinstance(linear, nn.Linear):
        read.refuse(f"a classifier of {type(linear).__name__}")
        return 1, 0.0
    return linear.out_features, float(getattr(network, "drop_rate", 0.0) or 0.0)


def _head(kind: str, classes: int, dropout: float, **options: Any) -> Head:
    return HEADS[kind].make({"classes": classes, "dropout": dropout, **options})


def _excitation(module: Any, width: int, where: str, read: Read, squeeze: Callable[[int, float], int]) -> float:
    """The ratio with which our formula gives a squeeze-excitation its inner width; 0 for none."""
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
    channels = inner.out_channels
    for ratio in (*RATIOS, channels / width, (channels + 0.5) / width):
        if ratio <= 1 and squeeze(width, ratio) == channels:
            return ratio
    read.refuse(where=where, reason=f"squeeze-excitation of {channels} channels beside {width}")
    return 0.0


def _foreign(convs: Iterable[Any]) -> str:
    return next(type(conv).__name__ for conv in convs if type(conv) is not nn.Conv2d)


def _nearest(width: int, ratio: float) -> int:
    return max(1, round(width * ratio))


def _below(width: int, ratio: float) -> int:
    return max(1, int(width * ratio))


# -- ResNet, ResNeXt, wide ResNet, ResNet-D, SE-ResNet -------------------------------------------------------------------


@_reader("ResNet")
def _resnet(network: Any, read: Read) -> tuple[Stem, Head]:
    stem = _resnet_stem(network, read)
    group = 1
    while (stage := getattr(network, f"layer{group}", None)) is not None:
        for position, block in enumerate(stage):
            _resnet_block(block, f"layer{group}.{position}", group, read)
        group += 1
    classes, dropout = _classifier(network, network.fc, read)
    return stem, _head("linear", classes, dropout)


def _resnet_stem(network: Any, read: Read) -> Stem:
    act = _act(getattr(network, "act1", getattr(network, "relu", None)), read)
    convs = [module for module in network.conv1.modules() if isinstance(module, nn.Conv2d)]
    width = convs[-1].out_channels
    pool = network.maxpool
    sizes = (getattr(pool, "kernel_size", 0), getattr(pool, "stride", 0), getattr(pool, "padding", 0))
    if not isinstance(pool, nn.MaxPool2d) or sizes != (3, 2, 1):
        read.refuse("a stem that doesn't end with a 3x3 maximum of stride 2")
    shapes = [(conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convs]
    half = width // 2
    if shapes == [(width, 7, 2)]:
        return STEMS["imagenet"].make({"width": width, "act": act})
    if shapes != [(half, 3, 2), (half, 3, 1), (width, 3, 1)]:
        said = ", ".join(f"{size}x{size} to {out}" for out, size, _ in shapes)
        read.refuse(f"a stem of {said}; ours are 7x7, or three 3x3 whose first two have half the width")
    return STEMS["deep"].make({"width": width, "act": act})


def _resnet_block(block: Any, where: str, group: int, read: Read) -> None:
    name = type(block).__name__
    if name not in ("BasicBlock", "Bottleneck"):
        read.refuse(f"{name} blocks")
        return
    bottleneck = name == "Bottleneck"
    convs = [block.conv1, block.conv2, *([block.conv3] if bottleneck else [])]
    if any(type(conv) is not nn.Conv2d for conv in convs):
        read.refuse(where=where, reason=f"{_foreign(convs)} in place of a convolution")
        return
    width, strides = convs[-1].out_channels, [conv.stride[0] for conv in convs]
    acts = [getattr(block, key) for key in ("relu", "act1", "act2", "act3") if hasattr(block, key)]
    options: dict[str, Any] = {"act": _act(acts[0], read)}
    if len({_act(act, read) for act in acts}) > 1:
        read.refuse(where=where, reason="different activations")
    options["se_ratio"] = _excitation(getattr(block, "se", None), width, where, read, _nearest)
    if bottleneck:
        inner, groups = convs[1].out_channels, convs[1].groups
        if convs[0].out_channels != inner:
            read.refuse(
                where=where, reason=f"a 3x3 from {convs[0].out_channels} to {inner} channels; in ours they are equal"
            )
        options |= {"cardinality": groups, "group_width": inner // groups}
        options["stride_on"] = "1x1" if strides[0] > 1 else "3x3"
    elif convs[0].out_channels != width:
        read.refuse(
            where=where, reason=f"inner channels {convs[0].out_channels} beside {width}; in ours they are equal"
        )
    shortcut = _shortcut(block.downsample, where, read)
    stride = max(strides)
    read.block(where, group, "bottleneck" if bottleneck else "basic", options, width, stride, shortcut)


def _shortcut(module: Any, where: str, read: Read) -> str:
    """Our kind of a path around a branch."""
    if module is None or isinstance(module, nn.Identity):
        return "identity"
    convs = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    pools = [part for part in module.modules() if isinstance(part, nn.AvgPool2d)]
    if len(convs) != 1 or convs[0].kernel_size != (1, 1):
        read.refuse(where=where, reason="a shortcut that is no 1x1 convolution")
    elif pools and (convs[0].stride != (1, 1) or pools[0].kernel_size != pools[0].stride):
        read.refuse(
            where=where, reason=f"a shortcut's pooling of size {pools[0].kernel_size} and stride {pools[0].stride}"
        )
    return "avg_pool" if pools else "projection"


# -- RegNet --------------------------------------------------------------------------------------------------------------


@_reader("RegNet")
def _regnet(network: Any, read: Read) -> tuple[Stem, Head]:
    timm = hasattr(network, "s1")
    convs = [part for part in network.stem.modules() if isinstance(part, nn.Conv2d)]
    if (convs[0].kernel_size, convs[0].stride) != ((3, 3), (2, 2)):
        read.refuse("a stem that is no 3x3 convolution of stride 2")
    act = _act(network.stem.bn if timm else network.stem[2], read)
    stages: list[Any] = [network.s1, network.s2, network.s3, network.s4] if timm else list(network.trunk_output)
    for group, stage in enumerate(stages, 1):
        for position, block in enumerate(stage.children()):
            where = f"stage {group}, block {position + 1}"
            if type(block).__name__ not in ("Bottleneck", "ResBottleneckBlock"):
                read.refuse(f"{type(block).__name__} blocks")
            elif timm:
                _regnet_block(
                    block, [block.conv1.conv, block.conv2.conv, block.conv3.conv], block.act3, where, group, read
                )
            else:
                _regnet_block(
                    block, [part[0] for part in (block.f.a, block.f.b, block.f.c)], block.activation, where, group, read
                )
    if timm and not isinstance(getattr(network, "final_conv", nn.Identity()), nn.Identity):
        read.refuse("a convolution before the pooling")
    holder, linear = (network.head, network.head.fc) if timm else (network, network.fc)
    classes, _ = _classifier(holder, linear, read)
    head = _head("linear", classes, float(getattr(network, "drop_rate", 0.0) or 0.0))
    return STEMS["strided"].make({"width": convs[-1].out_channels, "act": act}), head


def _regnet_block(block: Any, convs: list[Any], act: Any, where: str, group: int, read: Read) -> None:
    width_in, width, inner, groups = convs[0].in_channels, convs[2].out_channels, convs[1].out_channels, convs[1].groups
    excitation = getattr(block, "se", getattr(getattr(block, "f", None), "se", None))
    options = {
        "act": _act(act, read),
        "cardinality": groups,
        "group_width": inner // groups,
        "se_ratio": _excitation(excitation, width_in, where, read, _nearest),
    }
    path = getattr(block, "downsample", getattr(block, "proj", None))
    read.block(where, group, "regnet", options, width, convs[1].stride[0], _shortcut(path, where, read))


# -- EfficientNet, EfficientNetV2, MobileNetV2, MNASNet -------------------------------------------------------------------


@_reader("EfficientNet")
def _efficientnet(network: Any, read: Read) -> tuple[Stem, Head]:
    if hasattr(network, "conv_stem"):
        return _timm_efficientnet(network, read)
    *_, last = network.features
    for group, stage in enumerate(network.features[1:-1], 1):
        for position, block in enumerate(stage):
            _mbconv(list(block.block), block.use_res_connect, f"stage {group}, block {position + 1}", group, read)
    return _ends(network.features[0], last, network.classifier, read)


@_reader("MobileNetV2")
def _mobilenet(network: Any, read: Read) -> tuple[Stem, Head]:
    *_, last = network.features
    group, width = 0, 0
    for number, block in enumerate(network.features[1:-1], 1):
        group, width = group + (block.out_channels != width or block.stride > 1), block.out_channels
        parts = list(block.conv)
        projection = nn.Sequential(*parts[-2:])  # here without a container of its own
        _mbconv([*parts[:-2], projection], block.use_res_connect, f"block {number}", group, read)
    return _ends(network.features[0], last, network.classifier, read)


def _ends(first: Any, last: Any, classifier: Any, read: Read) -> tuple[Stem, Head]:
    """Stem, and the 1x1 convolution and classifier at the end, of torchvision's networks."""
    if (first[0].kernel_size, first[0].stride, last[0].kernel_size) != ((3, 3), (2, 2), (1, 1)):
        read.refuse("a stem or a last convolution of another size")
    stem = STEMS["strided"].make({"width": first[0].out_channels, "act": _act(first[2], read)})
    options = {"width": last[0].out_channels, "act": _act(last[2], read)}
    dropout = next((part.p for part in classifier if isinstance(part, nn.Dropout)), 0.0)
    return stem, _head("expanded", classifier[-1].out_features, float(dropout), **options)


def _mbconv(parts: list[Any], adds: bool, where: str, group: int, read: Read) -> None:
    """An inverted residual block by its parts in order: convolutions with norm (and activation), a squeeze-excitation."""
    excitation = next((part for part in parts if hasattr(part, "fc1") or hasattr(part, "conv_reduce")), None)
    units = [part for part in parts if part is not excitation]
    convs = [next(module for module in unit.modules() if isinstance(module, nn.Conv2d)) for unit in units]
    acts = {_act(unit[2], read) for unit in units if len(unit) > 2}
    _inverted(convs, acts, excitation, adds, where, group, read)


def _timm_efficientnet(network: Any, read: Read) -> tuple[Stem, Head]:
    for group, stage in enumerate(network.blocks, 1):
        for position, block in enumerate(stage):
            where, name = f"blocks.{group - 1}.{position}", type(block).__name__
            layers = {
                "DepthwiseSeparableConv": ("conv_dw", "conv_pw"),
                "InvertedResidual": ("conv_pw", "conv_dw", "conv_pwl"),
                "EdgeResidual": ("conv_exp", "conv_pwl"),
                "ConvBnAct": ("conv",),
            }.get(name)
            if layers is None or getattr(block, "has_pw_act", False):
                read.refuse(f"{name} blocks" + (" with an activation at their end" if layers else ""))
                continue
            convs = [getattr(block, layer) for layer in layers]
            if any(type(conv) is not nn.Conv2d for conv in convs):
                read.refuse(where=where, reason=f"{_foreign(convs)} in place of a convolution")
                continue
            acts = {_act(block.bn1, read), *([_act(block.bn2, read)] if len(convs) == 3 else [])}
            _inverted(convs, acts, getattr(block, "se", None), block.has_skip, where, group, read)
    stem, last = network.conv_stem, network.conv_head
    classes, dropout = _classifier(network, network.classifier, read)
    if (stem.kernel_size, stem.stride) != ((3, 3), (2, 2)):
        read.refuse("a stem that is no 3x3 convolution of stride 2")
    found = STEMS["strided"].make({"width": stem.out_channels, "act": _act(network.bn1, read)})
    if not isinstance(last, nn.Conv2d):
        return found, _head("linear", classes, dropout)
    return found, _head("expanded", classes, dropout, width=last.out_channels, act=_act(network.bn2, read))


def _inverted(
    convs: list[Any], acts: Iterable[str], excitation: Any, adds: bool, where: str, group: int, read: Read
) -> None:
    """A block of ours, mbconv or fused, from its one to three convolutions."""
    spread = next((conv for conv in convs if conv.kernel_size[0] > 1), convs[0])
    width_in, inner, width, stride = convs[0].in_channels, spread.out_channels, convs[-1].out_channels, spread.stride[0]
    depthwise = spread.groups == spread.in_channels == spread.out_channels and len(convs) > 1
    if not depthwise and spread.groups > 1:
        read.refuse(where=where, reason=f"a convolution of {spread.groups} groups")
    if any(conv.kernel_size[0] > 1 for conv in convs if conv is not spread):
        read.refuse(where=where, reason="more than one spatial convolution")
    expansion, rest = (1, 0) if len(convs) == 1 else divmod(inner, width_in)
    if rest or expansion < 1:
        read.refuse(where=where, reason=f"{inner} inner channels are no multiple of its {width_in}")
        return
    if depthwise and len(convs) == 3 and expansion == 1:
        read.refuse(where=where, reason="a 1x1 without expansion before the depthwise; in ours it is left out")
    if not depthwise and len(convs) == 2 and expansion == 1:
        read.refuse(where=where, reason="two convolutions without expansion; in ours it is one")
    if adds != (stride == 1 and width_in == width):
        read.refuse(where=where, reason="no shortcut where the shapes agree")
    act, *others = sorted(acts)
    if others:
        read.refuse(where=where, reason="different activations")
    ratio = _excitation(excitation, width_in, where, read, _below if depthwise else _nearest)
    options = {"expansion": expansion, "kernel": spread.kernel_size[0], "act": act, "se_ratio": ratio}
    read.block(where, group, "mbconv" if depthwise else "fused_mbconv", options, width, stride, "matching")
