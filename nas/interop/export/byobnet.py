"""Designs as timm's ByobNet: two or more stages of basic and bottleneck blocks, with free depths, widths, strides and groups.

The arguments are derived from the design. The importer reads the network that timm builds from them back as a design, which
must be the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError
from nas.interop.export.formats import NotExpressible
from nas.interop.export.programs import silent
from nas.interop.export.twins import difference
from nas.interop.importers.libraries import read_modules
from nas.networks.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

NAME = "timm"
BLOCKS = {"basic": "basic", "bottleneck": "bottle"}
STEMS = {"strided": ("3x3", ""), "imagenet": ("7x7", "maxpool")}  # type and pool


def byobnet_twin(architecture: Architecture) -> tuple[dict[str, object], nn.Module]:
    """The arguments of `nas_byobnet` except classes and channels, and the network; NotExpressible with the reason."""
    from nas.interop.export import timm_byobnet

    design = architecture.canonical()
    arguments = _arguments(design)
    make: Any = timm_byobnet.nas_byobnet
    with silent():  # timm warns that it has no weights
        network: nn.Module = make(num_classes=design.head.classes, in_chans=design.channels, **arguments)
    try:
        theirs = read_modules(network, "ByobNet", design.resolution)
    except UsageError as error:
        raise NotExpressible(NAME, str(error)) from None
    head: Any = theirs.head
    # Dropout is an argument that no module shows; `twins.held` checks it.
    head = replace(head, dropout=design.head.to_dict().get("dropout", 0.0))
    theirs = replace(theirs, channels=design.channels, head=head).canonical()
    if reason := difference(design, theirs):
        raise NotExpressible(NAME, reason)
    return arguments, network


def _arguments(design: Architecture) -> dict[str, object]:
    """The arguments that come nearest to a design."""
    stem, head, first = design.stem, design.head, design.stages[0]
    if len(design.stages) == 1:
        raise NotExpressible(NAME, "it has one stage, not two or more")
    if stem.kind not in STEMS:
        raise NotExpressible(NAME, f"its stem kind is {stem.kind}, not {' or '.join(STEMS)}")
    if head.kind not in ("linear", "expanded"):
        raise NotExpressible(NAME, f"its head kind is {head.kind}")
    blocks = []
    for number, stage in enumerate(design.stages, 1):
        branch: Any = stage.branch.canonical(stage.stride)
        if branch.kind not in BLOCKS:
            raise NotExpressible(NAME, f"its stage {number} has {branch.kind} blocks")
        block: dict[str, object] = {"type": BLOCKS[branch.kind], "d": stage.depth, "c": stage.width, "s": stage.stride}
        if branch.kind == "bottleneck":
            block |= {"br": branch.cardinality * branch.group_width / stage.width}
            block |= {"gs": branch.group_width} if branch.cardinality > 1 else {}
        blocks.append(block)
    kind, pool = STEMS[stem.kind]
    pooled = any(stage.shortcut.kind == "avg_pool" for stage in design.stages)
    return {
        "blocks": blocks,
        "downsample": "avg" if pooled else "conv1x1",
        "stem_type": kind,
        "stem_pool": pool,
        "stem_chs": stem.width,
        "act_layer": getattr(first.branch, "act", "relu"),
        **({"drop_rate": rate} if (rate := head.to_dict()["dropout"]) else {}),
        **({"num_features": head.width} if head.kind == "expanded" else {}),  # type: ignore[attr-defined]
    }
