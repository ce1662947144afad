"""Confirmations that are refused, or end early."""

from __future__ import annotations

import json
import os

import pytest
from helpers_cli import nas_, output, refusal
from helpers_confirmation import confirm, leave
from helpers_confirmation import confirmed as confirmed  # a fixture
from helpers_confirmation import made as made  # a fixture
from helpers_confirmation import run as run  # a fixture
from helpers_report import Page
from helpers_search import training_data
from make_run import changed, make_run

from nas.execution import local
from nas.execution.watchdog import Watch
from nas.report.run import page as report_page
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching import conclusion, confirmation
from nas.searching import search as searching
from nas.searching.confirmation import Confirmation
from nas.searching.progress import Tally
from nas.searching.study import Study

# -- what is refused ----------------------------------------------------------------------------------------------------


def test_not_beside_a_driver_nor_a_driver_beside_it(run):
    with Study(run, Settings.load(run)):
        assert "another driver works on this run" in refusal("confirm", run, "--executor", "local")
    with Confirmation(run, Settings.load(run)):
        assert "another driver works on this run" in refusal("confirm", run)
        assert load_run(run).active
    assert not load_run(run).active


def test_who_looks_at_a_run_sees_how_far_its_confirmation_is(run):
    with Confirmation(run, Settings.load(run), 2, 0.004) as desk:
        wanted = 2 * len(desk.trials)
        for done in range(4):
            found = load_run(run)
            assert (found.status, found.confirmed_so_far()) == ("confirming", (done, wanted))
            job = desk.ask()
            leave(job)
            desk.tell(job.key)
        assert f"The run is being confirmed: 4 of {wanted} trainings done; 16 of 16 trials trained" in " ".join(
            output("front", run).split()
        )
        data = json.loads(output("front", run, "--json"))
        assert data["status"] == "confirming"
        assert data["confirmation"]["going_on"] == {"done": 4, "wanted": wanted}
        words = Page(report_page.page(load_run(run))).words
        assert f"being confirmed, 4 of {wanted} trainings done" in words
        assert "still going" not in words.lower()
    found = load_run(run)
    assert (found.status, found.confirmed_so_far()) == ("done", None)
    assert json.loads(output("front", run, "--json"))["confirmation"]["going_on"] is None
    with Study(run, Settings.load(run)):
        assert load_run(run).status == "running"


def test_the_lock_is_held_until_report_and_front_are_written(run, monkeypatch):
    """A second command would write into the folder at the same time."""
    seen = []

    def watched(found):
        seen.append(load_run(run).active)
        searching_leave(found)

    searching_leave = conclusion.leave
    monkeypatch.setattr(conclusion, "leave", watched)
    found = searching.drive(run, Settings.load(run), None, str, Tally)
    confirm(run)
    again = confirmation.confirm(run, seeds=3)
    assert seen == [True, True]
    for ended in (found, again):
        assert ended.status == "done"
    assert "still going" not in (run / "report.html").read_text(encoding="utf-8")
    assert not load_run(run).active


def test_what_hangs_in_this_process_names_the_command_that_goes_on_with_it(run, monkeypatch, capfd):
    watched = []

    class Watched(Watch):
        def __init__(self, *what):
            super().__init__(*what)
            watched.append(self)

        def __enter__(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(local, "Watch", Watched)
    monkeypatch.setattr(os, "_exit", lambda status: None)
    settings = Settings.load(run)
    settings = changed(settings, trials=20, executor={"trial_timeout": 0.0})
    monitor = Tally(Confirmation(run, settings))
    commands = ("nas resume {}", "nas confirm {} --seeds 2 --within 0.4")
    for make, command in zip((Study, lambda *them: Confirmation(*them, 2, 0.004)), commands, strict=True):
        with make(run, settings) as desk, pytest.raises(KeyboardInterrupt):
            local.run(desk, training_data(), monitor, lambda: False)
        watched.pop()._wait()
        assert f"`{command.format(run)}` resumes" in capfd.readouterr().err


def test_not_with_another_recipe(run):
    settings = Settings.load(run)
    changed(settings, recipe={"learning_rate": 0.01}).save(run)
    assert "its study has other recipe than its run.yaml" in refusal("confirm", run, "--executor", "local")
    assert not (run / "confirmed").exists()


def test_not_without_a_complete_trial(tmp_path):
    folder = make_run(tmp_path / "run", told=0, trials=5)
    assert "no trial is complete yet" in refusal("confirm", folder, code=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seeds", "1"), "--seeds 1: from 2"),
        (("--seeds", "0"), "--seeds 0: from 2"),
        (("--within", "-1"), "--within -1: points of accuracy"),
        (("--within", "nan"), "--within nan: points of accuracy"),
        (("--workers", "-1"), "--workers -1: must be at least 0"),
    ],
)
def test_numbers_that_cannot_be_meant(run, arguments, words):
    assert words in refusal("confirm", run, *arguments)


def test_a_search_that_is_to_be_confirmed_says_so_at_once(tmp_path):
    result = nas_("search", "--confirm", "1", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "--confirm 1: from 2" in result.stderr
    assert not (tmp_path / "run").exists()
