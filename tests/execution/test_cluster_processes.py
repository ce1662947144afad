"""A cluster of two real `ray start` processes on this machine, joined by the command line: what docs/cluster.md says, done."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import counting
import pytest
from helpers_cluster import Machines, cluster_of, nas, wait_for

from nas.runs.run import load_run
from nas.runs.trial_reader import read_sessions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRIALS, EPOCHS = 6, 2
LOOK = """
import json, sys
from nas.execution.ray import cluster
cluster.start(sys.argv[1])
import ray
alive = sum(node["Alive"] for node in ray.nodes())
print(json.dumps({"alive": alive, "cores": ray.cluster_resources()["CPU"], "free": ray.available_resources().get("CPU", 0)}))
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with cluster_of(2) as found:
        yield found


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
    assert {line.node for line in trained} == {"head", "joined1"}
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
    assert len(trained) == 2 and {line.node for line in trained} <= {"head", "joined1"}
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
        assert [path.name for path in tmp_path.iterdir()] == ["another"], "a refused search leaves nothing"
