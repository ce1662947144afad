"""A child process that only measures latencies, so that the driver doesn't load torch and the number of threads can be set.

`python -m nas.profiling.latency.child` answers each line of JSON with one line. It ends when its standard input is closed, and
thus with its parent. It runs in a separate session, so that a terminal's Ctrl-C reaches only the driver.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from nas.errors import NasError, UsageError, reason_of
from nas.networks.architecture import Architecture
from nas.profiling.latency._base import Conditions, Latency
from nas.utils.extensions import take

PATIENCE = 900.0  # seconds to wait for an answer
GROUP = 12  # parts whose repeats are interleaved
PART_SECONDS = 0.04  # of timing for each part
NETWORK_SECONDS = 0.25


class Child:
    """The process, started by the first question. A context manager."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def device(self) -> tuple[str, str]:
        """Product name of the device, and the version of torch."""
        answer = self._ask({"what": "device"})
        return answer["device"], answer["torch"]

    def networks(
        self, architectures: Sequence[Architecture], reference: Architecture, quiet_ms: float | None = None
    ) -> list[Latency]:
        """Latencies of the networks, interleaved with the reference; relative to it if `quiet_ms`, its time when quiet, is given."""
        answer = self._ask({"what": "networks", **_question(architectures, reference, quiet_ms)})
        return [Latency.from_dict(each) for each in answer["latencies"]]

    def parts(
        self, architectures: Sequence[Architecture], names: Sequence[str], reference: Architecture, quiet_ms: float
    ) -> dict[str, Latency]:
        """Latencies of the parts with these names (`nas.profiling.latency.parts`) of the networks, by name."""
        question = {"what": "parts", "names": list(names), **_question(architectures, reference, quiet_ms)}
        return {name: Latency.from_dict(each) for name, each in self._ask(question)["parts"].items()}

    def _ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """The process's answer. NasError if it ended or hangs; UsageError if the question can't be answered as asked."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            answer: dict[str, Any] = json.loads(process.stdout.readline() if ready else "")
        except (OSError, ValueError):
            self.close()
            raise NasError("the process that measures latencies ended or hangs") from None
        if "error" in answer:
            raise (UsageError if answer["usage"] else NasError)(answer["error"])
        return answer

    def _started(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if self.conditions.threads is not None:
            environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(self.conditions.threads)
        process = subprocess.Popen(
            [sys.executable, "-m", "nas.profiling.latency.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        c = self.conditions
        process.stdin.write(json.dumps({"device": c.device, "batch": c.batch, "threads": c.threads}) + "\n")
        return process


def _question(
    architectures: Sequence[Architecture], reference: Architecture, quiet_ms: float | None
) -> dict[str, object]:
    return {
        "architectures": [architecture.to_dict() for architecture in architectures],
        "reference": reference.to_dict(),
        "quiet_ms": quiet_ms,
    }


def serve(questions: TextIO, answers: TextIO) -> None:
    """Run the process: read the conditions, then answer each question."""
    conditions = Conditions(**json.loads(questions.readline()))
    for line in questions:
        try:
            answer = _answer(json.loads(line), conditions)
        except Exception as error:
            answer = {"error": reason_of(error, 400), "usage": isinstance(error, UsageError)}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(question: Mapping[str, Any], conditions: Conditions) -> dict[str, Any]:
    import torch

    from nas.profiling.latency.timing import measured, prepared, product_name

    if question["what"] == "device":
        with prepared(conditions) as (device, _):
            return {"device": product_name(device), "torch": torch.__version__}
    take()
    networks = [Architecture.from_dict(data) for data in question["architectures"]]
    reference, quiet_ms = Architecture.from_dict(question["reference"]), question["quiet_ms"]
    if question["what"] == "networks":
        energy = conditions.device != "cpu"
        latencies = measured(
            networks, conditions, None, reference, quiet_ms=quiet_ms, energy=energy, seconds=NETWORK_SECONDS
        )
        return {"latencies": [latency.to_dict() for latency in latencies]}
    return {"parts": _parts(networks, question["names"], conditions, reference, quiet_ms)}


def _parts(
    networks: Sequence[Architecture],
    names: Sequence[str],
    conditions: Conditions,
    reference: Architecture,
    quiet_ms: float,
) -> dict[str, dict[str, object]]:
    from nas.profiling.latency.parts import modules_of
    from nas.profiling.latency.timing import forward, prepared, with_reference

    wanted = set(names)
    modules = {
        part.name: (make, shape)
        for network in networks
        for part, make, shape in modules_of(network)
        if part.name in wanted
    }
    latencies: dict[str, dict[str, object]] = {}
    with prepared(conditions) as (device, timer):
        for first in range(0, len(modules), GROUP):
            group = list(modules.items())[first : first + GROUP]
            calls = [forward(make(), shape, conditions.batch, device) for _, (make, shape) in group]
            sides = [shape.height for _, (_, shape) in group]
            timed = with_reference(
                reference,
                calls,
                sides,
                conditions,
                device,
                timer,
                quiet_ms=quiet_ms,
                seconds=PART_SECONDS,
                warm_seconds=PART_SECONDS / 4,
            )
            latencies |= {name: latency.to_dict() for (name, _), latency in zip(group, timed, strict=True)}
    return latencies


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
