"""Figures of the search itself: what it has gained for its time, what early epochs told, where the time went."""

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

MAX_POINTS = 2000  # of a line that only rises


def hypervolume_over_time(run: Run) -> go.Figure:
    """Hypervolume over the hours, or minutes, that all trials took, summed over workers: of GPUs where their share of one is known."""
    import plotly.graph_objects as go

    found = progress(run)
    short = len(found.hours) > 0 and found.hours[-1] <= 2
    unit, hours = (found.unit.replace("hours", "minutes"), 60 * found.hours) if short else (found.unit, found.hours)
    figure = blank(f"{unit} of training", "hypervolume")
    figure.update_yaxes(rangemode="tozero")
    n = len(found.volume)
    if not n:
        return say(figure, "no trial has been completed yet")
    # Where the volume stays as it is, nothing is seen of the points between.
    kept = [k for k in range(n) if k in (0, n - 1) or n <= MAX_POINTS or found.volume[k] != found.volume[k - 1]]
    figure.add_trace(
        go.Scatter(
            x=[float(hours[k]) for k in kept],
            y=[float(found.volume[k]) for k in kept],
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
    """Rank correlation of the accuracy behind each epoch with that behind the last, with 95 % bootstrap bands."""
    import plotly.graph_objects as go

    found = correlations(run)
    figure = blank("epoch", "rank correlation with the last epoch")
    if not found.rungs:
        return say(
            figure,
            f"{counted(found.trials, 'trial')} trained to the end so far; from {LEAST} on there is something to see",
        )
    epochs = [rung.epoch for rung in found.rungs]
    for number, name in enumerate(("spearman", "kendall")):
        values = [getattr(rung, name) for rung in found.rungs]
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
                x=epochs
                if len(epochs) > 1
                else [1 + 0.004 * number],  # beside each other, lest one bar lies on the other
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
    figure.update_yaxes(range=[min(0.0, *(rung.kendall[1] for rung in found.rungs)) - 0.02, 1.02])
    left = f"; {found.stopped:,} stopped ones left out" if found.stopped else ""
    return titled(figure, f"{counted(found.trials, 'trial')} of {found.epochs} epochs{left}")


def time_spent(run: Run) -> go.Figure:
    """Hours of workers by what they went into: trainings by how they ended, orchestration, start-up."""
    import plotly.graph_objects as go

    found = account(run)
    figure = blank("hours of workers", "")
    if not found.items:
        return say(figure, "nothing has been trained yet")
    if not found.seconds:
        return say(figure, "no time was measured")
    unit, size = ("hours", 3600) if found.seconds > 2 * 3600 else ("minutes", 60)
    figure.update_xaxes(title={"text": f"{unit} of workers"})
    for role, chosen in (
        ("front", [item for item in found.items if item.trials]),
        ("trial", [item for item in found.items if not item.trials]),
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
                    text=[f"{item.seconds / found.seconds:.0%}" for item in chosen],
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
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=[item.name for item in found.items])
    figure.update_layout(bargap=0.35)
    figure.update_xaxes(range=[0, 1.15 * max(item.seconds for item in found.items) / size])
    trials = sum(item.trials for item in found.items if item.name != AGAIN)
    missing = " (killed sessions left out)" if found.unaccounted else ""
    return titled(figure, f"{counted(trials, 'trial')}, {format_seconds(found.seconds)} of workers{missing}")
