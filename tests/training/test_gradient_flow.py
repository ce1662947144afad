"""Gradient norms in a run: asked for once and kept on, drawn as the trials recorded them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from browsing import DRAWN
from helpers_report import Page
from helpers_search import write_space
from make_run import make_run

import nas
from nas.report import figures, write
from nas.report.run import summary as answer
from nas.report.run.page import page
from nas.report.run.page_data import compact
from nas.runs.layout import BASELINES, TRIALS
from nas.runs.run import Run, load_run
from nas.runs.settings import Settings
from nas.searching.search import resume
from nas.training import gradient_flow as flow
from nas.training.gradient_flow import Layer, Moment

LAYERS = (Layer("stem.0", "convolution", 1, True), Layer("side", "linear", 1, False), Layer("head", "linear", 2, True))


def moments(scale: float) -> tuple[Moment, ...]:
    return tuple(
        Moment(epoch, 10, (scale / (epoch + 1), None, 0.5 * scale), (scale, 2 * scale, 3.0)) for epoch in (0, 2, 3)
    )


def place_of(run: Run, trial) -> object:
    return run.path / BASELINES / trial.label if trial.label else run.path / TRIALS / str(trial.number)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A made-up run whose complete trials but two of the front have recorded norms."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "made", trials=30)
    dataclasses.replace(Settings.load(folder), gradient_steps=10).save(folder)
    made = load_run(folder)
    for number, trial in enumerate(made.complete(), 1):
        flow.write(place_of(made, trial), trial.digest, flow.Flow(LAYERS, moments(float(number))))
    cheapest = made.front()[0]
    (place_of(made, cheapest) / flow.FILE).unlink()
    return made


@pytest.mark.parametrize("norm", ["outputs", "weights"])
def test_the_figure_draws_what_the_trials_recorded(run, norm):
    figure = figures.gradient_flow(run, norm)
    wanted = {trial.number: trial for trial in [*(pick.trial for pick in answer.picks(run)), *run.baselines()]}
    recorded = [trial for trial in wanted.values() if flow.read(place_of(run, trial), trial.digest)]
    paths = [trace for trace in figure.data if trace.mode != "markers"]
    assert [trace.name for trace in paths] == [trial.name for trial in recorded]
    assert len(recorded) >= 2
    for trial, trace in zip(recorded, paths, strict=True):
        found = flow.read(place_of(run, trial), trial.digest)
        assert list(trace.x) == [1, 2]
        assert list(trace.y) == [getattr(found.moments[0], norm)[k] for k in (0, 2)]
        which = list(figure.data).index(trace)
        steps = [step.args[0]["y"][which] for step in figure.layout.sliders[0].steps]
        assert [list(values) for values in steps] == [[getattr(m, norm)[k] for k in (0, 2)] for m in found.moments]
    assert [step.label for step in figure.layout.sliders[0].steps] == ["first steps", "2", "3"]


def test_of_trials_that_are_named_those_are_drawn(run):
    trial = run.complete()[-1]
    assert {trace.name for trace in figures.gradient_flow(run, trials=[trial]).data} == {trial.name}


def test_without_records_the_figure_says_so(tmp_path):
    plain = load_run(make_run(tmp_path / "plain", trials=3))
    assert "no gradient has been recorded" in figures.gradient_flow(plain).layout.annotations[0].text
    assert 'id="gradients"' not in page(plain)
    assert json.loads(compact(plain))["flows"] == {}


def test_the_page_holds_the_norms_of_the_front_and_the_baselines(run):
    flows = json.loads(compact(run))["flows"]
    wanted = [trial for trial in run.trials if trial in run.front() or trial.label]
    known = {run.trials.index(trial): flow.read(place_of(run, trial), trial.digest) for trial in wanted}
    known = {str(place): found for place, found in known.items() if found}
    assert flows.keys() == known.keys()
    for place, (depths, norms) in flows.items():
        assert depths == [1, 2]
        assert norms == [[m.epoch, [m.outputs[0], m.outputs[2]]] for m in known[place].moments]
    table = Page(page(run)).rows("‖∂L/∂y‖ at the first layer")
    assert table[0][:5] == ["Network", "Layers", "First, first steps", "Last, first steps", "Ratio, first steps"]


@pytest.mark.browser
@pytest.mark.slow
def test_the_panel_draws_the_norms_of_the_chosen_trial(open_page, run, tmp_path):
    view = open_page(write(run, tmp_path / "page.html").as_uri())
    view.wait_for_function(DRAWN)
    trial = next(trial for trial in run.front()[1:] if not trial.label)
    view.fill("#trials-text", trial.name)
    view.locator(f"#trials-body tr:has(th:text-is('{trial.number}'))").click()
    drawing = view.locator("#detail svg.flow")
    assert f"Gradient norms by layer of {trial.name}: first steps" in drawing.get_attribute("aria-label")
    assert drawing.locator("path.own").count() == 2 * 3  # a line and its sample in the legend for each moment
    other = next(trial for trial in run.complete() if trial not in run.front() and not trial.label)
    view.fill("#trials-text", other.name)
    view.locator(f"#trials-body tr:has(th:text-is('{other.number}'))").click()
    view.locator("#detail").get_by_role("heading", name=other.name).wait_for()
    assert view.locator("#detail svg.flow").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_search_that_is_resumed_goes_on_recording(tmp_path, executor):
    space = write_space(tmp_path)
    options = {"executor": executor, "workers": 1, "epochs": 2, "max_images": 300, "baselines": ("resnet20",)}
    nas.search(space=str(space), trials=2, out=tmp_path / "run", record_gradients=True, **options)
    assert Settings.load(tmp_path / "run").gradient_steps == flow.STEPS
    run = resume(tmp_path / "run", trials=3)
    assert len(run.complete()) == 4
    for trial in run.complete():
        found = flow.read(place_of(run, trial), trial.digest)
        assert [moment.epoch for moment in found.moments] == [0, 1, 2]
        assert all(norm is not None for moment in found.moments for norm in (*moment.outputs, *moment.weights))
