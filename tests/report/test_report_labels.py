"""Words on the report's charts in a browser: they lie neither on one another nor beyond their chart, on phones too."""

from __future__ import annotations

import dataclasses

import pytest
from browsing import CHARTS, DRAWN, NARROW, WIDE
from helpers_analysis import lawful_run
from helpers_report import searched_run

from nas.report import write

pytestmark = pytest.mark.browser

LABELS = """() => [...document.querySelectorAll('#explorer .textpoint text')].map((text) => {
    const { left, top, right, bottom } = text.getBoundingClientRect();
    return [left, top, right, bottom];
})"""


@pytest.mark.parametrize(
    ("viewport", "measure"), [(WIDE, "accuracy"), (NARROW, "error")], ids=["1280-accuracy", "390-error"]
)
def test_labels_of_baselines_do_not_lie_on_one_another(open_page, tmp_path, viewport, measure):
    names = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
    run = searched_run(60, baselines=names)
    level = max(
        trial.accuracy for trial in run.complete()
    )  # all at one height, where they were written over one another
    level_run = tuple(
        dataclasses.replace(trial, accuracy=level, values=(level, *trial.values[1:])) if trial.label else trial
        for trial in run.trials
    )
    path = write(dataclasses.replace(run, trials=level_run), tmp_path / "report.html")
    page = open_page(path.as_uri(), viewport)
    page.wait_for_function(DRAWN)
    page.select_option("#explorer-measure", measure)
    page.wait_for_function(f"() => document.querySelector('#explorer .ytitle').textContent.includes('{measure}')")
    page.wait_for_function(
        f"() => ({LABELS})().length >= {5 if viewport == WIDE else 3}"
    )  # where one has no room, it is left out
    boxes = page.evaluate(LABELS)
    for k, (left, top, right, bottom) in enumerate(boxes):
        for a, b, c, d in boxes[:k]:
            assert not (a < right - 1 and left < c - 1 and b < bottom - 3 and top < d - 3)
        assert left >= 0
        assert right <= viewport["width"]


@pytest.mark.parametrize("viewport", [pytest.param(WIDE, marks=pytest.mark.slow), NARROW], ids=["1280", "390"])
def test_titles_of_charts_are_not_cut(open_page, tmp_path, viewport):
    path = write(lawful_run(60), tmp_path / "report.html")
    page = open_page(path.as_uri(), viewport)
    page.wait_for_function(DRAWN)
    page.wait_for_function(CHARTS)
    cut = page.evaluate("""() => [...document.querySelectorAll('.chart')].flatMap((chart) => {
        const title = chart.querySelector('.gtitle');
        if (!title) return [];
        const [inner, outer] = [title.getBoundingClientRect(), chart.getBoundingClientRect()];
        return inner.right > outer.right || inner.left < outer.left ? [title.textContent] : [];
    })""")
    assert cut == []


def test_words_of_rails_and_cells_keep_their_size_on_a_phone(open_page, tmp_path):
    run = lawful_run(
        80, worth=lambda choices: 0.05 * (choices["shortcut"] == "zero_pad") + 0.002 * choices["stage1.width"]
    )
    path = write(run, tmp_path / "report.html")
    page = open_page(path.as_uri(), NARROW)
    page.wait_for_function(DRAWN)
    page.wait_for_function(CHARTS)
    words = page.evaluate("""() => [...document.querySelectorAll('#lines .annotation-text')].map((text) => {
        const { left, top, right, bottom } = text.getBoundingClientRect();
        return [left, top, right, bottom];
    })""")
    assert len(words) > 10
    for k, (left, top, right, bottom) in enumerate(words):
        assert all(not (a < right + 3 and left < c + 3 and b < bottom - 4 and top < d - 4) for a, b, c, d in words[:k])
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    sizes = page.evaluate(
        "[...document.querySelectorAll('#pairs .heatmap-label text')].map((t) => t.getBoundingClientRect().height)"
    )
    assert min(sizes) > 15  # two lines
