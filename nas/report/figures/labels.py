"""On which side of its point a label stands, so that labels stand neither on one another nor, where it can be helped, on marks.

The page's chart does the same by the sizes that it has in the browser (`js/labels.js`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]  # pixels, y downwards
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom

AWAY = 8.5  # pixels between a point's middle and its label, as Plotly has it for a mark of 12
LETTER = 0.58  # mean width of a letter in heights of the font
MARK = 5.0  # radius of other marks
VERTICAL = ("bottom", "top", "middle")


def sides(
    points: Sequence[Point], texts: Sequence[str], marks: Sequence[Point], size: Point, font: float = 13
) -> list[str]:
    """Plotly's `textposition` of each label, in their order: the first of the least in the way of what is there already.

    "" where a label would stand on another wherever it stood; then it is better left out. marks: other points that labels should
    leave free, those of lines too (`along`). size: width and height of the plot.
    """
    placed: list[Box] = []
    found = [""] * len(points)
    for k in sorted(range(len(points)), key=lambda k: points[k]):
        x, y = points[k]
        inward = ("left", "right") if x > size[0] / 2 else ("right", "left")
        choices = [f"{vertical} {horizontal}" for horizontal in inward for vertical in VERTICAL]
        choices += ["bottom center", "top center"]
        others = [other for other in (*points, *marks) if other != (x, y)]
        free: list[tuple[int, int, str, Box]] = []
        for side in choices:
            own = box((x, y), side, LETTER * font * len(texts[k]), font)
            if not any(_meet(own, other) for other in placed):
                free.append((_trouble(own, others, size), len(free), side, own))
        if free:
            *_, found[k], best = min(free)
            placed.append(best)
    return found


def along(corners: Sequence[Point], every: float = 8.0) -> list[Point]:
    """Points on the staircase that goes from corner to corner, first across, then up or down."""
    found: list[Point] = []
    for (x, y), (end_x, end_y) in pairwise(corners):
        for start, stop, upright in ((x, end_x, False), (y, end_y, True)):
            for k in range(int(abs(stop - start) / every) + 1):
                at = start + k * every * (1 if stop > start else -1)
                found.append((end_x, at) if upright else (at, y))
    return found


def box(point: Point, side: str, width: float, font: float) -> Box:
    """Where Plotly writes a label."""
    x, y = point
    vertical, horizontal = side.split()
    left = {"right": x + AWAY, "left": x - AWAY - width, "center": x - width / 2}[horizontal]
    top = {"bottom": y + AWAY, "top": y - AWAY - font, "middle": y - font / 2}[vertical]
    return left, top, left + width, top + font


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _trouble(own: Box, marks: Sequence[Point], size: Point) -> int:
    """How many marks it would stand on; to stand outside the plot is worse than any of them."""
    left, top, right, bottom = own
    outside = left < 0 or top < 0 or right > size[0] or bottom > size[1]
    covered = sum(left - MARK < x < right + MARK and top - MARK < y < bottom + MARK for x, y in marks)
    return covered + outside * (len(marks) + 1)
