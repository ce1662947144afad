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
