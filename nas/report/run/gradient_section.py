"""Gradient norms by layer: captions and a table, for the pages of a run and of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.report.figures.gradients import FIRST, Norm, gradients, layers, norms, recorded
from nas.report.html.markup import Html, table
from nas.training.comparison_records import Compared

if TYPE_CHECKING:
    from nas.report.html.chart import Chart, Content
    from nas.runs.run import Run

NORMS: tuple[Norm, ...] = ("outputs", "weights")


def gradient_flow(run: Run) -> Content:
    """Gradient norms of the recommended networks and the baselines; nothing if none was recorded."""
    from nas.report.html.chart import Chart

    networks = recorded(run)
    if not networks:
        return []
    steps = int(run.config["gradient_steps"])
    names = ", ".join(network.name for network in networks)
    label = f"Chart of gradient norms by layer of {names}, from the first steps to the last epoch."
    charts: list[Chart] = [
        Chart(f"gradients-{norm}", gradients(networks, norm), label, what_is_drawn(norm, steps)) for norm in NORMS
    ]
    return [*charts, spans(networks)]


def what_is_drawn(norm: Norm, steps: int) -> str:
    """The caption of `nas.report.figures.gradients`. steps: number of steps over which a norm is averaged."""
    what, symbol = ("the layer's output y", "‖∂L/∂y‖") if norm == "outputs" else ("the layer's weights W", "‖∂L/∂W‖")
    return (
        f"{symbol}: Euclidean norm of the gradient of a step's loss (mean over its images) with respect to {what}, averaged over"
        f" the {steps} first steps, or the {steps} last of an epoch: move the slider. Layers are"
        " convolutions and linear layers, counted from the input to the output; those outside the main path (shortcuts, gates)"
        " are points without a line."
    )


def spans(networks: Sequence[Compared]) -> Html:
    """Table of ‖∂L/∂y‖ at the first and last layer and their ratio, in the first steps and the last epoch."""
    last_epoch = max((epoch for network in networks for epoch in norms(network, "outputs")), default=FIRST)
    rows = []
    for network in networks:
        by_epoch = norms(network, "outputs")
        path = [number for number, layer in enumerate(layers(network)) if layer.on_path]
        if len(path) < 2:
            continue
        row = [network.name, str(len(path))]
        for epoch in (FIRST, last_epoch):
            norms_here = by_epoch.get(epoch)
            first, last = (norms_here[path[0]], norms_here[path[-2]]) if norms_here else (None, None)
            row += [_number(first), _number(last), _number(first / last if first is not None and last else None)]
        rows.append(row)
    caption = (
        "‖∂L/∂y‖ at the first layer and at the last one before the classifier, and their ratio, in the first"
        f" steps and in epoch {last_epoch}. A ratio far below 1 is a vanishing gradient, one far above 1 an exploding gradient."
    )
    moments = ("first steps", f"epoch {last_epoch}")
    head = ["Network", "Layers", *(f"{what}, {when}" for when in moments for what in ("First", "Last", "Ratio"))]
    return table(caption, head, rows, numbers=range(1, len(head)))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"
