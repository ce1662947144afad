"""Ray clusters of real `ray start` processes on this machine, each in a session of its own, and the command line as their user."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import counting
from ports import free_port

HERE = Path(__file__).parent
SECONDS = 400.0  # on a machine where others work too


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
    client: int
    nodes: int
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
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",  # 30 are few for Python and Ray on a busy machine
            "PYTHONPATH": str(HERE),
            "COLUMNS": "120",
            counting.LOG: str(self.log),
            counting.NODES: str(self.nodes),
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

    def of_client_server(self) -> str:
        """The last words of each process of the client server."""
        logs = sorted((self.folder / "ray" / "session_latest" / "logs").glob("ray_client_server*.err"))
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in logs)

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


@contextlib.contextmanager
def cluster_of(nodes: int) -> Iterator[Machines]:
    """A head, with Ray's client server, and nodes that have joined it: `nodes` of a core each. Nothing of them is left behind."""
    # Of mode 700; below a test's folder, names of sockets were too long.
    folder = Path(tempfile.mkdtemp(prefix="nas-ray-"))
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "token").chmod(0o600)
    found = Machines(folder, free_port(), free_port(), nodes)
    try:
        found.start(
            "head", "--head", f"--port={found.port}", f"--temp-dir={folder / 'ray'}", "--include-dashboard=false",
            f"--ray-client-server-port={found.client}",
        )  # fmt: skip
        wait_for(lambda: found.up("head"), lambda: found.said("head"))
        for k in range(1, nodes):
            name = f"joined{k}"
            found.start(name, f"--address={found.address}")
            wait_for(lambda name=name: found.up(name), lambda name=name: found.said(name))
        yield found
    finally:
        left = found.end()
        shutil.rmtree(folder, ignore_errors=True)
    assert not left, "processes of the cluster are left"


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(HERE / "counting_nas.py"), *map(str, arguments)]


def nas(machines: Machines, *arguments: object, **variables: str) -> tuple[int, str]:
    """The command line in a process of its own, with workers that count; its exit status and what it said."""
    done = subprocess.run(
        command(*arguments),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900, cwd=machines.folder,
        env=machines.environment(**variables),
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())
