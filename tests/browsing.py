"""Chromium for the tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IS_LIGHT = """([selector, light]) => {
    const red = parseInt(getComputedStyle(document.querySelector(selector)).backgroundColor.slice(4));
    return red > 128 === light;
}"""

CHARTS = "() => [...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg[role=img]'))"

# Everything on a run's page is drawn, and a trial is chosen.
DRAWN = """() => [...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg[role=img]'))
    && document.querySelector('#explorer[data-cloud]') && document.querySelector('#detail h3')"""

# Where a trial is drawn, in pixels of the window. Plotly's axes are the source, so that the page's own reckoning is checked.
PLACE = """([number, cost]) => {
    const plot = document.getElementById('explorer');
    const run = JSON.parse(document.getElementById('run').textContent);
    const index = run.columns.number.indexOf(number);
    const { xaxis, yaxis } = plot._fullLayout;
    const { left, top } = plot.getBoundingClientRect();
    return [left + xaxis._offset + xaxis.d2p(run.columns[cost][index]), top + yaxis._offset + yaxis.d2p(run.columns.accuracy[index])];
}"""

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the report's browser tests need Python's playwright"
    )
    if not CHROMIUM.is_file():
        pytest.skip(f"the report's browser tests need {CHROMIUM} (Debian's package chromium)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Opens an address without a network; fails at the end if the page complained, asked for anything or opened a dialog."""
    contexts, troubles = [], []

    def opened(address: str, viewport: dict[str, int] = WIDE, scheme: str = "light", **more):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                troubles.append(f"request: {request.url}")
                if request.url[:5] not in {"file:", "data:", "blob:"}
                else None
            ),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not troubles


def place_of(page, trial, cost: str = "params") -> tuple[float, float]:
    page.locator("#explorer").scroll_into_view_if_needed()
    x, y = page.evaluate(PLACE, [trial.number, cost])
    return x, y


def rows(page) -> list[list[str]]:
    """Texts of the rows of the table of all trials that are elements."""
    cells = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    return page.locator("#trials-body tr[data-place]").evaluate_all(cells)
