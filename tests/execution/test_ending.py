"""Ends of a search that come from outside: a signal at a bad moment, a closed terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from helpers_cli import nas_, output
from helpers_search import write_space

from nas.runs.run import load_run

# `nas` with the arguments behind the second, whose process gets the signal of that number when it begins to import a module.
SIGNALLED = """\
import os, sys

class Sends:
    sent = False

    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] and not self.sent:
            self.sent = True
            os.kill(os.getpid(), int(sys.argv[2]))

sys.meta_path.insert(0, Sends())
from nas.cli.main import cli
cli.main(sys.argv[3:])
"""
IN_TORCH = "torch.nn"  # half of PyTorch is imported then, which can't be begun again
SMALL = ("--trials", "1", "--epochs", "1", "--executor", "local")


def signalled(module: str, number: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`nas ARGUMENTS` as a process that is sent a signal when it imports the module."""
    command = [sys.executable, "-c", SIGNALLED, module, str(int(number)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, preexec_fn=_heed)


def _heed() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which the tests may ignore themselves, under nohup


@pytest.mark.parametrize(
    ("number", "more"), [(signal.SIGTERM, ()), pytest.param(signal.SIGHUP, ("--confirm", 3), marks=pytest.mark.slow)]
)
def test_a_search_that_is_ended_while_pytorch_is_imported(tmp_path, number, more):
    folder = tmp_path / "run"
    ended = signalled(IN_TORCH, number, "search", "--space", write_space(tmp_path), *SMALL, *more, "--out", folder)
    assert ended.returncode == 130, ended.stderr
    then = f", and then confirm it with: nas confirm {folder} --seeds 3" if more else ""
    assert ended.stderr == f"stopped; everything so far is kept. Continue with: nas resume {folder}{then}\n"
    assert (folder / "report.html").is_file(), "the report is there as behind every other end"
    output("resume", folder)
    assert load_run(folder).count("complete") == 1


@pytest.mark.slow
def test_a_closed_terminal_is_nothing_to_what_runs_under_nohup(tmp_path):
    command = ["nohup", sys.executable, "-c", SIGNALLED, IN_TORCH, str(int(signal.SIGHUP)), "search"]
    command += ["--space", str(write_space(tmp_path)), *SMALL, "--out", str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, timeout=200, check=False).returncode == 0
    assert load_run(tmp_path / "run").count("complete") == 1


@pytest.mark.parametrize("to", [(), ("--address", "127.0.0.1:1")])
def test_sigterm_while_ray_starts(tmp_path, monkeypatch, to):
    """Ray's handler is in place then, in the place of ours: it raises SystemExit(15)."""

    def init(**options):
        raise SystemExit(int(signal.SIGTERM))

    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("nas.execution.ray.address.check", lambda address: None)
    monkeypatch.setattr("nas.execution.ray.authentication.join", lambda address: [])
    monkeypatch.setattr("nas.searching.search.check_executor", lambda settings: None)
    result = nas_("search", "--space", write_space(tmp_path), "--trials", 3, *to, "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr.strip()) == (130, "interrupted")
    assert not (tmp_path / "run").exists(), "nothing was begun yet"
    after = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
    assert after == before, "the next cluster would be asked with the token of this one"
