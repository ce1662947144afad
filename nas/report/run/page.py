"""A run as one HTML page that needs nothing but itself: Plotly, figures, style and words in one file.

The page is a list of sections, `SECTIONS`. A further one is a line there: where it is linked to, what it is called, and a
function from the run to its content, words (`Html`) and figures (`Chart`) in any order; no content, no section.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from nas.report.run import summary as answer, explorer, sections
from nas.report import figures
from nas.report.html import plotly_script as plotly_bundle, theme
from nas.report.run.analysis_sections import ANALYSIS
from nas.report.run.page_data import compact
from nas.report.run.gradient_section import gradient_flow
from nas.report.html.markup import Html, tag
from nas.report.run.stopping_section import stopping as about_stopping

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.run import Run


NOTHING = "'none'"  # in a content security policy
SCRIPTS = (
    "core",
    "charts",
    "cloud",
    "diagram",
    "detail",
    "budget",
    "labels",
    "explorer",
    "trials",
    "live",
    "main",
)  # in this order


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with its place on the page. `label` says to those who can't see it what it shows.

    rem: the width that it needs; where the page is narrower, it scrolls by itself.
    """

    name: str
    figure: go.Figure
    label: str
    caption: str
    rem: float = 0

    def place(self) -> Html:
        height = self.figure.layout.height  # of a figure whose rows need room; others are as tall as the page likes
        sizes = [
            *([f"height: {height:.0f}px"] if height else []),
            *([f"min-width: {self.rem:g}rem"] if self.rem else []),
        ]
        look = {"style": "; ".join(sizes)} if sizes else {}
        drawing = tag("div", id=self.name, class_="chart", role="img", aria_label=self.label, **look)
        if self.rem:
            drawing = tag("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=self.label)
        return tag("figure", drawing, tag("figcaption", self.caption))

    def json(self) -> str:
        return f'{{"id":{json.dumps(self.name)},{self.figure.to_json(engine="json")[1:]}'


Content: TypeAlias = Sequence[Html | Chart]


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


def document(title: str, main: Html, charts: Sequence[Chart], data: str = "", *, live: str = "") -> str:
    """A page that needs no other file and no network: `main`, in which the charts have their places, and what draws them.

    data: JSON that the page's scripts work on. live: the version of what is shown, if a server tells of newer ones.
    """
    drawn = bool(charts or data or live)
    kinds = {trace.type for chart in charts for trace in chart.figure.data}
    scripts = [Html(plotly_bundle.script(kinds)), script()] if drawn else []
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(scripts, live=bool(live))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(theme.css() + _resource("page.css"))),
    )
    resources = [
        tag("script", _inert(figures_json(charts)), type="application/json", id="figures"),
        *([tag("script", _inert(data), type="application/json", id="run")] if data else []),
        *(tag("script", text) for text in scripts),
    ]
    more = {"data_live": live} if live else {}
    body = tag("body", main, *(resources if drawn else []), **more)
    text = f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
    # A path or a message may hold what can't be encoded (surrogates that stand for undecodable bytes).
    return text.encode("utf-8", "replace").decode("utf-8")


def figures_json(charts: Sequence[Chart]) -> str:
    return f"[{','.join(chart.json() for chart in charts)}]"


def script() -> Html:
    """The page's own script: all of its files in one function, so that nothing of it is global."""
    body = "\n".join(_resource(f"js/{name}.js") for name in SCRIPTS)
    return Html(f'"use strict";\n(() => {{\n{body}}})();\n')


def policy(scripts: Sequence[Html], *, live: bool = False) -> str:
    """The browser runs the page's own scripts, known by their hashes, and fetches nothing, or from its own server alone."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    rules = (
        f"default-src {NOTHING}",
        f"script-src {' '.join(hashes) or NOTHING}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        *(["connect-src 'self'"] if live else []),
        f"base-uri {NOTHING}",
        f"form-action {NOTHING}",
    )
    return "; ".join(rules)


def _inert(data: str) -> Html:
    """JSON for an element: no "<" is left, since a name like "</script>" must not end it."""
    return Html(data.replace("<", "\\u003c"))


def _resource(name: str) -> str:
    return (files("nas.report") / name).read_text(encoding="utf-8")
