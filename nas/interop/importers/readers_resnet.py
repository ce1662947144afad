"""Readers of ResNet, ResNeXt, wide ResNet, ResNet-D and SE-ResNet, of RegNet, and of timm's ByobNet, which has GENet."""

from __future__ import annotations

from typing import Any

from torch import nn

from nas.interop.importers.modules import Read, act_of, classes_of, foreign, head_of, nearest, reader, se_ratio_of
from nas.networks.blocks import STEMS, Head, Stem


@reader("ResNet")
def _resnet(network: Any, read: Read) -> tuple[Stem, Head]:
    stem = _resnet_stem(network, read)
    group = 1
    while (stage := getattr(network, f"layer{group}", None)) is not None:
        for position, block in enumerate(stage):
            _resnet_block(block, f"layer{group}.{position}", group, read)
        group += 1
    classes = classes_of(network, network.fc, read)
    return stem, head_of("linear", classes)


def _resnet_stem(network: Any, read: Read) -> Stem:
    act = act_of(getattr(network, "act1", getattr(network, "relu", None)), read)
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
        sizes_text = ", ".join(f"{size}x{size} to {out}" for out, size, _ in shapes)
        read.refuse(f"a stem of {sizes_text}; ours are 7x7, or three 3x3 whose first two have half the width")
    return STEMS["deep"].make({"width": width, "act": act})


