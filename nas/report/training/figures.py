"""What a training's test found by class, and the figures of its page, one function each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from nas.report.figures import blank, whole_numbers
from nas.report.html import theme
from nas.training.records import Epoch
from nas.utils.text import format_percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

MANY = 50  # classes; above, no matrix is drawn, and not a bar for each
WORST, BEST = 25, 10  # bars of many classes
NUMBERED = 20  # classes at most whose matrix has its counts written into it
MAX_NAME = 18  # characters of a class beside an axis
Z = 1.959963985  # of a 95 % interval
OPACITY = 0.65  # of the matrix's deepest colour, on which text can still be read in both schemes


@dataclass(frozen=True, slots=True)
class ByClass:
    """The test's images of one class, and the share of them that was recognised."""

    name: str
    images: int
    accuracy: float | None  # None without images

    @property
    def order(self) -> tuple[float, int]:
        """Of worst first: by accuracy, and of equal ones the one of more images, which is the surer."""
        return (2.0 if self.accuracy is None else self.accuracy, -self.images)


@dataclass(frozen=True, slots=True)
class Pair:
    """How many images of one class were taken for another."""

    true: str
    predicted: str
    count: int
    images: int  # of the true class

    def said(self) -> str:
        share = f"{format_percent(self.count / self.images)} %"
        return f"{self.true} is taken for {self.predicted} in {self.count:,} of {self.images:,} images ({share})"


@dataclass(frozen=True, slots=True)
class Found:
    """The test by class; empty where the result was made before that was kept. Rows of `confusion` are true classes."""

    classes: tuple[ByClass, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def worst_first(self) -> list[ByClass]:
        """The classes that have images."""
        return sorted((one for one in self.classes if one.images), key=lambda one: one.order)

    def pairs(self) -> list[Pair]:
        """Classes and what they were taken for, the most images first."""
        found = [
            Pair(self.classes[i].name, self.classes[j].name, count, sum(row))
            for i, row in enumerate(self.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(found, key=lambda pair: (-pair.count, pair.images))


def interval(share: float, images: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in so many images (Wilson 1927); it stays in [0, 1]."""
    centre = (share + Z * Z / (2 * images)) / (1 + Z * Z / images)
    half = Z / (1 + Z * Z / images) * math.sqrt(share * (1 - share) / images + Z * Z / (4 * images * images))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def rows(found: Found) -> list[ByClass | None]:
    """The classes that have a bar, from the worst on; None is a gap, above the best of many."""
    ranked = found.worst_first
    return [*ranked] if len(ranked) <= MANY else [*ranked[:WORST], None, *ranked[-BEST:]]


def bars(found: Found, overall: float) -> go.Figure:
    """Accuracy by class with 95 % intervals, the worst on top, and the accuracy over all images as a line."""
    import plotly.graph_objects as go

    placed = list(enumerate(rows(found)))
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


def shares_of(found: Found) -> list[list[float]]:
    """The confusion matrix with each row divided by its class's images; a class without images has zeros."""
    return [[count / max(sum(row), 1) for count in row] for row in found.confusion]


def most_mistaken(found: Found) -> float:
    """The largest share of a class's images that was taken for one other class."""
    return max((share for i, row in enumerate(shares_of(found)) for j, share in enumerate(row) if i != j), default=0.0)


def matrix(found: Found) -> go.Figure:
    """Right and wrong answers as two heat maps in one, each with a scale of its own: a good network's mistakes are few."""
    import plotly.graph_objects as go

    names = [one.name for one in found.classes]
    places = list(range(len(names)))
    counts, shares = found.confusion, shares_of(found)
    hover = [
        [
            f"<b>{label(names[i], 60)}</b> taken for <b>{label(names[j], 60)}</b><br>"
            f"{counts[i][j]:,} of {sum(counts[i]):,} images ({format_percent(shares[i][j])} %)"
            for j in places
        ]
        for i in places
    ]
    figure = blank("predicted class", "true class")
    for role, right, top in (("front", True, 1.0), ("baseline", False, most_mistaken(found))):
        drawn = [[(i == j) is right and counts[i][j] > 0 for j in places] for i in places]
        figure.add_trace(
            go.Heatmap(
                x=places,
                y=places,
                z=[[shares[i][j] if drawn[i][j] else None for j in places] for i in places],
                text=[[f"{counts[i][j]:,}" if drawn[i][j] else "" for j in places] for i in places],
                texttemplate="%{text}" if len(names) <= NUMBERED else None,
                textfont={"color": theme.LIGHT["ink"]},
                meta="ink",  # the role of the counts; the cells are see-through, so that they suit a light and a dark page
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


def accuracy(epochs: Sequence[Epoch], test: Mapping[str, Any]) -> go.Figure:
    """Validation accuracy by epoch, and the test's behind the last one with twice its standard error."""
    import plotly.graph_objects as go

    figure = _by_epoch("accuracy", epochs)
    figure.add_trace(_line("validation", epochs, [epoch.accuracy for epoch in epochs], "baseline", "%{y:.2%}", "dash"))
    figure.add_trace(
        go.Scatter(
            x=[epochs[-1].number],
            y=[test["accuracy"]],
            error_y={"type": "data", "array": [2 * test["standard_error"]]},
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
    """A name for Plotly, which reads some HTML in its texts."""
    return escape(name if len(name) <= most else f"{name[: most - 1]}…", quote=False)


def _by_epoch(title: str, epochs: Sequence[Epoch]) -> go.Figure:
    figure = blank("epoch", title)
    whole_numbers(figure, epochs[0].number, epochs[-1].number)
    return figure


def _line(
    name: str, epochs: Sequence[Epoch], values: Sequence[float], role: str, said: str, dash: str = "solid"
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
        hovertemplate=f"epoch %{{x}}, {name}: {said}<extra></extra>",
    )


def _clear(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
