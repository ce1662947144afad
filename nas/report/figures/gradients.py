"""Gradient norms by layer: of compared networks, and of a run's trials that recorded them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nas.report.figures.trials import blank, say, whole_numbers
from nas.report.html import theme
from nas.report.run.summary import picks
from nas.runs.layout import BASELINES, TRIALS
from nas.training import gradient_flow as flow
from nas.training.comparison_records import Compared, Outcome
from nas.training.gradient_flow import Layer

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.records import Trial
    from nas.runs.run import Run

Norm: TypeAlias = Literal["outputs", "weights"]

FIRST = 0  # the "epoch" of a training's first steps
ROLES = tuple(role for role in theme.LIGHT if role.startswith("series"))
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")  # 7 of them, so that pairs repeat late
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down")
STEPS = 25  # of a slider
MOST = 6  # trials in one chart


def gradient_flow(run: Run, norm: Norm = "outputs", trials: Sequence[Trial] | None = None) -> go.Figure:
    """Norm (log axis) by a layer's depth at the start, in the middle and at the end of training, a line a trial; a slider between.

    norm: of the gradient of the loss by the layers' "outputs", or by their "weights". trials: of those that recorded any
    (`nas search --record-gradients`); by default the networks to look at (`nas.report.run.summary.picks`), then the baselines.
    """
    return gradients(recorded(run, trials), norm)


def flow_of(run: Run, trial: Trial) -> flow.Flow | None:
    """What a trial has recorded; None if it has not."""
    place = run.path / BASELINES / trial.label if trial.label else run.path / TRIALS / str(trial.number)
    found = flow.read(place, trial.digest)
    return found if found is not None and found.moments else None


def recorded(run: Run, trials: Sequence[Trial] | None = None) -> list[Compared]:
    """Those of the trials (default: as `gradient_flow`) whose folders hold gradient norms, `MOST` of them, as compared networks."""
    wanted = [*(pick.trial for pick in picks(run)), *run.baselines()] if trials is None else trials
    found: list[Compared] = []
    for trial in {trial.number: trial for trial in wanted}.values():
        seen = flow_of(run, trial) if len(found) < MOST else None
        if seen is not None:
            outcome = Outcome(int(run.config["seed"]), "complete", "", (), seen.layers, seen.moments)
            found.append(Compared(trial.name, trial.architecture, (outcome,)))
    return found


def gradients(networks: Sequence[Compared], norm: Norm) -> go.Figure:
    """Norm (log axis) by a layer's depth, a line a network; a slider goes from the first steps through the epochs."""
    import plotly.graph_objects as go

    figure = blank("layer, counted from the images", title_of(norm))
    found = [norms(network, norm) for network in networks]
    moments = _thinned(sorted({moment for one in found for moment in one}))
    deepest = max((layer.depth for network in networks for layer in layers(network)), default=1)
    whole_numbers(figure, 1, deepest)
    figure.update_xaxes(dtick=1 if deepest <= 12 else None)
    figure.update_yaxes(**log_axis([x for one in found for moment in moments for x in one.get(moment, ())]))
    traces: list[tuple[int, list[int]]] = []  # network and the layers that a trace shows
    for place, network in enumerate(networks):
        watched = layers(network)
        for on_path in (True, False):
            own = [number for number, layer in enumerate(watched) if layer.on_path is on_path]
            if not own:
                continue
            traces.append((place, own))
            look = look_of(place, marked=True)  # each layer is there to be pointed at
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


def look_of(place: int, marked: bool) -> dict[str, Any]:
    """How the network at this place is drawn: told apart by colour, by dash and by symbol."""
    return {
        "meta": ROLES[place % len(ROLES)],
        "dash": DASHES[place % len(DASHES)],
        "symbol": SYMBOLS[place % len(SYMBOLS)],
        "mode": "lines+markers" if marked else "lines",
    }


def title_of(norm: Norm) -> str:
    return "‖∂L/∂y‖ (log scale)" if norm == "outputs" else "‖∂L/∂W‖ (log scale)"


def _about(layer: Layer, count: int, on_path: bool) -> str:
    where = f"layer {layer.depth} of {count}" if on_path else f"beside layer {layer.depth}"
    return escape(f"{where}: {layer.name}", quote=False) + f"<br>{escape(layer.about, quote=False)}"


def log_axis(values: Sequence[float | None]) -> dict[str, Any]:
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
