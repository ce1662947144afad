"""Figures of the search: hypervolume over time, rank correlation of early and final accuracy, use of the workers' time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.analysis.accounting import AGAIN, account
from nas.analysis.rungs import LEAST
from nas.analysis.rungs import rung_correlation as correlations
from nas.analysis.volume import progress
from nas.report.figures._base import DASHES, band, blank, counted, say, series, titled
from nas.report.figures.trials import whole_numbers
from nas.report.html import theme
from nas.utils.text import format_seconds

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.run import Run

MAX_POINTS = 2000  # of the hypervolume curve; above, only its steps are drawn


def hypervolume_over_time(run: Run) -> go.Figure:
    """Hypervolume over training time summed over workers: in GPU-hours if the share of a GPU is known, else worker-hours."""
    import plotly.graph_objects as go

    history = progress(run)
    short = len(history.hours) > 0 and history.hours[-1] <= 2
    unit, hours = (
        (history.unit.replace("hours", "minutes"), 60 * history.hours) if short else (history.unit, history.hours)
    )
    figure = blank(f"{unit} of training", "hypervolume")
    figure.update_yaxes(rangemode="tozero")
    n = len(history.volume)
    if not n:
        return say(figure, "no trial has been completed yet")
    # Points between two equal volumes are invisible.
    kept = [k for k in range(n) if k in (0, n - 1) or n <= MAX_POINTS or history.volume[k] != history.volume[k - 1]]
    figure.add_trace(
        go.Scatter(
            x=[float(hours[k]) for k in kept],
            y=[float(history.volume[k]) for k in kept],
            mode="lines" if n > 1 else "markers",
            name="hypervolume",
            meta="front",
            line={"shape": "hv", "color": theme.LIGHT["front"], "width": 2},
            marker={"color": theme.LIGHT["front"]},
            hovertemplate=f"%{{x:.3g}} {unit}: %{{y:.4g}}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_xaxes(rangemode="tozero")
    return titled(figure, f"{counted(n, 'complete trial')}, {hours[-1]:.3g} {unit}")


def rung_correlation(run: Run) -> go.Figure:
    """Rank correlation (Spearman, Kendall) of the accuracy after each epoch with the final one, with 95 % bootstrap bands."""
    import plotly.graph_objects as go

    correlation = correlations(run)
    figure = blank("epoch", "rank correlation with final accuracy")
    if not correlation.rungs:
        return say(
            figure, f"{counted(correlation.trials, 'trial')} trained to the end so far; at least {LEAST} are needed"
        )
    epochs = [rung.epoch for rung in correlation.rungs]
    for number, name in enumerate(("spearman", "kendall")):
        values = [getattr(rung, name) for rung in correlation.rungs]
        role = series(number)
        bars = {}
        if len(epochs) > 1:
            figure.add_trace(band(epochs, [low for _, low, _ in values], [high for *_, high in values], role))
        else:  # a band has no width at one epoch
            ends = {
                "array": [high - value for value, _, high in values],
                "arrayminus": [v - low for v, low, _ in values],
            }
            bars = {"error_y": {"type": "data", **ends, "color": theme.LIGHT[role], "thickness": 1.5, "width": 6}}
        figure.add_trace(
            go.Scatter(
                # A single epoch: next to each other, so that the error bars don't overlap.
                x=epochs if len(epochs) > 1 else [1 + 0.004 * number],
                y=[value for value, *_ in values],
                customdata=[[low, high, epoch] for (_, low, high), epoch in zip(values, epochs, strict=True)],
                mode="lines+markers",
                name={"spearman": "Spearman's ρ", "kendall": "Kendall's τ"}[name],
                meta=role,
                line={"color": theme.LIGHT[role], "width": 2, "dash": DASHES[number]},
                marker={"color": theme.LIGHT[role], "size": 6},
                hovertemplate="epoch %{customdata[2]}: %{y:.2f} (%{customdata[0]:.2f} to %{customdata[1]:.2f})<extra></extra>",
                **bars,
            )
        )
    whole_numbers(figure, epochs[0], epochs[-1])
    figure.update_yaxes(range=[min(0.0, *(rung.kendall[1] for rung in correlation.rungs)) - 0.02, 1.02])
    left = f"; {correlation.stopped:,} stopped ones left out" if correlation.stopped else ""
    return titled(figure, f"{counted(correlation.trials, 'trial')} of {correlation.epochs} epochs{left}")


def time_spent(run: Run) -> go.Figure:
    """Worker time by use: trainings by the state of their trial, orchestration, start-up."""
    import plotly.graph_objects as go

    spending = account(run)
    figure = blank("worker-hours", "")
    if not spending.items:
        return say(figure, "nothing has been trained yet")
    if not spending.seconds:
        return say(figure, "no time was measured")
    unit, size = ("hours", 3600) if spending.seconds > 2 * 3600 else ("minutes", 60)
    figure.update_xaxes(title={"text": f"worker-{unit}"})
    for role, chosen in (
        ("front", [item for item in spending.items if item.trials]),
        ("trial", [item for item in spending.items if not item.trials]),
    ):
        if chosen:
            figure.add_trace(
                go.Bar(
                    x=[item.seconds / size for item in chosen],
                    y=[item.name for item in chosen],
                    orientation="h",
                    name="training" if role == "front" else "no training",
                    meta=role,
                    marker={"color": theme.LIGHT[role], "pattern": {"shape": "" if role == "front" else "/"}},
                    text=[f"{item.seconds / spending.seconds:.0%}" for item in chosen],
                    textposition="outside",
                    cliponaxis=False,
                    hovertext=[
                        f"{item.name}: {format_seconds(item.seconds)}"
                        + (
                            f", {counted(item.trials, 'training' if item.name == AGAIN else 'trial')}"
                            if item.trials
                            else ""
                        )
                        for item in chosen
                    ],
                    hoverinfo="text",
                )
            )
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=[item.name for item in spending.items]
    )
    figure.update_layout(bargap=0.35)
    figure.update_xaxes(range=[0, 1.15 * max(item.seconds for item in spending.items) / size])
    trials = sum(item.trials for item in spending.items if item.name != AGAIN)
    missing = " (killed sessions left out)" if spending.unaccounted else ""
    return titled(figure, f"{counted(trials, 'trial')}, {format_seconds(spending.seconds)} of worker time{missing}")
