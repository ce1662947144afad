"""A forked process that can't train is refused; a process that hangs in C ends when it is told to, and frees its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_cli import SMALL, nas_
from helpers_search import write_space
from make_run import make_run

import nas
from nas.data import load
from nas.errors import UsageError
from nas.execution.interrupts import Interrupts
from nas.networks.architecture import Architecture
from nas.profiling import latency
from nas.runs.run import load_run
from nas.training.comparison import Comparison
from nas.training.full_training import FullTraining, adapted
from nas.training.recipe import Recipe
from nas.utils import forks

REFUSED = "forked from one that had loaded PyTorch.*spawn"

# Who imports what, and when, says whether a child can train: it prints its own line.
FAMILY = """\
import multiprocessing, sys, types

def tried(name, torch=False):
    if torch:  # as if it were imported here, which takes seconds
        sys.modules["torch"] = types.ModuleType("torch")
    import nas
    from nas.utils import forks
    try:
        forks.check()
        print(name, "may train", flush=True)
    except nas.UsageError as error:
        print(name, "is refused:", error, flush=True)

def searches(folder):
    import nas
    try:
        nas.search(space="resnext", trials=1, executor="local", out=folder, quiet=True)
    except nas.UsageError as error:
        print("search is refused:", error, flush=True)

def child(how, target, *arguments):
    process = multiprocessing.get_context(how).Process(target=target, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode == 0, (target, arguments, process.exitcode)

if __name__ == "__main__":
    child("fork", tried, "forked before", True)
    import torch
    torch.rand(512, 512) @ torch.rand(512, 512)
    child("fork", tried, "nas in the child alone")
    import nas
    child("fork", tried, "forked after")
    child("fork", searches, sys.argv[1])
    child("spawn", tried, "spawned", True)
"""


def test_who_may_train(tmp_path):
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    words = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert words == [
        *("forked before may train", "nas in the child alone is refused", "forked after is refused"),
        *("search is refused", "spawned may train"),
    ]
    assert not folder.exists()


def test_whatever_trains_here_is_refused_in_such_a_process(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", trials=3)
    digits = load("digits", max_images=60)
    network = adapted(Architecture.from_yaml(SMALL), digits)[0]
    recipe, new = Recipe.of(1, 16), tmp_path / "new"
    monkeypatch.setattr(forks, "_with_torch", True)
    for begin in (
        lambda: nas.search(space="resnext", trials=1, executor="local", out=new, quiet=True),
        lambda: nas.search(space="resnext", hours=1, executor="local", out=new, quiet=True),
        lambda: nas.resume(run, executor="local", trials=9, quiet=True),
        lambda: nas.confirm(run, executor="local", quiet=True),
        lambda: FullTraining(new, network, digits, recipe).__enter__(),
        lambda: Comparison(new, [network], digits, recipe),
        lambda: latency.measure(network),
    ):
        with pytest.raises(UsageError, match=REFUSED):
            begin()
    assert not new.exists() and not (run / "confirmed").exists()


# -- signals ----------------------------------------------------------------------------------------------------------

# A mutex that is locked twice: code in C that never returns, signals or not, and lets other threads run.
STUCK = """\
import ctypes, sys
from pathlib import Path

def stuck(*_):
    Path(sys.argv[1]).touch()
    mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)

from nas.execution import executor as execution
interrupts.SIGNAL_SECONDS = 0.3
"""
IN_ITSELF = STUCK + 'with interrupts.Interrupts(print, "nas resume RUN"):\n    stuck()\n'
IN_A_TRIAL = (
    STUCK
    + "from nas.cli.main import cli\nfrom nas.execution import local\nlocal._train = stuck\ncli.main(sys.argv[2:])\n"
)


def ended_by(number: int, code: str, marker: Path, *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of a process that is sent the signal, again and again, once it is stuck."""
    command = [sys.executable, "-c", code, str(marker), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not marker.exists() and process.poll() is None:
                time.sleep(0.05)
            while process.poll() is None:
                process.send_signal(number)
                time.sleep(0.1)
        finally:
            process.kill()
        assert process.stderr is not None
        return process.returncode, process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_stuck_in_c_ends(tmp_path, number):
    code, words = ended_by(number, IN_ITSELF, tmp_path / "stuck")
    assert code == 130
    assert words == (
        f"error: {number.name} has waited 0.3 s for code that does not return, so that the process ends; everything that was saved is "
        "kept. Go on with: nas resume RUN\n"
    )


@pytest.mark.slow
def test_a_search_that_is_stuck_in_c_frees_its_run(tmp_path, one_thread):
    folder = tmp_path / "run"
    asked = ("--space", write_space(tmp_path), "--trials", 1, "--epochs", 1, "--max-images", 60, "--executor", "local")
    code, words = ended_by(signal.SIGTERM, IN_A_TRIAL, tmp_path / "stuck", "search", *asked, "--out", folder)
    assert code == 130 and f"Go on with: nas resume {folder}" in words
    assert nas_("resume", folder, "--quiet").exit_code == 0
    assert load_run(folder).count("complete") == 1


def test_a_signal_that_is_answered_ends_nothing(monkeypatch):
    """Nor does a child's, whose handler is inherited: its own number would be written into this process's socket."""
    monkeypatch.setattr("nas.execution.interrupts.SIGNAL_SECONDS", 0.05)
    before = signal.set_wakeup_fd(-1)
    notes: list[str] = []
    with Interrupts(notes.append, "nas resume RUN") as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked() and len(notes) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        child = os.fork()
        if not child:
            os._exit(signal.set_wakeup_fd(-1) != -1)  # 0: it had none
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        time.sleep(0.2)  # four times what a signal may wait
    assert signal.set_wakeup_fd(before) == -1
