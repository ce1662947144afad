"""The page of 10,000 trials in a browser: small enough, drawn whole, and each answer that of the run."""

from __future__ import annotations

import pytest
from browsing import DRAWN, place_of, rows
from helpers_report import searched_run

from nas.networks.describe import describe
from nas.report import write
from nas.utils.text import format_count, format_percent

TRIALS = 10_000
PATIENCE = 300_000  # milliseconds; a hang and no time limit

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def run():
    return searched_run(TRIALS)


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    return write(run, tmp_path_factory.mktemp("many") / "many.html")


@pytest.fixture
def page(open_page, path):
    page = open_page(path.as_uri(), reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    page.wait_for_function(DRAWN, timeout=PATIENCE)
    return page


def test_the_file_is_within_its_limit(run, path):
    assert path.stat().st_size < 6e6 + 1000 * len(run.trials)


def test_all_is_drawn_and_little_of_it_is_elements(page, run):
    on_front = {trial.number for trial in run.front()}
    points = [trial for trial in run.trials if trial.epochs and not trial.label and trial.number not in on_front]
    assert int(page.locator("#explorer").get_attribute("data-cloud")) == len(points)
    assert len(rows(page)) < 100
    assert page.evaluate("document.querySelectorAll('*').length") < 25_000
    assert page.locator("#curves .scatterlayer .trace path.js-line").count() < 2000


def test_the_slider_takes_the_best_within_its_budget(page, run):
    slider = page.locator("#budget")
    slider.focus()
    params = sorted(trial.cost.params for trial in run.complete())
    picked = page.locator("#budget-pick strong")
    page.keyboard.press("Home")
    assert picked.text_content() == run.best(max_params=params[0]).name
    limit = params[0]
    for _ in range(3):
        page.keyboard.press("PageUp")
        line = "(before) => { const at = document.getElementById('explorer').layout.shapes[0]?.x0; return at > before && at; }"
        limit = page.wait_for_function(line, arg=limit).json_value()
        assert params[0] < limit < params[-1]
        assert picked.text_content() == run.best(max_params=limit).name
        assert run.best(max_params=limit).name in page.locator("#detail h3").text_content()
    page.keyboard.press("End")
    assert picked.text_content() == run.best().name


def test_the_table_filters_sorts_and_scrolls(page, run):
    count = page.locator("#trials-count")
    page.fill("#trials-text", "bottleneck zero-pad")
    fitting = [
        trial
        for trial in run.trials
        if all(word in describe(trial.architecture) for word in ("bottleneck", "zero-pad"))
    ]
    assert count.text_content() == f"{len(fitting):,} of {len(run.trials):,} trials"
    page.select_option("#trials-state", "complete")
    fitting = [trial for trial in fitting if trial.state == "complete"]
    assert count.text_content() == f"{len(fitting):,} of {len(run.trials):,} trials"
    page.locator("#trials-table [data-sort=accuracy]").click()
    best = sorted((trial.accuracy for trial in fitting), reverse=True)
    shown = [row[2] for row in rows(page)]
    assert shown == [format_percent(accuracy) for accuracy in best[: len(shown)]]
    page.locator("#trials-table [data-sort=macs]").click()
    macs = sorted(trial.cost.macs for trial in fitting)
    shown = [row[4] for row in rows(page)]
    assert shown == [format_count(count) for count in macs[: len(shown)]]
    page.locator("#trials-body tr[tabindex='0']").focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.place") == str(len(fitting) - 1)
    assert rows(page)[-1][4] == format_count(macs[-1])


def test_a_click_shows_the_trial(page, run):
    trial = min(run.front(), key=lambda trial: trial.cost.params)
    page.mouse.click(*place_of(page, trial))
    page.locator("#detail").get_by_role("heading", name=trial.name, exact=True).wait_for()
    assert describe(trial.architecture) in page.locator("#detail").text_content()
