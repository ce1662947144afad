"""RegNet's quantized linear parameterization: four numbers and a group width give the stages of a network.

"Designing Network Design Spaces", Radosavovic et al., CVPR 2020 (arXiv:2003.13678), equations 2 to 4.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from nas.errors import UsageError
from nas.utils import limits

QUANTUM = 8  # channels; the widths of all stages are multiples of it
MAX_DEPTH, MAX_WIDTH = limits.DEPTH, limits.WIDTH
MAX_STEP = 16.0  # of wm; the paper searches 1.5 to 3


class WidthStage(NamedTuple):
    """One stage: the number of its blocks, their width, and the group width of their 3x3, which divides the width."""

    depth: int
    width: int
    group_width: int


def check(name: str, value: object) -> None:
    """UsageError if the value is invalid for `network_depth`, `w0`, `wa`, `wm` or `group_width`."""
    if name in ("network_depth", "w0", "group_width"):
        most = MAX_DEPTH if name == "network_depth" else MAX_WIDTH
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise UsageError(f"{name} must be a whole number from 1 to {most:,}, not {value!r}")
        if name == "w0" and value % QUANTUM:
            raise UsageError(f"w0 must be a multiple of {QUANTUM}, not {value!r}")
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, not {value!r}")
    if name == "wa" and not 0 <= value <= MAX_WIDTH:
        raise UsageError(f"wa must be from 0 to {MAX_WIDTH:,}, not {value!r}")
    if name == "wm" and not 1 < value <= MAX_STEP:
        raise UsageError(f"wm must be above 1 and at most {MAX_STEP:g}, not {value!r}")


def quantised_linear(
    depth: int, w0: int, wa: float, wm: float, group_width: int, quantum: int = QUANTUM
) -> tuple[WidthStage, ...]:
    """Stages of the network of `depth` blocks, j = 0, 1, ..., whose widths approximate a line in steps:

        u_j = w0 + wa j,   s_j = round(log(u_j / w0) / log wm),   w_j = w0 wm^s_j, rounded to a multiple of `quantum`.

    Consecutive blocks of one width are a stage. Its group width is g = min(g, w). If g doesn't divide the width, the width
    becomes the nearest multiple of g, halves up, that is not below 0.9 w. Two stages that get the same width stay two.
    That last rounding is torchvision's. The paper's code rounds halves to even, which makes stages of three published
    networks narrower: of X-400MF (the last has 384 channels, not 400), Y-800MF and Y-8GF.

    UsageError for invalid numbers: w0 no multiple of 8, wa below 0, wm not above 1.
    """
    for name, value in (("network_depth", depth), ("w0", w0), ("wa", wa), ("wm", wm), ("group_width", group_width)):
        check(name, value)
    step = math.log(wm)
    widths = []
    for block in range(depth):
        power = round(math.log((w0 + wa * block) / w0) / step)
        widths.append(round(w0 * wm**power / quantum) * quantum)
    stages = []
    for width, blocks in itertools.groupby(widths):
        group = min(group_width, width)
        stages.append(WidthStage(sum(1 for _ in blocks), _divisible(width, group), group))
    return tuple(stages)


def _divisible(width: int, group: int) -> int:
    """The multiple of `group` nearest to `width`, halves up, that is at least 0.9 `width`."""
    nearest = max(group, (2 * width + group) // (2 * group) * group)
    return nearest + group if 10 * nearest < 9 * width else nearest
