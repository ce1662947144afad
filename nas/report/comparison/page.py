"""A comparison of networks as one HTML page: results, error curves, and gradient norms by layer."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.networks.describe import describe
from nas.report.comparison import figures
from nas.report.figures.gradients import Norm, gradients
from nas.report.html.chart import Chart
from nas.report.html.document import document
from nas.report.html.markup import Html, table, tag
from nas.report.run.gradient_section import NORMS, spans, what_is_drawn
from nas.report.run.sections import MACS, facts, tied
from nas.training.comparison_records import Compared, Findings, mean
from nas.utils.files import write_text
from nas.utils.text import counted, format_count, format_percent, format_seconds, points

if TYPE_CHECKING:
    from nas.networks.architecture import Architecture

HEADINGS = {"outputs": "Gradients at the layers' outputs", "weights": "Gradients of the layers' weights"}


def write(findings: Findings, path: Path) -> None:
    """Write the self-contained page. NasError if it can't be written."""
    write_text(path, page(findings))


def page(findings: Findings) -> str:
    """The whole page of a comparison, which may still be running."""
    charts: list[Chart] = []

    def place(*new: Chart) -> Html:
        charts.extend(new)
        return tag("div", *(chart.place() for chart in new), class_="charts")

    parts = [_opening(findings), _table(findings)]
    if any(outcome.points for network in findings.networks for outcome in network.outcomes):
        errors = place(_errors(findings, "training"), _errors(findings, "validation"))
        parts.append(tag("section", tag("h2", "Errors"), errors))
    if any(outcome.moments for network in findings.networks for outcome in network.outcomes):
        for norm in NORMS:
            drawn = place(_gradients(findings, norm), _first_layer(findings, norm))
            more = [spans(findings.networks)] if norm == "outputs" else []
            parts.append(tag("section", tag("h2", HEADINGS[norm]), drawn, *more))
    parts += [_provenance(findings)]
    return document(_title(findings), tag("main", *parts), charts)


# -- sentences, also for the terminal ------------------------------------------------------------------------------------


def measured(findings: Findings) -> str:
    """A sentence about how, and on which images, the errors were measured."""
    data = findings.dataset
    shown, images = data["measured_train_images"], data["train_images"]
    part = f"all {images:,}" if shown == images else f"a fixed {shown:,} of the {images:,}"
    return (
        f"Errors are measured after each epoch in evaluation mode, without augmentation: the training error on {part} images "
        f"trained on, the validation error on {data['validation_images']:,} held out. The test images are not used."
    )


def degradations(findings: Findings) -> list[str]:
    """For networks that differ only in depth: whether the deeper one has a higher error on the training images."""
    sentences = []
    for shallow, deep in _pairs(findings.networks):
        low, high = mean(shallow.train_errors), mean(deep.train_errors)
        if low is None or high is None:
            continue
        pair = f"{deep.name} at {format_percent(high)} %, {shallow.name} at {format_percent(low)} %"
        difference = points(high, low)
        if difference > 0:
            sentences.append(
                f"Training error is higher in the deeper network: {pair}. If this persists in longer training, it is the"
                " degradation described by He et al. 2015."
            )
        elif difference < 0:
            sentences.append(f"Training error is lower in the deeper network: {pair}.")
        else:
            sentences.append(f"Training error is the same in the deeper network: {pair}.")
    if sentences and findings.repeats == 1:
        sentences.append("Each network was trained once, from one seed; --repeats shows the influence of chance.")
    return sentences


def spread(numbers: Sequence[float]) -> str:
    """A mean in percent, with the sample standard deviation if there are several numbers: `8.31 ± 0.42`."""
    if not numbers:
        return "–"
    deviation = f" ± {format_percent(statistics.stdev(numbers))}" if len(numbers) > 1 else ""
    return format_percent(statistics.fmean(numbers)) + deviation


def troubles(network: Compared, repeats: int) -> str:
    """Why trainings of the network are not complete; "" if all are."""
    reasons = [
        outcome.reason if repeats == 1 else f"seed {outcome.seed}: {outcome.reason}"
        for outcome in network.outcomes
        if outcome.state != "complete"
    ]
    if missing := repeats - len(network.outcomes):
        reasons.append("not trained yet" if repeats == 1 else f"{missing} of {repeats} not trained yet")
    return "; ".join(reasons)


def _pairs(networks: Sequence[Compared]) -> Iterator[tuple[Compared, Compared]]:
    """Pairs of networks that are adjacent in depth and differ only in the number of blocks in their stages."""

    def blocks(network: Compared) -> int:
        return sum(stage.depth for stage in network.architecture.stages)

    families: dict[str, list[Compared]] = {}
    for network in networks:
        families.setdefault(_design(network.architecture), []).append(network)
    for family in families.values():
        yield from itertools.pairwise(sorted(family, key=blocks))


def _design(architecture: Architecture) -> str:
    stages = tuple(dataclasses.replace(stage, depth=1) for stage in architecture.stages)
    return dataclasses.replace(architecture, stages=stages).digest


