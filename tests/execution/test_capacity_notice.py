"""What is said while no machine of a cluster has room: when, and in which words. (Really waited is in test_cluster_client.py.)"""

from __future__ import annotations

import functools
import itertools
import time

import pytest
import ray

from nas.execution.ray import capacity_notice as waiting
from nas.execution.ray import cluster
from nas.execution.ray.capacity_notice import Waiting


def test_waiting_is_said_some_seconds_after_it_began_and_then_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "notice", lambda cpus, gpus: f"{cpus} {gpus}")
    told: list[float] = []
    now = 0.0
    watch = Waiting(lambda text: told.append(now), 1.0, 0.5, clock=lambda: now)
    for second in range(3 * 3600):
        now = float(second)
        watch.look(True)
    assert told[0] == waiting.FIRST_SECONDS
    pauses = [after - before for before, after in itertools.pairwise(told)]
    assert pauses == sorted(pauses) and pauses[-1] == waiting.LAST_SECONDS and len(told) < 25
    told.clear()
    watch.look(False)
    watch.look(True)
    assert not told, "it waits anew"
    now += waiting.FIRST_SECONDS
    watch.look(True)
    assert told == [now]


def test_short_waits_that_end_are_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    now = 0.0
    watch = Waiting(told.append, 1.0, 0.0, clock=lambda: now)
    for step in range(1000):
        now = float(step)
        watch.look(step % 3 > 0)
    assert not told


def test_the_words_name_what_each_machine_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(name: str, alive: bool = True, **resources: float) -> dict[str, object]:
        return {"NodeID": name, "Alive": alive, "NodeManagerAddress": name, "Resources": resources}

    machines = [node("a", CPU=8.0), node("b", CPU=4.0, GPU=2.0), node("c", alive=False, CPU=64.0, GPU=8.0)]
    monkeypatch.setattr(ray, "nodes", lambda: machines)
    free = {"a": {"CPU": 8.0}, "b": {"CPU": 1.0, "GPU": 0.5}}
    monkeypatch.setattr(ray._private.state, "available_resources_per_node", lambda: free)
    assert "a trial asks for 1 core and 1 GPU, and no machine" in waiting.notice(1.0, 1.0)
    assert "(a: 8 of 8 cores and 0 of 0 GPUs; b: 1 of 4 cores and 0.5 of 2 GPUs)" in waiting.notice(1.0, 1.0)
    assert "a trial asks for 2 cores, and" in waiting.notice(
        2.0, 0.0
    ) and "(a: 8 of 8 cores; b: 1 of 4 cores)" in waiting.notice(2.0, 0.0)
    machines[:] = [node(f"n{k}", CPU=1.0) for k in range(20)]
    assert waiting.notice(1.0, 0.0).count("of 1 core") == waiting.NODES and "; and 12 more)" in waiting.notice(1.0, 0.0)
    machines.clear()
    assert "(it has no machines)" in waiting.notice(1.0, 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_probe_waits_for_room_is_stopped_and_gives_up() -> None:
    told: list[str] = []
    for_ever = functools.partial(time.sleep, 100_000)
    with pytest.raises(KeyboardInterrupt):
        cluster._answer_of(for_ever, 0.0, 1000.0, 0.0, told.append, lambda: bool(told))
    assert told[0].startswith(
        "waiting for a worker: a trial asks for 1000 cores, and no machine of the cluster has that free"
    )
    with pytest.raises(KeyboardInterrupt):
        cluster._answer_of(for_ever, 100_000.0, 1.0, 0.0, told.append, lambda: True)
    assert cluster._answer_of(for_ever, 0.1, 1.0, 0.0, print, lambda: False) == (None, "it took longer than 0.1 s")
    assert cluster._answer_of(functools.partial(divmod, 7, 2), 600.0, 1.0, 0.0, print, lambda: False) == ((3, 1), "")
    assert cluster._answer_of(functools.partial(divmod, 7, 0), 600.0, 1.0, 0.0, print, lambda: False)[0] is None
