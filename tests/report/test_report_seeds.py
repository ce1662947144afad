"""Error bars over seeds, in a browser: where they stand, how long they are, what pointing at one says."""

from __future__ import annotations

import csv
import io

import pytest
from browsing import NARROW, WIDE
from helpers_report import confirmed_run

from nas.report import figures, write
from nas.runs.records import format_estimate
from nas.utils.text import format_percent

pytestmark = pytest.mark.browser

DRAWN = "() => document.querySelector('#explorer[data-cloud]') && document.querySelector('#detail h3')"
# A trace of the explorer by its name: its points and the lengths of their bars, in data units.
BARS = """(name) => {
    const trace = document.getElementById('explorer').data.find((trace) => trace.name === name);
    return { x: trace.x, y: trace.y, errors: trace.error_y.array };
}"""
# Heights of all bars as Plotly drew them, in pixels, and how many a unit of the axis has.
DRAWN_BARS = """() => {
    const { yaxis } = document.getElementById('explorer')._fullLayout;
    const bars = [...document.querySelectorAll('#explorer path.yerror')].map((path) => path.getBBox().height);
    return [bars, Math.abs(yaxis.d2p(1) - yaxis.d2p(0))];
}"""


@pytest.fixture(scope="module")
def run():
    return confirmed_run(latency={})


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    return write(run, tmp_path_factory.mktemp("page") / "report.html").as_uri()


@pytest.fixture(params=[WIDE, pytest.param(NARROW, marks=pytest.mark.slow)], ids=["1280", "390"])
def page(request, open_page, path):
    opened = open_page(path, request.param)
    opened.wait_for_function(DRAWN)
    return opened


def bars(page, name: str) -> dict:
    return page.evaluate(BARS, name)


def test_each_mean_has_a_bar_of_its_standard_error(page, run):
    assert page.is_checked("#explorer-bars")
    front = {trial.number for trial in run.front()}
    for name, trials in {
        "front": [t for t in run.front() if not t.label],
        "confirmed": [t for t in run.ranked() if t.number not in front and not t.label],
        "baseline": run.baselines(),
    }.items():
        found = bars(page, name)
        want = {(t.cost.params, t.confirmed.mean, t.confirmed.std_error) for t in trials}
        assert trials
        assert set(zip(found["x"], found["y"], found["errors"], strict=True)) == want
    heights, unit = page.evaluate(DRAWN_BARS)
    want = sorted(2 * trial.confirmed.std_error * unit for trial in run.ranked())
    assert sorted(heights) == pytest.approx(want, abs=1)
    page.uncheck("#explorer-bars")
    page.wait_for_function("() => !document.querySelector('#explorer path.yerror')")


def test_the_staircase_is_of_means_and_the_searchs_is_dotted(page, run):
    lines = page.evaluate(
        """() => Object.fromEntries(document.getElementById('explorer').data.filter((trace) => trace.mode === 'lines')
            .map((trace) => [trace.name, { steps: trace.x.map((x, k) => [x, trace.y[k]]), dash: trace.line.dash ?? 'solid' }]))"""
    )
    for name, trials, height, dash in (
        ("best at this cost", run.ranked(), lambda t: t.confirmed.mean, "solid"),
        ("best in the search", run.complete(), lambda t: t.accuracy, "dot"),
    ):
        assert lines[name]["dash"] == dash
        for trial in trials:
            reached = [y for x, y in lines[name]["steps"] if x <= trial.cost.params][-1]
            assert reached == max(height(t) for t in trials if t.cost.params <= trial.cost.params)


def test_pointing_says_the_mean_its_error_and_n(page, run):
    place = """([number]) => {
        const plot = document.getElementById('explorer');
        const data = JSON.parse(document.getElementById('run').textContent);
        const index = data.columns.number.indexOf(number);
        const { xaxis, yaxis } = plot._fullLayout;
        const { left, top } = plot.getBoundingClientRect();
        const y = data.repeats[index]?.mean ?? data.columns.accuracy[index];
        return [left + xaxis._offset + xaxis.d2p(data.columns.params[index]), top + yaxis._offset + yaxis.d2p(y)];
    }"""
    page.locator("#explorer").scroll_into_view_if_needed()
    best = run.best()
    page.mouse.move(*page.evaluate(place, [best.number]))
    tip = page.locator(".tip")
    tip.wait_for()
    assert format_estimate(best.confirmed) in tip.text_content()
    assert "(3 seeds)" in tip.text_content()
    page.mouse.click(*page.evaluate(place, [best.number]))
    panel = page.locator("#detail")
    panel.get_by_role("heading", name=best.name).wait_for()
    words = panel.locator(".again").text_content()
    assert words.startswith(f"{format_percent(best.accuracy)} % in the search; from further seeds: ")
    assert all(format_percent(repeat.accuracy) in words for repeat in best.repeats)


def test_the_budget_and_the_table_go_by_means(page, run):
    page.locator("#budget-number").fill("1M")
    page.locator("#budget-number").press("Enter")
    pick = run.best(max_params=1_000_000)
    page.wait_for_function(
        "(name) => document.querySelector('#budget-pick strong')?.textContent === name", arg=pick.name
    )
    assert format_estimate(pick.confirmed) in page.locator("#budget-pick").text_content()
    page.locator('#trials-table [data-sort="mean"]').click()
    first = page.locator("#trials-body tr[data-place]").first
    top = max((t for t in run.trials if t.confirmed), key=lambda t: t.confirmed.mean)
    assert format_percent(top.confirmed.mean) in first.text_content()
    with page.expect_download() as saved:
        page.click("#trials-csv")
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text(encoding="utf-8"))))
    found = {int(row["number"]): row for row in rows}
    for trial in run.trials:
        row = found[trial.number]
        if trial.confirmed:
            assert float(row["accuracy_mean"]) == trial.confirmed.mean
            assert float(row["accuracy_std_error"]) == trial.confirmed.std_error
        assert int(row["accuracy_seeds"]) == (trial.confirmed.n if trial.confirmed else 0)


def test_the_figure_for_papers_has_the_same_bars(run):
    figure = figures.accuracy_against(run, "params")
    front = next(trace for trace in figure.data if trace.name == "front")
    members = [t for t in run.complete() if t in run.front() and not t.label]
    assert list(front.y) == [t.confirmed.mean for t in members]
    assert list(front.error_y.array) == [t.confirmed.std_error for t in members]
    assert all(format_estimate(t.confirmed) in text for t, text in zip(members, front.hovertext, strict=True))
    assert {trace.name for trace in figures.accuracy_against(run.as_searched(), "params").data} == {
        trace.name for trace in figure.data
    } - {"best in the search"}


def test_the_table_of_the_front_is_seen_whole_on_a_laptop(open_page, path):
    page = open_page(path, WIDE)
    wide, room = page.evaluate(
        "() => { const t = document.querySelector('#front .scroll'); return [t.scrollWidth, t.clientWidth]; }"
    )
    assert wide <= room
