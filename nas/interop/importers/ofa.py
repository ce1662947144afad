"""Subnets of once-for-all's ResNet-50, as it samples them: `{"d": [...], "e": [...], "w": [...]}` in JSON.

Keys of the supernet (github.com/mit-han-lab/once-for-all, `ofa_resnet50`): d is the depth of the input stem (2: with its middle
convolution) and the number of blocks of each stage above 2, 2, 4, 2. w are indices into the width multipliers 0.65, 0.8, 1, for
the stem's two widths and for the stages. e are ratios of inner to outer width, one for each of the 18 blocks, including those
that d leaves out. A single number is used for all. Widths are multiples of 8, at least 0.9 of the unrounded width. A stage
whose ratios differ becomes several stages here, the later ones with stride 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from nas.interop.importers._base import IMPORTERS, Found, Imported, Importer, Inexpressible, Options, Source, made
from nas.interop.importers._fields import Fields
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.utils import limits

DEPTHS, WIDTHS, STEM_WIDTH = (2, 2, 4, 2), (256, 512, 1024, 2048), 64
MULTIPLIERS = (0.65, 0.8, 1.0)
DEEPER = 2  # most blocks of a stage above the least number
BLOCKS = sum(DEPTHS) + DEEPER * len(DEPTHS)
CLASSES, RESOLUTION = 1000, 224


def read_subnet(data: object, where: str, name: str, resolution: int | None = None) -> Imported:
    """The network of a subnet; Inexpressible with all errors."""
    faults: list[str] = []
    fields = Fields(data, "", faults)
    depths = _listed(fields, "d", len(DEPTHS) + 1, 0, DEEPER, whole=True)
    ratios = _listed(fields, "e", BLOCKS, 0.01, 1, whole=False)
    widths = _listed(fields, "w", len(WIDTHS) + 2, 0, len(MULTIPLIERS) - 1, whole=True)
    known = {"d", "e", "w", "r", "image_size", "wid", "ks", "arch", "resolution"}
    if strange := [str(key)[:40] for key in fields.data if key not in known]:
        faults.append(f"unknown keys {', '.join(strange[:5])}")
    for key in ("r", "image_size", "resolution"):
        if resolution is None and fields.data.get(key) is not None:
            resolution = (
                fields.whole(key, most=limits.RESOLUTION)
                if not isinstance(fields.data[key], list)
                else _single(fields, key)
            )
    if faults:
        raise Inexpressible(where, faults)
    architecture = subnet(depths, ratios, widths, resolution or RESOLUTION, name)
    notes = [] if resolution else [f"the subnet says no size of images: {RESOLUTION} pixels; --resolution sets it"]
    provenance = {"imported": {"from": "ofa", "d": depths, "e": ratios, "w": widths}}
    return Imported(architecture, provenance, tuple(notes))


def subnet(depths: list[int], ratios: list[float], widths: list[int], resolution: int, name: str = "") -> Architecture:
    """The architecture of a subnet by its depths (5), ratios (18) and indices of width multipliers (6)."""
    full = divisible(STEM_WIDTH * MULTIPLIERS[widths[1]])
    inner = divisible(divisible(STEM_WIDTH * MULTIPLIERS[widths[0]]) // 2)
    # As in the supernet, only the largest depth has the middle of the stem.
    middle = "residual" if depths[0] == DEEPER else "none"
    stages, first = [], 0
    for k, (least, base) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        width, stride = divisible(base * MULTIPLIERS[widths[k + 2]]), 2 if k else 1
        stage_ratios = ratios[first : first + least + depths[k + 1]]
        first += least + DEEPER
        for inner_width, blocks in groupby(divisible(round(width * ratio)) for ratio in stage_ratios):
            branch = BRANCHES["bottleneck"].make({"group_width": inner_width})
            shortcut = SHORTCUTS["avg_pool"]()
            stages.append(Stage(branch, sum(1 for _ in blocks), width, stride, shortcut, MERGES["add"]()))
            stride = 1
    return made(
        name or "subnet",
        [],
        stem=STEMS["residual_deep"].make({"width": full, "inner": inner, "middle": middle}),
        stages=tuple(stages),
        head=HEADS["linear"].make({"classes": CLASSES}),
        resolution=resolution,
        name=name,
    )


def divisible(width: float) -> int:
    """The nearest multiple of 8, halves rounded up; the next one if that is below 0.9 of the width."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def _listed(fields: Fields, name: str, length: int, least: float, most: float, *, whole: bool) -> list[Any]:
    value = fields.data.get(name)
    if not isinstance(value, (list, tuple)):
        one = (
            fields.whole(name, least=int(least), most=int(most))
            if whole
            else fields.number(name, least=least, most=most)
        )
        return [one] * length
    if len(value) != length:
        fields.refuse(name, f"has {len(value):,} entries; the supernet of ResNet-50 takes {length}")
        return [least] * length
    return (
        fields.wholes(name, least=int(least), most=int(most)) if whole else fields.numbers(name, least=least, most=most)
    )


def _single(fields: Fields, name: str) -> int:
    values = fields.wholes(name, most=limits.RESOLUTION)
    if len(values) != 1:
        fields.refuse(name, f"has {len(values)} entries; one is read")
        return RESOLUTION
    return values[0]


def _claims(source: Source) -> bool:
    return isinstance(source.plain, Mapping) and {"d", "e", "w"} <= source.plain.keys()


def _read(source: Source, options: Options) -> Found:
    return Found((read_subnet(source.data, source.text, source.name, options.resolution),))


IMPORTERS.register("ofa")(
    Importer('a ResNet-50 subnet of once-for-all, {"d": ..., "e": ..., "w": ...}', _claims, _read)
)
