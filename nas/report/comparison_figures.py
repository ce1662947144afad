"""Figures of a comparison, one function each: `fn(findings, ...) -> plotly.graph_objects.Figure`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nas.findings import Compared, Findings, Layer, Outcome
from nas.report import theme
from nas.report.figures import blank, say, whole_numbers

if TYPE_CHECKING:
    import plotly.graph_objects as go

Split: TypeAlias = Literal["training", "validation"]
Norm: TypeAlias = Literal["outputs", "weights"]

FIRST = 0  # the "epoch" of a training's first steps
ROLES = tuple(role for role in theme.LIGHT if role.startswith("series"))
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")  # 7 of them, so that pairs repeat late
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down")
MANY = 40  # points of a line that are marked one by one
STEPS = 25  # of a slider


def errors(findings: Findings, which: Split) -> go.Figure:
    """Error by epoch: a line a network; with repeats each training thin and the mean of the complete ones bold."""
    import plotly.graph_objects as go

    figure = blank("epoch", f"{which} error")
    epochs = findings.recipe.epochs
    whole_numbers(figure, 1, epochs)
    shown = [
        error
        for one in ("training", "validation")  # one range for both, so that the charts can be held side by side
        for network in findings.networks
        for outcome in network.outcomes
        for error in _errors(outcome, one)[first_fitted(findings) - 1 :]
    ]
    figure.update_yaxes(tickformat="~%", range=[0, 1.05 * max(shown, default=1.0) or 1.0])
    for place, network in enumerate(findings.networks):
        look = _look(place, marked=epochs <= MANY)
        name = escape(network.name, quote=False)
        curves = [(outcome, _errors(outcome, which)) for outcome in network.outcomes if outcome.points]
        complete = [curve for outcome, curve in curves if outcome.state == "complete"]
        thin = [curve for _, curve in curves if findings.repeats > 1] or [
            curve for outcome, curve in curves if outcome.state != "complete"
        ]
        if thin:
            alone = not complete  # then nothing else stands for the network in the legend
            figure.add_trace(
                _line(*_with_gaps(thin), name, {**look, "mode": "lines"}, width=1, opacity=0.6, showlegend=alone)
            )
        if complete:
            means = [statistics.fmean(errors) for errors in zip(*complete, strict=True)]
            said = f"{name}, mean of {len(complete)}" if findings.repeats > 1 else name
            figure.add_trace(_line(list(range(1, len(means) + 1)), means, name, look, said=said))
        ends = [(len(curve), curve[-1]) for outcome, curve in curves if outcome.state == "diverged"]
        if ends:
            figure.add_trace(
                go.Scatter(
                    x=[x for x, _ in ends],
                    y=[y for _, y in ends],
                    mode="markers",
                    meta=look["meta"],
                    marker={"symbol": "x", "size": 11, "color": theme.LIGHT[look["meta"]]},
                    legendgroup=name,
                    showlegend=False,
                    hovertemplate=f"{name} diverged behind epoch %{{x}}<extra></extra>",
                )
            )
    return figure if shown else say(figure, "no epoch has been trained yet")


def first_fitted(findings: Findings) -> int:
    """The epoch from which on the errors fit their axis: the first fifth would press the rest together."""
    return max(findings.recipe.epochs // 5, 1)


def gradients(findings: Findings, norm: Norm) -> go.Figure:
    """Norm (log axis) by a layer's depth, a line a network; a slider goes from the first steps through the epochs."""
    import plotly.graph_objects as go

    figure = blank("layer, counted from the images", _title(norm))
    found = [norms(network, norm) for network in findings.networks]
    moments = _thinned(sorted({moment for one in found for moment in one}))
    deepest = max((layer.depth for network in findings.networks for layer in layers(network)), default=1)
    whole_numbers(figure, 1, deepest)
    figure.update_xaxes(dtick=1 if deepest <= 12 else None)
    figure.update_yaxes(**_log_axis([x for one in found for moment in moments for x in one.get(moment, ())]))
    traces: list[tuple[int, list[int]]] = []  # network and the layers that a trace shows
    for place, network in enumerate(findings.networks):
        watched = layers(network)
        for on_path in (True, False):
            own = [number for number, layer in enumerate(watched) if layer.on_path is on_path]
            if not own:
                continue
            traces.append((place, own))
            look = _look(place, marked=True)  # each layer is there to be pointed at
            name = escape(network.name, quote=False)
            figure.add_trace(
                go.Scatter(
                    x=[watched[number].depth for number in own],
                    mode=look["mode"] if on_path else "markers",
                    name=name,
                    meta=look["meta"],
                    line={"color": theme.LIGHT[look["meta"]], "dash": look["dash"], "width": 2},
                    marker={
                        "color": theme.LIGHT[look["meta"]],
                        "symbol": look["symbol"] if on_path else f"{look['symbol']}-open",
                        "size": 5,
                    },
                    customdata=[_about(watched[number], len(own), on_path) for number in own],
                    hovertemplate=f"<b>{name}</b>, %{{customdata}}<br>norm %{{y:.3g}}<extra></extra>",
                    legendgroup=name,
                    showlegend=on_path,
                )
            )
    steps = [
        [[found[place][moment][number] if moment in found[place] else None for number in own] for place, own in traces]
        for moment in moments
    ]
    if not steps:
        return say(figure, "no gradient has been recorded yet")
    for trace, values in zip(figure.data, steps[0], strict=True):
        trace.y = values
    return figure.update_layout(sliders=[_slider(moments, steps)], margin={"t": 96})


