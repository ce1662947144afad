"""A self-contained HTML document with a content security policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from nas.report.html import plotly_script, theme
from nas.report.html.chart import Chart
from nas.report.html.markup import Html, tag

NOTHING = "'none'"  # in a content security policy
# The order matters.
SCRIPTS = ("core", "charts", "cloud", "diagram", "detail", "budget", "labels", "explorer", "trials", "live", "main")


def document(title: str, main: Html, charts: Sequence[Chart], data: str = "", *, live: str = "") -> str:
    """The whole page: `main`, which holds the places of the charts, and the scripts that draw them.

    data: JSON for the page's scripts. live: the version of what is shown, if a server reports newer ones.
    """
    drawn = bool(charts or data or live)
    kinds = {trace.type for chart in charts for trace in chart.figure.data}
    scripts = [Html(plotly_script.script(kinds)), script()] if drawn else []
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
    # A path or a message may hold surrogates (undecodable bytes), which can't be encoded.
    return text.encode("utf-8", "replace").decode("utf-8")


def figures_json(charts: Sequence[Chart]) -> str:
    return f"[{','.join(chart.json() for chart in charts)}]"


def script() -> Html:
    """The page's own script: all files in one function, so that nothing is global."""
    body = "\n".join(_resource(f"js/{name}.js") for name in SCRIPTS)
    return Html(f'"use strict";\n(() => {{\n{body}}})();\n')


def policy(scripts: Sequence[Html], *, live: bool = False) -> str:
    """Allows only the page's own scripts, by their hashes, and no connection (live: only to its own server)."""
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
    """JSON without "<", so that a name like "</script>" can't end its element."""
    return Html(data.replace("<", "\\u003c"))


def _resource(name: str) -> str:
    return (files("nas.report.html") / name).read_text(encoding="utf-8")
