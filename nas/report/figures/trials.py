"""Figures of a run's trials: accuracy against cost, learning curves, hypervolume over trials."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from nas import pareto
from nas.errors import UsageError
from nas.networks.describe import describe
from nas.report.figures import labels
from nas.report.html import theme
from nas.report.html.chart import Json
from nas.report.run.summary import NOUNS, knee
from nas.runs.records import LATENCY, Trial, format_estimate
from nas.utils.text import format_count, format_percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.run import Run

CostName: TypeAlias = Literal["params", "macs", "activations", "latency_ms"]
COSTS: tuple[CostName, ...] = get_args(CostName)
MAX_NAME = 24  # characters of a label in the plot
PLOT = (800.0, 420.0)  # pixels within the axes of an image
MAX_CURVES = 300  # of a kind; more only overlap, and make a page of 10,000 trials slow


def accuracy_against(run: Run, cost: CostName) -> go.Figure:
    """Validation accuracy against one cost (log axis): a point for each complete trial, filled if it is on the run's front.

    The staircase is the front of these two axes: the best accuracy at this cost or less. The run's front, over all its
    objectives, may have members off the staircase. Baselines are labeled diamonds. A stopped trial is drawn faintly at the
    accuracy of its last epoch; the axis fits the complete ones. Once the front is confirmed, confirmed networks are drawn at
    their means with error bars of one standard error over their seeds, and only they make the staircase; the dotted staircase
    is that of the search. UsageError for an unknown cost.
    """
    if cost not in COSTS:
        raise UsageError(f"accuracy_against: unknown cost {cost!r}; known: {', '.join(COSTS)}")
    trials = run.complete()
    stopped = [trial for trial in run.trials if trial.state == "stopped" and trial.epochs]
    unit = ", ms" if cost == LATENCY else ""
    figure = blank(f"{NOUNS[cost]}{unit} (log scale)", "validation accuracy")
    figure.update_xaxes(minor={"ticks": "outside", "ticklen": 3})
    figure.update_yaxes(tickformat="~%")
    if not trials and not stopped:
        return say(figure, "no trial has been trained yet")
    if cost == LATENCY and not any(trial.latency for trial in (*trials, *stopped)):
        return say(figure, "this run measured no latency")
    span = cost_axis(figure, [trial.price(cost) for trial in (*trials, *stopped)])
    plot = _CostPlot(figure, run, cost)
    plot.scatter(stopped, "stopped", "stopped", {"symbol": "x-thin-open", "size": 7, "opacity": 0.45})
    if trials:
        plot.staircases(trials)
    on_front = {trial.number for trial in run.front()}
    searched = [trial for trial in trials if not trial.label]
    off = [trial for trial in searched if trial.number not in on_front]
    plot.scatter(off, "trial", "trial", {"symbol": "circle-open", "size": 8, "opacity": 0.8})
    members = [trial for trial in searched if trial.number in on_front]
    plot.scatter(members, "front", "front", {"symbol": "circle", "size": 10})
    heights = _heights(run, trials) if trials else [0.0, 1.0]
    plot.labelled(trials, on_front, (span, heights))
    best = knee(run)
    if best is not None:
        plot.scatter([best], "knee", "knee", {"symbol": "circle-open", "size": 20, "line": {"width": 2.5}})
    if trials:
        figure.update_yaxes(range=heights)
    return figure


def cost_axis(figure: go.Figure, costs: Sequence[float]) -> list[float]:
    """Make the x axis logarithmic and fit it to the costs; its range in powers of 10."""
    low, high = span = _padded([math.log10(cost) for cost in costs], least=0.1)
    # Plotly labels 1, 2, 5 where a tick is 0.3 to 0.7 decades, powers of 10 above 0.7, and all nine digits below 0.3, which overlap.
    decades = high - low
    ticks = 4 if decades < 1 else round(decades / 0.5) if decades < 4 else round(decades)
    figure.update_xaxes(type="log", tickformat="~s", range=span, nticks=ticks)
    return span


@dataclass(frozen=True, slots=True)
class _CostPlot:
    """A plot of a run's accuracies against one cost."""

    figure: go.Figure
    run: Run
    cost: CostName

    def scatter(self, shown: Sequence[Trial], role: str, name: str, marker: Json, **more: Any) -> None:
        import plotly.graph_objects as go

        if not shown:
            return
        errors = [trial.confirmed.std_error if self.run.by_means and trial.confirmed else 0.0 for trial in shown]
        bars = {"type": "data", "array": errors, "color": theme.LIGHT[role], "thickness": 1.2, "width": 3}
        if any(errors) and role != "knee":
            more = {**more, "error_y": bars}
        self.figure.add_trace(
            go.Scatter(
                x=[trial.price(self.cost) for trial in shown],
                y=[_height(self.run, trial) for trial in shown],
                mode="markers" if "text" not in more else "markers+text",
                name=name,
                meta=role,
                marker={"color": theme.LIGHT[role], **marker},
                hovertext=[_hover(self.run, trial) for trial in shown],
                hoverinfo="text",
                **more,
            )
        )

    def staircases(self, trials: Sequence[Trial]) -> None:
        """The front of these two axes, and, if trials are ranked by means, that of the search as a dotted line."""
        run = self.run
        self.figure.add_trace(staircase([(_height(run, trial), trial.price(self.cost)) for trial in run.ranked()]))
        if run.by_means:
            before = staircase([(trial.accuracy or 0.0, trial.price(self.cost)) for trial in trials])
            dotted = {"shape": "hv", "color": theme.LIGHT["trial"], "width": 1.2, "dash": "dot"}
            self.figure.add_trace(before.update(name="best in the search", meta="trial", line=dotted))

    def labelled(
        self, trials: Sequence[Trial], on_front: set[int], ranges: tuple[Sequence[float], Sequence[float]]
    ) -> None:
        """The baselines among the trials, with their names."""
        baselines = [trial for trial in trials if trial.label]
        sides = _sides(self.run, baselines, trials, self.cost, ranges)
        names = [escape(_clipped(trial.name), quote=False) for trial in baselines]
        self.scatter(
            baselines,
            "baseline",
            "baseline",
            {"symbol": ["diamond" if trial.number in on_front else "diamond-open" for trial in baselines], "size": 11},
            text=[name if at else "" for name, at in zip(names, sides, strict=True)],
            textposition=[at or "bottom right" for at in sides],
            textfont={"color": theme.LIGHT["baseline"]},
            cliponaxis=False,
        )


