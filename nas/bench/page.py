"""The results of a benchmark: a self-contained HTML page, and sentences and table rows for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.bench import figures
from nas.bench.folder import Folder
from nas.bench.summary import Curves, Level, curves, difference, levels, marks
from nas.report.html.chart import Chart
from nas.report.html.document import document
from nas.report.html.markup import Html, table, tag
from nas.report.run.sections import facts
from nas.utils.text import format_percent


def protocol(folder: Folder) -> list[str]:
    """Sentences that describe the measurement."""
    table, settings, scale = folder.table, folder.protocol, folder.scale
    seeds = table.accuracy.shape[1]
    observed = (
        f"one of its {seeds} accuracies, drawn for each repeat and network"
        if seeds > 1
        else f"its {table.columns.accuracy[0]}"
    )
    scored = table.columns.score or ("the mean of the accuracies" if seeds > 1 else table.columns.accuracy[0])
    workers = f", {settings.parallel} at a time" if settings.parallel > 1 else ""
    measured = (
        f"A study trains {settings.budget} distinct networks{workers}. Training a network returns {observed}, equal for all samplers in a"
        f" repeat. The front of these accuracies is scored by {scored}: its hypervolume over score and log10 of"
        f" {', '.join(table.columns.costs)}, divided by that of the whole table's front. The reference point is the score"
        f" {scale.floor:g} (quantile {settings.floor:g} of the table's scores) and the largest costs."
    )
    uncounted = (
        "Proposals of networks trained before, and of combinations that are not in the table, are not counted. After"
        f" {settings.asks} such proposals in a row, a random new network is trained."
    )
    return [measured, uncounted]


def head(budget: int, wanted: Sequence[Level]) -> list[str]:
    reached = [f"until {format_percent(level.share)} %" for level in wanted]
    return ["Sampler", "Repeats", *(f"at {mark}, %" for mark in marks(budget)), *reached, "s/ask"]


def rows(samplers: Sequence[Curves], budget: int, wanted: Sequence[Level]) -> list[list[str]]:
    """For each sampler: mean ± standard error of the share at the marks, evaluations until the levels, and seconds per ask."""
    made = []
    for curve in samplers:
        at = [spread(curve.mean[mark - 1], curve.error[mark - 1]) for mark in marks(budget)]
        until_levels = [_evaluations(curve.first(level.share), budget) for level in wanted]
        made.append([curve.sampler, str(len(curve.repeats)), *at, *until_levels, f"{curve.seconds_per_ask:.3g}"])
    return made


def spread(mean: float, error: float) -> str:
    """In percent: `88.31 ± 0.42`; without the error if it is NaN, as for a single repeat."""
    return format_percent(mean) + ("" if error != error else f" ± {format_percent(error)}")


def page(folder: Folder, asked: Sequence[float]) -> str:
    samplers, budget = curves(folder), folder.protocol.budget
    wanted = levels(samplers, budget, asked)
    names = ", ".join(curve.sampler for curve in samplers)
    charts = [
        Chart(
            "hypervolume",
            figures.hypervolume(samplers),
            f"Chart of hypervolume by number of networks trained, for {names}.",
            "Mean over repeats; bands show ± one standard error of the mean. The vertical axis is scaled without the first tenth.",
        ),
        Chart(
            "evaluations",
            figures.evaluations(samplers, wanted),
            f"Chart of the number of networks trained to reach a hypervolume, for {names}.",
            "Networks trained until the mean over repeats reaches a share. Dotted: the levels in the table.",
        ),
        Chart(
            "seconds",
            figures.seconds(samplers),
            f"Chart of seconds per ask by number of networks trained, for {names}.",
            "Median seconds of the asks that proposed a new network, with one BLAS thread for each process.",
        ),
    ]
    title = f"Samplers on {folder.table.name}: {', '.join(folder.table.columns.accuracy)} against {', '.join(folder.table.columns.costs)}"
    opening = tag("header", tag("h1", title), *(tag("p", text) for text in protocol(folder)))
    main = tag(
        "main",
        opening,
        tag("section", tag("h2", "Hypervolume"), charts[0].place(), _table(samplers, budget, wanted)),
        tag("section", tag("h2", "Evaluations needed"), charts[1].place(), _levels(wanted)),
        tag("section", tag("h2", "Differences"), _differences(samplers, budget)),
        tag("section", tag("h2", "Time and proposals"), charts[2].place(), _proposals(samplers)),
        _provenance(folder),
    )
    return document(title, main, charts)


def _evaluations(count: int | None, budget: int) -> str:
    return f"> {budget}" if count is None else str(count)


def _table(samplers: Sequence[Curves], budget: int, wanted: Sequence[Level]) -> Html:
    columns = head(budget, wanted)
    caption = (
        "Share of the table's hypervolume in percent after a number of networks, mean ± standard error over repeats; networks trained"
        " until the mean reaches a level; mean seconds per ask."
    )
    return table(caption, columns, rows(samplers, budget, wanted), numbers=range(1, len(columns)))


def _levels(wanted: Sequence[Level]) -> Html:
    return tag("ul", *(tag("li", f"{format_percent(level.share)} %: {level.why}") for level in wanted))


def _differences(samplers: Sequence[Curves], budget: int) -> Html:
    if len(samplers) < 2:
        return tag("p", "There is only one sampler.")
    first, *others = samplers
    made = []
    for other in others:
        cells = [difference(first, other, mark) for mark in marks(budget)]
        made.append(
            [other.sampler, *("–" if gap != gap else spread(gap, float("nan") if e is None else e) for gap, e in cells)]
        )
    caption = (
        f"{first.sampler} minus each other sampler in percentage points: mean ± standard error of paired differences."
    )
    columns = ["Sampler", *(f"at {mark}" for mark in marks(budget))]
    return table(caption, columns, made, numbers=range(1, len(columns)))


def _proposals(samplers: Sequence[Curves]) -> Html:
    columns = (
        "Sampler",
        "Asks",
        "Trained before",
        "Not in the table",
        "Drawn at random",
        "Seconds per ask",
        "Median",
        "At the end",
    )
    made = [
        [
            curve.sampler,
            *(f"{n:,}" for n in (curve.asks, curve.duplicates, curve.infeasible, curve.filled)),
            *(f"{s:.3g}" for s in (curve.seconds_per_ask, np.median(curve.ask_seconds), curve.seconds_at_end)),
        ]
        for curve in samplers
    ]
    return table(
        "Proposals in all repeats. Seconds: mean of all asks, median of the counted ones, and median of their last tenth.",
        columns,
        made,
        numbers=range(1, len(columns)),
    )


def _provenance(folder: Folder) -> Html:
    settings = folder.settings()
    tables = [facts("Table", settings["table"]), facts("Protocol", settings["protocol"])]
    return tag(
        "section", tag("h2", "Provenance"), tag("p", folder.table.describe()), tag("div", *tables, class_="facts")
    )
