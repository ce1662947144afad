"""Faults on purpose, in worker processes, and what they cost. A module of its own, since Ray's processes import it by name.

A run's folder may hold a plan, `faults.json`: trial -> {fault, epoch, times}; for a run whose folder `nas search` is yet to make, the
environment variable NAS_TEST_PLAN has the plan's path. A worker (`Faulty`, or any process that has called `instrument`) makes the
fault in the midst of that epoch of the trial, so many times; and it appends to `epochs.log` what it trains.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.execution.job import Job
from nas.execution.ray.tune_driver import Worker
from nas.execution.trial_training import TrialTraining
from nas.runs.run import load_run
from nas.training.records import Epoch
from nas.training.trainer import Training

PLAN, LOG = "faults.json", "epochs.log"
PLANNED = "NAS_TEST_PLAN"  # which the processes of a local Ray inherit
FITS = 8  # images that the device of the fault "device memory" has room for
EATEN_BYTES, LEFT_BYTES = 256 << 20, 2 << 30  # at once, and left to others in any case, by the fault "host memory"


def plan(folder: Path, faults: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Write the plan; the variable that names it to the processes of a run in another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(json.dumps(faults))
    return {PLANNED: str(folder / PLAN)}


def instrument() -> None:
    """Let this process log its epochs and make the faults of the plan."""
    if getattr(TrialTraining, "instrumented", False):
        return
    TrialTraining.instrumented = True  # type: ignore[attr-defined]
    run, epoch = TrialTraining.run, Training.epoch
    now: dict[str, Job] = {}

    def logged_run(self: TrialTraining, job: Job) -> Iterator[Epoch]:
        now["job"] = job
        yield from run(self, job)
        log(job, "ended", 0)

    def logged_epoch(self: Training) -> Epoch:
        job, number = now["job"], self.done + 1
        log(job, "begun", number)
        prepare(job, self, number)
        done = epoch(self)
        log(job, "done", number)
        return done

    TrialTraining.run, Training.epoch = logged_run, logged_epoch  # type: ignore[method-assign]


class Faulty(Worker):
    """An instrumented worker."""

    def setup(self, config: dict[str, Any], data: Any = None, options: Any = None) -> None:
        instrument()
        super().setup(config, data, options)


def log(job: Job, what: str, number: int) -> None:
    """A line, whole even if several processes write: the trial, what happens to it, the epoch, the process."""
    line = f"{job.key} {what} {number} {os.getpid()}\n".encode()
    file = os.open(job.folder.parent.parent / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def prepare(job: Job, training: Training, number: int) -> None:
    """Let the training come upon the fault that is planned for this epoch, if it was not made often enough."""
    folder = job.folder.parent.parent
    try:
        wanted = json.loads(Path(os.environ.get(PLANNED, folder / PLAN)).read_text()).get(job.key)
    except FileNotFoundError:
        return
    if wanted is None or number != wanted["epoch"]:
        return
    made = len(list(folder.glob(f"made-{job.key}-*")))
    if made >= wanted["times"]:
        return
    (folder / f"made-{job.key}-{made}").touch()
    FAULTS[wanted["fault"]](training)


def _at_the_second_step(make: Callable[[], None]) -> Callable[[Training], None]:
    def prepared(training: Training) -> None:
        steps = len(training.train_batches)

        def after(step: int) -> None:
            if step % steps == min(1, steps - 1):
                make()

        training.on_step = after

    return prepared


def _spin() -> None:
    """Code in C that holds the interpreter's lock for longer than anybody lives."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    re.match(r"(a+)+$", "a" * 60 + "b")


def _eat() -> None:
    from ray._private.utils import estimate_available_memory

    held = []
    while estimate_available_memory() > LEFT_BYTES:
        held.append(bytearray(b"x") * EATEN_BYTES)
        time.sleep(0.02)


def _in_a_block(training: Training, hook: Callable[..., None]) -> None:
    convolution = [module for module in training.network.modules() if isinstance(module, nn.Conv2d)][1]
    convolution.register_forward_pre_hook(hook)


def _raise(training: Training) -> None:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise RuntimeError("a block that can't take its input")

    _in_a_block(training, hook)


def _device_memory(training: Training) -> None:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    _in_a_block(training, hook)


def _nan(training: Training) -> None:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        module.weight.data.fill_(float("nan"))

    _in_a_block(training, hook)


FAULTS: dict[str, Callable[[Training], None]] = {
    "kill": _at_the_second_step(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "stop": _at_the_second_step(lambda: os.kill(os.getpid(), signal.SIGSTOP)),
    "sleep": _at_the_second_step(lambda: time.sleep(3600)),
    "spin": _at_the_second_step(_spin),
    "host memory": _at_the_second_step(_eat),
    "exception": _raise,
    "device memory": _device_memory,
    "nan": _nan,
}


@dataclass(frozen=True, slots=True)
class Losses:
    """What the faults of a run cost: trials and epochs, over the whole run."""

    lost: int  # trials of which an epoch that was saved was trained again, or that did not end
    trained_twice: int  # trials trained again although they had ended, and networks trained under two numbers
    epochs_twice: int  # epochs that were begun more than once
    epochs: int  # that were begun at all

    def counts(self) -> dict[str, int]:
        """As `Faults.record` takes them."""
        return {"lost": self.lost, "trained_twice": self.trained_twice, "epochs_twice": self.epochs_twice}


def losses(folder: Path) -> Losses:
    """From the log of the workers and the run's records. Trials that end as failed are not lost: they were told so."""
    run = load_run(folder)
    begun: Counter[tuple[str, int]] = Counter()
    latest: Counter[str] = Counter()
    lost, ended, twice = set(), set(), set()
    for line in (folder / LOG).read_text().splitlines():
        key, what, number, _ = line.split()
        if what == "begun":
            begun[key, int(number)] += 1
            if int(number) < latest[key]:
                lost.add(key)
            if key in ended:
                twice.add(key)
            latest[key] = max(latest[key], int(number))
        elif what == "ended":
            ended.add(key)
    lost |= {str(trial.number) for trial in run.trials if trial.state == "running"}
    digests = [trial.digest for trial in run.complete()]
    again = sum(count > 1 for count in begun.values())
    return Losses(len(lost), len(twice) + len(digests) - len(set(digests)), again, len(begun))


def state_of(process: int) -> str:
    """A process's state as the kernel writes it: T is stopped, Z dead; "" if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
