"""What is said while no machine of the cluster has room for a trial: what a trial asks for, and what each node has free."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray

from nas.utils.text import counted

FIRST_SECONDS, LAST_SECONDS = (
    4.0,
    600.0,
)  # of waiting until it is said; between one time and the next, which double, at most
NODES = 8  # that are named


class Waiting:
    """Says that somebody waits for room of `cpus` cores and `gpus` GPUs, some seconds after it began, and then ever more rarely."""

    def __init__(
        self, say: Callable[[str], None], cpus: float, gpus: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._cpus, self._gpus, self._clock = say, cpus, gpus, clock
        self._begun: float | None = None
        self._pause = FIRST_SECONDS

    def look(self, waits: bool) -> None:
        """Whether somebody waits, and nobody has room, now."""
        now = self._clock()
        if not waits:
            self._begun, self._pause = None, FIRST_SECONDS
        elif self._begun is None:
            self._begun = now
        elif now - self._begun >= self._pause:
            self._begun, self._pause = now, min(8 * self._pause, LAST_SECONDS)
            self._say(said(self._cpus, self._gpus))


def said(cpus: float, gpus: float) -> str:
    """What is asked for, and what the cluster offers of it."""
    names = ("CPU", "GPU") if gpus else ("CPU",)
    asked = _and(_many(amount, name) for name, amount in zip(names, (cpus, gpus), strict=False))
    # The public form of it gives sums over the cluster only.
    free: dict[str, dict[str, float]] = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    nodes = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"]:
            total, left = node["Resources"], free.get(node["NodeID"], {})
            has = _and(
                f"{min(left.get(name, 0.0), total.get(name, 0.0)):g} of {_many(total.get(name, 0.0), name)}"
                for name in names
            )
            nodes.append(f"{node['NodeManagerAddress']}: {has}")
    more = f"; and {len(nodes) - NODES} more" if len(nodes) > NODES else ""
    return (
        f"waiting for a worker: a trial asks for {asked}, and no machine of the cluster has that free "
        f"({'; '.join(nodes[:NODES]) or 'it has no machines'}{more}). It begins when there is room; Ctrl-C ends the search"
    )


def _many(amount: float, name: str) -> str:
    return counted(amount, {"CPU": "core", "GPU": "GPU"}[name])


def _and(parts: Any) -> str:
    return " and ".join(parts)
