"""A benchmark on disk: settings.json, and repeats.jsonl, to which each repeat is added when it is done.

A folder goes on where it ended: only repeats that are missing are run, and more samplers or repeats may be asked for later.
Repeats are run by processes of one BLAS thread each, so that seconds are a sampler's own.
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
WARM_UP = 24  # networks: beyond what samplers begin with at random
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Folder(UnderLock):
    """`with Folder(...) as folder`: holds the lock. folder None: nothing is written, for a look in passing.

    UsageError for unknown samplers, a budget beyond the table, or a folder of another benchmark.
    """

    def __init__(self, path: Path | None, table: Table, protocol: Protocol, names: Sequence[str], repeats: int) -> None:
        for name in names:
            samplers.build(name, Space(table).problem(), 0)  # wrong options are said before anything is run
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
        """Samplers and repeats still to be run, repeat by repeat, so that what is there can be compared at any time."""
        have = {(own.sampler, own.repeat) for own in self.done}
        every = ((name, repeat) for repeat in range(self.repeats) for name in self.names)
        return [own for own in every if own not in have]

    def run(self, jobs: int) -> Iterator[Repeat]:
        """Run what is missing by `jobs` processes (0: in this one), in the order in which they end."""
        if jobs == 0:
            for name, repeat in self.missing():
                yield self._keep(replay(self.table, self.scale, self.protocol, name, repeat))
            return
        with contextlib.closing(_by_processes(self.table, self.protocol, self.missing(), jobs)) as ended:
            for own in ended:
                yield self._keep(own)

    def settings(self) -> dict[str, Any]:
        """What must be equal for repeats to be comparable."""
        columns = {name: own for name, own in asdict(self.table.columns).items() if own or name != "infeasible"}
        about = {"name": self.table.name, "sha256": self.table.digest, **columns}
        return json.loads(json.dumps({"table": about, "protocol": asdict(self.protocol)}))  # type: ignore[no-any-return]

    def _keep(self, own: Repeat) -> Repeat:
        self.done.append(own)
        if self.path is not None:
            try:
                with (self.path / REPEATS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(own.to_dict(), separators=(",", ":")) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise unwritable(self.path / REPEATS, error) from error
        return own

    def _open(self, path: Path) -> None:
        before, now = read_json(path / SETTINGS), self.settings()
        if (path / SETTINGS).exists() and not (
            isinstance(before, dict) and all(isinstance(part, dict) for part in before.values())
        ):
            raise UsageError(f"{path / SETTINGS}: is no JSON; give another --out")
        if before is not None:
            for part, values in now.items():
                theirs = before.get(part, {})
                for name, value in values.items():
                    if theirs.get(name) != value and name != "name":
                        raise UsageError(
                            f"{path}: holds another benchmark: {name} is {theirs.get(name)!r}, not {value!r}"
                        )
        self.done = read_repeats(path / REPEATS)
        if any(max(own.networks, default=0) >= self.table.networks for own in self.done):
            raise UsageError(f"{path / REPEATS}: names networks that {self.table.name} does not have")
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
    """All whole lines; a torn last one, of a driver that was killed, is cut off. UsageError for anything else."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
    known = {field.name for field in fields(Repeat)}
    found: dict[tuple[str, int], Repeat] = {}
    for place, line in enumerate(data[:whole].splitlines(), 1):
        try:
            entry = json.loads(line)
            own = Repeat(**{name: value for name, value in entry.items() if name in known})
            require(entry, OF_REPEAT, "repeat", missing=True)
            if not len(own.networks) == len(own.hypervolume) == len(own.ask_seconds):
                raise ValueError("lists of one length")
        except (ValueError, TypeError, AttributeError, RecursionError, UsageError):
            raise UsageError(f"{path}: line {place} is no repeat of a benchmark; remove the line") from None
        found[own.sampler, own.repeat] = own
    return list(found.values())


# -- processes -----------------------------------------------------------------------------------------------------------

_given: tuple[Table, Scale, Protocol] | None = None  # of a worker process, set once when it starts
_warm: set[str] = set()  # samplers that it has run


def _by_processes(
    table: Table, protocol: Protocol, todo: Sequence[tuple[str, int]], jobs: int
) -> Generator[Repeat, None, None]:
    if not todo:
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit BLAS threads and their number
    before = {name: os.environ.get(name) for name in THREADS}
    others = set(multiprocessing.active_children())
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read when a child loads NumPy
    pool = ProcessPoolExecutor(min(jobs, len(todo)), context, _begin, (table, protocol))
    unfinished = True
    try:
        waiting: set[Future[Repeat]] = {pool.submit(_one, *own) for own in todo}
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
        unfinished = False
    except BrokenProcessPool:
        raise NasError(
            "a process of the benchmark died (out of memory?); the same command goes on from there"
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
        pool.shutdown(
            cancel_futures=True
        )  # and wait: while Python ends, the pool's thread may close what Python wakes it by


def _begin(table: Table, protocol: Protocol) -> None:
    global _given
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver is told, and ends us
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _given = (table, Scale(table, protocol.floor), protocol)


def _end_with_driver() -> None:
    """A driver that is killed tells nobody, and its processes would wait for more work for ever."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _one(sampler: str, repeat: int) -> Repeat:
    assert _given is not None
    table, scale, protocol = _given
    if sampler not in _warm:  # what a library loads at its first ask is not the seconds of an ask
        _warm.add(sampler)
        replay(table, scale, Protocol(min(WARM_UP, table.networks)), sampler, repeat)
    return replay(table, scale, protocol, sampler, repeat)
