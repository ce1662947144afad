"""Machines of a Ray cluster that die and join while a search runs: raylets of their own on this machine, really killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from helpers_faults import Faulty, losses, plan
from helpers_search import settings_of, training_data
from ray.cluster_utils import Cluster
from reliability import Faults

from nas.execution.job import Job
from nas.execution.ray import cluster
from nas.execution.ray import tune_driver as workers
from nas.execution.ray.cluster import Resources
from nas.runs.run import load_run
from nas.searching.progress import Tally
from nas.searching.study import Study
from nas.training.records import Epoch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

EPOCHS, TRIALS = 4, 10
RECIPE = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.05, "warmup_epochs": 0.5}
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 1 << 27}


@pytest.fixture(scope="module")
def machines() -> Iterator[Cluster]:
    """A head that trains nothing, and a machine with room for one trial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for Ray's processes, which import helpers_faults
        found = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
        cluster.start(found.address)
        yield found
        cluster.shutdown()
        found.shutdown()


class Changing(Tally):
    """Lets a machine join behind the second epoch, and kills the one that trained first behind the tenth.

    The first machine's trial sleeps in its last epoch (the plan of the test), so that there is one in flight there.
    """

    def __init__(self, study: Study, cluster: Cluster, first: Any) -> None:
        super().__init__(study)
        self.cluster, self.first, self.second = cluster, first, None
        self.said: list[str] = []
        self.count = 0
        self.most = 0  # trials at once

    def epoch(self, job: Job, epoch: Epoch) -> None:
        super().epoch(job, epoch)
        self.count += 1
        self.most = max(self.most, len(self.running))
        if self.count == 2:
            self.second = self.cluster.add_node(**NODE)
        elif self.count >= 10 and self.first is not None and self.most == 2:
            self.cluster.remove_node(self.first, allow_graceful=False)
            self.first = None

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_machine_joins_and_another_dies(machines: Cluster, tmp_path: Path, faults: Faults) -> None:
    first = machines.add_node(**NODE)
    plan(tmp_path, {"0": {"fault": "sleep", "epoch": EPOCHS, "times": 1}})
    settings = settings_of(
        trials=TRIALS, sampler="random", recipe=RECIPE, device="cpu", executor={"kind": "ray", "workers": 0}
    )
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        changing = Changing(study, machines, first)
        resources = Resources.resolve(0, 1.0, None)
        assert resources.slots() == 1
        workers.run(study, training_data(), changing, lambda: False, resources, worker=Faulty)
        assert study.finished
    assert changing.first is None and changing.most == 2, "the machine that joined was not used"
    deadline = time.monotonic() + 120
    while [node["Alive"] for node in ray.nodes()].count(True) != 2:  # the head and the one that joined
        assert time.monotonic() < deadline, "the dead machine is still counted"
        time.sleep(0.2)
    run = load_run(tmp_path)
    assert run.status == "done" and run.count("complete") == TRIALS and run.count("failed") == 0
    assert all([epoch.number for epoch in trial.epochs] == list(range(1, EPOCHS + 1)) for trial in run.complete())
    (said,) = [line for line in changing.said if not line.startswith("waiting for a worker")]
    assert "node lost: its machine is gone; resumes from its last epoch" in said
    cost = losses(tmp_path)
    assert (cost.lost, cost.trained_twice) == (0, 0) and cost.epochs_twice == 1
    faults.record(
        "machine of the cluster dies",
        made="SIGKILL to all of a node's processes during the run (ray.cluster_utils.Cluster)",
        **cost.counts(),
        then="its trials continue elsewhere from their last epoch, and no failure is counted",
    )
    faults.record(
        "machine joins in mid-run",
        made="a node is added after the second epoch (ray.cluster_utils.Cluster)",
        lost=cost.lost,
        trained_twice=cost.trained_twice,
        epochs_twice=0,
        then="it gets trials within seconds",
    )
