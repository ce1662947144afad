"""A real cluster of one core by the address of its client server, `ray://`, and one whose only core is somebody else's."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import counting
import pytest
from helpers_cluster import SECONDS, Machines, cluster_of, command, nas, wait_for

from nas.runs.run import load_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRIALS, EPOCHS = 3, 2
HOG = """
import sys
from nas.execution.ray import cluster
cluster.start(sys.argv[1])
import ray
class Hog:
    def here(self):
        return True
hog = ray.remote(num_cpus=1)(Hog).remote()
ray.get(hog.here.remote())
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machines]:
    with cluster_of(1) as found:
        yield found


@pytest.fixture
def by_client(machine: Machines) -> str:
    return f"ray://127.0.0.1:{machine.client}"


def search(out: Path, address: str, trials: int = TRIALS, epochs: int = EPOCHS) -> list[object]:
    return [
        "search", "--space", "resnet", "--dataset", counting.DATASET, "--max-images", 200, "--trials", trials, "--epochs", epochs,
        "--sampler", "random", "--device", "cpu", "--precision", "fp32", "--out", out, "--address", address,
    ]  # fmt: skip


@contextlib.contextmanager
def begun(machine: Machines, arguments: list[object], log: Path) -> Iterator[subprocess.Popen[str]]:
    """The command line, while it works; its words go to `log`."""
    with log.open("w") as words:
        process = subprocess.Popen(
            command(*arguments), stdout=words, stderr=words, text=True, cwd=machine.folder, env=machine.environment()
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def taken(machine: Machines) -> Iterator[None]:
    """The core is somebody else's."""
    hog = subprocess.Popen(
        [sys.executable, "-c", HOG, machine.address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=machine.environment(),
    )  # fmt: skip
    try:
        assert hog.stdout is not None and hog.stdout.readline() == "holds\n"
        yield
    finally:
        hog.communicate(timeout=SECONDS)


def said(log: Path) -> str:
    return " ".join(log.read_text().split())


def numbers(folder: Path) -> list[int]:
    return sorted(trial.number for trial in load_run(folder).trials)


def test_waiting_for_room_is_told_and_the_first_ctrl_c_ends_it(machine: Machines, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    with taken(machine), begun(machine, search(run, machine.address), log) as process:
        wait_for(lambda: "waiting for a worker" in said(log) or process.poll() is not None, lambda: said(log))
        asked = "waiting for a worker: a trial asks for 1 core, and no machine of the cluster has that free"
        assert re.search(rf"{asked} \([\d.]+: 0 of 1 core\)", said(log)), said(log)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130, said(log)  # the core is still taken
    assert "Continue with: nas resume" in said(log) and "completed" not in said(log)
    waited = numbers(run)
    assert waited and load_run(run).count("complete") == 0
    assert not list(run.rglob("epochs.json")) and not list(run.rglob("result.json"))
    status, words = nas(machine, "resume", run)
    assert status == 0, words
    found = load_run(run)
    assert found.status == "done" and found.count("complete") == TRIALS and found.count("failed") == 0
    assert {trial.number for trial in found.complete()} >= set(waited)


def test_a_search_by_the_client_s_address_runs_is_stopped_and_goes_on(
    machine: Machines, by_client: str, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    before = len(counting.lines(machine.log))
    with begun(machine, search(run, by_client, trials=200), log) as process:
        wait_for(lambda: bool(list(run.rglob("result.json"))) or process.poll() is not None, lambda: said(log))
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130, said(log) + machine.of_client_server()
    stopped = load_run(run)
    assert 0 < stopped.count("complete") < 200 and stopped.count("failed") == 0
    total = stopped.count("complete") + 2
    status, words = nas(machine, "resume", run, "--trials", total)  # by the address that the run keeps
    assert status == 0, words
    found = load_run(run)
    assert found.status == "done" and found.count("complete") == total and found.count("failed") == 0
    assert found.config["executor"]["address"] == by_client
    assert all([epoch.number for epoch in trial.epochs] == list(range(1, EPOCHS + 1)) for trial in found.complete())
    trained = [line for line in counting.lines(machine.log)[before:] if line.what == "trained"]
    assert {line.node for line in trained} == {"head"}
    assert sorted(line.more for line in trained) == sorted(str(trial.number) for trial in found.complete())
    assert machine.started["head"].poll() is None


def test_who_has_no_token_or_another_is_refused_by_the_client_s_address(
    machine: Machines, by_client: str, tmp_path: Path
) -> None:
    another = tmp_path / "another"
    another.write_text("0" * 64)
    another.chmod(0o600)
    for name, variables, words in (
        ("none", {"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}, "token"),
        ("other", {"RAY_AUTH_TOKEN_PATH": str(another)}, "token"),
    ):
        status, text = nas(machine, *search(tmp_path / name, by_client), **variables)
        assert status == 2 and f"--address {by_client}: " in text and words in text, text
        assert "Traceback" not in text
        assert not (tmp_path / name).exists()


def test_an_address_of_something_else_is_refused(machine: Machines, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        status, text = nas(machine, *search(tmp_path / "run", f"ray://127.0.0.1:{port}"))
    assert status == 2 and f"error: --address ray://127.0.0.1:{port}: " in text and "Traceback" not in text, text
    assert not (tmp_path / "run").exists()
