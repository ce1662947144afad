"""A run as one HTML page that needs nothing but itself: Plotly, figures, style and words in one file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from nas.report import answer, figures, sections, theme
from nas.report.answer import NOUNS
from nas.report.markup import Html, tag
from nas.report.stopping import stopping as stopping_section
from nas.text import format_count, format_percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.run import Run


NOTHING = "'none'"  # in a content security policy


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with its place on the page. `label` says to those who can't see it what it shows."""

    name: str
    figure: go.Figure
    label: str
    caption: str

    def place(self) -> Html:
        drawing = tag("div", id=self.name, class_="chart", role="img", aria_label=self.label)
        return tag("figure", drawing, tag("figcaption", self.caption))

    def json(self) -> str:
        return f'{{"id":{json.dumps(self.name)},{self.figure.to_json(engine="json")[1:]}'


def page(run: Run, stopping: bool = False) -> str:
    """The whole page. What can be seen of a run that is still going, or died, is on it; what can't is said in words.

    stopping: the section on early stopping even where nothing was stopped.
    """
    charts: list[Chart] = []
    main = tag("main", *_sections(run, charts, stopping))
    return document(f"{run.config['name']}: architecture search", main, charts)


def document(title: str, main: Html, charts: Sequence[Chart]) -> str:
    """A page that needs no other file and no network: `main`, in which the charts have their places, and what draws them."""
    from plotly.offline import get_plotlyjs

    # No "<" is left in the data: a name like "</script>" must not end the element.
    data = f"[{','.join(chart.json() for chart in charts)}]".replace("<", "\\u003c")
    scripts = [Html(get_plotlyjs()), Html(_resource("page.js"))] if charts else []
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(theme.css() + _resource("page.css"))),
    )
    drawing = [
        tag("script", Html(data), type="application/json", id="figures"),
        *(tag("script", script) for script in scripts),
    ]
    body = tag("body", main, *(drawing if charts else []))
    text = f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
    # A path or a message may hold what can't be encoded (surrogates that stand for undecodable bytes).
    return text.encode("utf-8", "replace").decode("utf-8")


def _sections(run: Run, charts: list[Chart], stopping: bool) -> list[Html]:
    """The page from top to bottom; `charts` takes in the figures that are to be drawn."""

    def place(*new: Chart) -> list[Html]:
        charts.extend(new)
        return [chart.place() for chart in new]

    complete = run.complete()
    trained = any(trial.epochs for trial in run.trials)
    parts = [sections.opening(run)]
    if complete:
        against = place(
            *(_against(run, cost) for cost in figures.COSTS if cost in {"params", "macs", *answer.costs(run)})
        )
        parts += [
            tag("section", tag("h2", "Accuracy against cost"), tag("div", *against, class_="charts")),
            sections.front_table(run),
        ]
    if trained:
        parts.append(tag("section", tag("h2", "Learning curves"), *place(_curves(run))))
    if complete:
        parts.append(tag("section", tag("h2", "Progress of the search"), *place(_progress(run))))
    parts += [stopping_section(run, stopping), sections.failures(run), sections.time(run)]
    if run.trials:
        parts.append(sections.all_trials(run))
    return [*parts, sections.provenance(run)]


def _against(run: Run, cost: figures.CostName) -> Chart:
    trials, front = run.complete(), run.front()
    members = [
        f"{trial.name} with {format_count(getattr(trial.cost, cost))} at {format_percent(trial.accuracy or 0.0)} %"
        for trial in front
    ]
    label = (
        f"Chart of validation accuracy against {NOUNS[cost]} of {len(trials)} complete trials, {len(front)} of them on the front:"
        f" {'; '.join(members)}."
    )
    wish = " and ".join(NOUNS[name] for name in answer.costs(run))
    caption = (
        f"Each point is a trial; filled ones are on the run's front, over accuracy and {wish}. The line is the best accuracy at"
        f" these {NOUNS[cost]} or less, so a member of the front may lie below it."
    )
    if answer.costs(run) == [cost]:
        caption = "Each point is a trial; filled ones are on the run's front. The line is the best accuracy at this cost or less."
    if any(trial.state == "stopped" for trial in run.trials):
        caption += (
            " Crosses are trials at the epoch at which they were stopped; double-click to see those below the axis."
        )
    return Chart(f"against-{cost}", figures.accuracy_against(run, cost), label, caption)


def _curves(run: Run) -> Chart:
    curves = [trial for trial in run.trials if trial.epochs]
    label = f"Chart of validation accuracy by epoch of {len(curves)} trials, {len(run.front())} of them on the front."
    caption = "Validation accuracy after each epoch. The learning rate falls to 0 at the last epoch, so curves are comparable only there."
    return Chart("curves", figures.learning_curves(run), label, caption)


def _progress(run: Run) -> Chart:
    history = run.hypervolume_history()
    label = f"Chart of the hypervolume over {len(history)} completed trials; it rises to {history[-1]:.4g}."
    caption = (
        "Hypervolume that the front dominates, with costs on log10 axes, from the reference point"
        f" ({answer.reference(run)}). Where it stays flat, the search finds nothing new."
    )
    return Chart("hypervolume", figures.hypervolume(run), label, caption)


def _policy(scripts: list[Html]) -> str:
    """The browser runs the page's own scripts, known by their hashes, and fetches nothing."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    rules = (
        f"default-src {NOTHING}",
        f"script-src {' '.join(hashes) or NOTHING}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        f"base-uri {NOTHING}",
        f"form-action {NOTHING}",
    )
    return "; ".join(rules)


def _resource(name: str) -> str:
    return (files("nas.report") / name).read_text(encoding="utf-8")
