"""Places labels next to their points so that they overlap no other label and as few marks as possible.

The page's chart does the same with the sizes in the browser (`js/labels.js`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]  # pixels, y downwards
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom

AWAY = 8.5  # pixels between a point's center and its label: Plotly's distance for a mark of 12 pixels
LETTER = 0.58  # mean width of a letter over the font size
MARK = 5.0  # radius of other marks
VERTICAL = ("bottom", "top", "middle")


def sides(
    points: Sequence[Point], texts: Sequence[str], marks: Sequence[Point], size: Point, font: float = 13
) -> list[str]:
    """Plotly's `textposition` of each label: the first that covers the fewest marks and no earlier label.

    "" where every position would cover another label; then the label is better left out. marks: other points that labels
    should not cover, those of lines included (`along`). size: width and height of the plot.
    """
    placed: list[Box] = []
    positions = [""] * len(points)
    for k in sorted(range(len(points)), key=lambda k: points[k]):
        x, y = points[k]
        inward = ("left", "right") if x > size[0] / 2 else ("right", "left")
        choices = [f"{vertical} {horizontal}" for horizontal in inward for vertical in VERTICAL]
        choices += ["bottom center", "top center"]
        others = [other for other in (*points, *marks) if other != (x, y)]
        free: list[tuple[int, int, str, Box]] = []
        for side in choices:
            label = box((x, y), side, LETTER * font * len(texts[k]), font)
            if not any(_meet(label, other) for other in placed):
                free.append((_trouble(label, others, size), len(free), side, label))
        if free:
            *_, positions[k], chosen = min(free)
            placed.append(chosen)
    return positions


def along(corners: Sequence[Point], every: float = 8.0) -> list[Point]:
    """Points on the staircase from corner to corner, first horizontally, then vertically."""
    points: list[Point] = []
    for (x, y), (end_x, end_y) in pairwise(corners):
        for start, stop, upright in ((x, end_x, False), (y, end_y, True)):
            for k in range(int(abs(stop - start) / every) + 1):
                at = start + k * every * (1 if stop > start else -1)
                points.append((end_x, at) if upright else (at, y))
    return points


def box(point: Point, side: str, width: float, font: float) -> Box:
    """The rectangle in which Plotly draws a label."""
    x, y = point
    vertical, horizontal = side.split()
    left = {"right": x + AWAY, "left": x - AWAY - width, "center": x - width / 2}[horizontal]
    top = {"bottom": y + AWAY, "top": y - AWAY - font, "middle": y - font / 2}[vertical]
    return left, top, left + width, top + font


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _trouble(label: Box, marks: Sequence[Point], size: Point) -> int:
    """Number of marks that the label would cover; more than all of them if it leaves the plot."""
    left, top, right, bottom = label
    outside = left < 0 or top < 0 or right > size[0] or bottom > size[1]
    covered = sum(left - MARK < x < right + MARK and top - MARK < y < bottom + MARK for x, y in marks)
    return covered + outside * (len(marks) + 1)
