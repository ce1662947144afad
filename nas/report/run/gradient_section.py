"""Gradient norms in words and numbers, for the pages of a run and of a comparison."""

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
    """How gradients pass the layers of the networks to look at and of the baselines; nothing where none was recorded."""
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
    """The caption of `nas.report.figures.gradients`. steps: those that a norm is the mean of."""
    what, symbol = ("the layer's output y", "‖∂L/∂y‖") if norm == "outputs" else ("the layer's weights W", "‖∂L/∂W‖")
    return (
        f"{symbol}: Euclidean norm of the gradient of a step's loss (mean over its images) with respect to {what}, averaged over"
        f" the {steps} first steps, or the {steps} last of an epoch: move the slider. Layers are"
        " convolutions and linear layers, counted from the images to the classes; those beside the main path (shortcuts, gates)"
        " are points without a line."
    )


def spans(networks: Sequence[Compared]) -> Html:
    """In numbers: what arrives at the first layer of what the classifier's layer hands back, at the start and at the end."""
    last_epoch = max((epoch for network in networks for epoch in norms(network, "outputs")), default=FIRST)
    rows = []
    for network in networks:
        by_epoch = norms(network, "outputs")
        path = [number for number, layer in enumerate(layers(network)) if layer.on_path]
        if len(path) < 2:
            continue
        row = [network.name, str(len(path))]
        for epoch in (FIRST, last_epoch):
            found = by_epoch.get(epoch)
            first, last = (found[path[0]], found[path[-2]]) if found else (None, None)
            row += [_number(first), _number(last), _number(first / last if first is not None and last else None)]
        rows.append(row)
    caption = (
        "‖∂L/∂y‖ at the first layer and at the last one before the classifier, and their ratio. A ratio far below 1 is a gradient"
        f" that vanishes on its way to the first layer, one far above 1 a gradient that explodes; first steps and epoch {last_epoch}."
    )
    moments = ("first steps", f"epoch {last_epoch}")
    head = ["Network", "Layers", *(f"{what}, {when}" for when in moments for what in ("First", "Last", "Ratio"))]
    return table(caption, head, rows, numbers=range(1, len(head)))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"
