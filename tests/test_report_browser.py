"""The report in a browser: it opens from a file without the network, draws what it should, and stays usable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from test_report import hostile_run, make_run, searched_run

from nas.report import write
from nas.text import describe, format_percent

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
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

IS_LIGHT = """([selector, light]) => {
    const red = parseInt(getComputedStyle(document.querySelector(selector)).backgroundColor.slice(4));
    return red > 128 === light;
}"""
FOCUSED = """() => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return [element.tagName, outlineStyle, outlineWidth];
}"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the report's browser tests need Python's playwright"
    )
    if not CHROMIUM.is_file():
        pytest.skip(f"the report's browser tests need {CHROMIUM} (Debian's package chromium)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield started
        started.close()


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
def visit(browser, pages):
    """Opens one of the pages without a network; fails at the end if it complained, asked for anything or opened a dialog."""
    contexts, troubles = [], []

    def open_page(name: str = "done", viewport: dict[str, int] = WIDE, scheme: str = "light", **more):
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
        page.goto(pages[name])
        if name != "empty":
            page.wait_for_function(
                "[...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg[role=img]'))"
            )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


def points(page, chart: str) -> list[int]:
    """Number of points of each trace that has any."""
    script = "(traces) => traces.map((trace) => trace.querySelectorAll('.points > path').length).filter((n) => n > 0)"
    return page.locator(f"#{chart} .scatterlayer .trace").evaluate_all(script)


@pytest.mark.parametrize("name", ["done", "empty", "running", "hostile"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW, {"width": 320, "height": 640}], ids=["1280", "390", "320"])
def test_the_page_fits(visit, name, viewport):
    page = visit(name, viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.evaluate("document.body.getBoundingClientRect().width") <= viewport["width"]


def test_every_trial_is_drawn(visit, run):
    page = visit()
    stopped = run.count("stopped")
    for chart in ("against-params", "against-macs"):
        assert sum(points(page, chart)) == len(run.complete()) + stopped + 1  # and the ring around the knee
    curves = [trial for trial in run.trials if trial.epochs]
    assert page.locator("#curves .scatterlayer .trace path.js-line").count() == len(curves)
    assert page.locator("#hypervolume .scatterlayer .trace path.js-line").count() == 1


def test_hovering_says_which_network_it_is(visit, run):
    page = visit()
    front = [trial for trial in run.trials if trial in run.front() and not trial.label]
    place = front.index(min(front, key=lambda trial: trial.cost.params))
    traces = page.locator("#against-params .scatterlayer .trace")
    sizes = traces.evaluate_all("(traces) => traces.map((trace) => trace.querySelectorAll('.points > path').length)")
    point = traces.nth(sizes.index(len(front))).locator(".points > path").nth(place)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = page.locator("#against-params .hoverlayer .hovertext")
    label.wait_for()
    text = label.text_content()
    assert f"trial {front[place].number}" in text
    assert f"{format_percent(front[place].accuracy)} % validation accuracy" in text
    assert describe(front[place].architecture).replace(" ", "") in text.replace(" ", "")


def brightness(page, selector: str, of: str) -> float:
    """Mean of red, green and blue of a computed colour, 0 to 255."""
    text = page.locator(selector).first.evaluate(f"(element) => getComputedStyle(element).{of}")
    return sum(float(part) for part in text.strip("rgba()").split(",")[:3]) / 3


def test_light_and_dark_follow_the_system_even_while_the_page_is_open(visit):
    page = visit(scheme="dark")
    drawing, label = "#against-params .main-svg", "#against-params .xtitle"
    for scheme, light in (("dark", False), ("light", True), ("dark", False)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            IS_LIGHT,
            arg=[drawing, light],
        )
        assert (brightness(page, "body", "backgroundColor") > 200) is light
        assert (brightness(page, "body", "color") > 200) is not light
        assert (brightness(page, label, "fill") > 200) is not light
        assert len(set(points(page, "against-params"))) > 1


def test_drawings_have_names_and_their_buttons_upload_nothing(visit):
    page = visit()
    drawings = page.locator(".chart svg[role=img]")
    assert drawings.count() == page.locator(".chart").count() == 4
    for label in drawings.evaluate_all("(drawings) => drawings.map((drawing) => drawing.getAttribute('aria-label'))"):
        assert label.startswith("Chart of ")
    buttons = page.locator(".modebar button").evaluate_all("(buttons) => buttons.map((button) => button.ariaLabel)")
    assert set(buttons) == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}


def test_the_keyboard_reaches_what_can_be_used_and_the_focus_is_seen(visit):
    page = visit()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        element, style, width = page.evaluate(FOCUSED)
        if element == "BODY":
            break
        assert style == "solid"
        assert float(width.removesuffix("px")) >= 2
        reached.add(element)
    assert {"BUTTON", "DIV", "SUMMARY", "PRE"} <= reached


def test_a_hostile_run_runs_nothing(visit):
    page = visit("hostile")
    page.wait_for_timeout(300)  # an injected handler would have had its moment; `visit` fails on dialogs and errors
    assert page.locator("img").count() == 0
    assert page.locator("#against-params .textpoint").first.text_content().startswith("</script><script>alert")


def test_a_finger_scrolls_past_the_charts(visit):
    page = visit("done", NARROW, has_touch=True, is_mobile=True)
    assert page.evaluate("document.getElementById('against-params')._fullLayout.dragmode") is False
    assert page.locator(".modebar button").count() == 0
