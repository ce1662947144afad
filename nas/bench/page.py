"""A benchmark as one self-contained page, and in words and rows for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.bench import figures
from nas.bench.folder import Folder
from nas.bench.summary import Curves, Level, curves, difference, levels, marks, until
from nas.report.html.chart import Chart
from nas.report.html.document import document
from nas.report.html.markup import Html, table, tag
from nas.report.run.sections import facts
from nas.utils.text import format_percent


def protocol(folder: Folder) -> list[str]:
    """What was measured and how, in sentences."""
    table, own, scale = folder.table, folder.protocol, folder.scale
    seeds = table.accuracy.shape[1]
    observed = (
        f"one of its {seeds} accuracies, drawn by the repeat and the network"
        if seeds > 1
        else f"its {table.columns.accuracy[0]}"
    )
    scored = table.columns.score or ("the mean of the accuracies" if seeds > 1 else table.columns.accuracy[0])
    workers = f", {own.parallel} at a time" if own.parallel > 1 else ""
    measured = (
        f"A study trains {own.budget} distinct networks{workers}; training one gives {observed}, the same for all samplers of a"
        f" repeat. The front found by these is scored by {scored}: its hypervolume over score and log10 of"
        f" {', '.join(table.columns.costs)}, as a share of that of the whole table's front, from the reference point of score"
        f" {scale.floor:g} (quantile {own.floor:g} of the table's) and the largest costs."
    )
    uncounted = (
        "Networks proposed again, and combinations that the table lacks, are answered without being counted; after"
        f" {own.asks} such asks in a row a random new network is trained."
    )
    return [measured, uncounted]


def head(budget: int, wanted: Sequence[Level]) -> list[str]:
    reached = [f"until {format_percent(level.share)} %" for level in wanted]
    return ["Sampler", "Repeats", *(f"at {mark}, %" for mark in marks(budget)), *reached, "s/ask"]


def rows(found: Sequence[Curves], budget: int, wanted: Sequence[Level]) -> list[list[str]]:
    """Mean ± standard error of the share at the marks, evaluations until the levels, seconds an ask."""
    made = []
    for own in found:
        at = [spread(own.mean[mark - 1], own.error[mark - 1]) for mark in marks(budget)]
        until_levels = [_evaluations(until(own, level), budget) for level in wanted]
        made.append([own.sampler, str(len(own.repeats)), *at, *until_levels, f"{own.seconds_per_ask:.3g}"])
    return made


def spread(mean: float, error: float) -> str:
    """In percent: `88.31 ± 0.42`; without an error where there is one repeat."""
    return format_percent(mean) + ("" if error != error else f" ± {format_percent(error)}")


def page(folder: Folder, asked: Sequence[float]) -> str:
    found, budget = curves(folder), folder.protocol.budget
    wanted = levels(found, budget, asked)
    names = ", ".join(own.sampler for own in found)
    charts = [
        Chart(
            "hypervolume",
            figures.hypervolume(found),
            f"Chart of hypervolume by networks trained of {names}.",
            "Mean over repeats; bands are one standard error of the mean to each side. The axis leaves out the first tenth.",
        ),
        Chart(
            "evaluations",
            figures.evaluations(found, wanted),
            f"Chart of networks trained until a hypervolume is reached of {names}.",
            "Networks trained until the mean over repeats is at a share. Dotted: the levels of the table.",
        ),
        Chart(
            "seconds",
            figures.seconds(found),
            f"Chart of seconds an ask by networks trained of {names}.",
            "Median seconds of the asks that proposed a new network, one BLAS thread each.",
        ),
    ]
    title = f"Samplers on {folder.table.name}: {', '.join(folder.table.columns.accuracy)} against {', '.join(folder.table.columns.costs)}"
    opening = tag("header", tag("h1", title), *(tag("p", text) for text in protocol(folder)))
    main = tag(
        "main",
        opening,
        tag("section", tag("h2", "Hypervolume"), charts[0].place(), _table(found, budget, wanted)),
        tag("section", tag("h2", "Evaluations needed"), charts[1].place(), _levels(wanted)),
        tag("section", tag("h2", "Differences"), _differences(found, budget)),
        tag("section", tag("h2", "Time and proposals"), charts[2].place(), _proposals(found)),
        _provenance(folder),
    )
    return document(title, main, charts)


def _evaluations(own: dict[str, Any], budget: int) -> str:
    count = own["of_mean"]
    return f"> {budget}" if count is None else str(count)


def _table(found: Sequence[Curves], budget: int, wanted: Sequence[Level]) -> Html:
    columns = head(budget, wanted)
    caption = (
        "Share of the table's hypervolume in percent after so many networks, mean ± standard error over repeats; networks trained"
        " until the mean is at a level; mean seconds an ask."
    )
    return table(caption, columns, rows(found, budget, wanted), numbers=range(1, len(columns)))


def _levels(wanted: Sequence[Level]) -> Html:
    return tag("ul", *(tag("li", f"{format_percent(level.share)} %: {level.why}") for level in wanted))


def _differences(found: Sequence[Curves], budget: int) -> Html:
    if len(found) < 2:
        return tag("p", "One sampler: nothing to compare.")
    first, *others = found
    made = []
    for own in others:
        cells = [difference(first, own, mark) for mark in marks(budget)]
        made.append(
            [own.sampler, *("–" if gap != gap else spread(gap, float("nan") if e is None else e) for gap, e in cells)]
        )
    caption = (
        f"{first.sampler} less each other sampler, percentage points, mean ± standard error of paired differences."
    )
    columns = ["Sampler", *(f"at {mark}" for mark in marks(budget))]
    return table(caption, columns, made, numbers=range(1, len(columns)))


def _proposals(found: Sequence[Curves]) -> Html:
    columns = (
        "Sampler",
        "Asks",
        "Trained already",
        "Not in the table",
        "Filled in at random",
        "Seconds an ask",
        "Median",
        "At the end",
    )
    made = [
        [
            own.sampler,
            *(f"{n:,}" for n in (own.asks, own.duplicates, own.infeasible, own.filled)),
            *(f"{s:.3g}" for s in (own.seconds_per_ask, np.median(own.ask_seconds), own.seconds_at_end)),
        ]
        for own in found
    ]
    return table(
        "Proposals over all repeats; seconds: mean of all asks, median of those that counted, and of their last tenth.",
        columns,
        made,
        numbers=range(1, len(columns)),
    )


def _provenance(folder: Folder) -> Html:
    settings = folder.settings()
    tables = [facts("Table", settings["table"]), facts("Protocol", settings["protocol"])]
    return tag(
        "section", tag("h2", "How it was made"), tag("p", folder.table.describe()), tag("div", *tables, class_="facts")
    )
