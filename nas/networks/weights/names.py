"""Names of a network's tensors in other libraries: one function per family of names, from a place to a name.

A `Place` is the place of some tensors in a network of this package. A family's function returns the prefix of the same tensors
in the library's `state_dict`, or raises `Unnamed` if the library has no such tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from nas.networks.architecture import Architecture
from nas.networks.blocks.dynamic_modules import ConditionalConv2d
from nas.networks.blocks.modules import Add
from nas.utils.registry import Registry


class Unnamed(Exception):
    """A library has no name for a place."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a module that has tensors; all counts start at 0.

    path: the module's name in this package ("stages.0.0.branch.1.0"). part: stem, pre, branch, shortcut, merge or head. stage,
    block: numbers of the stage and of the block in it. position: number of the block among all blocks. kind: conv, norm, linear,
    fc1 and fc2 (squeeze-excitation), scale, routing. conv: number of its convolution among the `convs` of its part; a cascade is
    one convolution, and `group` is the number within it. unit: as `conv`, with squeeze-excitations counted too.
    """

    path: str
    part: str
    kind: str
    stage: int = -1
    block: int = -1
    position: int = -1
    conv: int = -1
    convs: int = 0
    unit: int = -1
    group: int = -1

    @property
    def half(self) -> int:
        """0 for a convolution, 1 for the norm after it: the index in a library's pair of the two."""
        return 1 if self.kind == "norm" else 0

    def unnamed(self) -> Unnamed:
        return Unnamed(f"{self.part}, {self.kind}")


def places(network: nn.Module) -> Iterator[Place]:
    """The modules of a network that have tensors, in the order in which an image passes them."""
    position = -1
    parts: dict[tuple[str, ...], list[tuple[str, nn.Module]]] = {}
    for path, module in network.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            words = path.split(".")
            # stages.S.B.PART. ... or stem. ..., head. ...
            parts.setdefault(tuple(words[:4] if words[0] == "stages" else words[:1]), []).append((path, module))
    before = ("", "")
    for words, owners in parts.items():
        stage, block = (int(words[1]), int(words[2])) if len(words) > 1 else (-1, -1)
        if len(words) > 1 and words[1:3] != before:
            before, position = (words[1], words[2]), position + 1
        yield from _of_part(words[-1], owners, (stage, block, position if stage >= 0 else -1))


def _of_part(part: str, owners: list[tuple[str, nn.Module]], where: tuple[int, int, int]) -> Iterator[Place]:
    conv = unit = -1
    rows = []
    for path, module in owners:
        _, _, after = path.rpartition(f"{part}.")
        words = after.split(".")
        group = int(words[words.index("convs") + 1]) if "convs" in words else -1
        kind = _kind(words[-1], module)
        if kind == "conv" and group <= 0:
            conv, unit = conv + 1, unit + 1
        elif kind == "fc1":
            unit += 1
        rows.append((path, kind, conv, unit, group))
    for path, kind, conv_of, unit_of, group in rows:
        yield Place(path, part, kind, *where, conv_of, conv + 1, unit_of, group)


def _kind(name: str, module: nn.Module) -> str:
    if name in ("fc1", "fc2", "routing"):
        return name
    if isinstance(module, (nn.Conv2d, ConditionalConv2d)):
        return "conv"
    if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
        return "norm"
    if isinstance(module, nn.Linear):
        return "linear"
    return "scale" if isinstance(module, Add) else type(module).__name__


Namer = Callable[[Place, Architecture], str]

FAMILIES: Registry[Namer] = Registry("family of names")


@FAMILIES.register("torchvision's or timm's ResNet")
def _resnet(place: Place, architecture: Architecture) -> str:
    """Both libraries' ResNet, ResNeXt, Wide ResNet; timm's ResNet-D, SE-ResNet and Res2Net."""
    block, number = f"layer{place.stage + 1}.{place.block}", place.conv + 1
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            if place.kind == "norm" and number == place.convs:
                return "bn1"
            return "conv1" if place.convs == 1 else f"conv1.{3 * place.conv + place.half}"
        case "branch", ("conv" | "norm"):
            kind = "bn" if place.kind == "norm" else "conv"
            return f"{block}.{kind}{number}" if place.group < 0 else f"{block}.{kind}s.{place.group}"
        case "branch", ("fc1" | "fc2"):
            return f"{block}.se.{place.kind}"
        case "shortcut", ("conv" | "norm"):
            # timm's ResNet-D has an index for the pooling even where there is none.
            pooled = any(stage.shortcut.kind == "avg_pool" for stage in architecture.stages)
            return f"{block}.downsample.{place.half + pooled}"
        case "head", "linear":
            return "fc"
    raise place.unnamed()


