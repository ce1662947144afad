"""Structures that TinyNAS found (github.com/alibaba/lightweight-neural-architecture-search): best_structure.json or .txt.

`{"best_structures": [[block, ...], ...], "space_arch": "CnnNet"}`, or only a list of blocks; the .txt is as Python prints it.
A block is `{"class": ..., "in": ..., "out": ..., "k": kernel, "s": stride, "L": layers, "btn": inner width}`:

- `ConvKXBNRELU`: the first is the stem; a 1x1 at the end is the head's convolution.
- `SuperResK1KXK1`: bottlenecks; the first one's shortcut is an s x s mean and a 1x1, even where shapes agree.
- `SuperResK1DWK1`: the same with a depthwise convolution; a shortcut only where the widths agree.
- `SuperResKXKX`: basic blocks, if `btn` is `out` and the stride is 1: TinyNAS has the stride in the second convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import UsageError
from nas.interop.importers._base import (
    IMPORTERS,
    Found,
    Imported,
    Importer,
    Inexpressible,
    Options,
    Refused,
    Source,
    made,
)
from nas.interop.importers._fields import Fields, entries
from nas.networks.architecture import Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.utils import limits

CLASSES, RESOLUTION = 1000, 224
ACTIVATION_NAMES = {"relu": "relu", "relu6": "relu6", "swish": "silu", "learkyrelu": "leaky_relu"}  # as it spells them
SUPER = ("SuperResK1KXK1", "SuperResK1DWK1", "SuperResKXKX")


def read_structure(data: object, where: str, name: str, options: Options | None = None) -> Imported:
    """The classifier of a list of blocks, with one linear layer; Inexpressible with everything that can't be expressed."""
    options = options or Options()
    resolution = options.resolution or RESOLUTION
    faults: list[str] = []
    blocks = [Fields(block, f"block {k}", faults) for k, block in enumerate(entries(data, where), 1)]
    if len(blocks) > limits.STAGES:
        raise Inexpressible(where, [f"{len(blocks):,} blocks, of at most {limits.STAGES}"])
    classes = [block.word("class") for block in blocks]
    first = blocks[0]
    if classes[0] != "ConvKXBNRELU" or (first.data.get("k"), first.data.get("s")) != (3, 2):
        faults.append("block 1: the stem must be a ConvKXBNRELU with k 3 and s 2")
    width = first.whole("out")
    if first.whole("in") != 3:
        faults.append("block 1: in must be 3, the colours of the images")
    stem = STEMS["strided"].make({"width": width, "act": _act(first)})
    size = (resolution - 1) // 2 + 1
    last = len(blocks) > 2 and classes[-1] == "ConvKXBNRELU" and blocks[-1].data.get("k") == 1
    stages: list[Stage] = []
    for block, kind in zip(blocks[1 : -1 if last else None], classes[1 : -1 if last else None], strict=True):
        width_in = block.whole("in")
        if width_in != width:
            block.refuse("in", f"is {width_in}, after {width} channels")
        block_stages = _super(block, kind, width_in)
        stages += block_stages
        width, stride = block.whole("out"), block.whole("s", 1, most=2)
        if stride == 2 and size % 2:
            faults.append(f"{block.place}: its mean of 2x2 needs an even size; of {size} pixels it drops the last")
        size = (size - 1) // stride + 1
    head: dict[str, object] = {"classes": CLASSES}
    if last:
        if blocks[-1].whole("in") != width or blocks[-1].data.get("s", 1) != 1:
            faults.append(f"{blocks[-1].place}: in must be {width} and s 1 at the end")
        head |= {"width": blocks[-1].whole("out"), "act": _act(blocks[-1])}
    lacks = {
        **({} if options.classes else {"no classes": f"{CLASSES}"}),
        **({} if options.resolution else {"no size of images": f"{RESOLUTION} pixels"}),
    }
    notes = [f"a structure has {' and '.join(lacks)}: {' and '.join(lacks.values())}"] if lacks else []
    architecture = made(
        where,
        faults,
        stem=stem,
        stages=tuple(stages),
        head=HEADS["expanded" if last else "linear"].make(head),
        resolution=resolution,
        name=name,
    )
    return Imported(architecture, {"imported": {"from": "tinynas", "blocks": len(blocks)}}, tuple(notes))


