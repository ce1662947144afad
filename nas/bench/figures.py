"""Figures of a benchmark, one function each: `fn(curves, ...) -> plotly.graph_objects.Figure`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.bench.summary import Curves, Level
from nas.report.figures import blank, say, whole_numbers
from nas.report.figures.gradients import DASHES, ROLES, SYMBOLS
from nas.report.html import theme

if TYPE_CHECKING:
    import plotly.graph_objects as go


def hypervolume(found: Sequence[Curves]) -> go.Figure:
    """Mean share of the table's hypervolume by evaluations; bands are one standard error to each side."""
    import plotly.graph_objects as go

    figure = blank("networks trained", "hypervolume, share of the whole table's")
    figure.update_yaxes(tickformat="~%")
    if not found:
        return say(figure, "no repeat is done yet")
    whole_numbers(figure, 1, max(own.hypervolume.shape[1] for own in found))
    shown = np.concatenate([own.mean[own.hypervolume.shape[1] // 10 :] for own in found])
    pad = max(0.05 * float(shown.max() - shown.min()), 0.005)
    figure.update_yaxes(range=[float(shown.min()) - pad, min(float(shown.max()) + pad, 1.02)])
    for place, own in enumerate(found):
        look, name = _look(place), escape(own.sampler, quote=False)
        x = np.arange(1, len(own.mean) + 1)
        if len(own.repeats) > 1:
            low, high = own.mean - own.error, own.mean + own.error
            figure.add_trace(
                go.Scatter(
                    x=[*x.tolist(), *x[::-1].tolist()],
                    y=[*_rounded(high), *_rounded(low[::-1])],
                    fill="toself",
                    fillcolor=_faded(look["colour"]),
                    mode="lines",
                    line={"width": 0, "color": look["colour"]},
                    meta=look["role"],
                    legendgroup=own.sampler,
                    showlegend=False,
                    hoverinfo="skip",
                )
            )
        figure.add_trace(
            _line(x.tolist(), _rounded(own.mean), own.sampler, look, f"{name}<br>after %{{x}}: %{{y:.2%}}")
        )
    return figure


def evaluations(found: Sequence[Curves], levels: Sequence[Level]) -> go.Figure:
    """Evaluations that the mean curve needs to be at a level, for all levels; those asked about are dotted lines."""
    figure = blank("hypervolume, share of the whole table's", "networks trained until then")
    figure.update_xaxes(tickformat="~%")
    if not found:
        return say(figure, "no repeat is done yet")
    low = min(float(own.mean[len(own.mean) // 10]) for own in found)
    figure.update_xaxes(range=[low - 0.005, max(float(own.mean.max()) for own in found) + 0.005])
    for place, own in enumerate(found):
        best = np.maximum.accumulate(own.mean)
        steps = np.flatnonzero(np.diff(best, prepend=-1.0) > 0)
        name = escape(own.sampler, quote=False)
        trace = _line(
            _rounded(best[steps]), (steps + 1).tolist(), own.sampler, _look(place), f"{name}<br>%{{x:.2%}} after %{{y}}"
        )
        figure.add_trace(trace)
    for level in levels:
        figure.add_vline(x=level.share, line={"dash": "dot", "width": 1.5, "color": theme.LIGHT["trial"]})
    return figure


def seconds(found: Sequence[Curves]) -> go.Figure:
    """Seconds an ask (log axis) by networks trained before: median over repeats and neighbouring asks."""
    figure = blank("networks trained before", "seconds an ask (log scale)")
    if not found:
        return say(figure, "no repeat is done yet")
    figure.update_yaxes(type="log", exponentformat="power")
    whole_numbers(figure, 0, max(own.ask_seconds.shape[1] for own in found))
    for place, own in enumerate(found):
        count = own.ask_seconds.shape[1]
        width = max(count // 30, 1)
        edges = list(range(0, count, width))
        middle = [float(np.median(own.ask_seconds[:, k : k + width])) for k in edges]
        centre = [min(k + width / 2, count) - 0.5 for k in edges]
        name = escape(own.sampler, quote=False)
        y = [max(value, 1e-6) for value in middle]
        figure.add_trace(_line(centre, y, own.sampler, _look(place), f"{name}<br>%{{y:.3g}} s"))
    return figure


def _look(place: int) -> dict[str, Any]:
    """Colour, dash and symbol of the sampler at this place: told apart by more than colour."""
    role = ROLES[place % len(ROLES)]
    return {
        "role": role,
        "colour": theme.LIGHT[role],
        "dash": DASHES[(place + place // len(ROLES)) % len(ROLES)],  # another one when the colours begin anew
        "symbol": SYMBOLS[place % len(SYMBOLS)],
    }


def _line(x: Sequence[float], y: Sequence[float], name: str, look: dict[str, Any], hover: str) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers" if len(x) < 2 else "lines",
        name=escape(name, quote=False),
        meta=look["role"],
        line={"color": look["colour"], "dash": look["dash"], "width": 2.5},
        marker={"color": look["colour"], "symbol": look["symbol"], "size": 7},
        legendgroup=name,
        hovertemplate=f"{hover}<extra></extra>",
    )


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
