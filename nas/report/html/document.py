"""An HTML document that needs nothing from outside, with a content security policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from nas.report.html import plotly_script as plotly_bundle
from nas.report.html import theme
from nas.report.html.chart import Chart
from nas.report.html.markup import Html, tag

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
        tag("style", Html(theme.css() + _resource("html/page.css"))),
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
