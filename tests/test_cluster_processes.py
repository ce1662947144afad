"""A cluster of two real `ray start` processes on this machine, joined by the command line: what docs/cluster.md says, done."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import counting
import pytest

from nas.run import load_run
from nas.trials import read_sessions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
SECONDS = 400.0  # on a machine where others work too
TRIALS, EPOCHS = 6, 2
LOOK = """
import json, sys
from nas import cluster
cluster.start(sys.argv[1])
import ray
alive = sum(node["Alive"] for node in ray.nodes())
print(json.dumps({"alive": alive, "cores": ray.cluster_resources()["CPU"], "free": ray.available_resources().get("CPU", 0)}))
cluster.shutdown()
"""


def wait_for(condition: Callable[[], bool], words: Callable[[], str]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, words()
        time.sleep(0.2)


def processes_of(sessions: set[int]) -> dict[int, str]:
    """Number and command line of each living process of these sessions of the kernel's, whoever its parent is now."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
    return found


@dataclass(slots=True)
class Machines:
    """Nodes, each a `ray start --block` with a session of its own; in a folder that is its user's alone, and so is the token."""

    folder: Path
    port: int
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "counted"

    def environment(self, **variables: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ours = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "PYTHONPATH": str(HERE),
            "COLUMNS": "120",
            counting.LOG: str(self.log),
            counting.NODES: "2",
        }
        return clean | ours | variables

    def start(self, name: str, *options: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block", "--num-cpus=1"]
        command += ["--node-ip-address=127.0.0.1", "--object-store-memory=134217728"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]  # any: two nodes share the ports of this machine
        with (self.folder / f"{name}.said").open("wb") as said:
            self.started[name] = subprocess.Popen(
                command, stdout=said, stderr=said, env=self.environment(**{counting.NODE: name}), start_new_session=True
            )

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.said").read_text()

    def up(self, name: str) -> bool:
        assert self.started[name].poll() is None, self.said(name)
        return "Ray runtime started" in self.said(name)

    def alive(self) -> dict[int, str]:
        return processes_of({process.pid for process in self.started.values()})

    def end(self) -> dict[int, str]:
        """As `ray start --block` is ended; what is left of it a while later, which is killed then."""
        for process in reversed(self.started.values()):
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + SECONDS / 4
        while (left := self.alive()) and time.monotonic() < until:
            for process in self.started.values():
                process.poll()
            time.sleep(0.2)
        for process in left:
            os.kill(process, signal.SIGKILL)
        for started in self.started.values():
            started.wait(60)
        return left


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A head and a node that has joined it, with a core each. Nothing of them is left behind."""
    folder = Path(
        tempfile.mkdtemp(prefix="nas-ray-")
    )  # of mode 700; below a test's folder, names of sockets were too long
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "token").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = Machines(folder, port)
    try:
        found.start("head", "--head", f"--port={port}", f"--temp-dir={folder / 'ray'}", "--include-dashboard=false")
        wait_for(lambda: found.up("head"), lambda: found.said("head"))
        found.start("joined", f"--address={found.address}")
        wait_for(lambda: found.up("joined"), lambda: found.said("joined"))
        yield found
    finally:
        left = found.end()
        shutil.rmtree(folder, ignore_errors=True)
    assert not left, "processes of the cluster are left"


def nas(machines: Machines, *arguments: object, **variables: str) -> tuple[int, str]:
    """The command line in a process of its own, with workers that count; its exit status and what it said."""
    done = subprocess.run(
        [sys.executable, str(HERE / "counting_nas.py"), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900, cwd=machines.folder,
        env=machines.environment(**variables),
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())


def search(machines: Machines, out: Path) -> list[object]:
    return [
        "search", "--space", "resnet", "--dataset", counting.DATASET, "--max-images", 200, "--trials", TRIALS, "--epochs", EPOCHS,
        "--sampler", "random", "--device", "cpu", "--precision", "fp32", "--out", out, "--address", machines.address,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def searched(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[counting.Line]]:
    """The folder of a search that was run on both machines, and what was counted meanwhile."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    status, said = nas(machines, *search(machines, folder))
    assert status == 0, said
    assert "2 trials at once, with 1 core and 0 GPUs each" in said
    return folder, counting.lines(machines.log)


def test_a_search_runs_to_its_end_on_both_machines(searched: tuple[Path, list[counting.Line]]) -> None:
    folder, counted = searched
    run = load_run(folder)
    assert run.status == "done" and run.count("complete") == TRIALS and run.count("failed") == 0
    assert all([epoch.number for epoch in trial.epochs] == list(range(1, EPOCHS + 1)) for trial in run.complete())
    trained = [line for line in counted if line.what == "trained"]
    assert {line.node for line in trained} == {"head", "joined"}
    assert sorted(line.more for line in trained) == sorted(str(trial.number) for trial in run.complete())


def test_data_are_loaded_once_and_taken_once_by_each_worker(searched: tuple[Path, list[counting.Line]]) -> None:
    _, counted = searched
    (loaded,) = (line for line in counted if line.what == "loaded")
    (packed,) = (line for line in counted if line.what == "packed")
    assert loaded.node == packed.node == "" and loaded.process == packed.process, "the driver alone has the data set"
    trials = Counter(line.process for line in counted if line.what == "trained")
    assert len(trials) == 2 and sum(trials.values()) == TRIALS
    for what in ("unpacked", "moved"):
        assert Counter(line.process for line in counted if line.what == what) == dict.fromkeys(trials, 1), what
    assert {line.more for line in counted if line.what == "unpacked"} == {"shared"}, "mapped from the object store"


def look(machines: Machines) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, machines.address],
        capture_output=True, text=True, timeout=300, check=False, env=machines.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_the_cluster_lives_on_and_the_run_is_resumed_on_it(
    machines: Machines, searched: tuple[Path, list[counting.Line]]
) -> None:
    folder, before = searched
    assert all(process.poll() is None for process in machines.started.values())
    wait_for(lambda: look(machines)["free"] == 2, lambda: "its workers still hold the cores")
    assert look(machines) == {"alive": 2, "cores": 2, "free": 2}
    workers = {line.process for line in before if line.what == "trained"}
    wait_for(lambda: not workers & machines.alive().keys(), lambda: "workers of the search are left")
    status, said = nas(machines, "resume", folder, "--trials", TRIALS + 2)  # on the cluster that the run knows
    assert status == 0, said
    after = counting.lines(machines.log)[len(before) :]
    trained = [line for line in after if line.what == "trained"]
    assert len(trained) == 2 and {line.node for line in trained} <= {"head", "joined"}
    assert [line.node for line in after if line.what == "loaded"] == [""]
    assert load_run(folder).count("complete") == TRIALS + 2
    assert [session["workers"] for session in read_sessions(folder)] == [2, 2]


def test_who_has_no_token_or_another_is_refused_and_trains_nothing(machines: Machines, tmp_path: Path) -> None:
    another = tmp_path / "another"
    another.write_text("0" * 64)
    another.chmod(0o600)
    none = {"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}
    for name, variables, words in (
        ("none", none, "the cluster asks for its token"),
        ("other", {"RAY_AUTH_TOKEN_PATH": str(another)}, "the cluster refuses the token of"),
    ):
        status, said = nas(machines, *search(machines, tmp_path / name), **variables)
        assert status == 2 and words in said, said
        assert not list(tmp_path.rglob("attempt.json")) and not list(tmp_path.rglob("result.json"))
