"""The page and the figures of a comparison."""

from __future__ import annotations

import dataclasses
import re
import statistics

import numpy as np
import pytest
from browsing import IS_LIGHT, NARROW
from helpers_comparison import DEEP, PLAIN, SMALL
from helpers_comparison import done as done  # a fixture
from helpers_report import findings_of, outcome_of

from nas.report.comparison.figures import errors, first_layer
from nas.report.comparison.page import degradations, page, spread, troubles, write
from nas.report.figures.gradients import gradients

pytestmark = pytest.mark.usefixtures("one_thread")


# -- the page ---------------------------------------------------------------------------------------------------------


def test_degradation_is_said_of_networks_that_differ_in_depth_alone():
    def said(small: float, deep: float) -> list[str]:
        return degradations(
            findings_of(
                (DEEP, [outcome_of([0.9, deep])]),
                (SMALL, [outcome_of([0.9, small])]),
                (PLAIN, [outcome_of([0.9, 0.5])]),
            )
        )

    worse, seed = said(0.1, 0.3)
    assert "higher in the deeper network: deep at 30.00 %, small at 10.00 %" in worse
    assert "degradation" in worse
    assert "one seed" in seed
    assert "lower in the deeper network: deep at 10.00 %, small at 30.00 %" in said(0.3, 0.1)[0]
    assert "the same in the deeper network" in said(0.3, 0.3)[0]
    assert degradations(findings_of((DEEP, [outcome_of([0.1])]), (PLAIN, [outcome_of([0.1])]))) == []
    assert degradations(findings_of((DEEP, [outcome_of([0.1], state="diverged")]), (SMALL, [outcome_of([0.1])]))) == []


def test_means_and_spreads_are_over_complete_trainings():
    trainings = [outcome_of([0.5, 0.2], 0), outcome_of([0.5, 0.4], 1), outcome_of([0.9], 2, "diverged", "nan")]
    findings = findings_of((SMALL, trainings), repeats=4)
    (network,) = findings.networks
    assert spread(network.train_errors) == f"30.00 ± {100 * statistics.stdev([0.2, 0.4]):.2f}"
    assert spread([0.2]) == "20.00"
    assert spread([]) == "–"
    assert troubles(network, 4) == "seed 2: nan; 1 of 4 not trained yet"
    thin, bold, cross = errors(findings, "training").data
    assert list(bold.y) == pytest.approx([0.5, 0.3])
    assert bold.name == "small, mean of 2"
    assert list(thin.y)[:2] == pytest.approx([0.5, 0.2])
    assert (list(cross.x), list(cross.y)) == ([1], pytest.approx([0.9]))
    assert "2 of 4" in page(findings)


def test_curves_are_the_errors(done):
    for which in ("training", "validation"):
        for trace, network in zip(errors(done[1], which).data, done[1].networks, strict=True):
            points = network.outcomes[0].points
            assert trace.name == network.name
            assert list(trace.x) == [1, 2, 3]
            assert list(trace.y) == [
                getattr(point, f"{'train' if which == 'training' else which}_error") for point in points
            ]


def test_the_slider_goes_through_the_recorded_norms():
    steps = [[4.0, 2.0, 1.0], [0.1, None, 1.0], [0.01, 0.0, 1.0]]
    findings = findings_of((SMALL, [outcome_of([0.5, 0.4], gradients_=steps)]))
    figure = gradients(findings.networks, "outputs")
    (trace,) = figure.data
    assert list(trace.x) == [1, 2, 3]
    assert list(trace.y) == steps[0]
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["first steps", "1", "2"]
    assert [list(step.args[0]["y"][0]) for step in slider.steps] == steps
    assert figure.layout.yaxis.range[0] < -2
    assert figure.layout.yaxis.range[1] > np.log10(4)
    (history,) = first_layer(findings, "outputs").data
    assert (list(history.x), list(history.y)) == ([0, 1, 2], [4.0, 0.1, 0.01])
    row = re.search(r">small</th>(<td[^>]*>[^<]*</td>){7}</tr>", page(findings).split("‖∂L/∂y‖ at the first")[-1])
    assert re.findall(r">([^<]*)</td>", row[0]) == ["3", "4", "2", "2", "0.01", "0", "–"]


def test_many_epochs_have_few_steps_of_the_slider():
    norms = [[1.0, 1.0, 1.0]] * 201
    figure = gradients(
        findings_of((SMALL, [outcome_of([0.1] * 200, gradients_=norms)]), epochs=200).networks, "weights"
    )
    labels = [step.label for step in figure.layout.sliders[0].steps]
    assert len(labels) <= 25
    assert (labels[0], labels[-1]) == ("first steps", "200")


def test_the_page_of_a_comparison_that_has_just_begun():
    html = page(findings_of((SMALL, []), (DEEP, [])))
    assert html.count("not trained yet") == 2
    assert "<figure" not in html


def test_names_are_text(tmp_path):
    hostile = dataclasses.replace(SMALL, name='</script><script>alert(1)</script><img src=x onerror="alert(2)">')
    html = page(findings_of((hostile, [outcome_of([0.5, 0.4], gradients_=[[1.0] * 3] * 3)])))
    assert "<script>alert" not in html
    assert "<img" not in html


@pytest.mark.browser
def test_the_page_in_a_browser(open_page, done, tmp_path):
    """Every network is drawn, the slider moves the lines, a change of scheme keeps it there, and nothing complains."""
    file, findings = tmp_path / "page.html", done[1]
    write(findings, file)
    lines = "#gradients-outputs .scatterlayer .trace path.js-line"
    view = open_page(file.as_uri(), NARROW)
    drawn = "() => document.querySelectorAll('.chart svg[role=img]').length === 6"
    view.wait_for_function(drawn)
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    for chart in ("training-error", "validation-error", "first-layer-outputs", "gradients-weights"):
        names = view.locator(f"#{chart} .legendtext").all_text_contents()
        assert names == [network.name for network in findings.networks]
    assert view.locator(lines).count() == 2
    before = view.locator(lines).first.get_attribute("d")
    view.locator("#gradients-outputs").scroll_into_view_if_needed()
    rail = view.locator("#gradients-outputs .slider-rail-touch-rect").bounding_box()
    view.mouse.click(rail["x"] + rail["width"] - 4, rail["y"] + rail["height"] / 2)
    view.wait_for_function(
        "([lines, before]) => document.querySelector(lines).getAttribute('d') !== before", arg=[lines, before]
    )
    assert "epoch: 3" in view.locator("#gradients-outputs .slider-label").first.text_content()
    shown = "() => document.getElementById('gradients-outputs').data[0].y"
    last = findings.networks[0].outcomes[0].moments[-1].outputs
    own = [x for x, layer in zip(last, findings.networks[0].outcomes[0].layers, strict=True) if layer.on_path]
    assert view.evaluate(shown) == pytest.approx(own)
    view.emulate_media(color_scheme="dark")
    view.wait_for_function(IS_LIGHT, arg=["#gradients-outputs .main-svg", False])
    assert view.evaluate(shown) == pytest.approx(own)
