"""Whether a library can build a design, and with which arguments: it can if it has a network whose design has the same digest.

The arguments of the library's ResNet are derived from the design, and the design that they build is compared with it by digest.
If the two differ, the first difference is the reason. Published networks of other kinds are found by digest, with any number of
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nas.interop.export.formats import NotExpressible
from nas.networks import zoo
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, SHORTCUTS, STEMS, Branch, Part

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = ("basic", "bottleneck", "res2net")
STRIDES = (1, 2, 2, 2)
BASE = 64  # width that a library's base width is relative to


@dataclass(frozen=True, slots=True)
class ResNetArguments:
    """Arguments of torchvision's and timm's ResNet. planes: width of the stages, before a bottleneck's expansion by 4."""

    kind: str
    layers: tuple[int, ...]
    planes: tuple[int, ...] = (64, 128, 256, 512)
    cardinality: int = 1
    base_width: int = BASE
    scale: int = 1
    deep: bool = False
    stem: int = 64
    pooled: bool = False  # average pooling before the projection (ResNet-D)
    excited: bool = False  # squeeze-excitation of 1/16
    act: str = "relu"

    @classmethod
    def of(cls, architecture: Architecture) -> ResNetArguments:
        """The arguments nearest to a design."""
        first = architecture.stages[0]
        branch: Any = first.branch.canonical(first.stride)
        kind = branch.kind if branch.kind in KINDS else "bottleneck"
        expansion = 1 if kind == "basic" else 4
        planes = tuple(max(1, stage.width // expansion) for stage in architecture.stages)
        group = getattr(branch, "group_width", planes[0])
        return cls(
            kind=kind,
            layers=tuple(stage.depth for stage in architecture.stages),
            planes=planes,
            cardinality=1 if kind == "basic" else getattr(branch, "cardinality", 1),
            base_width=BASE if kind == "basic" else -(-BASE * group // planes[0]),
            scale=getattr(branch, "scale", 1),
            deep=architecture.stem.kind == "deep",
            stem=architecture.stem.width,
            pooled=any(stage.shortcut.kind == "avg_pool" for stage in architecture.stages),
            excited=getattr(branch, "se_ratio", 0.0) > 0,
            act=getattr(branch, "act", "relu"),
        )

    def design(self, like: Architecture) -> Architecture:
        """The design that these arguments build, for the images and classes of another."""
        shortcut = SHORTCUTS["avg_pool" if self.pooled else "projection"]()
        stages = tuple(
            Stage(self._branch(planes), depth, planes * (1 if self.kind == "basic" else 4), stride, shortcut)
            for planes, depth, stride in zip(self.planes, self.layers, STRIDES, strict=False)
        )
        stem = STEMS["deep" if self.deep else "imagenet"].make({"width": self.stem, "act": self.act})
        head = HEADS["linear"].make({"classes": like.head.classes})
        return Architecture(stem, stages, head, like.resolution, like.channels)

    def _branch(self, planes: int) -> Branch:
        options: dict[str, object] = {"act": self.act, "se_ratio": 1 / 16 if self.excited else 0.0}
        if self.kind != "basic":
            group = max(1, planes * self.base_width // BASE)
            options |= {"cardinality": self.cardinality, "group_width": group}
        if self.kind == "res2net":
            options["scale"] = self.scale
        return BRANCHES[self.kind].make(options)


def resnet_arguments(
    architecture: Architecture, format_name: str, limits: Callable[[ResNetArguments], str]
) -> ResNetArguments:
    """The arguments that give exactly this design. limits: what a library's ResNet can't express, in words; '' if nothing.

    NotExpressible with the first difference between the library's network and the design.
    """
    if len(architecture.stages) != len(STRIDES):
        raise NotExpressible(format_name, f"it has {len(architecture.stages)} stages, not {len(STRIDES)}")
    if (kind := architecture.stages[0].branch.canonical(1).kind) not in KINDS:
        raise NotExpressible(format_name, f"it is no published network there, and a ResNet there has no {kind} block")
    arguments = ResNetArguments.of(architecture)
    design = arguments.design(architecture)
    if reason := difference(architecture.canonical(), design.canonical()):
        raise NotExpressible(format_name, reason)
    if reason := limits(arguments):
        raise NotExpressible(format_name, reason)
    return arguments


def published_twin(architecture: Architecture, known: Callable[[str], bool]) -> str | None:
    """The library's name of the published network with this design, for any classes and images; None if there is none."""
    for name in zoo.names():
        if known(name):
            other = zoo.get(name).adapted(
                classes=architecture.head.classes, resolution=architecture.resolution, channels=architecture.channels
            )
            if other.digest == architecture.digest:
                return name
    return None


def renamed(
    architecture: Architecture, network: nn.Module, theirs: nn.Module, format_name: str
) -> Mapping[str, Tensor]:
    """The tensors of a network of ours under the names, and in the shapes, of the library's.

    NotExpressible if no family of names (`nas.networks.weights.names`) has exactly its tensors.
    """
    from nas.networks.weights.names import FAMILIES, Unnamed, names

    wanted = theirs.state_dict()
    for family in FAMILIES:
        try:
            mapping = names(network, architecture, family)
        except Unnamed:
            continue
        if set(mapping.values()) != set(wanted):
            continue
        ours = network.state_dict()
        if all(ours[source].numel() == wanted[name].numel() for source, name in mapping.items()):
            return {name: ours[source].reshape(wanted[name].shape) for source, name in mapping.items()}
    raise NotExpressible(format_name, "the library's network has other tensors")


def held(architecture: Architecture, theirs: nn.Module, format_name: str) -> tuple[str, ...]:
    """Differences between ours and the library's network (on the meta device) that concern only training, in words.

    NotExpressible if its layers are called with other options than ours: names and sizes of tensors don't show that.
    """
    from nas.interop.importers.function import remarks, traced, unequal_calls

    calls = traced(theirs, architecture.resolution, architecture.channels)
    if faults := unequal_calls(architecture, calls):
        raise NotExpressible(format_name, f"the library's network has {faults[0]}")
    return remarks(architecture, calls)


def difference(ours: Architecture, theirs: Architecture) -> str:
    """The first difference between two designs, in words; '' if they build the same network."""
    if replace(ours, name="").digest == replace(theirs, name="").digest:
        return ""
    one, two = _flat(ours), _flat(theirs)
    for key, value in one.items():
        if two.get(key, value) != value:
            return f"its {key} is {value}, not {two[key]}"
    missing = next((key for key in one if key not in two), None)
    return f"it has a {missing}" if missing else "its blocks are arranged differently"


def _flat(architecture: Architecture) -> dict[str, object]:
    """Every value of a design by its place, the kinds of the parts first."""
    values: dict[str, object] = {"norm_eps": architecture.norm_eps}
    parts: dict[str, Part] = {"stem": architecture.stem, "head": architecture.head}
    for k, stage in enumerate(architecture.stages, 1):
        place = f"stage {k}'s"
        values |= {f"{place} {name}": getattr(stage, name) for name in ("width", "stride")}
        parts |= {f"{place} block": stage.branch, f"{place} shortcut": stage.shortcut, f"{place} merge": stage.merge}
    values |= {f"{place} kind" if place in ("stem", "head") else place: part.kind for place, part in parts.items()}
    for place, part in parts.items():
        values |= {f"{place}: {name}": value for name, value in part.to_dict().items() if name != "kind"}
    return values
