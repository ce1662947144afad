"""A figure of a page with its caption and its description for screen readers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.report.html.markup import Html, tag

if TYPE_CHECKING:
    import plotly.graph_objects as go

Json: TypeAlias = dict[str, Any]  # a JSON object, for Plotly or for the page's scripts


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with its place on the page. `label` is its description for screen readers.

    rem: its minimum width; where the page is narrower, the figure scrolls.
    """

    name: str
    figure: go.Figure
    label: str
    caption: str
    rem: float = 0

    def place(self) -> Html:
        height = self.figure.layout.height  # set where rows need room; else the style sheet decides
        sizes = [
            *([f"height: {height:.0f}px"] if height else []),
            *([f"min-width: {self.rem:g}rem"] if self.rem else []),
        ]
        look = {"style": "; ".join(sizes)} if sizes else {}
        drawing = tag("div", id=self.name, class_="chart", role="img", aria_label=self.label, **look)
        if self.rem:
            drawing = tag("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=self.label)
        return tag("figure", drawing, tag("figcaption", self.caption))

    def json(self) -> str:
        return f'{{"id":{json.dumps(self.name)},{self.figure.to_json(engine="json")[1:]}'


Content: TypeAlias = Sequence[Html | Chart]
