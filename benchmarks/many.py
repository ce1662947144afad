"""Many workers at once, for `benchmarks/scale.py --concurrent N`: Ray nodes of this machine that claim to have 64 GPUs each."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import noop

from nas.execution.job import Job
from nas.execution.ray import cluster
from nas.execution.ray import tune_driver as workers
from nas.searching import preparation
from nas.searching.progress import Tally
from nas.searching.request import Request
from nas.searching.study import Study

NODE = 64  # GPUs, and cores, that a node claims to have
SPARE_MIB = 3000  # reserved for other processes
EACH_MIB = 64  # of a worker; an estimate, measured afterwards
QUIET = {
    "RAY_prestart_worker_first_driver": "0",  # Ray would start a process for each core that a node claims to have, and more for the trials
    "RAY_enable_worker_prestart": "0",
    "OMP_NUM_THREADS": "1",
}


class Clock(Tally):
    """The end of each trial, and the processor time of this process until then."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        # Number; seconds; processor time of this process, and of all processes.
        self.ends: list[tuple[int, float, float, float]] = []
        self.born = time.perf_counter()

    def ended(self, job: Job, result: Mapping[str, Any]) -> None:
        super().ended(job, result)
        spent = os.times()
        self.ends.append((int(job.key), time.perf_counter(), spent.user + spent.system, machine_seconds()))


def machine_seconds() -> float:
    """Processor time of all cores since the machine started: neither idle nor waiting for a disk."""
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def available_mib() -> float:
    return next(
        int(line.split()[1]) / 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )


def resident_mib(process: int | str = "self", field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def own_mib(process: int) -> float:
    """Proportional set size: the private memory of a process, and its part of the shared memory."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """Number and name of each process below `root`."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            children.setdefault(int(rest.split()[1]), []).append((int(entry.name), name))
    waiting = [root]
    while waiting:
        for process, name in children.get(waiting.pop(), []):
            yield process, name
            waiting.append(process)


def drive(args: argparse.Namespace) -> None:
    """One driver, in a separate process: a line of JSON for each phase, with the measurements while all its workers had trials."""
    noop.install()
    cluster.start(args.address)
    count, each = args.concurrent, args.rounds * args.concurrent
    options = {"storage": args.storage} if args.storage else {}
    request = Request(
        trials=each * len(args.seconds), out=args.out, sampler=args.sampler, seed=args.seed, space=args.space, **options
    )
    _, settings, data = preparation.plan(request, lambda text: None)
    args.out.mkdir(parents=True)
    settings.save(args.out)
    with Study(args.out, settings, args.storage) as study:
        clock = Clock(study)
        workers.run(study, data, clock, lambda: False, cluster.Resources(1.0, 1.0, count))
    for phase, seconds in enumerate(args.seconds):
        ends = [rest for number, *rest in clock.ends if noop.phase_of(str(number), each) == phase]
        # Leave out each worker's first and last trial of a phase, during which trials of other phases run, too.
        ends = sorted(ends)[count:-count]
        (first, used, before), (last, spent, after) = ends[0], ends[-1]
        row = {
            "seconds": seconds,
            "workers": count,
            "trials": len(ends) - 1,
            "started": ends[0][0] - clock.born,
            "rate": (len(ends) - 1) / (last - first),
            "cpu_ms": 1000 * (spent - used) / (len(ends) - 1),
            "core": (spent - used) / (last - first),
            "machine": (after - before) / (last - first),
            "mib": resident_mib(),
        }
        print(json.dumps(row), flush=True)
    cluster.shutdown()


@contextlib.contextmanager
def machines(count: int, drivers: int, seconds: list[float], rounds: int) -> Iterator[str]:
    """Start a cluster with a faked GPU for each worker; return its address."""
    from ray.cluster_utils import Cluster

    part = count // drivers
    phases = f"{','.join(str(second) for second in seconds)}:{rounds * part}:{part}"
    os.environ.update({**cluster.ENVIRONMENT, **QUIET, noop.PHASES: phases})
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 1 << 27})
    try:
        for _ in range(-(-count // NODE)):
            found.add_node(num_cpus=NODE, num_gpus=NODE, object_store_memory=1 << 27)
        yield found.address
    finally:
        found.shutdown()


def header() -> None:
    columns = ("drivers", "workers", "a trial sleeps, s", "trials measured", "ideal, trials/s", "trials/s", "of ideal")
    columns += ("driver's CPU, ms a trial", "cores that drivers take", "cores that all take", "memory of a driver, MiB")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Run the drivers, each with its part of the workers, and print a row for each phase: sums over the drivers."""
    if available_mib() - args.concurrent * EACH_MIB < SPARE_MIB:
        sys.exit(
            f"{args.concurrent} workers would take about {args.concurrent * EACH_MIB:,} of {available_mib():,.0f} MiB"
        )
    part = args.concurrent // args.drivers
    with machines(args.concurrent, args.drivers, args.seconds, args.rounds) as address:
        command = [sys.executable, str(Path(__file__).with_name("scale.py")), "--part", "drive", "--address", address]
        command += [
            "--concurrent",
            str(part),
            "--rounds",
            str(args.rounds),
            "--sampler",
            args.sampler,
            "--space",
            args.space,
        ]
        command += ["--seconds", *map(str, args.seconds), *(["--storage", args.storage] if args.storage else [])]
        drivers = [
            subprocess.Popen([*command, "--out", str(folder / str(k)), "--seed", str(args.seed + k)], stdout=subprocess.PIPE, text=True)
            for k in range(args.drivers)
        ]  # fmt: skip
        own: list[float] = []
        most = 0
        while any(driver.poll() is None for driver in drivers):
            time.sleep(2)
            found = [process for process, name in descendants(os.getpid()) if name.startswith("ray::Actor")]
            if len(found) > most:
                with contextlib.suppress(OSError, StopIteration):
                    own, most = [own_mib(process) for process in found], len(found)
            if available_mib() < SPARE_MIB / 2:
                for driver in drivers:
                    driver.terminate()
                print(f"stopped: less than {SPARE_MIB / 2:.0f} MiB are free with {len(found)} workers", flush=True)
        rows = [[json.loads(line) for line in (driver.stdout or []) if line.startswith("{")] for driver in drivers]
    for phase in zip(*rows, strict=True):
        total, ideal = sum(row["rate"] for row in phase), args.concurrent / phase[0]["seconds"]
        print(
            f"| {args.drivers} | {args.concurrent} | {phase[0]['seconds']:g} | {sum(row['trials'] for row in phase):,} | {ideal:.1f} | "
            f"{total:.1f} | {total / ideal:.0%} | {statistics.mean(row['cpu_ms'] for row in phase):.1f} | "
            f"{sum(row['core'] for row in phase):.0%} | {statistics.mean(row['machine'] for row in phase):.0%} | "
            f"{max(row['mib'] for row in phase):.0f} |",
            flush=True,
        )
    if rows and rows[0]:
        started = max(row[0]["started"] for row in rows)
        print(
            f"first round done after {started:.0f} s; {most} workers of {statistics.median(own or [0]):.0f} MiB each (median PSS)"
        )