def _super(block: Fields, kind: str, width_in: int) -> list[Stage]:
    """One or two stages for a block of layers."""
    place, faults = block.place, block.faults
    if kind not in SUPER:
        faults.append(
            f"{place}: class {kind!r:.60} is none of ConvKXBNRELU (first, or 1x1 at the end), {', '.join(SUPER)}"
        )
        return []
    known = {"class", "inner_class", "in", "out", "k", "s", "L", "btn", "act", "p", "g"}
    if surplus := sorted(str(key)[:40] for key in block.data.keys() - known):
        faults.append(f"{place}: {', '.join(surplus)}" + (" (quantised)" if "nbitsA" in surplus else ""))
    width, inner, kernel = block.whole("out"), block.whole("btn"), block.whole("k")
    stride, depth, groups = block.whole("s", 1, most=2), block.whole("L", most=limits.DEPTH), block.whole("g", 1)
    if kernel != 3:
        faults.append(f"{place}: a {kernel}x{kernel} convolution; ours of {kind} is 3x3")
    if block.data.get("p", (kernel - 1) // 2) != (kernel - 1) // 2:
        block.refuse("p", f"is not {(kernel - 1) // 2}, which keeps the size")
    if groups != 1:
        faults.append(f"{place}: {groups} groups in its 1x1 convolutions too")
    act = _act(block)
    add = MERGES["add"]()
    if kind == "SuperResK1KXK1":
        branch = BRANCHES["bottleneck"].make({"group_width": inner, "act": act})
        # TinyNAS projects around the first block even where shapes agree; our avg_pool shortcut would be the identity there.
        shortcut = "projection_all" if (width_in, stride) == (width, 1) else "avg_pool"
        stages = [Stage(branch, 1, width, stride, SHORTCUTS[shortcut](), add)]
        return stages + ([Stage(branch, depth - 1, width, 1, SHORTCUTS["identity"](), add)] if depth > 1 else [])
    if stride == 2 and width_in == width:
        faults.append(f"{place}: a shortcut that is a mean of 2x2 without a convolution")
    if kind == "SuperResK1DWK1":
        branch = BRANCHES["bottleneck"].make({"cardinality": inner, "group_width": 1, "act": act})
        return [Stage(branch, depth, width, stride, SHORTCUTS["matching"](), add)]
    if inner != width or stride != 1:
        faults.append(
            f"{place}: SuperResKXKX with btn {inner}, out {width}, s {stride}; ours has btn = out, and the stride first"
        )
    return [Stage(BRANCHES["basic"].make({"act": act}), depth, width, stride, SHORTCUTS["projection"](), add)]


def _act(block: Fields) -> str:
    act = block.word("act", "relu")
    if act not in ACTIVATION_NAMES:
        block.refuse("act", f"{act!r:.60} is none of {', '.join(ACTIVATION_NAMES)}")
    return ACTIVATION_NAMES.get(act, "relu")


def _structures(data: object) -> list[Any] | None:
    """The structures in a file, each a list of blocks; None if it holds none."""
    if isinstance(data, Mapping):
        data = data.get("best_structures")
    if not isinstance(data, list) or not data:
        return None
    if isinstance(data[0], Mapping) and "class" in data[0]:
        return [data]
    return data if all(isinstance(structure, list) for structure in data) else None


def _claims(source: Source) -> bool:
    return _structures(source.plain) is not None


def _read(source: Source, options: Options) -> Found:
    structures = _structures(source.data)
    if structures is None:
        raise UsageError(f"{source.text}: no best_structures: a list of structures, each a list of blocks with a class")
    if isinstance(source.data, Mapping) and source.data.get("space_arch", "CnnNet") not in ("CnnNet", "MasterNet"):
        raise UsageError(f"{source.text}: space_arch {source.data['space_arch']!r:.60}; CnnNet's are read here")
    if len(structures) == 1:
        return Found((read_structure(structures[0], source.text, source.name, options),))
    networks, refused = [], []
    for number, structure in enumerate(entries(structures, source.text), 1):
        name = f"{source.name}-{number}"
        try:
            networks.append(read_structure(structure, name, name, options))
        except Inexpressible as error:
            refused.append(Refused(name, "; ".join(error.reasons)))
    if not networks:
        raise UsageError(f"{source.text}: none of its structures is ours; {refused[0].name}: {refused[0].reason}")
    return Found(tuple(networks), tuple(refused), many=True)


IMPORTERS.register("tinynas")(Importer("a best_structure.json of TinyNAS", _claims, _read))
