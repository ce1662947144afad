"""A benchmark on disk: settings.json, and repeats.jsonl, to which each finished repeat is appended.

A benchmark can be continued: only missing repeats are run, and more samplers or repeats may be requested later. Repeats are run by
processes with one BLAS thread each, so that the threads of several processes don't compete while seconds are measured.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nas.bench import samplers
from nas.bench.replay import Protocol, Repeat, Space, replay
from nas.bench.score import Scale
from nas.bench.table import Table
from nas.errors import NasError, UsageError
from nas.utils.files import UnderLock, read_json, unwritable, write_json
from nas.utils.validation import Check, list_of, number, require, text, whole

SETTINGS, REPEATS, LOCK = "settings.json", "repeats.jsonl", ".lock"
WARM_UP = 24  # networks: more than the random start of the samplers
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Folder(UnderLock):
    """The folder of a benchmark; `with Folder(...) as folder` holds its lock. path None: nothing is written.

    UsageError for unknown samplers, a budget larger than the table, or a folder of another benchmark.
    """

    def __init__(self, path: Path | None, table: Table, protocol: Protocol, names: Sequence[str], repeats: int) -> None:
        for name in names:
            samplers.build(name, Space(table).problem(), 0)  # wrong options are reported before anything is run
            if list(names).count(name) > 1:
                raise UsageError(f"sampler {name!r} is named twice")
        if protocol.budget > table.networks:
            raise UsageError(f"--budget {protocol.budget}: {table.name} has only {table.networks} distinct networks")
        self.path, self.table, self.protocol = path, table, protocol
        self.names, self.repeats = tuple(names), repeats
        self.scale = Scale(table, protocol.floor)
        self.done: list[Repeat] = []

    def _enter(self) -> None:
        if self.path is not None:
            self._take(self.path, LOCK, f"{self.path}: another nas bench is writing to this folder")
            self._open(self.path)

    def missing(self) -> list[tuple[str, int]]:
        """Samplers and repeats still to be run, ordered by repeat, so that samplers can be compared at any time."""
        have = {(job.sampler, job.repeat) for job in self.done}
        every = ((name, repeat) for repeat in range(self.repeats) for name in self.names)
        return [job for job in every if job not in have]

    def run(self, jobs: int) -> Iterator[Repeat]:
        """Run the missing repeats in `jobs` processes (0: in this process); yields each repeat when it ends."""
        if jobs == 0:
            for name, repeat in self.missing():
                yield self._keep(replay(self.table, self.scale, self.protocol, name, repeat))
            return
        with contextlib.closing(_by_processes(self.table, self.protocol, self.missing(), jobs)) as ended:
            for finished in ended:
                yield self._keep(finished)

    def settings(self) -> dict[str, Any]:
        """The settings that must be equal for repeats to be comparable, as JSON."""
        columns = {
            name: column for name, column in asdict(self.table.columns).items() if column or name != "infeasible"
        }
        about = {"name": self.table.name, "sha256": self.table.digest, **columns}
        return json.loads(json.dumps({"table": about, "protocol": asdict(self.protocol)}))  # type: ignore[no-any-return]

    def _keep(self, repeat: Repeat) -> Repeat:
        self.done.append(repeat)
        if self.path is not None:
            try:
                with (self.path / REPEATS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(repeat.to_dict(), separators=(",", ":")) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise unwritable(self.path / REPEATS, error) from error
        return repeat

    def _open(self, path: Path) -> None:
        before, now = read_json(path / SETTINGS), self.settings()
        if (path / SETTINGS).exists() and not (
            isinstance(before, dict) and all(isinstance(part, dict) for part in before.values())
        ):
            raise UsageError(f"{path / SETTINGS}: not JSON of a benchmark; give another --out")
        if before is not None:
            for part, values in now.items():
                theirs = before.get(part, {})
                for name, value in values.items():
                    if theirs.get(name) != value and name != "name":
                        raise UsageError(
                            f"{path}: holds another benchmark: {name} is {theirs.get(name)!r}, not {value!r}"
                        )
        self.done = read_repeats(path / REPEATS)
        if any(max(repeat.networks, default=0) >= self.table.networks for repeat in self.done):
            raise UsageError(f"{path / REPEATS}: contains network numbers that {self.table.name} does not have")
        write_json(path / SETTINGS, now)


OF_REPEAT: Mapping[str, Check] = {
    "sampler": text,
    "repeat": whole(),
    "networks": list_of(whole()),
    **dict.fromkeys(("hypervolume", "ask_seconds"), list_of(number)),
    **dict.fromkeys(("asks", "duplicates", "infeasible", "filled"), whole()),
    **dict.fromkeys(("sampler_seconds", "seconds"), number),
}


def read_repeats(path: Path) -> list[Repeat]:
    """The repeats in all complete lines. An incomplete last line, left by a killed driver, is cut off. UsageError for other faults."""
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
    known = {field.name for field in fields(Repeat)}
    repeats: dict[tuple[str, int], Repeat] = {}
    for place, line in enumerate(data[:end].splitlines(), 1):
        try:
            entry = json.loads(line)
            repeat = Repeat(**{name: value for name, value in entry.items() if name in known})
            require(entry, OF_REPEAT, "repeat", missing=True)
            if not len(repeat.networks) == len(repeat.hypervolume) == len(repeat.ask_seconds):
                raise ValueError("lists of one length")
        except (ValueError, TypeError, AttributeError, RecursionError, UsageError):
            raise UsageError(f"{path}: line {place} is not a repeat of a benchmark; remove the line") from None
        repeats[repeat.sampler, repeat.repeat] = repeat
    return list(repeats.values())


# -- processes -----------------------------------------------------------------------------------------------------------

_benchmark: tuple[Table, Scale, Protocol] | None = None  # of a worker process, set once when it starts
_warm: set[str] = set()  # samplers that this process has run


def _by_processes(
    table: Table, protocol: Protocol, todo: Sequence[tuple[str, int]], jobs: int
) -> Generator[Repeat, None, None]:
    if not todo:
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the number of BLAS threads
    before = {name: os.environ.get(name) for name in THREADS}
    others = set(multiprocessing.active_children())
    os.environ.update(dict.fromkeys(THREADS, "1"))  # a child reads them when it loads NumPy
    pool = ProcessPoolExecutor(min(jobs, len(todo)), context, _begin, (table, protocol))
    unfinished = True
    try:
        waiting: set[Future[Repeat]] = {pool.submit(_one, *job) for job in todo}
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
        unfinished = False
    except BrokenProcessPool:
        raise NasError(
            "a process of the benchmark died (out of memory?); run the same command again to continue"
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if unfinished:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
        # Wait for it: while Python exits, the pool's thread could close the pipe through which Python wakes it.
        pool.shutdown(cancel_futures=True)


def _begin(table: Table, protocol: Protocol) -> None:
    global _benchmark
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver receives it, and ends its processes
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _benchmark = (table, Scale(table, protocol.floor), protocol)


def _end_with_driver() -> None:
    """Exit with the driver: a killed driver notifies nobody, and its processes would wait for work for ever."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _one(sampler: str, repeat: int) -> Repeat:
    assert _benchmark is not None
    table, scale, protocol = _benchmark
    if sampler not in _warm:  # the time in which a library loads modules at the first ask must not be counted
        _warm.add(sampler)
        replay(table, scale, Protocol(min(WARM_UP, table.networks)), sampler, repeat)
    return replay(table, scale, protocol, sampler, repeat)
