"""The notice that no machine of the cluster has room for a trial: when it is given, and its text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import ray

from nas.execution.ray import tune_internals
from nas.utils.text import counted

FIRST_SECONDS = 4.0  # of waiting before the first notice
LAST_SECONDS = 600.0  # the longest pause between two notices; pauses grow by a factor of 8
NODES = 8  # machines that a notice names


class Waiting:
    """Gives the notice that a trial waits for `cpus` cores and `gpus` GPUs: after `FIRST_SECONDS`, then with growing pauses."""

    def __init__(
        self, say: Callable[[str], None], cpus: float, gpus: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._cpus, self._gpus, self._clock = say, cpus, gpus, clock
        self._begun: float | None = None
        self._pause = FIRST_SECONDS

    def look(self, waits: bool) -> None:
        """Called often. waits: whether a trial waits now while no machine has room."""
        now = self._clock()
        if not waits:
            self._begun, self._pause = None, FIRST_SECONDS
        elif self._begun is None:
            self._begun = now
        elif now - self._begun >= self._pause:
            self._begun, self._pause = now, min(8 * self._pause, LAST_SECONDS)
            self._say(notice(self._cpus, self._gpus))


def notice(cpus: float, gpus: float) -> str:
    """The message: the resources that a trial asks for, and the free resources of each machine of the cluster."""
    names = ("CPU", "GPU") if gpus else ("CPU",)
    needed = _join(_amount(amount, name) for name, amount in zip(names, (cpus, gpus), strict=False))
    free = tune_internals.free_by_node()
    machines = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"]:
            total = {name: node["Resources"].get(name, 0.0) for name in names}
            left = None if free is None else free.get(node["NodeID"], {})
            text = _join(
                _amount(total[name], name)
                if left is None
                else f"{min(left.get(name, 0.0), total[name]):g} of {_amount(total[name], name)}"
                for name in names
            )
            machines.append(f"{node['NodeManagerAddress']}: {text}")
    more = f"; and {len(machines) - NODES} more" if len(machines) > NODES else ""
    return (
        f"waiting for a worker: a trial asks for {needed}, and no machine of the cluster has that free "
        f"({'; '.join(machines[:NODES]) or 'it has no machines'}{more}). It begins when there is room; Ctrl-C ends the search"
    )


def _amount(amount: float, name: str) -> str:
    return counted(amount, {"CPU": "core", "GPU": "GPU"}[name])


def _join(parts: Iterable[str]) -> str:
    return " and ".join(parts)
