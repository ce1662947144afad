"""The table of all trials on the report's page, in a real browser."""

from __future__ import annotations

import csv
import dataclasses
import re

import pytest
from browsing import DRAWN, IS_LIGHT, NARROW, place_of, rows
from helpers_pages import FOCUSED
from helpers_pages import pages as pages  # a fixture
from helpers_pages import run as run  # a fixture
from helpers_pages import visit as visit  # a fixture
from helpers_report import hostile_run, searched_run

from nas.networks.describe import describe
from nas.report import write
from nas.report.run.page import parts
from nas.utils.text import format_count, format_percent

pytestmark = pytest.mark.browser


# The table of all trials


def test_the_table_says_what_the_run_says(visit, run):
    page = visit()
    assert page.locator("#trials-count").text_content() == f"{len(run.trials)} of {len(run.trials)} trials"
    shown = rows(page)
    assert len(shown) > 10
    for row, trial in zip(shown, run.trials, strict=False):
        assert row[:3] == [
            trial.label or str(trial.number),
            trial.state,
            "–" if trial.accuracy is None else format_percent(trial.accuracy),
        ]
        assert row[3:6] == [format_count(getattr(trial.cost, cost)) for cost in ("params", "macs", "activations")]
        assert row[-1] == describe(trial.architecture)


def test_the_table_sorts(visit, run):
    page = visit()
    page.get_by_role("button", name="Accuracy, %").click()
    assert page.locator("#trials-table th[aria-sort=descending]").count() == 1
    best = sorted((trial.accuracy for trial in run.complete()), reverse=True)
    assert [row[2] for row in rows(page)][:8] == [format_percent(accuracy) for accuracy in best[:8]]
    page.get_by_role("button", name="MACs").click()
    fewest = sorted(trial.cost.macs for trial in run.trials)
    assert [row[4] for row in rows(page)][:8] == [format_count(macs) for macs in fewest[:8]]


def test_the_table_filters(visit, run):
    page = visit()
    page.select_option("#trials-state", "stopped")
    assert page.locator("#trials-count").text_content() == f"{run.count('stopped')} of {len(run.trials)} trials"
    page.select_option("#trials-state", "")
    page.check("#trials-front")
    assert [row[0] for row in rows(page)] == [
        trial.label or str(trial.number) for trial in run.trials if trial in run.front()
    ]
    page.uncheck("#trials-front")
    page.fill("#trials-text", "BASIC zero-pad")
    fitting = [
        trial for trial in run.trials if all(word in describe(trial.architecture) for word in ("basic", "zero-pad"))
    ]
    assert page.locator("#trials-count").text_content() == f"{len(fitting)} of {len(run.trials)} trials"
    page.fill("#trials-text", "no such network")
    assert page.get_by_text("No trial fits.").is_visible()


@pytest.mark.slow
def test_the_table_is_walked_by_keys(visit, run):
    page = visit()
    page.locator("#trials-body tr[tabindex='0']").focus()
    for key, place in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", len(run.trials) - 1), ("Home", 0)):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.place") == str(place)
    page.keyboard.press("Enter")
    assert run.trials[0].name in page.locator("#detail h3").text_content()
    assert page.evaluate("document.activeElement.closest('#detail') !== null")


def test_the_table_as_csv(visit, run, tmp_path):
    page = visit()
    page.select_option("#trials-state", "complete")
    with page.expect_download() as download:
        page.click("#trials-csv")
    path = tmp_path / "trials.csv"
    download.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(int(row["number"]), float(row["accuracy"]), int(row["params"])) for row in found] == [
        (trial.number, trial.accuracy, trial.cost.params) for trial in run.complete()
    ]


@pytest.mark.slow
def test_the_table_as_csv_computes_nothing_in_a_spreadsheet(open_page, tmp_path):
    run = searched_run(9, baselines=("resnet20",))
    (baseline, *others) = run.trials
    odd = dataclasses.replace(baseline, label="=1+1", reason="@SUM(A1)")
    path = write(dataclasses.replace(run, trials=(odd, *others)), tmp_path / "report.html")
    page = open_page(path.as_uri())
    page.wait_for_function(DRAWN)
    with page.expect_download() as download:
        page.click("#trials-csv")
    download.value.save_as(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["number"], first["label"], first["reason"]) == ("-1", "'=1+1", "'@SUM(A1)")


@pytest.mark.slow
def test_each_click_on_a_heads_column_sorts_anew(visit, run):
    page = visit()
    first = "#trials-body tr[data-place='0'] th"
    before = page.text_content(first)
    page.click("#trials-table [data-sort=name]")
    assert page.text_content(first) != before
    assert page.get_attribute("#trials-table th[data-column=name]", "aria-sort") == "descending"


