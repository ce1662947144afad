"""The report in a browser: it opens from a file without the network, draws what it should, and stays usable."""

from __future__ import annotations

import pytest
from browsing import NARROW, WIDE, place_of
from helpers_pages import pages as pages  # a fixture
from helpers_pages import run as run  # a fixture
from helpers_pages import visit as visit  # a fixture

from nas.networks.build import costs_by_piece
from nas.networks.describe import describe
from nas.report.run import summary as answer
from nas.utils.text import format_count, format_percent

pytestmark = pytest.mark.browser


def points(page, name: str) -> list[tuple[float, float]]:
    """The points of a trace of the explorer by its name."""
    script = """(name) => { const trace = document.getElementById('explorer').data.find((trace) => trace.name === name);
        return trace ? trace.x.map((x, k) => [x, trace.y[k]]) : []; }"""
    return [tuple(pair) for pair in page.evaluate(script, name)]


SMALLEST = {"width": 320, "height": 640}


@pytest.mark.parametrize(
    ("name", "viewport"),
    [("done", WIDE), ("done", NARROW), *((name, SMALLEST) for name in ("done", "empty", "running", "hostile"))],
    ids=lambda value: value if isinstance(value, str) else str(value["width"]),
)
def test_the_page_fits(visit, name, viewport):
    page = visit(name, viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.evaluate("document.body.getBoundingClientRect().width") <= viewport["width"]


def test_every_trial_is_drawn(visit, run):
    page = visit()
    front = [trial for trial in run.front() if not trial.label]
    assert points(page, "front") == [(trial.cost.params, trial.accuracy) for trial in run.complete() if trial in front]
    assert points(page, "baseline") == [(trial.cost.params, trial.accuracy) for trial in run.baselines()]
    others = [trial for trial in run.trials if trial.epochs and trial not in run.front() and not trial.label]
    assert int(page.locator("#explorer").get_attribute("data-cloud")) == len(others)
    page.uncheck("#explorer-others")
    complete = [trial for trial in others if trial.accuracy is not None]
    page.wait_for_function(
        "(count) => Number(document.getElementById('explorer').dataset.cloud) === count", arg=len(complete)
    )
    curves = [trial for trial in run.trials if trial.epochs]
    assert page.locator("#curves .scatterlayer .trace path.js-line").count() == len(curves)
    assert page.locator("#hypervolume .scatterlayer .trace path.js-line").count() == 1


def test_the_cloud_lies_where_plotlys_axes_say(visit, run):
    page = visit()
    trial = next(trial for trial in run.complete() if trial not in run.front() and not trial.label)
    x, y = place_of(page, trial)
    ink = """([x, y]) => {
        const canvas = document.querySelector('.cloud');
        const { left, top } = canvas.getBoundingClientRect();
        const ratio = canvas.width / canvas.clientWidth;
        const side = Math.round(12 * ratio);
        const { data } = canvas.getContext('2d').getImageData((x - left) * ratio - side / 2, (y - top) * ratio - side / 2, side, side);
        return data.some((value, k) => k % 4 === 3 && value > 100);
    }"""
    assert page.evaluate(ink, [x, y])


def test_the_staircase_is_the_front_of_the_chosen_axes(visit, run):
    page = visit()
    for cost, title in (("macs", "MACs"), ("activations", "activations"), ("params", "parameters")):
        page.select_option("#explorer-cost", cost)
        page.wait_for_function(
            "(title) => document.getElementById('explorer').layout.xaxis.title.text.includes(title)", arg=title
        )
        stairs = points(page, "best at this cost")
        for trial in run.complete():
            here = getattr(trial.cost, cost)
            assert [y for x, y in stairs if x <= here][-1] == max(
                other.accuracy for other in run.complete() if getattr(other.cost, cost) <= here
            )


@pytest.mark.slow
def test_axes_can_be_chosen(visit, run):
    page = visit()
    axes = "[...'xy'].map((name) => document.getElementById('explorer')._fullLayout[name + 'axis'].type)"
    assert page.evaluate(axes) == ["log", "linear"]
    assert page.locator("#explorer-log-y").is_disabled()
    page.select_option("#explorer-measure", "error")
    page.check("#explorer-log-y")
    page.uncheck("#explorer-log-x")
    page.wait_for_function(f"() => String({axes}) === 'linear,log'")
    best = run.best()
    assert (best.cost.params, pytest.approx(1 - best.accuracy)) in points(page, "best at this cost")
    page.check("#explorer-bars")
    page.wait_for_selector("#explorer .errorbar")


def test_hovering_says_which_network_it_is(visit, run):
    page = visit()
    for trial in (run.best(), next(trial for trial in run.complete() if trial not in run.front() and not trial.label)):
        page.mouse.move(*place_of(page, trial))
        tip = page.locator(".tip")
        tip.wait_for()
        assert tip.locator("strong").text_content().startswith(trial.name)
        assert f"{format_percent(trial.accuracy)} ±" in tip.text_content()
        assert describe(trial.architecture) in tip.text_content()
        assert f"{format_count(trial.cost.params)} parameters" in tip.text_content()


def test_a_click_shows_the_design_its_cost_its_curve_and_its_commands(visit, run):
    page = visit()
    assert answer.knee(run).name in page.locator("#detail h3").text_content()  # what stands there at first
    trial = min(run.front(), key=lambda trial: trial.cost.params)
    page.mouse.click(*place_of(page, trial))
    panel = page.locator("#detail")
    panel.get_by_role("heading", name=trial.name, exact=True).wait_for()
    assert panel.locator("svg.diagram rect.stage").count() == len(trial.architecture.stages)
    assert [row.split("\t")[0] for row in panel.locator(".pieces tbody tr").all_inner_texts()] == [
        piece.name.replace("stage", "stage ") for piece in costs_by_piece(trial.architecture)
    ]
    cells = panel.locator(".pieces tbody td:nth-child(2)").all_text_contents()
    assert cells == [format_count(piece.cost.params) for piece in costs_by_piece(trial.architecture)]
    assert "Learning curve of" in panel.locator("svg.curve").get_attribute("aria-label")
    commands = panel.locator("code").all_text_contents()
    name = trial.label or f"trial-{trial.number}"
    assert commands[0] == f"nas export {run.path} --trial {trial.label or trial.number} --out models/{name}"
    assert commands[1] == f"nas train models/{name}/*.yaml --dataset cifar10"


@pytest.mark.slow
def test_dragging_zooms_and_chooses_nothing(visit, run):
    page = visit()
    before = page.locator("#detail h3").text_content()
    x, y = place_of(page, run.best())
    page.mouse.move(x - 60, y + 10)
    page.mouse.down()
    page.mouse.move(x + 5, y + 80, steps=5)
    page.mouse.up()
    page.wait_for_function("() => document.getElementById('explorer').layout.xaxis.autorange !== true")
    assert page.locator("#detail h3").text_content() == before


@pytest.mark.slow
def test_copying_a_command(visit, run):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.locator("#detail .copy").first.click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#detail code").first.text_content()


def test_the_budget_takes_the_best_under_it(visit, run):
    page = visit()
    for cost in ("params", "macs"):
        page.select_option("#budget-cost", cost)
        counts = sorted(getattr(trial.cost, cost) for trial in run.complete())
        for limit in (counts[0], counts[len(counts) // 2], 2_000_000, counts[-1]):
            page.fill("#budget-number", str(limit))
            page.press("#budget-number", "Enter")
            words = page.locator("#budget-pick")
            fitting = [count for count in counts if count <= limit]
            if not fitting:
                assert "none of the complete trials is as small" in words.text_content()
                continue
            wanted = run.best(**{f"max_{cost}": limit})
            assert words.locator("strong").text_content() == wanted.name
            assert f"{format_percent(wanted.accuracy)} ±" in words.text_content()
            assert wanted.name in page.locator("#detail h3").text_content()
    page.fill("#budget-number", "many")
    page.press("#budget-number", "Enter")
    assert page.locator("#budget-number").get_attribute("aria-invalid") == "true"


@pytest.mark.slow
def test_the_slider_moves_by_keys(visit, run):
    page = visit()
    slider = page.locator("#budget")
    slider.focus()
    page.keyboard.press("Home")
    cheapest = min(trial.cost.params for trial in run.complete())
    assert run.best(max_params=cheapest).name == page.locator("#budget-pick strong").text_content()
    picks = set()
    for _ in range(12):
        page.keyboard.press("PageUp")
        picks.add(page.locator("#budget-pick strong").text_content())
    assert len(picks) > 2
    assert slider.get_attribute("aria-valuetext").startswith("at most ")
    page.keyboard.press("End")
    assert page.locator("#budget-pick strong").text_content() == run.best().name


@pytest.mark.slow
def test_arrow_keys_step_through_the_trials(visit, run):
    page = visit()
    page.locator("#explorer").focus()
    page.keyboard.press("Home")
    order = sorted(run.complete(), key=lambda trial: (trial.cost.params, trial.accuracy))
    for trial in order[:4]:
        assert trial.name in page.locator("#detail h3").text_content()
        assert page.locator("#announced").text_content().startswith(f"{trial.name}: {format_percent(trial.accuracy)} ±")
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('#detail') !== null")