@FAMILIES.register("torchvision's EfficientNet")
def _efficientnet(place: Place, architecture: Architecture) -> str:
    block = f"features.{place.stage + 1}.{place.block}.block.{place.unit}"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"features.0.{place.half}"
        case "branch", ("conv" | "norm"):
            return f"{block}.{place.half}"
        case "branch", ("fc1" | "fc2"):
            return f"{block}.{place.kind}"
        case "head", ("conv" | "norm"):
            return f"features.{len(architecture.stages) + 1}.{place.half}"
        case "head", "linear":
            return "classifier.1"
    raise place.unnamed()


@FAMILIES.register("torchvision's MobileNetV2")
def _mobilenet(place: Place, architecture: Architecture) -> str:
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"features.0.{place.half}"
        case "branch", ("conv" | "norm"):
            block = f"features.{place.position + 1}.conv"
            if place.conv == place.convs - 1:  # without an activation, and so without a container
                return f"{block}.{place.conv + place.half}"
            return f"{block}.{place.conv}.{place.half}"
        case "head", ("conv" | "norm"):
            return f"features.{sum(stage.depth for stage in architecture.stages) + 1}.{place.half}"
        case "head", "linear":
            return "classifier.1"
    raise place.unnamed()


@FAMILIES.register("timm's EfficientNet")
def _timm_efficientnet(place: Place, architecture: Architecture) -> str:
    """timm's EfficientNet and EfficientNetV2, its CondConv nets, MobileNetV2, MNASNet."""
    return _timm_inverted(place, architecture, place.stage, place.block)


@FAMILIES.register("timm's EfficientNet of mixed kernels")
def _timm_mixed(place: Place, architecture: Architecture) -> str:
    """The same for kernels that differ within a stage of timm's, which is several stages here: those up to a new width or stride."""
    stages = architecture.stages
    starts = [
        k for k in range(place.stage + 1) if k == 0 or stages[k].stride > 1 or stages[k].width != stages[k - 1].width
    ]
    block = place.block + sum(stage.depth for stage in stages[starts[-1] : place.stage]) if starts else -1
    return _timm_inverted(place, architecture, len(starts) - 1, block)


def _timm_inverted(place: Place, architecture: Architecture, stage: int, number: int) -> str:
    block = f"blocks.{stage}.{number}"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return "bn1" if place.kind == "norm" else "conv_stem"
        case "branch", "norm":
            return f"{block}.bn{place.conv + 1}"
        case "branch", "conv" if place.convs in (1, 2, 3):
            fused = architecture.stages[place.stage].branch.kind == "fused_mbconv"
            spread = ("conv_exp", "conv_pwl") if fused else ("conv_dw", "conv_pw")
            names = (("conv",), spread, ("conv_pw", "conv_dw", "conv_pwl"))[place.convs - 1]
            return f"{block}.{names[place.conv]}"
        case "branch", ("fc1" | "fc2"):
            return f"{block}.se.{'conv_reduce' if place.kind == 'fc1' else 'conv_expand'}"
        case "branch", "routing":
            return f"{block}.routing_fn"
        case "head", ("conv" | "norm"):
            return "bn2" if place.kind == "norm" else "conv_head"
        case "head", "linear":
            return "classifier"
    raise place.unnamed()


@FAMILIES.register("torchvision's RegNet")
def _regnet(place: Place, architecture: Architecture) -> str:
    stage = place.stage + 1
    block = f"trunk_output.block{stage}.block{stage}-{place.block}"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"stem.{place.half}"
        case "branch", ("conv" | "norm") if place.convs == 3:
            return f"{block}.f.{'abc'[place.conv]}.{place.half}"
        case "branch", ("fc1" | "fc2"):
            return f"{block}.f.se.{place.kind}"
        case "shortcut", ("conv" | "norm"):
            return f"{block}.proj.{place.half}"
        case "head", "linear":
            return "fc"
    raise place.unnamed()