def test_numbers_are_written_as_everywhere(visit):
    page = visit()
    shares = (
        [k / 1000 for k in range(0, 1001, 7)] + [k / 288 for k in range(289)] + [0.93125, 0.93375, 0.93625, 0.93875]
    )
    counts = [
        0,
        999,
        1000,
        9_999,
        12_345,
        12_355,
        272_474,
        999_949,
        999_950,
        25_557_032,
        4_089_184_256,
        10**9 + 5 * 10**5,
    ]
    # The page's functions are not to be reached from outside: their text is.
    script = page.locator("script").last.text_content()
    functions = script[script.index("function formatPercent") : script.index("// A cost by its name")]
    found = page.evaluate(f"([shares, counts]) => {{ {functions}; return [shares.map(formatPercent), counts.map(formatCount)]; }}",
                          [shares, counts])  # fmt: skip
    assert found == [[format_percent(share) for share in shares], [format_count(count) for count in counts]]


def brightness(page, selector: str, of: str) -> float:
    """Mean of red, green and blue of a computed colour, 0 to 255."""
    text = page.locator(selector).first.evaluate(f"(element) => getComputedStyle(element).{of}")
    return sum(float(part) for part in text.strip("rgba()").split(",")[:3]) / 3


def test_light_and_dark_follow_the_system_even_while_the_page_is_open(visit):
    page = visit(scheme="dark")
    drawing, label = "#curves .main-svg", "#curves .xtitle"
    for scheme, light in (("dark", False), ("light", True), ("dark", False)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(IS_LIGHT, arg=[drawing, light])
        assert (brightness(page, "body", "backgroundColor") > 200) is light
        assert (brightness(page, "body", "color") > 200) is not light
        assert (brightness(page, label, "fill") > 200) is not light
        assert (brightness(page, "#explorer .xtitle", "fill") > 200) is not light


@pytest.mark.slow
def test_printed_it_is_light_and_no_wider_than_a_sheet(visit):
    page = visit(scheme="dark")
    page.evaluate(
        """() => addEventListener('beforeprint', () => {
            const drawings = [...document.querySelectorAll('.chart .main-svg, #explorer .main-svg, .cloud')];
            window.widths = drawings.map((drawing) => drawing.clientWidth || drawing.width.baseVal.value);
            window.inks = [...document.querySelectorAll('.xtitle')].map((title) => title.style.fill);
        })"""
    )
    assert page.pdf(format="A4").startswith(b"%PDF")
    widths, inks = page.evaluate("[window.widths, window.inks]")
    assert len(widths) > 20
    assert max(widths) <= 703  # CSS pixels of A4 between its margins
    assert len(inks) > 3
    assert {sum(map(int, re.findall(r"\d+", ink)[:3])) < 300 for ink in inks} == {True}
    page.wait_for_function(IS_LIGHT, arg=["#curves .main-svg", False])  # as it was before
    assert page.locator("html").get_attribute("data-scheme") is None
    page.wait_for_function("() => document.querySelector('#curves .main-svg').clientWidth > 703")


@pytest.mark.slow
def test_light_and_dark_can_be_chosen(visit):
    page = visit(scheme="dark")
    page.select_option("#scheme", "light")
    page.wait_for_function(IS_LIGHT, arg=["#curves .main-svg", True])
    assert brightness(page, "body", "backgroundColor") > 200
    page.select_option("#scheme", "")
    page.wait_for_function(IS_LIGHT, arg=["#curves .main-svg", False])


@pytest.mark.slow
def test_drawings_have_names_and_their_buttons_upload_nothing(visit):
    page = visit()
    drawings = page.locator(".chart svg[role=img]")
    assert drawings.count() == page.locator(".chart").count() == len(parts(searched_run()).charts)
    for label in drawings.evaluate_all("(drawings) => drawings.map((drawing) => drawing.getAttribute('aria-label'))"):
        assert label.startswith("Chart of ")
    buttons = page.locator(".modebar button").evaluate_all("(buttons) => buttons.map((button) => button.ariaLabel)")
    assert set(buttons) == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}


def test_the_keyboard_reaches_what_can_be_used_and_the_focus_is_seen(visit):
    page = visit()
    reached = set()
    for _ in range(250):
        page.keyboard.press("Tab")
        element, style, width = page.evaluate(FOCUSED)
        if element == "BODY":
            break
        assert style == "solid"
        assert float(width.removesuffix("px")) >= 2
        reached.add(element)
    assert {"A", "BUTTON", "DIV", "INPUT", "PRE", "SELECT", "SUMMARY", "TR"} <= reached


def test_a_hostile_run_runs_nothing(visit):
    page = visit("hostile")
    for key in ("Home", "ArrowRight", "End"):
        page.locator("#explorer").press(key)
    page.mouse.move(*place_of(page, hostile_run().baselines()[0]))
    page.wait_for_timeout(300)  # an injected handler would have had its moment; `visit` fails on dialogs and errors
    assert page.locator("img").count() == 0
    assert page.locator("#explorer .textpoint").first.text_content().startswith("</script><script>alert")


@pytest.mark.slow
def test_a_finger_scrolls_past_the_charts(visit):
    page = visit("done", NARROW, has_touch=True, is_mobile=True)
    assert page.evaluate("document.getElementById('explorer')._fullLayout.dragmode") is False
    assert page.locator(".modebar button").count() == 0
