"""A run as one HTML page that needs nothing but itself: Plotly, figures, style and words in one file.

The page is a list of sections, `SECTIONS`. A further one is a line there: where it is linked to, what it is called, and a
function from the run to its content, words (`Html`) and figures (`Chart`) in any order; no content, no section.
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
from nas.report.run import explorer, sections
from nas.report.run import summary as answer
from nas.report.run.analysis_sections import ANALYSIS
from nas.report.run.gradient_section import gradient_flow
from nas.report.run.page_data import compact
from nas.report.run.stopping_section import stopping as about_stopping

if TYPE_CHECKING:
    from nas.runs.run import Run


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page. `name` is its id, by which it is linked to; without content it is left out."""

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
        "Hypervolume that the front dominates, with costs on log10 axes, from the reference point"
        f" ({answer.reference(run)}). Where it stays flat, the search finds nothing new."
    )
    return [Chart("hypervolume", figures.hypervolume(run), label, caption)]


SECTIONS: tuple[Section, ...] = (
    Section("against-cost", "Accuracy against cost", explorer.against_cost),
    Section("notes", "How sure this is", sections.notes),
    Section("front", "The front", sections.front_table),
    Section("learning", "Learning curves", _curves),
    Section("gradients", "Gradient flow", gradient_flow),
    Section("progress", "Progress of the search", _progress),
    *(Section(*entry) for entry in ANALYSIS),
    Section("stopping", "Early stopping", about_stopping),
    Section("failures", "Failures", sections.failures),
    Section("time", "Time", sections.time),
    Section("trials", "All trials", explorer.all_trials),
    Section("repeat", "How to repeat it", sections.provenance),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """A page's body before it is put together: what is read, what is drawn, and what its scripts work on."""

    title: str
    main: Html
    charts: Sequence[Chart]
    data: str  # JSON, empty if there is none


def page(run: Run, stopping: bool = False) -> str:
    """The whole page. What can be seen of a run that is still going, or died, is on it; what can't is said in words.

    stopping: the section on early stopping even where nothing was stopped.
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
    """Words as they are, figures at their places, those that follow one another side by side."""
    placed = []
    for is_chart, group in groupby(content, key=lambda item: isinstance(item, Chart)):
        items = [item.place() if isinstance(item, Chart) else item for item in group]
        placed += [tag("div", *items, class_="charts")] if is_chart and len(items) > 1 else items
    return placed
