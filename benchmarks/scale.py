"""Scale: a run of many no-op trials through the real study, storage and Ray Tune; what a trial, a resume and a report cost as it grows.

Workers are real processes that train nothing: each leaves a synthetic result of ten epochs (more parameters are better, with noise),
so that fronts, reports and files are as large as those of a real search. Nothing of a worker imports torch.

uv run python benchmarks/scale.py [--trials 10000] [--sampler random] [--storage URL] [--out FOLDER]
uv run python benchmarks/scale.py --concurrent 128 [--seconds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas import cluster, report, searching, workers
from nas.files import write_json
from nas.jobs import Job
from nas.network import cost_of
from nas.progress import Tally
from nas.run import load_run
from nas.study import Study

EPOCHS = 10  # in each synthetic result


def accuracy_of(job: Job) -> float:
    noise = int(job.architecture.digest[:8], 16) / 0xFFFFFFFF  # one network, one accuracy
    return 0.9 - 0.8 / math.log10(100 + cost_of(job.architecture).params) + 0.05 * noise


def result_of(job: Job, seconds: float) -> dict[str, Any]:
    """A result as `nas.work` leaves it, of a training that took no time or slept."""
    last = accuracy_of(job)
    epochs = [
        {
            "number": number,
            "train_loss": 2.3 / number,
            "val_loss": 2.4 / number,
            "accuracy": last * number / EPOCHS,
            "learning_rate": 0.1,
            "seconds": seconds / EPOCHS,
            "images_per_second": 1000.0,
        }
        for number in range(1, EPOCHS + 1)
    ]
    ended = {"key": job.key, "digest": job.architecture.digest, "state": "complete", "reason": "", "accuracy": last}
    return {
        **ended,
        "seconds": seconds,
        "finished": time.time(),
        "device": "cpu",
        "precision": "fp32",
        "epochs": epochs,
    }


class NoOp(workers.Worker):
    """A worker that trains nothing: each trial sleeps for $NAS_BENCH_SECONDS, writes its result and ends at its first step."""

    def setup(self, config: dict[str, Any], data: Any = None, options: Any = None) -> None:
        self.seconds = float(os.environ.get("NAS_BENCH_SECONDS", "0"))
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self.job = Job.from_dict(config)

    def step(self) -> dict[str, Any]:
        if self.seconds:
            time.sleep(self.seconds)
        write_json(self.job.result_path, result_of(self.job, self.seconds))
        return {"epoch": "", "done": True}


def resident_mib(field: str = "VmRSS") -> float:
    """Memory of this process, from Linux's /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return math.nan


def processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


class Watch(Tally):
    """Prints seconds and memory of each `every` trials."""

    def __init__(self, study: Study, every: int) -> None:
        super().__init__(study)
        self.every, self.count = every, 0
        self.mark, self.used = time.perf_counter(), processor_seconds()

    def ended(self, job: Job, result: Mapping[str, Any]) -> None:
        super().ended(job, result)
        self.front()  # what a display of each trial costs
        self.count += 1
        if self.count % self.every == 0:
            now, used = time.perf_counter(), processor_seconds()
            per, cpu = 1000 * (now - self.mark) / self.every, 1000 * (used - self.used) / self.every
            print(f"| {self.count:,} | {per:.1f} | {cpu:.1f} | {resident_mib():.0f} |", flush=True)
            self.mark, self.used = now, used


def request(trials: int, folder: Path, args: argparse.Namespace, seed: int = 0) -> searching.Request:
    options = {"storage": args.storage} if args.storage else {}
    return searching.Request(
        trials=trials, out=folder, sampler=args.sampler, seed=seed, epochs=EPOCHS, space=args.space, **options
    )


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s, memory {resident_mib():.0f} MiB", flush=True)