def _resnet_block(block: Any, where: str, group: int, read: Read) -> None:
    name = type(block).__name__
    if name not in ("BasicBlock", "Bottleneck"):
        read.refuse(f"{name} blocks")
        return
    bottleneck = name == "Bottleneck"
    convs = [block.conv1, block.conv2, *([block.conv3] if bottleneck else [])]
    if any(type(conv) is not nn.Conv2d for conv in convs):
        read.refuse(where=where, reason=f"{foreign(convs)} in place of a convolution")
        return
    width, strides = convs[-1].out_channels, [conv.stride[0] for conv in convs]
    acts = [getattr(block, key) for key in ("relu", "act1", "act2", "act3") if hasattr(block, key)]
    options: dict[str, Any] = {"act": act_of(acts[0], read)}
    if len({act_of(act, read) for act in acts}) > 1:
        read.refuse(where=where, reason="different activations")
    options["se_ratio"] = se_ratio_of(getattr(block, "se", None), width, options["act"], where, read, nearest)
    if bottleneck:
        inner, groups = convs[1].out_channels, convs[1].groups
        if convs[0].out_channels != inner:
            read.refuse(
                where=where, reason=f"a 3x3 from {convs[0].out_channels} to {inner} channels; in ours they are equal"
            )
        options |= {"cardinality": groups, "group_width": inner // groups}
        options["stride_on"] = "1x1" if strides[0] > 1 else "3x3"
    elif convs[0].out_channels != width:
        read.refuse(where=where, reason=f"inner channels {convs[0].out_channels}, not {width}; in ours they are equal")
    shortcut = _shortcut(block.downsample, where, read)
    stride = max(strides)
    read.block(where, group, "bottleneck" if bottleneck else "basic", options, width, stride, shortcut)


def _shortcut(module: Any, where: str, read: Read) -> str:
    """Our kind of shortcut."""
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


@reader("RegNet")
def _regnet(network: Any, read: Read) -> tuple[Stem, Head]:
    timm = hasattr(network, "s1")
    convs = [part for part in network.stem.modules() if isinstance(part, nn.Conv2d)]
    if (convs[0].kernel_size, convs[0].stride) != ((3, 3), (2, 2)):
        read.refuse("a stem that is no 3x3 convolution of stride 2")
    if timm and not hasattr(network.stem, "bn"):
        read.refuse("a stem without a norm")
        act = "relu"
    else:
        act = act_of(network.stem.bn if timm else network.stem[2], read)
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
    classes = classes_of(holder, linear, read)
    head = head_of("linear", classes)
    return STEMS["strided"].make({"width": convs[-1].out_channels, "act": act}), head


def _regnet_block(block: Any, convs: list[Any], act: Any, where: str, group: int, read: Read) -> None:
    width_in, width, inner, groups = convs[0].in_channels, convs[2].out_channels, convs[1].out_channels, convs[1].groups
    excitation, name = getattr(block, "se", getattr(getattr(block, "f", None), "se", None)), act_of(act, read)
    options = {
        "act": name,
        "cardinality": groups,
        "group_width": inner // groups,
        "se_ratio": se_ratio_of(excitation, width_in, name, where, read, nearest),
    }
    path = getattr(block, "downsample", getattr(block, "proj", None))
    read.block(where, group, "regnet", options, width, convs[1].stride[0], _shortcut(path, where, read))


@reader("ByobNet")
def _byobnet(network: Any, read: Read) -> tuple[Stem, Head]:
    stem = _byobnet_stem(network.stem, read)
    for group, stage in enumerate(network.stages, 1):
        for position, block in enumerate(stage):
            where, name = f"stages.{group - 1}.{position}", type(block).__name__
            if name in ("BasicBlock", "BottleneckBlock"):
                _byobnet_block(block, where, group, read)
            else:
                read.refuse(f"{name} blocks")
    if not hasattr(network.head, "fc"):
        read.refuse(f"a head of {type(network.head).__name__}")
        return stem, head_of("linear", 1)
    classes = classes_of(network.head, network.head.fc, read)
    if isinstance(network.final_conv, nn.Identity):
        return stem, head_of("linear", classes)
    options = {"width": network.final_conv.conv.out_channels, "act": act_of(network.final_conv.bn, read)}
    return stem, head_of("expanded", classes, **options)


def _byobnet_stem(stem: Any, read: Read) -> Stem:
    convs = [part for part in stem.modules() if isinstance(part, nn.Conv2d)]
    acts = [part for part in stem.modules() if hasattr(part, "drop") and hasattr(part, "act")]  # BatchNormAct2d
    width, act = convs[-1].out_channels, act_of(acts[-1], read) if acts else "relu"
    pool = getattr(stem, "pool", None)
    sizes = [(conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convs]
    half = width // 2
    kinds = {
        "strided": ([(width, 3, 2)], False),
        "imagenet": ([(width, 7, 2)], True),
        "deep": ([(half, 3, 2), (half, 3, 1), (width, 3, 1)], True),
    }
    pooled = isinstance(pool, nn.MaxPool2d) and pool.kernel_size == 3
    for kind, (shapes, needed) in kinds.items():
        if sizes == shapes and needed == pooled and (pool is None or pooled):
            return STEMS[kind].make({"width": width, "act": act})
    sizes_text = ", ".join(f"{size}x{size} to {out}" for out, size, _ in sizes)
    read.refuse(f"a stem of {sizes_text}{'' if pool is None else ' and ' + type(pool).__name__}")
    return STEMS["strided"].make({"width": width})


def _byobnet_block(block: Any, where: str, group: int, read: Read) -> None:
    bottleneck = type(block).__name__ == "BottleneckBlock"
    units = [block.conv1_1x1, block.conv2_kxk, block.conv3_1x1] if bottleneck else [block.conv1_kxk, block.conv2_kxk]
    convs = [unit.conv for unit in units]
    if any(type(conv) is not nn.Conv2d for conv in convs):
        read.refuse(where=where, reason=f"{foreign(convs)} in place of a convolution")
        return
    width_in, width, spatial = convs[0].in_channels, convs[-1].out_channels, convs[1 if bottleneck else 0]
    if isinstance(block.act, nn.Identity):
        read.refuse("no activation after the sum")
        return
    act = act_of(block.act, read)
    if any(act_of(unit.bn, read) != act for unit in units[:-1]):
        read.refuse(where=where, reason="different activations")
    if any(conv.kernel_size[0] != 3 for conv in convs if conv.kernel_size[0] > 1):
        read.refuse(where=where, reason="a convolution of another size than 3x3")
    if block.shortcut is None:
        read.refuse(where=where, reason="no shortcut where shapes differ")
    options: dict[str, Any] = {"act": act}
    options["se_ratio"] = se_ratio_of(block.attn_last, width, act, where, read, nearest)
    kind = "bottleneck" if bottleneck else "basic"
    if not isinstance(block.attn, nn.Identity):
        if not bottleneck or options["se_ratio"]:
            read.refuse(where=where, reason="attention between two 3x3")
        kind, options["se_ratio"] = "regnet", se_ratio_of(block.attn, width_in, act, where, read, nearest)
    if bottleneck:
        if not isinstance(block.conv2b_kxk, nn.Identity):
            read.refuse("a bottleneck of two 3x3")
        options |= {"cardinality": spatial.groups, "group_width": spatial.out_channels // spatial.groups}
    elif (convs[0].out_channels, convs[1].groups) != (width, 1):
        read.refuse(where=where, reason="a basic block that is narrower inside, or grouped")
    read.block(where, group, kind, options, width, spatial.stride[0], _shortcut(block.shortcut, where, read))