def learning_curves(run: Run) -> go.Figure:
    """Validation accuracy by epoch: the run's front in color, baselines dashed, all other trials faint.

    Of each kind at most `MAX_CURVES` are drawn, evenly spread over their last accuracies, and the legend says so.
    """
    import plotly.graph_objects as go

    figure = blank("epoch", "validation accuracy")
    figure.update_yaxes(tickformat="~%")
    curves = [trial for trial in run.trials if trial.epochs]
    if not curves:
        return say(figure, "no epoch has been trained yet")
    whole_numbers(figure, 1, max(trial.epochs[-1].number for trial in curves))
    ends = [extreme(epoch.accuracy for trial in curves for epoch in trial.epochs) for extreme in (min, max)]
    if ends[0] == ends[1]:  # the default range would be from -1 to +1 around it
        figure.update_yaxes(range=_padded(ends, least=0.02))
    on_front = {trial.number for trial in run.front()}

    def lines(shown: Sequence[Trial], role: str, name: str, **line: Any) -> None:
        """All curves in one trace with gaps: one trace for each trial would be slow."""
        if not shown:
            return
        if len(shown) > MAX_CURVES:
            name = f"{name} ({MAX_CURVES} of {len(shown):,})"
            ranked = sorted(shown, key=lambda trial: trial.epochs[-1].accuracy)
            shown = [ranked[round(k * (len(ranked) - 1) / (MAX_CURVES - 1))] for k in range(MAX_CURVES)]
        x: list[int | None] = []
        y: list[float | None] = []
        names: list[str | int | None] = []
        for trial in shown:
            x += [*(epoch.number for epoch in trial.epochs), None]
            y += [*(round(epoch.accuracy, 6) for epoch in trial.epochs), None]
            names += [escape(trial.name, quote=False)] * len(trial.epochs) + [None]
        single = any(len(trial.epochs) == 1 for trial in shown)  # a line through one point is invisible
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                customdata=names,
                mode="lines+markers" if single else "lines",
                name=name,
                meta=role,
                line={"color": theme.LIGHT[role], **line},
                marker={"color": theme.LIGHT[role], "size": 4},
                opacity={"stopped": 0.35, "trial": 0.5}.get(role, 1.0),
                connectgaps=False,
                hovertemplate="%{customdata}<br>epoch %{x}: %{y:.2%}<extra></extra>",
            )
        )

    searched = [trial for trial in curves if not trial.label]
    ended = [trial for trial in searched if trial.state == "complete"]
    cut = [trial for trial in searched if trial.state != "complete"]
    lines(cut, "stopped", "cut short", width=1, dash="dot")
    lines([trial for trial in ended if trial.number not in on_front], "trial", "trial", width=1)
    lines([trial for trial in curves if trial.label], "baseline", "baseline", width=2, dash="dash")
    lines([trial for trial in ended if trial.number in on_front], "front", "front", width=2)
    return figure


def hypervolume(run: Run) -> go.Figure:
    """Hypervolume of the front after each completed trial: costs on log10 axes, from the run's reference point."""
    import plotly.graph_objects as go

    figure = blank("completed trials", "hypervolume")
    figure.update_yaxes(rangemode="tozero")
    history = [float(volume) for volume in run.hypervolume_history()]
    if not history:
        return say(figure, "no trial has been completed yet")
    whole_numbers(figure, 0, len(history))
    last = len(history) - 1  # only the steps of the line are drawn
    steps = [k for k, volume in enumerate(history) if k in (0, last) or volume != history[k - 1]]
    figure.add_trace(
        go.Scatter(
            x=[k + 1 for k in steps],
            y=[history[k] for k in steps],
            mode="lines" if len(history) > 1 else "markers",
            name="hypervolume",
            meta="front",
            line={"shape": "hv", "color": theme.LIGHT["front"], "width": 2},
            marker={"color": theme.LIGHT["front"]},
            hovertemplate="after %{x} completed trials: %{y:.4g}<extra></extra>",
            showlegend=False,
        )
    )
    return figure


