"""Resumed with other numbers of trials, and with what a run must not lose."""

from __future__ import annotations

import pytest
from helpers_cli import nas_, output, refusal
from helpers_search import write_space

from nas.runs.settings import FILE

LOCAL = ("--executor", "local", "--device", "cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


# -- other numbers -----------------------------------------------------------------------------------------------------


def test_fewer_trials_than_were_trained_end_a_run_and_the_way_on_is_to_more(tmp_path):
    folder = tmp_path / "run"
    space = write_space(tmp_path)
    assert nas_("search", "--space", space, "--trials", 3, "--epochs", 1, *LOCAL, "--out", folder).exit_code == 0
    text = " ".join(output("resume", folder, "--trials", 1).split())
    assert "The run is done: 3 trials trained, more than the requested 1." in text
    assert f"nas resume {folder} --trials 6 continue the search" in text


def test_workers_that_the_machine_has_no_cores_for_are_refused_before_anything_is_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.execution.executor.available_cores", lambda: 2)
    words = ("search", "--space", write_space(tmp_path), "--trials", 1, "--quiet", "--out", tmp_path / "run")
    for options, said in (
        (
            ("--workers", 3),
            "--workers 3: this machine has 2 cores for this process, for 2 at once; give fewer, or the --address",
        ),
        (
            ("--workers", 2, "--cpus-per-trial", 1.5),
            "--workers 2: this machine has 2 cores for this process, for 1 at once with 1.5 cores",
        ),
        (("--cpus-per-trial", 3), "--cpus-per-trial 3: this machine has 2 cores"),
    ):
        assert said in refusal(*words, *options)
    assert not (tmp_path / "run").exists()
    folder = tmp_path / "other"
    assert nas_(*words[:-1], folder, "--epochs", 1, *LOCAL).exit_code == 0
    before = (folder / FILE).read_bytes()
    on = ("resume", folder, "--trials", 2, "--executor", "ray", "--quiet")
    assert "--workers 3: this machine has 2 cores" in refusal(*on, "--workers", 3)
    assert (folder / FILE).read_bytes() == before, "a later resume must not stumble over it"


def test_options_for_trials_side_by_side_are_said_to_do_nothing_in_one_process(tmp_path, monkeypatch):
    threads = []
    monkeypatch.setattr("nas.training.workspace.torch.set_num_threads", threads.append)
    words = ("search", "--space", write_space(tmp_path), "--trials", 1, "--epochs", 1, *LOCAL)
    note = (
        "trains one network after another in this process; nothing is changed by --workers 3 and --gpus-per-trial 0.5"
    )
    assert note in output(*words, "--workers", 3, "--gpus-per-trial", 0.5, "--out", tmp_path / "first")
    assert threads == []
    assert "nothing is changed by" not in output(
        *words, "--workers", 1, "--cpus-per-trial", 2, "--out", tmp_path / "second"
    )
    assert threads == [2]
