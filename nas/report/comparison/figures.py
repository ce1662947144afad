"""Figures of a comparison, one function each: `fn(findings, ...) -> plotly.graph_objects.Figure`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nas.report.figures import blank, say, whole_numbers
from nas.report.figures.gradients import Look, Norm, log_axis, look_of, norms, title_of
from nas.training.comparison_records import Findings, Outcome

if TYPE_CHECKING:
    import plotly.graph_objects as go

Split: TypeAlias = Literal["training", "validation"]
MANY = 40  # points of a line that are marked one by one


def errors(findings: Findings, which: Split) -> go.Figure:
    """Error by epoch, one line for each network; with repeats, a thin line for each training and a bold one for their mean."""
    import plotly.graph_objects as go

    figure = blank("epoch", f"{which} error")
    epochs = findings.recipe.epochs
    whole_numbers(figure, 1, epochs)
    shown = [
        error
        for one in ("training", "validation")  # a common range, so that the two charts can be compared
        for network in findings.networks
        for outcome in network.outcomes
        for error in _errors(outcome, one)[first_fitted(findings) - 1 :]
    ]
    figure.update_yaxes(tickformat="~%", range=[0, 1.05 * max(shown, default=1.0) or 1.0])
    for place, network in enumerate(findings.networks):
        look = look_of(place, marked=epochs <= MANY)
        name = escape(network.name, quote=False)
        curves = [(outcome, _errors(outcome, which)) for outcome in network.outcomes if outcome.points]
        complete = [curve for outcome, curve in curves if outcome.state == "complete"]
        thin = [curve for _, curve in curves if findings.repeats > 1] or [
            curve for outcome, curve in curves if outcome.state != "complete"
        ]
        if thin:
            alone = not complete  # then no other line represents the network in the legend
            figure.add_trace(
                _line(*_with_gaps(thin), name, replace(look, mode="lines"), width=1, opacity=0.6, showlegend=alone)
            )
        if complete:
            means = [statistics.fmean(errors) for errors in zip(*complete, strict=True)]
            legend = f"{name}, mean of {len(complete)}" if findings.repeats > 1 else name
            figure.add_trace(_line(list(range(1, len(means) + 1)), means, name, look, legend=legend))
        ends = [(len(curve), curve[-1]) for outcome, curve in curves if outcome.state == "diverged"]
        if ends:
            figure.add_trace(
                go.Scatter(
                    x=[x for x, _ in ends],
                    y=[y for _, y in ends],
                    mode="markers",
                    meta=look.role,
                    marker={"symbol": "x", "size": 11, "color": look.color},
                    legendgroup=name,
                    showlegend=False,
                    hovertemplate=f"{name} diverged after epoch %{{x}}<extra></extra>",
                )
            )
    return figure if shown else say(figure, "no epoch has been trained yet")


def first_fitted(findings: Findings) -> int:
    """The first epoch whose errors determine the range of the axis: the large errors of the first fifth are ignored."""
    return max(findings.recipe.epochs // 5, 1)


def first_layer(findings: Findings, norm: Norm) -> go.Figure:
    """Gradient norm (log axis) at the first layer by epoch, one line for each network; epoch 0 stands for the first steps."""
    figure = blank("epoch", title_of(norm))
    whole_numbers(figure, 0, findings.recipe.epochs)
    shown: list[float | None] = []
    for place, network in enumerate(findings.networks):
        moments = {moment: values[0] for moment, values in sorted(norms(network, norm).items()) if values}
        shown += moments.values()
        look = look_of(place, marked=len(moments) <= MANY)
        figure.add_trace(
            _line(list(moments), list(moments.values()), escape(network.name, quote=False), look, "%{y:.3g}")
        )
    figure.update_yaxes(**log_axis(shown))
    return figure


def _errors(outcome: Outcome, which: str) -> list[float]:
    return [point.train_error if which == "training" else point.validation_error for point in outcome.points]


def _line(
    x: Sequence[int | None],
    y: Sequence[float | None],
    name: str,
    look: Look,
    value: str = "%{y:.2%}",
    *,
    width: float = 2.5,
    legend: str = "",
    **more: Any,
) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=list(x),
        y=list(y),
        mode=look.mode,
        name=legend or name,
        meta=look.role,
        line={"color": look.color, "dash": look.dash, "width": width},
        marker={"color": look.color, "symbol": look.symbol, "size": 7},
        legendgroup=name,
        hovertemplate=f"{legend or name}<br>epoch %{{x}}: {value}<extra></extra>",
        **more,
    )


def _with_gaps(curves: Sequence[Sequence[float]]) -> tuple[list[int | None], list[float | None]]:
    """Curves over epochs 1, 2, ... as a single one with gaps, because a separate trace for each training would be slow."""
    x: list[int | None] = []
    y: list[float | None] = []
    for curve in curves:
        x += [*range(1, len(curve) + 1), None]
        y += [*curve, None]
    return x, y
