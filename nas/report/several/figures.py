"""Figures of several runs, one function each, from the data that `nas.report.several.page` collects to a Plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.report.figures import blank
from nas.report.figures.gradients import DASHES, ROLES, SYMBOLS
from nas.report.figures.trials import cost_axis, staircase
from nas.report.html import theme
from nas.report.run.summary import NOUNS
from nas.utils.text import format_percent, format_price

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.records import Trial
    from nas.runs.run import Run


def fronts_against(runs: Sequence[Named], cost: str) -> go.Figure:
    """Validation accuracy against one cost (log axis): each run's staircase, its front as points, its other trials faint."""
    import plotly.graph_objects as go

    figure = blank(f"{NOUNS[cost]} (log scale)", "validation accuracy")
    cost_axis(figure, [trial.price(cost) for one in runs for trial in one.run.complete()])
    figure.update_yaxes(tickformat="~%")
    for place, one in enumerate(runs):
        role = ROLES[place % len(ROLES)]
        name = escape(one.name, quote=False)
        front = {trial.number for trial in one.run.front()}
        for members in (False, True):
            shown = [trial for trial in one.run.complete() if (trial.number in front) is members]
            symbol = SYMBOLS[place % len(SYMBOLS)]
            figure.add_trace(
                go.Scatter(
                    x=[trial.price(cost) for trial in shown],
                    y=[trial.accuracy for trial in shown],
                    mode="markers",
                    name=name,
                    meta=role,
                    legendgroup=name,
                    showlegend=False,
                    opacity=1.0 if members else 0.35,
                    marker={
                        "color": theme.LIGHT[role],
                        "symbol": symbol if members else f"{symbol}-open",
                        "size": 9 if members else 6,
                    },
                    hovertext=[_hover(name, trial, cost) for trial in shown],
                    hoverinfo="text",
                )
            )
        stairs = staircase([(trial.accuracy or 0.0, trial.price(cost)) for trial in one.run.complete()])
        line = {"shape": "hv", "color": theme.LIGHT[role], "dash": DASHES[place % len(DASHES)], "width": 2}
        figure.add_trace(stairs.update(name=name, meta=role, legendgroup=name, line=line))
    return figure


def progress_against(history: Sequence[Progress], axis: str) -> go.Figure:
    """Hypervolume against completed trials or hours of training, one line for each run."""
    import plotly.graph_objects as go

    figure = blank({"trials": "completed trials", "hours": "hours of training"}[axis], "hypervolume")
    figure.update_yaxes(rangemode="tozero")
    for place, one in enumerate(history):
        role = ROLES[place % len(ROLES)]
        name = escape(one.name, quote=False)
        figure.add_trace(
            go.Scatter(
                x=[float(x) for x in getattr(one, axis)],
                y=[float(y) for y in one.volume],
                mode="lines" if len(one.volume) > 1 else "markers",
                name=name,
                meta=role,
                line={"shape": "hv", "color": theme.LIGHT[role], "dash": DASHES[place % len(DASHES)], "width": 2},
                marker={"color": theme.LIGHT[role]},
                hovertemplate=f"{name}<br>%{{x:.4g}} {'trials' if axis == 'trials' else 'h'}: %{{y:.4g}}<extra></extra>",
            )
        )
    return figure


def _hover(name: str, trial: Trial, cost: str) -> str:
    accuracy = format_percent(trial.accuracy or 0.0)
    return f"<b>{name}</b>, {escape(trial.name, quote=False)}<br>{accuracy} %, {format_price(cost, trial.price(cost))} {NOUNS[cost]}"


@dataclass(frozen=True, slots=True)
class Named:
    """A run and its name on the page, which is the run's name, with a number if several runs have the same."""

    name: str
    run: Run


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's hypervolume after each complete trial, the number of trials and the hours of training until then; each (n,)."""

    name: str
    trials: NDArray[np.float64]
    hours: NDArray[np.float64]
    volume: NDArray[np.float64]