def first_layer(findings: Findings, norm: Norm) -> go.Figure:
    """Norm (log axis) at the first layer by epoch, a line a network; 0 is the first steps."""
    figure = blank("epoch", _title(norm))
    whole_numbers(figure, 0, findings.recipe.epochs)
    shown: list[float | None] = []
    for place, network in enumerate(findings.networks):
        moments = {moment: values[0] for moment, values in sorted(norms(network, norm).items()) if values}
        shown += moments.values()
        look = _look(place, marked=len(moments) <= MANY)
        figure.add_trace(
            _line(list(moments), list(moments.values()), escape(network.name, quote=False), look, "%{y:.3g}")
        )
    figure.update_yaxes(**_log_axis(shown))
    return figure


def layers(network: Compared) -> tuple[Layer, ...]:
    """The layers that were watched; none if gradients were not recorded."""
    return next((outcome.layers for outcome in network.outcomes if outcome.layers), ())


def norms(network: Compared, norm: Norm) -> Mapping[int, Sequence[float | None]]:
    """Norms of all layers by epoch (`FIRST` for the first steps): the mean over the trainings that have got there."""
    by_moment: dict[int, list[tuple[float | None, ...]]] = {}
    for outcome in network.outcomes:
        for moment in outcome.moments:
            by_moment.setdefault(moment.epoch, []).append(getattr(moment, norm))
    return {epoch: [_mean(values) for values in zip(*rows, strict=True)] for epoch, rows in by_moment.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    """None if one of them is."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there and len(there) == len(values) else None


def _errors(outcome: Outcome, which: str) -> list[float]:
    return [point.train_error if which == "training" else point.validation_error for point in outcome.points]


def _look(place: int, marked: bool) -> dict[str, Any]:
    """How the network at this place is drawn: told apart by colour, by dash and by symbol."""
    return {
        "meta": ROLES[place % len(ROLES)],
        "dash": DASHES[place % len(DASHES)],
        "symbol": SYMBOLS[place % len(SYMBOLS)],
        "mode": "lines+markers" if marked else "lines",
    }


def _line(
    x: Sequence[int | None],
    y: Sequence[float | None],
    name: str,
    look: Mapping[str, Any],
    value: str = "%{y:.2%}",
    *,
    width: float = 2.5,
    said: str = "",
    **more: Any,
) -> go.Scatter:
    import plotly.graph_objects as go

    colour = theme.LIGHT[look["meta"]]
    return go.Scatter(
        x=list(x),
        y=list(y),
        mode=look["mode"],
        name=said or name,
        meta=look["meta"],
        line={"color": colour, "dash": look["dash"], "width": width},
        marker={"color": colour, "symbol": look["symbol"], "size": 7},
        legendgroup=name,
        hovertemplate=f"{said or name}<br>epoch %{{x}}: {value}<extra></extra>",
        **more,
    )


def _with_gaps(curves: Sequence[Sequence[float]]) -> tuple[list[int | None], list[float | None]]:
    """Curves over 1, 2, ... as one, with gaps between them: a trace a training would be slow to draw."""
    x: list[int | None] = []
    y: list[float | None] = []
    for curve in curves:
        x += [*range(1, len(curve) + 1), None]
        y += [*curve, None]
    return x, y


def _title(norm: Norm) -> str:
    return "‖∂L/∂y‖ (log scale)" if norm == "outputs" else "‖∂L/∂W‖ (log scale)"


def _about(layer: Layer, count: int, on_path: bool) -> str:
    where = f"layer {layer.depth} of {count}" if on_path else f"beside layer {layer.depth}"
    return escape(f"{where}: {layer.name}", quote=False) + f"<br>{escape(layer.about, quote=False)}"


def _log_axis(values: Sequence[float | None]) -> dict[str, Any]:
    """A log axis over the values above 0, the same whatever part of them is shown."""
    powers = [math.log10(value) for value in values if value is not None and value > 0]
    if not powers:
        return {"type": "log"}
    low, high = min(powers), max(powers)
    pad = max(0.05 * (high - low), 0.05)
    # Plotly labels 2 and 5 too where few powers of 10 are in sight.
    return {
        "type": "log",
        "range": [low - pad, high + pad],
        "dtick": 1 if high - low > 2 else "D2",
        "exponentformat": "power",
    }


def _thinned(moments: Sequence[int]) -> list[int]:
    """At most `STEPS` of the moments, evenly spaced, the first and the last among them."""
    last = len(moments) - 1
    count = min(len(moments), STEPS)
    return [moments[round(k * last / max(count - 1, 1))] for k in range(count)]


def _slider(moments: Sequence[int], steps: Sequence[Any]) -> dict[str, Any]:
    names = ["first steps" if moment == FIRST else str(moment) for moment in moments]
    return {
        "active": 0,
        "y": 1.0,
        "yanchor": "bottom",
        "pad": {"t": 0, "b": 24},
        "minorticklen": 0,
        "currentvalue": {"prefix": "epoch: ", "xanchor": "left"},
        "steps": [
            {"label": name, "method": "restyle", "args": [{"y": values}]}
            for name, values in zip(names, steps, strict=True)
        ],
    }