# -- sections ------------------------------------------------------------------------------------------------------------


def _title(findings: Findings) -> str:
    return "Comparison of " + ", ".join(network.name for network in findings.networks)


def _opening(findings: Findings) -> Html:
    recipe = findings.recipe
    trained = (
        f"Trained one after another by the same recipe ({counted(recipe.epochs, 'epoch')}, {recipe.batch_size} images a step, peak learning"
        f" rate {recipe.learning_rate:g}) on the same split of {findings.dataset['name']}"
    )
    seeds = (
        "from one seed each." if findings.repeats == 1 else f"{findings.repeats} times each, from consecutive seeds."
    )
    best = [(error, network) for network in findings.networks if (error := mean(network.validation_errors)) is not None]
    results = []
    if best:
        error, network = min(best, key=lambda pair: pair[0])
        deviation = _standard_error(error, findings.dataset["validation_images"])
        results.append(
            f"Lowest validation error: {network.name} with {format_percent(error)} %; of {findings.dataset['validation_images']:,}"
            f" images, such an error has a standard error of {format_percent(deviation)} percentage points."
        )
    lines = [tag("p", tied(text)) for text in (f"{trained}, {seeds}", *results, *degradations(findings))]
    return tag(
        "header", tag("h1", _title(findings)), *lines, tag("p", tied(f"{measured(findings)} {MACS}"), class_="quiet")
    )


def _standard_error(error: float, images: int) -> float:
    return math.sqrt(error * (1 - error) / images)


def _table(findings: Findings) -> Html:
    repeated = findings.repeats > 1
    columns = ["Network", "Training error, %", "Validation error, %", "Parameters", "MACs", "Time"]
    rows = []
    for network in findings.networks:
        cost = network.cost
        errors = (spread(network.train_errors), spread(network.validation_errors))
        seconds = format_seconds(sum(outcome.seconds for outcome in network.outcomes))
        rows.append([network.name, *errors, format_count(cost.params), format_count(cost.macs), seconds])
    caption = "Errors after the last epoch; time is that of training and validation."
    if repeated:
        caption = "Errors after the last epoch, mean ± standard deviation over complete trainings; time is the sum over all trainings."
        columns.append("Complete")
        for row, network in zip(rows, findings.networks, strict=True):
            row.append(f"{len(network.complete)} of {findings.repeats}")
    notes = [troubles(network, findings.repeats) for network in findings.networks]
    words = {"Note": notes} if any(notes) else {}
    words["Design"] = [describe(network.architecture) for network in findings.networks]
    filled = [[*row, *texts] for row, *texts in zip(rows, *words.values(), strict=True)]
    head = [*columns, *words]
    content = table(caption, head, filled, numbers=range(1, len(columns)), words=range(len(columns), len(head)))
    return tag("section", tag("h2", "Networks"), content)


def _errors(findings: Findings, which: figures.Split) -> Chart:
    names = ", ".join(network.name for network in findings.networks)
    caption = f"{which.capitalize()} error after each epoch."
    if findings.repeats > 1:
        caption += f" Bold: mean over a network's complete trainings, at most {findings.repeats}; thin: each training."
    if any(outcome.state == "diverged" for network in findings.networks for outcome in network.outcomes):
        caption += " A line that ends in a cross diverged there."
    if figures.first_fitted(findings) > 1:
        caption += (
            f" The axis is fitted to the epochs from {figures.first_fitted(findings)} on; double-click to see all."
        )
    label = f"Chart of {which} error by epoch of {names}."
    return Chart(f"{which}-error", figures.errors(findings, which), label, caption)


def _gradients(findings: Findings, norm: Norm) -> Chart:
    caption = what_is_drawn(norm, findings.gradient_steps)
    names = ", ".join(network.name for network in findings.networks)
    label = f"Chart of gradient norms by layer of {names}, from the first steps to the last epoch."
    return Chart(f"gradients-{norm}", gradients(findings.networks, norm), label, caption)


def _first_layer(findings: Findings, norm: Norm) -> Chart:
    names = ", ".join(network.name for network in findings.networks)
    label = f"Chart of the first layer's gradient norm by epoch of {names}."
    caption = "The same norm at the first layer, the farthest from the loss, after each epoch; epoch 0 stands for the first steps."
    return Chart(f"first-layer-{norm}", figures.first_layer(findings, norm), label, caption)


def _provenance(findings: Findings) -> Html:
    data = dict(findings.dataset)
    runs = {
        "seed of the split": findings.seed,
        "seeds of weights and batches": [findings.seed + k for k in range(findings.repeats)],
        "steps a gradient norm is averaged over": findings.gradient_steps or "not recorded",
        "device": findings.device,
        "precision": findings.precision,
    }
    tables = [
        facts("Recipe", findings.recipe.to_dict()),
        facts("Data", data),
        facts("Trainings", runs),
        facts("Versions", findings.versions),
    ]
    return tag("section", tag("h2", "How it was made"), tag("div", *tables, class_="facts"))
