"""Figures of a benchmark, one function each: `fn(curves, ...) -> plotly.graph_objects.Figure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from nas.bench.cells import Floats
from nas.bench.summary import Curves, Level
from nas.report.figures import blank, say, whole_numbers
from nas.report.figures.gradients import DASHES, ROLES, SYMBOLS
from nas.report.html import theme

if TYPE_CHECKING:
    import plotly.graph_objects as go


def hypervolume(samplers: Sequence[Curves]) -> go.Figure:
    """Mean share of the table's hypervolume by number of evaluations; bands show plus and minus one standard error."""
    import plotly.graph_objects as go

    figure = blank("networks trained", "hypervolume, share of the whole table's")
    figure.update_yaxes(tickformat="~%")
    if not samplers:
        return say(figure, "no repeat is done yet")
    whole_numbers(figure, 1, max(curves.hypervolume.shape[1] for curves in samplers))
    shown = np.concatenate([curves.mean[curves.hypervolume.shape[1] // 10 :] for curves in samplers])
    pad = max(0.05 * float(shown.max() - shown.min()), 0.005)
    figure.update_yaxes(range=[float(shown.min()) - pad, min(float(shown.max()) + pad, 1.02)])
    for place, curves in enumerate(samplers):
        look, name = _look(place), escape(curves.sampler, quote=False)
        x = np.arange(1, len(curves.mean) + 1)
        if len(curves.repeats) > 1:
            low, high = curves.mean - curves.error, curves.mean + curves.error
            figure.add_trace(
                go.Scatter(
                    x=[*x.tolist(), *x[::-1].tolist()],
                    y=[*_rounded(high), *_rounded(low[::-1])],
                    fill="toself",
                    fillcolor=_faded(look.color),
                    mode="lines",
                    line={"width": 0, "color": look.color},
                    meta=look.role,
                    legendgroup=curves.sampler,
                    showlegend=False,
                    hoverinfo="skip",
                )
            )
        figure.add_trace(
            _line(x.tolist(), _rounded(curves.mean), curves.sampler, look, f"{name}<br>after %{{x}}: %{{y:.2%}}")
        )
    return figure


def evaluations(samplers: Sequence[Curves], levels: Sequence[Level]) -> go.Figure:
    """Number of evaluations that the mean curve needs to reach each level; requested levels are dotted lines."""
    figure = blank("hypervolume, share of the whole table's", "networks trained to reach it")
    figure.update_xaxes(tickformat="~%")
    if not samplers:
        return say(figure, "no repeat is done yet")
    low = min(float(curves.mean[len(curves.mean) // 10]) for curves in samplers)
    figure.update_xaxes(range=[low - 0.005, max(float(curves.mean.max()) for curves in samplers) + 0.005])
    for place, curves in enumerate(samplers):
        best = np.maximum.accumulate(curves.mean)
        steps = np.flatnonzero(np.diff(best, prepend=-1.0) > 0)
        name = escape(curves.sampler, quote=False)
        trace = _line(
            _rounded(best[steps]),
            (steps + 1).tolist(),
            curves.sampler,
            _look(place),
            f"{name}<br>%{{x:.2%}} after %{{y}}",
        )
        figure.add_trace(trace)
    for level in levels:
        figure.add_vline(x=level.share, line={"dash": "dot", "width": 1.5, "color": theme.LIGHT["trial"]})
    return figure


def seconds(samplers: Sequence[Curves]) -> go.Figure:
    """Seconds for each ask (log axis) by number of networks trained before: median over repeats and neighboring asks."""
    figure = blank("networks trained before", "seconds per ask (log scale)")
    if not samplers:
        return say(figure, "no repeat is done yet")
    figure.update_yaxes(type="log", exponentformat="power")
    whole_numbers(figure, 0, max(curves.ask_seconds.shape[1] for curves in samplers))
    for place, curves in enumerate(samplers):
        count = curves.ask_seconds.shape[1]
        width = max(count // 30, 1)
        edges = list(range(0, count, width))
        middle = [float(np.median(curves.ask_seconds[:, k : k + width])) for k in edges]
        centre = [min(k + width / 2, count) - 0.5 for k in edges]
        name = escape(curves.sampler, quote=False)
        y = [max(value, 1e-6) for value in middle]
        figure.add_trace(_line(centre, y, curves.sampler, _look(place), f"{name}<br>%{{y:.3g}} s"))
    return figure


@dataclass(frozen=True, slots=True)
class _Look:
    """The style of one sampler: dash and symbol distinguish samplers without color."""

    role: str
    color: str
    dash: str
    symbol: str


def _look(place: int) -> _Look:
    role = ROLES[place % len(ROLES)]
    dash = DASHES[(place + place // len(ROLES)) % len(ROLES)]  # shifted when the colors repeat
    return _Look(role, theme.LIGHT[role], dash, SYMBOLS[place % len(SYMBOLS)])


def _line(x: Sequence[float], y: Sequence[float], name: str, look: _Look, hover: str) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers" if len(x) < 2 else "lines",
        name=escape(name, quote=False),
        meta=look.role,
        line={"color": look.color, "dash": look.dash, "width": 2.5},
        marker={"color": look.color, "symbol": look.symbol, "size": 7},
        legendgroup=name,
        hovertemplate=f"{hover}<extra></extra>",
    )


def _faded(color: str) -> str:
    red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 6) for value in values]
