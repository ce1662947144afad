"""Training throughput in images a second of several processes that train the same network at once on one device.

The processes are children of the calling one. Each runs `python -m nas.profiling.throughput`, reads its task as a line of JSON,
answers when it is warm, waits for a line, trains, and answers with its figures. All are timed over the same seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from nas.errors import NasError
from nas.networks.architecture import Architecture
from nas.utils.extensions import take
from nas.utils.limits import limit_threads

SECONDS = 3.0  # of timing
PATIENCE = 180.0  # seconds to wait for an answer; the first start of CUDA takes a while
STEPS = 8  # of an epoch of random images


@dataclass(frozen=True, slots=True)
class Task:
    """What a child process trains and for how long, as plain data, which is sent as JSON."""

    architecture: Mapping[str, object]
    batch_size: int
    device: str
    precision: str
    threads: int
    seconds: float
    steps: int = STEPS


def throughput(
    architecture: Architecture,
    processes: int,
    batch_size: int,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    threads: int = 1,
    seconds: float = SECONDS,
    steps: int = STEPS,
) -> float:
    """Total images a second of `processes` processes, without evaluation; 0 if one of them fails, for example for lack of memory.

    All are warmed up before any is timed, and all are timed at the same time. steps: of an epoch; each process trains at least
    two epochs.
    """
    task = Task(architecture.to_dict(), batch_size, device, precision, threads, seconds, steps)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with contextlib.ExitStack() as ending:
        children = [ending.enter_context(_child(environment)) for _ in range(processes)]
        try:
            for child in children:
                _send(child, json.dumps(dataclasses.asdict(task)))
            for child in children:
                _answer(child)  # warm
            for child in children:
                _send(child, "go")
            answers = [_answer(child) for child in children]
        except NasError:
            return 0.0
    return sum(answer["images"] / answer["seconds"] for answer in answers)


@contextlib.contextmanager
def _child(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process of the probe, which is killed at the end of the block."""
    command = [sys.executable, "-m", "nas.profiling.throughput"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(environment),
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def _send(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(line + "\n")
        child.stdin.flush()
    except OSError as error:
        raise NasError("a process of the probe ended") from error


def _answer(child: subprocess.Popen[str]) -> dict[str, float]:
    """The next line of JSON; NasError if there is none."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], PATIENCE)
    line = child.stdout.readline() if ready else ""
    try:
        answer: dict[str, float] = json.loads(line)
    except ValueError:
        raise NasError("a process of the probe ended or hangs") from None
    return answer


def serve(task: Task, questions: TextIO, answers: TextIO) -> None:
    """Run a child process: train an epoch of random images as warm-up, wait for a line, and train for the task's seconds."""
    import numpy as np

    from nas.data.batches import Augment, Batches
    from nas.networks.build import build
    from nas.training.recipe import Recipe
    from nas.training.trainer import Training

    take()
    limit_threads(task.threads)
    architecture, batch, device = Architecture.from_dict(task.architecture), task.batch_size, task.device
    side, channels = architecture.resolution, architecture.channels
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (task.steps * batch, side, side, channels), dtype=np.uint8)
    y = random.integers(0, architecture.head.classes, len(x))
    mean, std = [0.5] * channels, [0.25] * channels
    augment = Augment(min(4, side // 2), True)
    train = Batches(x, y, mean=mean, std=std, batch_size=batch, device=device, augment=augment, drop_last=True)
    validation = Batches(x[:batch], y[:batch], mean=mean, std=std, batch_size=batch, device=device)
    recipe = Recipe.of(1000, batch, learning_rate=1e-4)  # small, since random labels must not make it diverge
    training = Training(build(architecture, seed=0), train, validation, recipe, task.precision)
    training.epoch()
    print(json.dumps({"warm": True}), file=answers, flush=True)
    questions.readline()
    begun, images, seconds = time.perf_counter(), 0, 0.0
    while images == 0 or time.perf_counter() - begun < task.seconds:
        epoch = training.epoch()  # reads its loss, and so waits for the device
        images, seconds = images + train.images, seconds + train.images / epoch.images_per_second
    print(json.dumps({"images": images, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    serve(Task(**json.loads(sys.stdin.readline())), sys.stdin, sys.stdout)
