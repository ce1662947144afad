"""Gradient norms by layer, of compared networks and of a run's trials that recorded them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

from nas.report.figures import _base
from nas.report.figures.trials import blank, say, whole_numbers
from nas.report.html import theme
from nas.report.html.chart import Json
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
# As many dashes as symbols; with 6 colors, a pair of color and dash repeats only after 42 networks.
DASHES = (*_base.DASHES, "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down")
STEPS = 25  # of the slider, at most
MOST = 6  # trials in a chart


def gradient_flow(run: Run, norm: Norm = "outputs", trials: Sequence[Trial] | None = None) -> go.Figure:
    """Gradient norm (log axis) by a layer's depth, one line for each trial; a slider selects the moment of the training.

    norm: of the gradient of the loss with respect to the layers' "outputs" or "weights". trials: which trials, among those that
    recorded norms (`nas search --record-gradients`); by default `nas.report.run.summary.picks`, then the baselines.
    """
    return gradients(recorded(run, trials), norm)


def flow_of(run: Run, trial: Trial) -> flow.Flow | None:
    """The gradient norms that a trial recorded; None if it did not."""
    place = run.path / BASELINES / trial.label if trial.label else run.path / TRIALS / str(trial.number)
    recorded_flow = flow.read(place, trial.digest)
    return recorded_flow if recorded_flow is not None and recorded_flow.moments else None


def recorded(run: Run, trials: Sequence[Trial] | None = None) -> list[Compared]:
    """At most `MOST` of the trials (default: as in `gradient_flow`) that recorded gradient norms, as compared networks."""
    wanted = [*(pick.trial for pick in picks(run)), *run.baselines()] if trials is None else trials
    networks: list[Compared] = []
    for trial in {trial.number: trial for trial in wanted}.values():
        flow = flow_of(run, trial) if len(networks) < MOST else None
        if flow is not None:
            outcome = Outcome(int(run.config["seed"]), "complete", "", (), flow.layers, flow.moments)
            networks.append(Compared(trial.name, trial.architecture, (outcome,)))
    return networks


def gradients(networks: Sequence[Compared], norm: Norm) -> go.Figure:
    """Gradient norm (log axis) by a layer's depth, one line for each network; a slider from the first steps through the epochs."""
    import plotly.graph_objects as go

    figure = blank("layer, counted from the input", title_of(norm))
    by_network = [norms(network, norm) for network in networks]
    moments = _thinned(sorted({moment for one in by_network for moment in one}))
    deepest = max((layer.depth for network in networks for layer in layers(network)), default=1)
    whole_numbers(figure, 1, deepest)
    figure.update_xaxes(dtick=1 if deepest <= 12 else None)
    figure.update_yaxes(**log_axis([x for one in by_network for moment in moments for x in one.get(moment, ())]))
    traces: list[tuple[int, list[int]]] = []  # of each trace: the network's place, and its layers
    for place, network in enumerate(networks):
        watched = layers(network)
        for on_path in (True, False):
            numbers = [number for number, layer in enumerate(watched) if layer.on_path is on_path]
            if not numbers:
                continue
            traces.append((place, numbers))
            look = look_of(place, marked=True)  # markers, so that each layer can be hovered over
            name = escape(network.name, quote=False)
            figure.add_trace(
                go.Scatter(
                    x=[watched[number].depth for number in numbers],
                    mode=look.mode if on_path else "markers",
                    name=name,
                    meta=look.role,
                    line={"color": look.color, "dash": look.dash, "width": 2},
                    marker={
                        "color": look.color,
                        "symbol": look.symbol if on_path else f"{look.symbol}-open",
                        "size": 5,
                    },
                    customdata=[_about(watched[number], len(numbers), on_path) for number in numbers],
                    hovertemplate=f"<b>{name}</b>, %{{customdata}}<br>norm %{{y:.3g}}<extra></extra>",
                    legendgroup=name,
                    showlegend=on_path,
                )
            )
    steps = [
        [
            [by_network[place][moment][number] if moment in by_network[place] else None for number in numbers]
            for place, numbers in traces
        ]
        for moment in moments
    ]
    if not steps:
        return say(figure, "no gradient has been recorded yet")
    for trace, values in zip(figure.data, steps[0], strict=True):
        trace.y = values
    return figure.update_layout(sliders=[_slider(moments, steps)], margin={"t": 96})


def layers(network: Compared) -> tuple[Layer, ...]:
    """The layers whose gradients were recorded; empty if none were."""
    return next((outcome.layers for outcome in network.outcomes if outcome.layers), ())


def norms(network: Compared, norm: Norm) -> Mapping[int, Sequence[float | None]]:
    """Norms of all layers by epoch (`FIRST` for the first steps): the mean over the trainings that reached it."""
    by_moment: dict[int, list[tuple[float | None, ...]]] = {}
    for outcome in network.outcomes:
        for moment in outcome.moments:
            by_moment.setdefault(moment.epoch, []).append(getattr(moment, norm))
    return {epoch: [_mean(values) for values in zip(*rows, strict=True)] for epoch, rows in by_moment.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    """None if one of them is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, slots=True)
class Look:
    """How the line of a network is drawn: Plotly's dash, symbol and mode; `role`: its color role."""

    role: str
    dash: str
    symbol: str
    mode: str

    @property
    def color(self) -> str:
        return theme.LIGHT[self.role]


def look_of(place: int, marked: bool) -> Look:
    """The look of the network at this place."""
    mode = "lines+markers" if marked else "lines"
    return Look(ROLES[place % len(ROLES)], DASHES[place % len(DASHES)], SYMBOLS[place % len(SYMBOLS)], mode)


def title_of(norm: Norm) -> str:
    return "‖∂L/∂y‖ (log scale)" if norm == "outputs" else "‖∂L/∂W‖ (log scale)"


def _about(layer: Layer, count: int, on_path: bool) -> str:
    where = f"layer {layer.depth} of {count}" if on_path else f"parallel to layer {layer.depth}"
    return escape(f"{where}: {layer.name}", quote=False) + f"<br>{escape(layer.about, quote=False)}"


def log_axis(values: Sequence[float | None]) -> Json:
    """A log axis with a fixed range that covers all values above 0."""
    powers = [math.log10(value) for value in values if value is not None and value > 0]
    if not powers:
        return {"type": "log"}
    low, high = min(powers), max(powers)
    pad = max(0.05 * (high - low), 0.05)
    # "D2": with few powers of 10 in range, 2 and 5 are labeled too.
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


def _slider(moments: Sequence[int], steps: Sequence[Sequence[Sequence[float | None]]]) -> Json:
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
