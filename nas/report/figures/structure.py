"""Figures of what makes a network good: the knobs' importance, and trials as lines through their knobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas.analysis import importance as importances
from nas.analysis.pairs import strongest_knobs
from nas.analysis.sample import ABSENT, Sample, sample
from nas.report.figures._base import blank, counted, plain, say, titled
from nas.report.html import theme
from nas.report.run.summary import NOUNS
from nas.utils.text import format_count, format_percent, format_price

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.run import Run

SHOWN = 12  # knobs
AXES = 6  # knobs between the costs and the accuracy
LINES = 300  # trials drawn faintly


def importance(run: Run, target: str = importances.GAP, method: importances.Method = "ped-anova") -> go.Figure:
    """Importance of the knobs for the distance to the front, "accuracy" or a cost of the run; what noise reaches, dashed.

    method: "ped-anova", or "fanova" (20 times slower). UsageError for an unknown target or method.
    """
    found = sample(run)
    return draw_importance(importances.importance(found, target, method), len(found), target)


def draw_importance(found: importances.Importance | None, trials: int, target: str) -> go.Figure:
    import plotly.graph_objects as go

    noun = NOUNS.get(target, target)
    figure = blank("importance", "")
    if found is None:
        return say(
            figure,
            f"{counted(trials, 'complete trial')} so far, or no knob;<br>from {importances.LEAST} on there is something to see",
        )
    shown = list(found.values.items())[:SHOWN]
    telling = set(found.telling)
    names = [plain(key) for key, _ in shown]
    for role, name, wanted in (("front", "beyond noise", True), ("trial", "not told from noise", False)):
        chosen = [(key, value) for key, value in shown if (key in telling) is wanted]
        if chosen:
            figure.add_trace(
                go.Bar(
                    x=[value for _, value in chosen],
                    y=[plain(key) for key, _ in chosen],
                    orientation="h",
                    name=name,
                    meta=role,
                    marker={"color": theme.LIGHT[role], "pattern": {"shape": "" if wanted else "/"}},
                    hovertemplate="%{y}: %{x:.3g}<extra></extra>",
                    showlegend=found.floor is not None,
                )
            )
    if found.floor is not None:
        figure.add_trace(
            go.Scatter(
                x=[found.floor, found.floor],
                y=[names[0], names[-1]],
                mode="lines",
                name="noise reaches this",
                meta="baseline",
                line={"color": theme.LIGHT["baseline"], "dash": "dash", "width": 2},
                hovertemplate="noise: %{x:.3g}<extra></extra>",
            )
        )
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names)
    figure.update_xaxes(rangemode="tozero")
    few = "; ranks settle from 100 on" if found.trials < importances.SOUND else ""
    of = (
        f"{found.trials:,} of {counted(found.of, 'trial')}"
        if found.trials < found.of
        else f"{counted(found.trials, 'trial')}"
    )
    return titled(figure, f"{noun}: {'fANOVA' if found.method == 'fanova' else 'PED-ANOVA'}, {of}{few}")


def parallel_coordinates(run: Run, keys: Sequence[str] | None = None) -> go.Figure:
    """Each trial a line through its costs, its knobs and its accuracy; those of the front strong, a sample of the others faint.

    keys: the knobs (default: the six whose values tell most). A line breaks where a knob does not exist. Drawn as lines
    rather than as Plotly's own kind, which needs WebGL and scripts made at run time, which the page forbids.
    """
    import plotly.graph_objects as go

    found = sample(run)
    figure = blank("", "")
    if not len(found):
        return say(figure, "no trial has been completed yet")
    chosen = [key for key in (strongest_knobs(found, AXES) if keys is None else keys) if key in found.knobs]
    if keys is None:
        chosen = [key for key in found.knobs if key in chosen]  # in the space's order
    axes = [(name, np.log10(cost), found.costs[name]) for name, cost in found.costs.items()]
    places = [_scaled(logs) for _, logs, _ in axes]
    for key in chosen:
        factor = found.knobs[key]
        places.append(np.where(factor.codes == ABSENT, np.nan, factor.codes / max(len(factor.values) - 1, 1)))
    places.append(_scaled(found.accuracy))
    names = [*found.costs, *chosen, "accuracy"]
    rows = np.column_stack(places)
    others = np.flatnonzero(~found.front)
    faint = others[np.linspace(0, len(others) - 1, min(len(others), LINES)).astype(np.intp)] if len(others) else others
    for role, name, members in (("trial", "other trials", faint), ("front", "front", np.flatnonzero(found.front))):
        if len(members):
            x: list[int | None] = []
            y: list[float | None] = []
            words: list[str | None] = []
            for k in members:
                x += [*range(len(names)), None]
                y += [None if np.isnan(value) else round(float(value), 4) for value in rows[k]] + [None]
                text = _words(found, int(k), chosen if role == "front" else ())
                words += [text] * len(names) + [None]
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    customdata=words,
                    mode="lines+markers" if role == "front" else "lines",
                    name=name,
                    meta=role,
                    line={"color": theme.LIGHT[role], "width": 2 if role == "front" else 1},
                    marker={"color": theme.LIGHT[role], "size": 5},
                    opacity=0.9 if role == "front" else 0.3,
                    connectgaps=False,
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )
    _rails(figure, found, chosen, names)
    left = f"; {len(faint):,} of the other {len(others):,} drawn" if len(faint) < len(others) else ""
    return titled(figure, f"{counted(len(found), 'complete trial')}, {int(found.front.sum())} on the front{left}")


def _rails(figure: go.Figure, found: Sample, keys: Sequence[str], names: Sequence[str]) -> None:
    """The axes: an upright rule each, its name below, its ends beside it."""
    figure.update_xaxes(
        tickvals=list(range(len(names))),
        ticktext=[plain(name) for name in names],
        range=[-0.5, len(names) - 0.5],
        tickangle=0 if len(names) <= 4 else -90,
        showline=False,
    )
    figure.update_yaxes(visible=False, range=[-0.14, 1.1])
    for position, name in enumerate(names):
        figure.add_vline(x=position, line={"width": 1, "color": theme.LIGHT["trial"]}, opacity=0.5)
        if name in keys:
            factor = found.knobs[name]
            steps = max(len(factor.values) - 1, 1)
            ticks = [(k / steps, plain(value)) for k, value in enumerate(factor.values)]
            ticks = ticks if len(ticks) <= 8 else [ticks[0], ticks[-1]]
        elif name == "accuracy":
            ticks = [
                (0.0, f"{format_percent(found.accuracy.min())} %"),
                (1.0, f"{format_percent(found.accuracy.max())} %"),
            ]
        else:
            cost = found.costs[name]
            ticks = [(0.0, _short(cost.min())), (1.0, _short(cost.max()))]
        for at, text in ticks:
            away = 9 + (11 * (position % 2) if len(text) > 4 else 0)  # long words of neighbours stand at two heights
            figure.add_annotation(
                x=position,
                y=at,
                text=text,
                showarrow=False,
                yshift=away if at > 0 else -away,  # the lowest stand below their rails, where no line passes
                xanchor="center",
                font={"size": 11},
            )


def _words(found: Sample, k: int, keys: Sequence[str]) -> str:
    said = [f"<b>trial {found.numbers[k]}</b>: {format_percent(float(found.accuracy[k]))} %"]
    if keys:
        said += [f"{format_price(name, cost[k])} {NOUNS.get(name, name)}" for name, cost in found.costs.items()]
    for key in keys:
        factor = found.knobs[key]
        if factor.codes[k] != ABSENT:
            said.append(f"{plain(key)} {plain(factor.values[factor.codes[k]])}")
    return "<br>".join(said)


def _short(count: float) -> str:
    """A cost to two digits: `4.2M`."""
    number, _, prefix = format_count(round(float(f"{count:.2g}"))).partition(" ")
    return f"{float(number):.3g}{prefix}"


def _scaled(numbers: np.ndarray) -> np.ndarray:
    span = np.ptp(numbers)
    return (numbers - numbers.min()) / span if span > 0 else np.full(len(numbers), 0.5)
