"""A run as one self-contained HTML page: Plotly, figures, style and text in one file.

The page is the list `SECTIONS`. To add a section, add a line: its id, its title, and a function from the run to its content,
text (`Html`) and figures (`Chart`) in any order. A section without content is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from nas.report import figures
from nas.report.html.chart import Chart, Content
from nas.report.html.document import document
from nas.report.html.markup import Html, tag
from nas.report.run import explorer, sections, summary
from nas.report.run.analysis_sections import ANALYSIS
from nas.report.run.gradient_section import gradient_flow
from nas.report.run.page_data import compact
from nas.report.run.stopping_section import stopping as about_stopping

if TYPE_CHECKING:
    from nas.runs.run import Run


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page. `name` is its id, which links point to; without content it is left out."""

    name: str
    title: str
    build: Callable[[Run], Content]


def _curves(run: Run) -> Content:
    curves = [trial for trial in run.trials if trial.epochs]
    if not curves:
        return []
    label = f"Chart of validation accuracy by epoch of {len(curves)} trials, {len(run.front())} of them on the front."
    caption = "Validation accuracy after each epoch. The learning rate falls to 0 at the last epoch, so curves are comparable only there."
    return [Chart("curves", figures.learning_curves(run), label, caption)]


def _progress(run: Run) -> Content:
    if not run.complete():
        return []
    history = run.hypervolume_history()
    label = f"Chart of the hypervolume over {len(history)} completed trials; it rises to {history[-1]:.4g}."
    caption = (
        "Hypervolume of the front, with costs on log10 axes and the reference point"
        f" {summary.reference(run)}. Where it is flat, the front did not improve."
    )
    return [Chart("hypervolume", figures.hypervolume(run), label, caption)]


SECTIONS: tuple[Section, ...] = (
    Section("against-cost", "Accuracy against cost", explorer.against_cost),
    Section("notes", "Uncertainty", sections.notes),
    Section("front", "Pareto front", sections.front_table),
    Section("learning", "Learning curves", _curves),
    Section("gradients", "Gradient flow", gradient_flow),
    Section("progress", "Hypervolume over trials", _progress),
    *(Section(*entry) for entry in ANALYSIS),
    Section("stopping", "Early stopping", about_stopping),
    Section("failures", "Failures", sections.failures),
    Section("time", "Training time", sections.time),
    Section("trials", "All trials", explorer.all_trials),
    Section("repeat", "Reproducibility", sections.provenance),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a page: title, body, figures, and the data of its scripts."""

    title: str
    main: Html
    charts: Sequence[Chart]
    data: str  # JSON, empty if there is none


def page(run: Run, stopping: bool = False) -> str:
    """The whole page of a run, which may be unfinished: what is missing yet is reported in words.

    stopping: include the section on early stopping even if nothing was stopped.
    """
    asked = {"stopping": partial(about_stopping, asked=True)} if stopping else {}
    made = parts(run, [replace(section, build=asked.get(section.name, section.build)) for section in SECTIONS])
    return document(made.title, made.main, made.charts, made.data)


def parts(run: Run, sections_: Sequence[Section] = SECTIONS) -> Parts:
    charts: list[Chart] = []
    built = [(section, section.build(run)) for section in sections_]
    shown = [(section, content) for section, content in built if content]
    body = []
    for section, content in shown:
        charts += [item for item in content if isinstance(item, Chart)]
        body.append(tag("section", tag("h2", section.title), *_placed(content), id=section.name))
    links = [tag("li", tag("a", section.title, href=f"#{section.name}")) for section, _ in shown]
    contents = tag("nav", tag("ul", *links), aria_label="On this page")
    title = f"{run.config['name']}: architecture search"
    main = tag("main", contents, sections.opening(run), *body)
    return Parts(title, main, charts, compact(run) if run.trials else "")


def _placed(content: Content) -> list[Html]:
    """Text and the places of the figures; consecutive figures are put side by side."""
    placed = []
    for is_chart, group in groupby(content, key=lambda item: isinstance(item, Chart)):
        items = [item.place() if isinstance(item, Chart) else item for item in group]
        placed += [tag("div", *items, class_="charts")] if is_chart and len(items) > 1 else items
    return placed
