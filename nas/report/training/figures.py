"""Test results of a training by class, and the figures of its page, one function each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from nas.report.figures import blank, whole_numbers
from nas.report.html import theme
from nas.training.records import Epoch
from nas.utils.text import format_percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

MANY = 50  # classes; for more, no matrix is drawn, and only some classes have bars
WORST, BEST = 25, 10  # numbers of bars for many classes
NUMBERED = 20  # classes; for more, the matrix does not show counts
MAX_NAME = 18  # characters of a class's name at an axis
Z = 1.959963985  # quantile of the normal distribution for a 95 % interval
OPACITY = 0.65  # of the matrix's deepest color, on which text is readable in both schemes


@dataclass(frozen=True, slots=True)
class ByClass:
    """Number of test images of one class, and the share of them that was classified right."""

    name: str
    images: int
    accuracy: float | None  # None without images

    @property
    def order(self) -> tuple[float, int]:
        """Sort key, worst first: by accuracy, then by images, more first, because their accuracy is more certain."""
        return (2.0 if self.accuracy is None else self.accuracy, -self.images)


@dataclass(frozen=True, slots=True)
class Pair:
    """How many images of one class were classified as another."""

    true: str
    predicted: str
    count: int
    images: int  # of the true class

    def __str__(self) -> str:
        share = f"{format_percent(self.count / self.images)} %"
        return f"{self.true} is taken for {self.predicted} in {self.count:,} of {self.images:,} images ({share})"


@dataclass(frozen=True, slots=True)
class ClassResults:
    """Test results by class; empty for results of versions that did not keep them. Rows of `confusion` are true classes."""

    classes: tuple[ByClass, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def worst_first(self) -> list[ByClass]:
        """The classes that have images."""
        return sorted((one for one in self.classes if one.images), key=lambda one: one.order)

    def pairs(self) -> list[Pair]:
        """Pairs of confused classes, the most images first."""
        confused = [
            Pair(self.classes[i].name, self.classes[j].name, count, sum(row))
            for i, row in enumerate(self.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(confused, key=lambda pair: (-pair.count, pair.images))


def interval(share: float, images: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share observed in `images` images (Wilson 1927); it lies in [0, 1]."""
    centre = (share + Z * Z / (2 * images)) / (1 + Z * Z / images)
    half = Z / (1 + Z * Z / images) * math.sqrt(share * (1 - share) / images + Z * Z / (4 * images * images))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def rows(results: ClassResults) -> list[ByClass | None]:
    """The classes that have a bar, worst first; None stands for the gap before the best of many classes."""
    ranked = results.worst_first
    return [*ranked] if len(ranked) <= MANY else [*ranked[:WORST], None, *ranked[-BEST:]]


def bars(results: ClassResults, overall: float) -> go.Figure:
    """Accuracy by class with 95 % intervals, the worst at the top, and the accuracy over all images as a line."""
    import plotly.graph_objects as go

    placed = list(enumerate(rows(results)))
    shown = [(place, one, one.accuracy) for place, one in placed if one is not None and one.accuracy is not None]
    places, shares = [place for place, _, _ in shown], [share for _, _, share in shown]
    spans = [interval(share, one.images) for _, one, share in shown]
    hover = [
        f"<b>{label(one.name, 80)}</b><br>{format_percent(share)} % of {one.images:,} images"
        f"<br>95 % interval {format_percent(low)} to {format_percent(high)} %"
        for (_, one, share), (low, high) in zip(shown, spans, strict=True)
    ]
    ends = {
        "type": "data",
        "symmetric": False,
        "array": [high - share for share, (_, high) in zip(shares, spans, strict=True)],
        "arrayminus": [share - low for share, (low, _) in zip(shares, spans, strict=True)],
        "thickness": 1.5,
        "width": 3,
    }
    figure = blank("test accuracy", "")
    colour = theme.LIGHT["front"]
    common = {"y": places, "meta": "front", "hovertext": hover, "hoverinfo": "text", "showlegend": False}
    figure.add_trace(go.Bar(x=shares, orientation="h", marker={"color": colour, "opacity": 0.35}, **common))
    figure.add_trace(go.Scatter(x=shares, mode="markers", marker={"color": colour, "size": 6}, error_x=ends, **common))
    figure.add_trace(
        go.Scatter(
            x=[overall, overall],
            y=[-0.5, len(placed) - 0.5],
            mode="lines",
            name=f"all test images, {format_percent(overall)} %",
            meta="baseline",
            line={"color": theme.LIGHT["baseline"], "dash": "dash", "width": 1.5},
            hoverinfo="skip",
            showlegend=True,
        )
    )
    figure.update_xaxes(range=[0, 1.01], tickformat="~%")
    figure.update_yaxes(
        range=[len(placed) - 0.4, -0.6],
        tickvals=places,
        ticktext=[label(one.name) for _, one, _ in shown],
        showgrid=False,
    )
    return figure


