"""Model configs of pycls: AnyNet, RegNet, ResNet and ResNeXt, EfficientNet (github.com/facebookresearch/pycls, YAML).

Compared with pycls' counts: our `params` equal its `params`; its `flops` are our `macs` plus one for each bias of a linear layer
or a squeeze-excitation; its `acts` are our `activations` plus the output of the stem's pooling.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any, NamedTuple

from nas.errors import UsageError
from nas.interop.importers._base import Imported, Inexpressible, made
from nas.interop.importers._fields import Fields
from nas.networks import regnet_design as regnet
from nas.networks.architecture import Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.utils import limits

STEM_KINDS = {"res_stem_cifar": "cifar", "res_stem_in": "imagenet", "simple_stem_in": "strided"}
BLOCK_KINDS = ("vanilla_block", "res_basic_block", "res_bottleneck_block", "res_bottleneck_linear_block")
ACTIVATION_KINDS = {"relu": "relu", "silu": "silu", "swish": "silu", "gelu": "gelu"}
RESNET_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # blocks of the four stages by layers
MOST = 64.0  # for a bottleneck's ratio; the paper tries up to 4


class StageShape(NamedTuple):
    """One stage of AnyNet. ratio: inner width / width. group_width: channels per group; 0 without groups."""

    depth: int
    width: int
    stride: int
    ratio: float = 1.0
    group_width: int = 0


def read_config(data: object, where: str, name: str = "") -> Imported:
    """The network of a config given as plain data; Inexpressible with everything that is wrong or can't be expressed."""
    faults: list[str] = []
    root = Fields(data, "", faults)
    model, norm, train = (root.section(key) for key in ("MODEL", "BN", "TRAIN"))
    kind = model.word("TYPE")
    if kind not in DESIGNS:
        known = ", ".join(DESIGNS)
        raise Inexpressible(where, [*faults, f"MODEL.TYPE {kind!r:.60} is no residual network of ours ({known})"])
    act = model.word("ACTIVATION_FUN", "relu").lower()
    if act not in ACTIVATION_KINDS:
        model.refuse("ACTIVATION_FUN", f"{act!r:.60} is none of {', '.join(ACTIVATION_KINDS)}")
    classes = model.whole("NUM_CLASSES", 10)
    notes: list[str] = []
    if norm.number("MOM", 0.1, least=0, most=1) != 0.1:
        notes.append(f"BN.MOM {norm.data['MOM']!r:.20} is left out; here it is 0.1")
    if norm.flag("ZERO_INIT_FINAL_GAMMA"):
        notes.append("BN.ZERO_INIT_FINAL_GAMMA is left out; here the last norm of a block starts at 1")
    if "MODEL" in root and model.word("SCALING_TYPE"):
        notes.append("MODEL.SCALING_TYPE is left out, as pycls' own models do; nas scale scales a network")
    eps = norm.number("EPS", 1e-5, least=0, most=1)
    resolution = train.whole("IM_SIZE", 224, most=limits.RESOLUTION)
    try:
        parts = DESIGNS[kind](root, ACTIVATION_KINDS.get(act, "relu"), classes, faults, notes)
    except UsageError as error:  # of a part whose values don't fit together
        raise Inexpressible(where, [*faults, str(error)]) from None
    architecture = made(where, faults, resolution=resolution, name=name, norm_eps=eps, **parts)
    return Imported(architecture, {"imported": {"from": "pycls", "type": kind}}, tuple(notes))


Parts = dict[str, Any]


def _anynet(root: Fields, act: str, classes: int, faults: list[str], notes: list[str]) -> Parts:
    fields = root.section("ANYNET")
    depths = fields.wholes("DEPTHS", most=limits.DEPTH)
    lists: dict[str, list[Any]] = {
        "DEPTHS": depths,
        "WIDTHS": fields.wholes("WIDTHS"),
        "STRIDES": fields.wholes("STRIDES", most=limits.STRIDE),
        "BOT_MULS": fields.numbers("BOT_MULS", least=1e-6, most=MOST),
        "GROUP_WS": fields.wholes("GROUP_WS"),
    }
    bottleneck = fields.word("BLOCK_TYPE", "res_bottleneck_block") in BLOCK_KINDS[2:]
    if not bottleneck:  # pycls' other blocks ignore these
        lists |= {"BOT_MULS": [1.0] * len(depths), "GROUP_WS": [0] * len(depths)}
    if not depths or len({len(value) for value in lists.values()}) > 1:
        lengths = ", ".join(f"{key} {len(value)}" for key, value in lists.items())
        fields.refuse("DEPTHS", f"and the other lists need one value a stage each; they have {lengths}")
        return {}
    shapes = [StageShape(*values) for values in zip(*lists.values(), strict=True)]
    return _any(fields, shapes, act, classes)


