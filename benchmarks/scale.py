"""Scale: many no-op trials through the real study, storage and Ray Tune; the cost of a trial, a resume and a report as the run grows.

Workers are real processes that train nothing: each writes a synthetic result of ten epochs (more parameters are better, with noise),
so fronts, reports and files are as large as those of a real search. Workers don't import torch.

uv run python benchmarks/scale.py [--trials 10000] [--sampler random] [--storage URL] [--out FOLDER]
uv run python benchmarks/scale.py --concurrent 128 [--seconds 8 4 2 1] [--drivers 2] [--postgres]
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import many
from noop import EPOCHS, result_of

from nas import report
from nas.execution.job import Job
from nas.execution.ray import cluster
from nas.execution.ray import tune_driver as workers
from nas.runs.run import load_run
from nas.searching import preparation
from nas.searching.progress import Tally
from nas.searching.request import Request
from nas.searching.search import search as searching
from nas.searching.study import Study
from nas.utils.files import write_json


class NoOp(workers.Worker):
    """A worker that trains nothing: each trial writes its result and ends at its first step."""

    def setup(self, config: dict[str, Any], data: Any = None, options: Any = None) -> None:
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self.job = Job.from_dict(config)

    def step(self) -> dict[str, Any]:
        write_json(self.job.result_path, result_of(self.job, float(EPOCHS)))  # the result claims a second per epoch
        return {"epoch": "", "done": True}


def processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


class Watch(Tally):
    """Print time and memory after every `every` trials."""

    def __init__(self, study: Study, every: int) -> None:
        super().__init__(study)
        self.every, self.count = every, 0
        self.mark, self.used = time.perf_counter(), processor_seconds()

    def ended(self, job: Job, result: Mapping[str, Any]) -> None:
        super().ended(job, result)
        self.front()  # the cost of displaying each trial
        self.count += 1
        if self.count % self.every == 0:
            now, used = time.perf_counter(), processor_seconds()
            per, cpu = 1000 * (now - self.mark) / self.every, 1000 * (used - self.used) / self.every
            print(f"| {self.count:,} | {per:.1f} | {cpu:.1f} | {many.resident_mib():.0f} |", flush=True)
            self.mark, self.used = now, used


def request(trials: int, folder: Path, args: argparse.Namespace, seed: int = 0) -> Request:
    options = {"storage": args.storage} if args.storage else {}
    return Request(
        trials=trials, out=folder, sampler=args.sampler, seed=seed, epochs=EPOCHS, space=args.space, **options
    )


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s, memory {many.resident_mib():.0f} MiB", flush=True)


def long(args: argparse.Namespace, folder: Path) -> None:
    """Run many trials, then measure reading, resuming and reporting, each in a separate process."""
    with timed("ray.init"):
        cluster.start(None)
    _, settings, data = preparation.plan(request(args.trials, folder, args), lambda text: None)
    settings.save(folder)
    with Study(folder, settings) as study:
        resources = cluster.Resources.resolve(args.workers, 1.0, None)
        print(
            "| trials | ms a trial | driver's CPU included in it, ms | driver's memory, MiB |\n|---|---|---|---|",
            flush=True,
        )
        begun = time.perf_counter()
        workers.run(study, data, Watch(study, args.every), lambda: False, resources, worker=NoOp)
        seconds, ended = time.perf_counter() - begun, study.counts
    print(f"{ended.complete} trials in {seconds:.1f} s on {resources.slots()} workers; duplicates {ended.duplicate}")
    print(f"peak memory {many.resident_mib(field='VmHWM'):.0f} MiB")
    cluster.shutdown()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"the run's folder: {size / 1e6:.1f} MB")
    for part in ("resume", "front", "report"):
        subprocess.run([sys.executable, __file__, "--part", part, "--out", str(folder)], check=True)


def part(name: str, folder: Path) -> None:
    """A part that is timed in a separate process, to measure its memory."""
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


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Start a PostgreSQL for this benchmark, as the tests do; return its URL."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import helpers_postgres

    with helpers_postgres.server() as server:
        yield server.create("scale")


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
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[8.0, 4.0, 2.0, 1.0], help="that their trials sleep, in phases"
    )
    parser.add_argument("--rounds", type=int, default=6, help="trials of each of them in each phase")
    parser.add_argument(
        "--drivers", type=int, default=1, help="among which they are divided, each with a run of its own"
    )
    parser.add_argument("--postgres", action="store_true", help="studies in a PostgreSQL that is started for it")
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.part == "drive":
        many.drive(args)
        return
    if args.part:
        part(args.part, args.out)
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ending:
        place = (args.out or Path(folder) / "run").absolute()
        if args.postgres:
            args.storage = ending.enter_context(postgres())
        if args.concurrent:
            many.header()
            many.measure(args, place)
        else:
            long(args, place)


if __name__ == "__main__":
    main()