@FAMILIES.register("timm's RegNet")
def _timm_regnet(place: Place, architecture: Architecture) -> str:
    block, half = f"s{place.stage + 1}.b{place.block + 1}", "bn" if place.kind == "norm" else "conv"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"stem.{half}"
        case "branch", ("conv" | "norm"):
            return f"{block}.conv{place.conv + 1}.{half}"
        case "branch", ("fc1" | "fc2"):
            return f"{block}.se.{place.kind}"
        case "shortcut", ("conv" | "norm"):
            return f"{block}.downsample.{half}"
        case "head", "linear":
            return "head.fc"
    raise place.unnamed()


@FAMILIES.register("timm's ByobNet")
def _byobnet(place: Place, architecture: Architecture) -> str:
    """timm's ByobNet of basic and bottleneck blocks, as GENet."""
    block, half = f"stages.{place.stage}.{place.block}", "bn" if place.kind == "norm" else "conv"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"stem.{half}" if architecture.stem.kind == "strided" else f"stem.conv{place.conv + 1}.{half}"
        case "branch", ("conv" | "norm") if place.convs in (2, 3):
            names = ("conv1_kxk", "conv2_kxk") if place.convs == 2 else ("conv1_1x1", "conv2_kxk", "conv3_1x1")
            return f"{block}.{names[place.conv]}.{half}"
        case "shortcut", ("conv" | "norm"):
            pooled = any(stage.shortcut.kind == "avg_pool" for stage in architecture.canonical().stages)
            return f"{block}.shortcut.{'conv.' if pooled else ''}{half}"
        case "head", ("conv" | "norm"):
            return f"final_conv.{half}"
        case "head", "linear":
            return "head.fc"
    raise place.unnamed()


@FAMILIES.register("torchvision's MNASNet")
def _mnasnet(place: Place, architecture: Architecture) -> str:
    last = 7 + len(architecture.stages)
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"layers.{place.half}"
        case "branch", ("conv" | "norm") if place.stage == 0:  # its parts have no container
            return f"layers.{3 + 3 * place.conv + place.half}"
        case "branch", ("conv" | "norm"):
            return f"layers.{7 + place.stage}.{place.block}.layers.{3 * place.conv + place.half}"
        case "head", ("conv" | "norm"):
            return f"layers.{last + place.half}"
        case "head", "linear":
            return "classifier.1"
    raise place.unnamed()


@FAMILIES.register("torchvision's ConvNeXt")
def _convnext(place: Place, architecture: Architecture) -> str:
    block = f"features.{2 * place.stage + 1}.{place.block}"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"features.0.{place.half}"
        case "pre", ("conv" | "norm") if place.block == 0:
            return f"features.{2 * place.stage}.{1 - place.half}"  # the norm comes first
        case "branch", "norm":
            return f"{block}.block.2"
        case "branch", "conv" if place.convs == 3:
            return f"{block}.block.{(0, 3, 5)[place.conv]}"
        case "merge", "scale":
            return f"{block}.layer_scale"
        case "head", "norm":
            return "classifier.0"
        case "head", "linear":
            return "classifier.2"
    raise place.unnamed()


@FAMILIES.register("timm's ConvNeXt")
def _timm_convnext(place: Place, architecture: Architecture) -> str:
    block = f"stages.{place.stage}.blocks.{place.block}"
    match place.part, place.kind:
        case "stem", ("conv" | "norm"):
            return f"stem.{place.half}"
        case "pre", ("conv" | "norm") if place.block == 0:
            return f"stages.{place.stage}.downsample.{1 - place.half}"
        case "branch", "norm":
            return f"{block}.norm"
        case "branch", "conv" if place.convs == 3:
            return f"{block}.{('conv_dw', 'mlp.fc1', 'mlp.fc2')[place.conv]}"
        case "merge", "scale":
            return f"{block}.gamma"
        case "head", "norm":
            return "head.norm"
        case "head", "linear":
            return "head.fc"
    raise place.unnamed()


def names(network: nn.Module, architecture: Architecture, family: str) -> Mapping[str, str]:
    """The family's names of the network's tensors, by the names of this package, in order. Unnamed if it lacks a part of the network."""
    namer, mapping = FAMILIES.find(family), {}
    tensors = network.state_dict().keys()
    for place in places(network):
        prefix = namer(place, architecture)
        if place.kind == "scale":  # there a parameter of the block itself
            mapping[f"{place.path}.scale"] = prefix
            continue
        module = network.get_submodule(place.path)
        direct = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
        mapping |= {f"{place.path}.{name}": f"{prefix}.{name}" for name in direct if f"{place.path}.{name}" in tensors}
    return mapping
