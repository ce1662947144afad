"""Pages of made-up runs, opened in a real browser."""

from __future__ import annotations

import dataclasses

import pytest
from browsing import DRAWN, WIDE
from helpers_report import hostile_run, make_run, searched_run

from nas.report import write

FOCUSED = """() => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return [element.tagName, outlineStyle, outlineWidth];
}"""


@pytest.fixture(scope="module")
def run():
    return searched_run()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, run) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    runs = {
        "done": run,
        "empty": make_run([]),
        "running": dataclasses.replace(run, active=True, trials=run.trials[:9]),
        "hostile": hostile_run(),
    }
    return {name: write(one, folder / f"{name}.html").as_uri() for name, one in runs.items()}


@pytest.fixture
def visit(open_page, pages):
    """Opens one of the pages."""

    def opened(name: str = "done", viewport: dict[str, int] = WIDE, scheme: str = "light", **more):
        page = open_page(pages[name], viewport, scheme, **more)
        if name != "empty":
            page.wait_for_function(DRAWN)
        return page

    return opened
