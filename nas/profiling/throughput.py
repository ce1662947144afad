"""Images a second that one network trains at in several processes at once on one device.

The processes are children of the one that asks, by their own interpreter: `python -m nas.profiling.throughput` reads its task as a line
of JSON, answers when it is warm, waits for a line and answers what it trained. All are timed over the same seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from nas.errors import NasError
from nas.networks.architecture import Architecture
from nas.utils.extensions import take
from nas.utils.limits import limit_threads

SECONDS = 3.0  # that are timed
PATIENCE = 180.0  # seconds until a process that says nothing is given up; the first start of CUDA takes a while
STEPS = 8  # of an epoch of random images


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
    """Images a second that so many processes train together, evaluation left out; 0 if one fails, as for want of memory.

    All are warm before any is timed, and all are timed at once. steps: of an epoch, of which each does two at least.
    """
    task = {
        "architecture": architecture.to_dict(),
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
        "threads": threads,
        "seconds": seconds,
        "steps": steps,
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with contextlib.ExitStack() as ending:
        children = [ending.enter_context(_child(environment)) for _ in range(processes)]
        try:
            for child in children:
                _tell(child, json.dumps(task))
            for child in children:
                _answer(child)  # warm
            for child in children:
                _tell(child, "go")
            answers = [_answer(child) for child in children]
        except NasError:
            return 0.0
    return sum(float(answer["images"]) / float(answer["seconds"]) for answer in answers)


@contextlib.contextmanager
def _child(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process of the probe; it is gone behind the block, whatever it was doing."""
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


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(line + "\n")
        child.stdin.flush()
    except OSError as error:
        raise NasError("a process of the probe ended") from error


def _answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of JSON; NasError if there is none, or if it says an error."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], PATIENCE)
    line = child.stdout.readline() if ready else ""
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise NasError("a process of the probe ended or hangs") from None
    return answer


def serve(task: Mapping[str, Any], questions: TextIO, answers: TextIO) -> None:
    """What a child does: train random images, warm up, wait, and train on for the seconds of the task."""
    import numpy as np

    from nas.data.batches import Augment, Batches
    from nas.networks.build import build
    from nas.training.recipe import Recipe
    from nas.training.trainer import Training

    take()
    limit_threads(task["threads"])
    architecture, batch = Architecture.from_dict(task["architecture"]), task["batch_size"]
    side, channels = architecture.resolution, architecture.channels
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (task.get("steps", STEPS) * batch, side, side, channels), dtype=np.uint8)
    y = random.integers(0, architecture.head.classes, len(x))
    common: dict[str, Any] = {"mean": [0.5] * channels, "std": [0.25] * channels, "device": task["device"]}
    train = Batches(x, y, batch_size=batch, augment=Augment(min(4, side // 2), True), drop_last=True, **common)
    validation = Batches(x[:batch], y[:batch], batch_size=batch, **common)
    recipe = Recipe.of(1000, batch, learning_rate=1e-4)  # small, since random labels must not make it diverge
    training = Training(build(architecture, seed=0), train, validation, recipe, task["precision"])
    training.epoch()
    print(json.dumps({"warm": True}), file=answers, flush=True)
    questions.readline()
    begun, images, seconds = time.perf_counter(), 0, 0.0
    while images == 0 or time.perf_counter() - begun < task["seconds"]:
        epoch = training.epoch()  # reads its loss, and so waits for the device
        images, seconds = images + train.images, seconds + train.images / epoch.images_per_second
    print(json.dumps({"images": images, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.stdin.readline()), sys.stdin, sys.stdout)