def shares_of(results: ClassResults) -> list[list[float]]:
    """The confusion matrix with each row divided by the number of its class's images; zeros for a class without images."""
    return [[count / max(sum(row), 1) for count in row] for row in results.confusion]


def most_mistaken(results: ClassResults) -> float:
    """The largest share of a class's images that was classified as one other class."""
    return max(
        (share for i, row in enumerate(shares_of(results)) for j, share in enumerate(row) if i != j), default=0.0
    )


def matrix(results: ClassResults) -> go.Figure:
    """The confusion matrix as two heat maps, of right and of wrong answers, with separate scales, because mistakes are rare."""
    import plotly.graph_objects as go

    names = [one.name for one in results.classes]
    places = list(range(len(names)))
    counts, shares = results.confusion, shares_of(results)
    hover = [
        [
            f"<b>{label(names[i], 60)}</b> taken for <b>{label(names[j], 60)}</b><br>"
            f"{counts[i][j]:,} of {sum(counts[i]):,} images ({format_percent(shares[i][j])} %)"
            for j in places
        ]
        for i in places
    ]
    figure = blank("predicted class", "true class")
    for role, right, top in (("front", True, 1.0), ("baseline", False, most_mistaken(results))):
        drawn = [[(i == j) is right and counts[i][j] > 0 for j in places] for i in places]
        figure.add_trace(
            go.Heatmap(
                x=places,
                y=places,
                z=[[shares[i][j] if drawn[i][j] else None for j in places] for i in places],
                text=[[f"{counts[i][j]:,}" if drawn[i][j] else "" for j in places] for i in places],
                texttemplate="%{text}" if len(names) <= NUMBERED else None,
                textfont={"color": theme.LIGHT["ink"]},
                meta="ink",  # the role of the counts; the cells are transparent, so that they suit a light and a dark page
                hovertext=hover,
                hoverinfo="text",
                hoverongaps=False,
                colorscale=[[0, _clear(theme.LIGHT[role], 0.06)], [1, _clear(theme.LIGHT[role], OPACITY)]],
                zmin=0,
                zmax=top,
                xgap=1,
                ygap=1,
                showscale=False,
            )
        )
    ticks = {"tickvals": places, "ticktext": [label(name) for name in names], "showgrid": False}
    figure.update_xaxes(**ticks, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(**ticks, range=[len(names) - 0.5, -0.5])
    return figure


def loss(epochs: Sequence[Epoch]) -> go.Figure:
    """Training and validation loss by epoch."""
    figure = _by_epoch("loss", epochs)
    figure.add_trace(_line("training", epochs, [epoch.train_loss for epoch in epochs], "front", "%{y:.4f}"))
    figure.add_trace(_line("validation", epochs, [epoch.val_loss for epoch in epochs], "baseline", "%{y:.4f}", "dash"))
    return figure


def accuracy(epochs: Sequence[Epoch], test: float, standard_error: float) -> go.Figure:
    """Validation accuracy by epoch, and the test accuracy at the last epoch with twice its standard error."""
    import plotly.graph_objects as go

    figure = _by_epoch("accuracy", epochs)
    figure.add_trace(_line("validation", epochs, [epoch.accuracy for epoch in epochs], "baseline", "%{y:.2%}", "dash"))
    figure.add_trace(
        go.Scatter(
            x=[epochs[-1].number],
            y=[test],
            error_y={"type": "data", "array": [2 * standard_error]},
            mode="markers",
            name="test",
            meta="front",
            marker={"color": theme.LIGHT["front"], "symbol": "diamond", "size": 9},
            hovertemplate="test: %{y:.2%}<extra></extra>",
        )
    )
    return figure.update_yaxes(tickformat="~%")


def learning_rate(epochs: Sequence[Epoch]) -> go.Figure:
    """Learning rate of each epoch's last step."""
    figure = _by_epoch("learning rate", epochs)
    rates = [epoch.learning_rate for epoch in epochs]
    figure.add_trace(_line("learning rate", epochs, rates, "front", "%{y:.4g}"))
    return figure.update_layout(showlegend=False).update_yaxes(rangemode="tozero")


def label(name: str, most: int = MAX_NAME) -> str:
    """A name for Plotly, shortened and escaped, because Plotly interprets some HTML in texts."""
    return escape(name if len(name) <= most else f"{name[: most - 1]}…", quote=False)


def _by_epoch(title: str, epochs: Sequence[Epoch]) -> go.Figure:
    figure = blank("epoch", title)
    whole_numbers(figure, epochs[0].number, epochs[-1].number)
    return figure


def _line(
    name: str, epochs: Sequence[Epoch], values: Sequence[float], role: str, value: str, dash: str = "solid"
) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[epoch.number for epoch in epochs],
        y=list(values),
        mode="lines" if len(epochs) > 1 else "markers",
        name=name,
        meta=role,
        line={"color": theme.LIGHT[role], "width": 2, "dash": dash},
        marker={"color": theme.LIGHT[role]},
        hovertemplate=f"epoch %{{x}}, {name}: {value}<extra></extra>",
    )


def _clear(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