def _regnet(root: Fields, act: str, classes: int, faults: list[str], notes: list[str]) -> Parts:
    fields = root.section("REGNET")
    numbers = {
        "depth": fields.whole("DEPTH", 10, most=regnet.MAX_DEPTH),
        "w0": fields.whole("W0", 32),
        "wa": fields.number("WA", 5.0, least=0, most=regnet.MAX_WIDTH),
        "wm": fields.number("WM", 2.5, least=1, most=regnet.MAX_STEP),
        "group_width": fields.whole("GROUP_W", 16),
        "ratio": fields.number("BOT_MUL", 1.0, least=1e-6, most=MOST),
    }
    stride = fields.whole("STRIDE", 2, most=limits.STRIDE)
    if faults:
        return {}
    try:
        shapes = regnet_stages(**numbers)  # type: ignore[arg-type]  # each has its type
    except UsageError as error:
        faults.append(f"REGNET: {error}")
        return {}
    if len(shapes) > limits.STAGES:
        fields.refuse("WM", f"gives {len(shapes)} stages, of at most {limits.STAGES}")
        return {}
    return _any(fields, [shape._replace(stride=stride) for shape in shapes], act, classes)


def regnet_stages(depth: int, w0: int, wa: float, wm: float, group_width: int, ratio: float = 1.0) -> list[StageShape]:
    """pycls' stages for RegNet's parameters: equations 2 to 4 of the paper, then widths that groups divide.

    With g = min(group width, inner width v = ratio x width), v becomes the nearest multiple of g, halves rounded to even
    (torchvision: up), and also of the ratio if that is above 1. UsageError for parameters that give no network.
    """
    for name, value in (("network_depth", depth), ("w0", w0), ("wa", wa), ("wm", wm), ("group_width", group_width)):
        regnet.check(name, value)
    if ratio > 1 and ratio % 1:
        raise UsageError(f"BOT_MUL must be a whole number where it is above 1, not {ratio!r}")
    step, widths = math.log(wm), []
    for block in range(depth):
        power = round(math.log((w0 + wa * block) / w0) / step)
        widths.append(round(w0 * wm**power / regnet.QUANTUM) * regnet.QUANTUM)
    stages = []
    for width, blocks in groupby(widths):
        inner = int(max(1, width * ratio))
        group = min(group_width, inner)
        multiple = math.lcm(group, int(ratio)) if ratio > 1 else group
        inner = max(multiple, round(inner / multiple) * multiple)
        width = int(inner / ratio)
        if width * ratio % group:
            raise UsageError(f"groups of {group} channels don't divide {width} x BOT_MUL {ratio:g}")
        stages.append(StageShape(sum(1 for _ in blocks), width, 2, ratio, group))
    return stages


