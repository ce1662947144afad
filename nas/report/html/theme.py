"""The look of figures and page: a light and a dark palette, and the Plotly template made of them.

Colors of data are from Okabe and Ito's set ("Color Universal Design", 2008), which all kinds of color vision distinguish. A
symbol or a label always repeats what a color says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Text and rules, then the roles of traces. A trace names its role in `meta`; the page recolors it when the scheme changes.
LIGHT: Mapping[str, str] = {
    "page": "#ffffff",
    "raised": "#f4f6f8",
    "ink": "#1c2126",
    "muted": "#59636e",
    "rule": "#d9dee3",
    "link": "#005f96",
    "front": "#0072b2",
    "trial": "#7b858f",
    "stopped": "#7b858f",
    "baseline": "#d55e00",
    "knee": "#009e73",
    "series1": "#0072b2",
    "series2": "#d55e00",
    "series3": "#007a59",
    "series4": "#a8498a",
    "series5": "#806600",
    "series6": "#59636e",
}
DARK: Mapping[str, str] = {
    "page": "#14181c",
    "raised": "#1e242a",
    "ink": "#e8ebee",
    "muted": "#a3adb7",
    "rule": "#343c44",
    "link": "#7cc4ef",
    "front": "#56b4e9",
    "trial": "#8d97a1",
    "stopped": "#8d97a1",
    "baseline": "#e69f00",
    "knee": "#009e73",
    "series1": "#56b4e9",
    "series2": "#e69f00",
    "series3": "#2fc39b",
    "series4": "#e09ac2",
    "series5": "#f0e442",
    "series6": "#a3adb7",
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif'


def css() -> str:
    """Both palettes as CSS variables; dark if the reader's system, or the reader (`data-scheme`), asks for it."""

    def variables(palette: Mapping[str, str], scheme: str) -> str:
        return " ".join([f"color-scheme: {scheme};", *(f"--{name}: {colour};" for name, colour in palette.items())])

    dark = variables(DARK, "dark")
    return (
        f":root {{ {variables(LIGHT, 'light')} --font: {FONT}; }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root:not([data-scheme=light]) {{ {dark} }} }}\n"
        f"@media screen {{ :root[data-scheme=dark] {{ {dark} }} }}\n"
    )


def template(palette: Mapping[str, str] = LIGHT) -> go.layout.Template:
    """The Plotly template of every figure; pass DARK for a dark notebook."""
    import plotly.graph_objects as go

    axis = {
        "gridcolor": palette["rule"],
        "linecolor": palette["rule"],
        "zeroline": False,
        "showline": True,
        "automargin": True,
        "title": {"standoff": 8},
    }
    layout = go.Layout(
        font={"family": FONT, "size": 13, "color": palette["ink"]},
        paper_bgcolor=palette["page"],
        plot_bgcolor=palette["page"],
        xaxis=axis,
        yaxis=axis,
        hoverlabel={
            "bgcolor": palette["raised"],
            "bordercolor": palette["muted"],
            "font": {"family": FONT, "color": palette["ink"], "size": 13},
            "align": "left",
        },
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "yref": "container", "y": 0, "yanchor": "bottom"},
        margin={"l": 8, "r": 12, "t": 32, "b": 8},
        modebar={"color": palette["muted"], "activecolor": palette["ink"], "bgcolor": "rgba(0,0,0,0)"},
        hovermode="closest",
        hoverdistance=30,
    )
    return go.layout.Template(layout=layout)