def blank(x: str, y: str) -> go.Figure:
    """An empty figure with the template and the axes' titles."""
    import plotly.graph_objects as go

    return go.Figure(
        layout={"template": theme.template(), "xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    )


def say(figure: go.Figure, words: str) -> go.Figure:
    """Text in place of a plot that has nothing to show."""
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return figure.add_annotation(text=words, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)


def whole_numbers(figure: go.Figure, first: int, last: int) -> None:
    """An axis of whole numbers, without ticks between them."""
    pad = 0.02 * max(last - first, 1)
    figure.update_xaxes(range=[first - pad, last + pad], dtick=1 if last - first <= 10 else None)


def _height(run: Run, trial: Trial) -> float:
    """The accuracy by which a trial is ranked; for one that was cut short, that of its last epoch."""
    accuracy = run.accuracy(trial)
    return trial.epochs[-1].accuracy if accuracy is None else accuracy


def staircase(values: Sequence[tuple[float, float]]) -> go.Scatter:
    """The best accuracy at each cost or less of (accuracy, cost), from the cheapest to the most expensive."""
    import plotly.graph_objects as go

    steps = [values[index] for index in pareto.front(values, ["maximize", "minimize"])]
    steps.append((steps[-1][0], max(x for _, x in values)))
    return go.Scatter(
        x=[x for _, x in steps],
        y=[y for y, _ in steps],
        mode="lines",
        name="best at this cost",
        meta="front",
        line={"shape": "hv", "color": theme.LIGHT["front"], "width": 1.5},
        hoverinfo="skip",
    )


def _heights(run: Run, trials: Sequence[Trial]) -> list[float]:
    """The range of the accuracies with their error bars."""
    ends = [trial.accuracy for trial in trials if trial.accuracy is not None]
    if run.by_means:
        estimates = [trial.confirmed for trial in run.ranked() if trial.confirmed]
        ends += [
            end
            for estimate in estimates
            for end in (estimate.mean - estimate.std_error, estimate.mean + estimate.std_error)
        ]
    return _padded(ends, least=0.002)


def _sides(
    run: Run,
    labelled: Sequence[Trial],
    trials: Sequence[Trial],
    cost: CostName,
    ranges: tuple[Sequence[float], Sequence[float]],
) -> list[str]:
    """The positions of the labels (`labels.sides`) in a plot of about the size of an image (`formats.draw`)."""
    wide, high = PLOT
    (left, right), (bottom, top) = ranges

    def at(x: float, y: float) -> labels.Point:
        return wide * (math.log10(x) - left) / (right - left), high * (top - y) / (top - bottom)

    points = {trial.number: at(trial.price(cost), _height(run, trial)) for trial in trials}
    stairs = staircase([(_height(run, trial), trial.price(cost)) for trial in run.ranked()]) if trials else None
    line = [at(x, y) for x, y in zip(stairs.x, stairs.y, strict=True)] if stairs else []
    named = {trial.number for trial in labelled}
    others = [point for number, point in points.items() if number not in named]
    return labels.sides(
        [points[trial.number] for trial in labelled],
        [_clipped(trial.name) for trial in labelled],
        [*others, *labels.along(line)],
        PLOT,
    )


def _clipped(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _padded(numbers: Sequence[float], least: float) -> list[float]:
    """The range of the numbers, padded on both sides."""
    low, high = min(numbers), max(numbers)
    pad = max(0.07 * (high - low), least)
    return [low - pad, high + pad]


def _measured(run: Run, trial: Trial) -> str:
    """`97.34 ± 0.21 % (3 seeds)`, or `97.57 %`, marked as of one training if others have means."""
    if run.by_means and trial.confirmed:
        return format_estimate(trial.confirmed)
    once = " (one training)" if run.by_means and trial.accuracy is not None else ""
    return f"{format_percent(_height(run, trial))} %{once}"


def _hover(run: Run, trial: Trial) -> str:
    title = f"{trial.label} (baseline)" if trial.label else trial.name
    epochs = run.config.get("recipe", {}).get("epochs", "?")
    ended = f", stopped after epoch {trial.epochs[-1].number} of {epochs}" if trial.state == "stopped" else ""
    counts = f"{format_count(trial.cost.params)} parameters, {format_count(trial.cost.macs)} MACs"
    if trial.latency:
        counts += f", {trial.latency}"
    words = [
        f"{_measured(run, trial)} validation accuracy{ended}",
        *([f"{format_percent(trial.accuracy or 0.0)} % in the search"] if run.by_means and trial.confirmed else []),
        counts,
        *textwrap.wrap(describe(trial.architecture), 46),
    ]
    return "<br>".join([f"<b>{escape(title, quote=False)}</b>", *(escape(line, quote=False) for line in words)])
