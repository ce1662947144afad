"""Plotly's script on the page: smaller than the one that Python's Plotly ships, and enough for all that is drawn."""

from __future__ import annotations

import hashlib
import re

import pytest
from browsing import WIDE
from helpers_analysis import lawful_run

from nas.report import figures
from nas.report.html import plotly_script as plotly_bundle
from nas.report.html.chart import Chart
from nas.report.html.document import document
from nas.report.html.markup import tag


def whole() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def known() -> bool:
    """Whether the installed Plotly's script is one that was looked at; after an upgrade it may not be, and pages carry it whole."""
    return hashlib.sha256(whole().encode()).hexdigest() in plotly_bundle.KNOWN


needs_known = pytest.mark.skipif(
    not known(), reason="Plotly's script is new: run these with its digest in plotly_bundle.KNOWN"
)


@needs_known
def test_the_installed_file_is_made_small():
    small = plotly_bundle.script({"scatter", "bar"})
    assert len(small) < 0.3 * len(whole())
    assert small.startswith(whole()[:150])  # with its name, version and licence
    assert "(() => {" in small


def test_other_traces_take_the_whole_file():
    assert plotly_bundle.script({"scatter", "pie"}) == whole()


def test_a_file_that_is_not_known_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(plotly_bundle, "KNOWN", frozenset())
    plotly_bundle._small.cache_clear()
    try:
        assert plotly_bundle.script() == whole()
    finally:
        plotly_bundle._small.cache_clear()


@pytest.mark.parametrize("text", ["", "var a=1;", "});var a=W((e,t)=>{});return a();})();"])
def test_a_file_that_is_made_otherwise_is_refused(text):
    with pytest.raises(ValueError, match="no "):
        plotly_bundle.reduced(text)


def test_parts_that_nothing_calls_are_left_out():
    parts = (
        'var a=W((e,t)=>{t.exports=1});var b=W((e,t)=>{t.exports={moduleType:"trace",name:"bar"};a()});'
        'var B=W((e,t)=>{t.exports=b()});var c=W((e,t)=>{t.exports={moduleType:"trace",name:"pie"}});'
        "var C=W((e,t)=>{t.exports=c()});var z=W((e,t)=>{d.register([B(),C()]);t.exports=d});return z();})();"
    )
    small = plotly_bundle.reduced("(()=>{});" + parts)
    assert [name for name in "abBcCz" if f"var {name}=" in small] == ["a", "b", "B", "z"]
    assert "register([B()])" in small


@pytest.mark.slow
@needs_known
@pytest.mark.browser
def test_every_figure_is_drawn_with_it(browser, tmp_path):
    """Each figure as with the whole file: the same shapes, texts and places."""
    run = lawful_run(120, worth=lambda choices: 0.05 * (choices["shortcut"] == "projection"), stopped=10)
    charts = [Chart(name, figure(run), name, "") for name, figure in figures.FIGURES.items()]
    main = tag("main", *(chart.place() for chart in charts))
    small = document("figures", main, charts)
    pages = {"small": small, "whole": small.replace(plotly_bundle.script(), whole())}
    pages["whole"] = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages["whole"])
    drawn = {}
    for name, text in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport=WIDE)
        troubles: list[str] = []
        page.on("pageerror", lambda error, troubles=troubles: troubles.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function(
            "() => [...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg[role=img]'))",
            timeout=120_000,
        )
        assert not troubles
        shapes = "(all) => all.map((one) => [one.tagName, one.getAttribute('d'), one.getAttribute('transform'), one.textContent])"
        drawn[name] = page.locator(".chart .main-svg *").evaluate_all(shapes)
        page.close()
    assert len(small) < len(pages["whole"]) - 3_000_000
    assert len(drawn["whole"]) > 1000
    assert drawn["small"] == drawn["whole"]
