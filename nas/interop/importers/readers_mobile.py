"""Readers of networks of inverted residuals: EfficientNet and EfficientNetV2, MobileNetV2, MNASNet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from nas.interop.importers.modules import (
    Read,
    act_of,
    below,
    classes_of,
    foreign,
    head_of,
    nearest,
    reader,
    se_ratio_of,
)
from nas.networks.blocks import STEMS, Head, Stem


@reader("EfficientNet")
def _efficientnet(network: Any, read: Read) -> tuple[Stem, Head]:
    if hasattr(network, "conv_stem"):
        return _timm_efficientnet(network, read)
    *_, last = network.features
    for group, stage in enumerate(network.features[1:-1], 1):
        for position, block in enumerate(stage):
            _mbconv(list(block.block), block.use_res_connect, f"stage {group}, block {position + 1}", group, read)
    return _ends(network.features[0], last, network.classifier, read)


@reader("MobileNetV2")
def _mobilenet(network: Any, read: Read) -> tuple[Stem, Head]:
    *_, last = network.features
    group, width = 0, 0
    for number, block in enumerate(network.features[1:-1], 1):
        group, width = group + (block.out_channels != width or block.stride > 1), block.out_channels
        parts = list(block.conv)
        projection = nn.Sequential(*parts[-2:])  # torchvision has no container for it here
        _mbconv([*parts[:-2], projection], block.use_res_connect, f"block {number}", group, read)
    return _ends(network.features[0], last, network.classifier, read)


@reader("MNASNet")
def _mnasnet(network: Any, read: Read) -> tuple[Stem, Head]:
    layers = list(network.layers)
    stem, first, stacks, last = layers[:3], layers[3:8], layers[8:-3], layers[-3:]
    _mbconv([nn.Sequential(*first[:3]), nn.Sequential(*first[3:])], False, "layers.3", 0, read)
    for group, stack in enumerate(stacks, 1):
        for position, block in enumerate(stack):
            parts = list(block.layers)
            units = [nn.Sequential(*parts[:3]), nn.Sequential(*parts[3:6]), nn.Sequential(*parts[6:])]
            _mbconv(units, block.apply_residual, f"layers.{group + 7}.{position}", group, read)
    return _ends(stem, last, network.classifier, read)


def _ends(first: Any, last: Any, classifier: Any, read: Read) -> tuple[Stem, Head]:
    """Stem, and head with a last 1x1 convolution, of torchvision's networks."""
    if (first[0].kernel_size, first[0].stride, last[0].kernel_size) != ((3, 3), (2, 2), (1, 1)):
        read.refuse("a stem or a last convolution of another size")
    stem = STEMS["strided"].make({"width": first[0].out_channels, "act": act_of(first[2], read)})
    options = {"width": last[0].out_channels, "act": act_of(last[2], read)}
    return stem, head_of("expanded", classifier[-1].out_features, **options)


def _mbconv(parts: list[Any], adds: bool, where: str, group: int, read: Read) -> None:
    """An inverted residual block from its parts in order: convolutions with norm (and activation), a squeeze-excitation."""
    excitation = next((part for part in parts if hasattr(part, "fc1") or hasattr(part, "conv_reduce")), None)
    units = [part for part in parts if part is not excitation]
    convs = [next(module for module in unit.modules() if isinstance(module, nn.Conv2d)) for unit in units]
    acts = {act_of(unit[2], read) for unit in units if len(unit) > 2}
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
                "CondConvResidual": ("conv_pw", "conv_dw", "conv_pwl"),
            }.get(name)
            if layers is None or getattr(block, "has_pw_act", False):
                read.refuse(f"{name} blocks" + (" with an activation at their end" if layers else ""))
                continue
            convs = [getattr(block, layer) for layer in layers]
            mixed = name == "CondConvResidual" and {type(conv).__name__ for conv in convs} == {"CondConv2d"}
            if not mixed and any(type(conv) is not nn.Conv2d for conv in convs):
                read.refuse(where=where, reason=f"{foreign(convs)} in place of a convolution")
                continue
            experts = max(conv.num_experts for conv in convs) if mixed else 1
            acts = {act_of(block.bn1, read), *([act_of(block.bn2, read)] if len(convs) == 3 else [])}
            _inverted(convs, acts, getattr(block, "se", None), block.has_skip, where, group, read, experts)
    stem, last = network.conv_stem, network.conv_head
    classes = classes_of(network, network.classifier, read)
    if (stem.kernel_size, stem.stride) != ((3, 3), (2, 2)):
        read.refuse("a stem that is no 3x3 convolution of stride 2")
    strided = STEMS["strided"].make({"width": stem.out_channels, "act": act_of(network.bn1, read)})
    if not isinstance(last, nn.Conv2d):
        return strided, head_of("linear", classes)
    return strided, head_of("expanded", classes, width=last.out_channels, act=act_of(network.bn2, read))


def _inverted(
    convs: list[Any],
    acts: Iterable[str],
    excitation: Any,
    adds: bool,
    where: str,
    group: int,
    read: Read,
    experts: int = 1,
) -> None:
    """Our mbconv or fused_mbconv block from one to three convolutions, each a mix of `experts`."""
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
    ratio = se_ratio_of(excitation, width_in, act, where, read, below if depthwise else nearest)
    options = {"expansion": expansion, "kernel": spread.kernel_size[0], "act": act, "se_ratio": ratio}
    if experts > 1:
        options["experts"] = experts
    read.block(where, group, "mbconv" if depthwise else "fused_mbconv", options, width, stride, "matching")
