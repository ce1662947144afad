"""Helpers of the statistical figures: titles, bands, curve styles, texts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from nas.report.figures.trials import blank, say
from nas.report.html import theme
from nas.report.run.summary import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Curves differ in dash as well as in color, for readers with color vision deficiency.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
BAND = 0.25
ROW = 22  # pixels of a row of bars
__all__ = ["BAND", "DASHES", "ROW", "band", "blank", "counted", "likely", "plain", "say", "series", "tint", "titled"]


def titled(figure: go.Figure, text: str) -> go.Figure:
    """A small title at the top left, usually with the sample size."""
    return figure.update_layout(
        title={
            "text": text,
            "font": {"size": 12},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8, "l": 4},
        }
    )


def likely(q: float) -> str:
    """`q = 0.021`, `q < 0.001`."""
    return "q < 0.001" if q < 0.001 else f"q = {q:.2g}"


def plain(text: object) -> str:
    """Text with tags escaped, for Plotly's labels."""
    return escape(str(text), quote=False)


def series(number: int) -> str:
    """The color role of the k-th curve, counted from 0."""
    return f"series{number % 6 + 1}"


def tint(role: str, alpha: float) -> str:
    """A role's color with opacity `alpha`, readable on a light and on a dark page."""
    red, green, blue = (int(theme.LIGHT[role][k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], role: str, **more: Any) -> go.Scatter:
    """The area between two curves."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        mode="lines",
        name="band",
        fill="toself",
        fillcolor=tint(role, BAND),
        line={"width": 0, "color": theme.LIGHT[role]},
        meta=role,
        hoverinfo="skip",
        showlegend=False,
        **more,
    )
