"""What becomes of the data of a search, counted where it happens: in the driver and in Ray's processes, which import this by name.

With $NAS_TEST_LOG each process appends lines to that file: what (`loaded`: a data set was read; `packed`, `unpacked`: the training data
were written to and read from Ray's object store; `moved`: batches were made of them; `trained`: a trial ended), the node ($NAS_TEST_NODE),
the process, and a word more. Without it nothing is changed.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.data import DATASETS, Dataset, Source
from nas.data.readers.published import read_digits
from nas.data.sources import Request
from nas.data.training_data import TrainingData
from nas.execution.ray.tune_driver import Worker

LOG, NODE, NODES = "NAS_TEST_LOG", "NAS_TEST_NODE", "NAS_TEST_NODES"
DATASET = "counted"  # the digits
SECONDS = 300.0  # for the workers of all nodes to begin, on a machine where others work too


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    node: str  # "" of the driver
    process: int
    more: str


def lines(path: Path) -> list[Line]:
    words = [line.split("|") for line in path.read_text().splitlines()] if path.exists() else []
    return [Line(what, node, int(process), more) for what, node, process, more in words]


def log(what: str, more: str = "") -> None:
    """A line, whole even if several processes write."""
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{what}|{os.environ.get(NODE, '')}|{os.getpid()}|{more}\n".encode())
    finally:
        os.close(file)


class Counting(Worker):
    """A worker that logs the trials that it ends, and begins with the first when there is one on each of $NAS_TEST_NODES nodes."""

    def setup(self, config: dict[str, Any], data: Any = None, options: Any = None) -> None:
        super().setup(config, data, options)
        log("begun")

    def step(self) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        path, nodes = Path(os.environ[LOG]), int(os.environ[NODES])
        while len({line.node for line in lines(path) if line.what == "begun"}) < nodes and time.monotonic() < until:
            time.sleep(0.1)
        result = super().step()
        if result["done"]:
            log("trained", self.job.key)
        return result


def _read(request: Request) -> Dataset:
    log("loaded")
    return dataclasses.replace(read_digits(request), name=DATASET)


def _instrument() -> None:
    from nas.execution.trial_training import TrialTraining

    DATASETS.register(DATASET)(Source("the digits", _read))
    put: Callable[[Any], Any] = TrainingData.__getstate__
    take: Callable[[Any, Any], None] = TrainingData.__setstate__  # type: ignore[attr-defined]
    moved = TrialTraining._moved

    def packed(self: TrainingData) -> Any:
        log("packed")
        return put(self)

    def unpacked(self: TrainingData, state: Any) -> None:
        take(self, state)
        log("unpacked", "private" if self.x.flags.writeable else "shared")

    def logged(self: TrialTraining, seed: int) -> Any:
        log("moved")
        return moved(self, seed)

    TrainingData.__getstate__ = packed  # type: ignore[method-assign]
    TrainingData.__setstate__ = unpacked  # type: ignore[attr-defined]
    TrialTraining._moved = logged  # type: ignore[method-assign]


if LOG in os.environ:  # when it is imported: a worker is given the data before it is asked to do anything
    _instrument()
