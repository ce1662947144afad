"""How many cores a process may keep busy: one count, by affinity and quotas, that everything goes by."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from helpers_cli import process
from helpers_search import write_space

import nas
from nas.execution import machine_check as machine
from nas.profiling.latency import Conditions
from nas.profiling.latency.timing import prepared
from nas.utils import limits

PACKAGE = Path(nas.__file__).parent
COUNTS = re.compile(r"\b(cpu_count|sched_getaffinity|process_cpu_count|get_num_cpus)\b")


@pytest.fixture
def machine_of(monkeypatch, tmp_path):
    """Makes this a machine of so many cores, with an affinity for some of them and these files of cgroups."""

    def make(cores: int, affinity: int, membership: str = "", **files: str) -> int:
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name.replace("cpu_", "cpu.", 1)).write_text(text)
        monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
        monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
        return limits.available_cores()

    return make


def test_affinity_counts_and_not_the_machine(machine_of):
    assert machine_of(64, 1) == 1
    assert machine_of(64, 4) == 4  # srun -c 4


@pytest.mark.parametrize(
    ("text", "cores"), [("200000 100000\n", 2), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)]
)
def test_a_quota_of_cgroups_version_2(machine_of, text, cores):
    assert machine_of(64, 64, "0::/\n", cpu_max=text) == cores


def test_the_quota_of_a_group_above_counts_too(machine_of):
    files = {"slice__cpu_max": "300000 100000", "slice__job__cpu_max": "max 100000"}
    assert machine_of(64, 64, "0::/slice/job\n", **files) == 3


def test_in_a_container_the_quota_lies_at_the_root(machine_of):
    assert machine_of(64, 64, "0::/docker/of-the-host\n", cpu_max="500000 100000") == 5


@pytest.mark.parametrize(("quota", "cores"), [("150000", 1), ("800000", 8), ("-1", 64)])
def test_a_quota_of_cgroups_version_1(machine_of, quota, cores):
    files = {"cpu__a__cpu_cfs_quota_us": quota, "cpu__a__cpu_cfs_period_us": "100000"}
    assert machine_of(64, 64, "4:memory:/b\n3:cpu,cpuacct:/a\n0::/\n", **files) == cores


def test_pytorch_takes_no_more_threads_than_there_are_cores(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.setattr(limits, "available_cores", lambda: 1)
        with prepared(Conditions("cpu", 1, None)):
            assert torch.get_num_threads() == 1
        with prepared(Conditions("cpu", 1, 3)):
            assert torch.get_num_threads() == 3, "as asked"
        assert torch.get_num_threads() == 4
        limits.limit_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_doctor_says_the_number_and_what_bounds_it(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    finding = machine._cores()
    assert finding.what == "2 of this machine's 64, by CPU affinity or a quota of cgroups"
    monkeypatch.setattr(machine, "available_cores", lambda: 64)
    assert machine._cores().what == "64"


def test_nothing_else_counts_cores():
    counting = {path.name for path in PACKAGE.rglob("*.py") if COUNTS.search(path.read_text(encoding="utf-8"))}
    assert counting == {"limits.py", "machine_check.py"}, (
        "nas.utils.limits.available_cores does; the doctor says how many there are"
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system sets no affinity")
def test_on_one_core_two_workers_are_refused(tmp_path):
    core = min(os.sched_getaffinity(0))
    words = ("search", "--space", write_space(tmp_path), "--workers", 2, "--out", tmp_path / "run", "--quiet")
    done = process(*words, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert done.returncode == 2
    assert "--workers 2: this machine has 1 core for this process" in done.stderr
    assert not (tmp_path / "run").exists()