def _any(fields: Fields, shapes: list[StageShape], act: str, classes: int) -> Parts:
    """Stem, stages and head of an AnyNet or a RegNet."""
    stem_kind, stem_width = fields.word("STEM_TYPE", "simple_stem_in"), fields.whole("STEM_W", 32)
    if stem_kind not in STEM_KINDS:
        fields.refuse("STEM_TYPE", f"{stem_kind!r:.60} is none of {', '.join(STEM_KINDS)}")
    block = fields.word("BLOCK_TYPE", "res_bottleneck_block")
    if block not in BLOCK_KINDS:
        fields.refuse("BLOCK_TYPE", f"{block!r:.60} is none of {', '.join(BLOCK_KINDS)}")
    elif block == "res_bottleneck_linear_block":
        fields.refuse("BLOCK_TYPE", "res_bottleneck_linear_block has no activation after the sum; ours has one")
    ratio = fields.number("SE_R", 0.25, least=0, most=1) if fields.flag("SE_ON") else 0.0
    head_width = fields.whole("HEAD_W", 0, least=0)
    stages, width_in = [], stem_width
    for number, shape in enumerate(shapes, 1):
        options: dict[str, object] = {"act": act}
        if block == "res_bottleneck_block":
            inner = round(shape.width * shape.ratio)
            groups = inner // max(1, shape.group_width)
            if not groups or inner % groups:
                fields.faults.append(
                    f"stage {number}: {inner} inner channels can't be in groups of {shape.group_width} (GROUP_WS, GROUP_W)"
                )
                continue
            if ratio and 0 in (round(width_in * ratio), round(shape.width * ratio)):
                fields.faults.append(f"stage {number}: SE_R {ratio:g} leaves a block without squeeze-excitation")
            options |= {"cardinality": groups, "group_width": inner // groups, "se_ratio": ratio}
        plain = block == "vanilla_block"
        branch = BRANCHES["regnet" if block == "res_bottleneck_block" else "basic"].make(options)
        merge, shortcut = MERGES["none" if plain else "add"](), SHORTCUTS["projection"]()
        stages.append(Stage(branch, shape.depth, shape.width, shape.stride, shortcut, merge))
        width_in = shape.width
    head = {"width": head_width, "act": act} if head_width else {}
    return {
        "stem": STEMS[STEM_KINDS.get(stem_kind, "strided")].make({"width": stem_width, "act": act}),
        "stages": tuple(stages),
        "head": HEADS["expanded" if head_width else "linear"].make({"classes": classes, **head}),
    }


def _resnet(root: Fields, act: str, classes: int, faults: list[str], notes: list[str]) -> Parts:
    fields, model, train = root.section("RESNET"), root.section("MODEL"), root.section("TRAIN")
    depth = model.whole("DEPTH", 0, least=0, most=6 * limits.DEPTH)
    transform = fields.word("TRANS_FUN", "basic_transform")
    groups, group_width = fields.whole("NUM_GROUPS", 1), fields.whole("WIDTH_PER_GROUP", 64)
    small = "cifar" in train.word("DATASET")
    wanted = "basic_transform" if small else "bottleneck_transform"
    if transform != wanted:
        fields.refuse("TRANS_FUN", f"{transform!r:.60} can't be built on TRAIN.DATASET {train.word('DATASET')!r:.60}")
    head = HEADS["linear"].make({"classes": classes})
    add, shortcut = MERGES["add"](), SHORTCUTS["projection"]()
    if small:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            model.refuse("DEPTH", f"{depth} is not 6n + 2, as it is on CIFAR")
            return {}
        basic = BRANCHES["basic"].make({"act": act})
        stages = [Stage(basic, blocks, 16 << k, 2 if k else 1, shortcut, add) for k in range(3)]
        return {"stem": STEMS["cifar"].make({"width": 16, "act": act}), "stages": tuple(stages), "head": head}
    if depth not in RESNET_DEPTHS:
        model.refuse("DEPTH", f"{depth} is none of {', '.join(map(str, RESNET_DEPTHS))}")
        return {}
    stride_on = "1x1" if fields.flag("STRIDE_1X1", True) else "3x3"
    if faults:
        return {}
    stages = []
    for k, blocks in enumerate(RESNET_DEPTHS[depth]):
        options = {"cardinality": groups, "group_width": group_width << k, "stride_on": stride_on, "act": act}
        branch = BRANCHES["bottleneck"].make(options)
        stages.append(Stage(branch, blocks, 256 << k, 2 if k else 1, shortcut, add))
    return {"stem": STEMS["imagenet"].make({"width": 64, "act": act}), "stages": tuple(stages), "head": head}


def _effnet(root: Fields, act: str, classes: int, faults: list[str], notes: list[str]) -> Parts:
    fields = root.section("EN")
    lists: dict[str, list[Any]] = {
        "DEPTHS": fields.wholes("DEPTHS", most=limits.DEPTH),
        "WIDTHS": fields.wholes("WIDTHS"),
        "EXP_RATIOS": fields.numbers("EXP_RATIOS", least=1, most=MOST),
        "STRIDES": fields.wholes("STRIDES", most=limits.STRIDE),
        "KERNELS": fields.wholes("KERNELS", least=1, most=99),
    }
    stem_width, head_width = fields.whole("STEM_W", 32), fields.whole("HEAD_W", 1280)
    ratio = fields.number("SE_R", 0.25, least=0, most=1)
    dropout = fields.number("DROPOUT_RATIO", 0.0, least=0, most=0.95)
    if drop := fields.number("DC_RATIO", 0.0, least=0, most=1):
        notes.append(f"EN.DC_RATIO {drop:g} is left out: it is the same in all blocks, our `drop` grows with depth")
    if not lists["DEPTHS"] or len({len(value) for value in lists.values()}) > 1:
        lengths = ", ".join(f"{key} {len(value)}" for key, value in lists.items())
        fields.refuse("DEPTHS", f"and the other lists need one value a stage each; they have {lengths}")
        return {}
    stages, width_in = [], stem_width
    for number, (depth, width, expansion, stride, kernel) in enumerate(zip(*lists.values(), strict=True), 1):
        wrong = []
        if expansion % 1:
            wrong.append(f"EXP_RATIOS {expansion:g} is no whole number")
        if kernel not in (3, 5, 7):
            wrong.append(f"KERNELS {kernel} is none of 3, 5, 7")
        if not int(min(width_in, width) * ratio):
            wrong.append(f"SE_R {ratio:g} leaves a squeeze-excitation without channels")
        faults += [f"stage {number}: {fault}" for fault in wrong]
        if not wrong:
            options = {"expansion": int(expansion), "kernel": kernel, "se_ratio": ratio, "act": act}
            branch = BRANCHES["mbconv"].make(options)
            stages.append(Stage(branch, depth, width, stride, SHORTCUTS["matching"](), MERGES["add"]()))
        width_in = width
    head = {"classes": classes, "width": head_width, "act": act, "dropout": dropout}
    return {
        "stem": STEMS["strided"].make({"width": stem_width, "act": act}),
        "stages": tuple(stages),
        "head": HEADS["expanded"].make(head),
    }


DESIGNS = {"anynet": _anynet, "regnet": _regnet, "resnet": _resnet, "effnet": _effnet}