def long(args: argparse.Namespace, folder: Path) -> None:
    """One run of many trials, then what reading, resuming and reporting it cost, each in a process of its own."""
    with timed("ray.init"):
        cluster.start(None)
    _, settings, data = searching.plan(request(args.trials, folder, args), lambda text: None)
    settings.save(folder)
    with Study(folder, settings) as study:
        resources = cluster.Resources.resolve(args.workers, 1.0, None)
        print(
            "| trials | ms a trial | of them the driver's CPU | driver's memory, MiB |\n|---|---|---|---|", flush=True
        )
        begun = time.perf_counter()
        workers.run(study, data, Watch(study, args.every), lambda: False, resources, worker=NoOp)
        seconds, ended = time.perf_counter() - begun, study.counts
    print(f"{ended.complete} trials in {seconds:.1f} s on {resources.slots()} workers; duplicates {ended.duplicate}")
    print(f"peak memory {resident_mib('VmHWM'):.0f} MiB")
    cluster.shutdown()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"the run's folder: {size / 1e6:.1f} MB")
    for part in ("resume", "front", "report"):
        subprocess.run([sys.executable, __file__, "--part", part, "--out", str(folder)], check=True)


class Clock(Tally):
    """When each trial ended, and what this process had computed by then."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.ends: list[tuple[float, float]] = []

    def ended(self, job: Job, result: Mapping[str, Any]) -> None:
        super().ended(job, result)
        self.ends.append((time.perf_counter(), processor_seconds()))


def concurrent(args: argparse.Namespace, folder: Path) -> None:
    """So many workers at once on Ray nodes of this machine, each with 64 GPUs that it only says it has; trials that sleep."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.update(cluster.ENVIRONMENT, NAS_BENCH_SECONDS=str(args.seconds))
    count = args.concurrent
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 1 << 27})
    for _ in range(-(-count // 64)):
        machines.add_node(num_cpus=64, num_gpus=64, object_store_memory=1 << 27)
    try:
        with timed(f"{-(-count // 64)} nodes"):
            cluster.start(machines.address)
        trials = args.rounds * count
        _, settings, data = searching.plan(request(trials, folder, args, seed=args.seed), lambda text: None)
        settings.save(folder)
        with Study(folder, settings, args.storage) as study:
            clock, begun = Clock(study), time.perf_counter()
            workers.run(study, data, clock, lambda: False, cluster.Resources(1.0, 1.0, count), worker=NoOp)
        # From when each worker has ended a trial until the first of them find nothing more to do.
        (first, used), (last, spent) = clock.ends[count], clock.ends[-count]
        ended = len(clock.ends) - 2 * count
        rate, ideal = ended / (last - first), count / args.seconds
        print(
            f"| {count} | {args.seconds:g} | {first - begun:.0f} | {ideal:.1f} | {rate:.1f} | {rate / ideal:.0%} | "
            f"{1000 * (spent - used) / ended:.1f} | {(spent - used) / (last - first):.0%} | {resident_mib():.0f} |",
            flush=True,
        )
        ray.shutdown()
    finally:
        machines.shutdown()


def part(name: str, folder: Path) -> None:
    """A part that is timed in a process of its own, for its own memory."""
    if name == "resume":
        settings = searching.Settings.load(folder)
        with timed("resume, until the first suggestion"), Study(folder, settings) as study:
            pass
        print(f"    {study.counts}")
    elif name == "front":
        with timed("nas front"):
            members = load_run(folder).front()
        print(f"    {len(members)} on the front")
    else:
        with timed("load_run"):
            run = load_run(folder)
        with timed("nas report, from what was loaded"):
            path = report.write(run)
        print(f"    report.html: {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--space", default="resnext")
    parser.add_argument("--storage")
    parser.add_argument("--out", type=Path, help="keep the run in this folder")
    parser.add_argument("--concurrent", type=int, help="measure so many workers at once")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each of their trials sleeps")
    parser.add_argument("--rounds", type=int, default=8, help="trials of each of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.part:
        part(args.part, args.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = (args.out or Path(folder) / "run").absolute()
        (concurrent if args.concurrent else long)(args, place)


if __name__ == "__main__":
    main()
