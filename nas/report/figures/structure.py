"""Hyperparameter importance of the knobs, and parallel coordinates of the trials."""

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
AXES = 6  # knobs shown between the costs and the accuracy
LINES = 300  # faint lines, at most


def importance(run: Run, target: str = importances.GAP, method: importances.Method = "ped-anova") -> go.Figure:
    """Importance of the knobs for the distance to the front, "accuracy" or a cost of the run; dashed: the noise floor.

    method: "ped-anova", or "fanova" (20 times slower). UsageError for an unknown target or method.
    """
    trials = sample(run)
    return draw_importance(importances.importance(trials, target, method), len(trials), target)


def draw_importance(score: importances.Importance | None, trials: int, target: str) -> go.Figure:
    import plotly.graph_objects as go

    noun = NOUNS.get(target, target)
    figure = blank("importance", "")
    if score is None:
        return say(
            figure,
            f"{counted(trials, 'complete trial')} so far, or no knob;<br>at least {importances.LEAST} trials are needed",
        )
    shown = list(score.values.items())[:SHOWN]
    telling = set(score.telling)
    names = [plain(key) for key, _ in shown]
    for role, name, wanted in (("front", "above noise", True), ("trial", "within noise", False)):
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
                    showlegend=score.floor is not None,
                )
            )
    if score.floor is not None:
        figure.add_trace(
            go.Scatter(
                x=[score.floor, score.floor],
                y=[names[0], names[-1]],
                mode="lines",
                name="noise floor",
                meta="baseline",
                line={"color": theme.LIGHT["baseline"], "dash": "dash", "width": 2},
                hovertemplate="noise: %{x:.3g}<extra></extra>",
            )
        )
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names)
    figure.update_xaxes(rangemode="tozero")
    few = f"; ranks are reliable from {importances.SOUND} on" if score.trials < importances.SOUND else ""
    of = (
        f"{score.trials:,} of {counted(score.of, 'trial')}"
        if score.trials < score.of
        else f"{counted(score.trials, 'trial')}"
    )
    return titled(figure, f"{noun}: {'fANOVA' if score.method == 'fanova' else 'PED-ANOVA'}, {of}{few}")


def parallel_coordinates(run: Run, keys: Sequence[str] | None = None) -> go.Figure:
    """Parallel coordinates of costs, knobs and accuracy: trials of the front bold, a sample of the others faint.

    keys: the knobs (default: the six most significant). A line breaks where a knob does not exist. Drawn as scatter lines:
    Plotly's `parcoords` needs WebGL and `unsafe-eval`, which the page's security policy forbids.
    """
    import plotly.graph_objects as go

    trials = sample(run)
    figure = blank("", "")
    if not len(trials):
        return say(figure, "no trial has been completed yet")
    chosen = [key for key in (strongest_knobs(trials, AXES) if keys is None else keys) if key in trials.knobs]
    if keys is None:
        chosen = [key for key in trials.knobs if key in chosen]  # in the space's order
    axes = [(name, np.log10(cost), trials.costs[name]) for name, cost in trials.costs.items()]
    places = [_scaled(logs) for _, logs, _ in axes]
    for key in chosen:
        factor = trials.knobs[key]
        places.append(np.where(factor.codes == ABSENT, np.nan, factor.codes / max(len(factor.values) - 1, 1)))
    places.append(_scaled(trials.accuracy))
    names = [*trials.costs, *chosen, "accuracy"]
    rows = np.column_stack(places)
    others = np.flatnonzero(~trials.front)
    faint = others[np.linspace(0, len(others) - 1, min(len(others), LINES)).astype(np.intp)] if len(others) else others
    for role, name, members in (("trial", "other trials", faint), ("front", "front", np.flatnonzero(trials.front))):
        if len(members):
            x: list[int | None] = []
            y: list[float | None] = []
            texts: list[str | None] = []
            for k in members:
                x += [*range(len(names)), None]
                y += [None if np.isnan(value) else round(float(value), 4) for value in rows[k]] + [None]
                text = _words(trials, int(k), chosen if role == "front" else ())
                texts += [text] * len(names) + [None]
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    customdata=texts,
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
    _rails(figure, trials, chosen, names)
    left = f"; {len(faint):,} of the other {len(others):,} drawn" if len(faint) < len(others) else ""
    return titled(figure, f"{counted(len(trials), 'complete trial')}, {int(trials.front.sum())} on the front{left}")


def _rails(figure: go.Figure, trials: Sample, keys: Sequence[str], names: Sequence[str]) -> None:
    """The parallel axes: a vertical line each, its name below, its values or its ends next to it."""
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
            factor = trials.knobs[name]
            steps = max(len(factor.values) - 1, 1)
            ticks = [(k / steps, plain(value)) for k, value in enumerate(factor.values)]
            ticks = ticks if len(ticks) <= 8 else [ticks[0], ticks[-1]]
        elif name == "accuracy":
            ticks = [
                (0.0, f"{format_percent(trials.accuracy.min())} %"),
                (1.0, f"{format_percent(trials.accuracy.max())} %"),
            ]
        else:
            cost = trials.costs[name]
            ticks = [(0.0, _short(cost.min())), (1.0, _short(cost.max()))]
        for at, text in ticks:
            # Long texts of neighboring axes alternate between two heights.
            away = 9 + (11 * (position % 2) if len(text) > 4 else 0)
            figure.add_annotation(
                x=position,
                y=at,
                text=text,
                showarrow=False,
                yshift=away if at > 0 else -away,  # the lowest value: below the axis, where no line passes
                xanchor="center",
                font={"size": 11},
            )


def _words(trials: Sample, k: int, keys: Sequence[str]) -> str:
    lines = [f"<b>trial {trials.numbers[k]}</b>: {format_percent(float(trials.accuracy[k]))} %"]
    if keys:
        lines += [f"{format_price(name, cost[k])} {NOUNS.get(name, name)}" for name, cost in trials.costs.items()]
    for key in keys:
        factor = trials.knobs[key]
        if factor.codes[k] != ABSENT:
            lines.append(f"{plain(key)} {plain(factor.values[factor.codes[k]])}")
    return "<br>".join(lines)


def _short(count: float) -> str:
    """A cost with two digits: `4.2M`."""
    number, _, prefix = format_count(round(float(f"{count:.2g}"))).partition(" ")
    return f"{float(number):.3g}{prefix}"


def _scaled(numbers: np.ndarray) -> np.ndarray:
    span = np.ptp(numbers)
    return (numbers - numbers.min()) / span if span > 0 else np.full(len(numbers), 0.5)
