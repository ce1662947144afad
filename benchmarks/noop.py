"""Workers that train nothing, importable by Ray's processes: their results are as large as real ones."""

from __future__ import annotations

import math
import os
import random
import socket
import time
from typing import Any

import ray

from nas.execution.job import Job
from nas.networks.build import cost_of
from nas.utils.files import write_json

EPOCHS = 10  # in each synthetic result
PHASES = "NAS_BENCH_PHASES"  # "SECONDS,SECONDS,...:TRIALS:WORKERS": sleep of the trials in each phase; trials of a phase; workers of a run
START_SECONDS = 3600.0  # until all workers have been started


def accuracy_of(job: Job) -> float:
    noise = int(job.architecture.digest[:8], 16) / 0xFFFFFFFF  # one network, one accuracy
    return 0.9 - 0.8 / math.log10(100 + cost_of(job.architecture).params) + 0.05 * noise


def result_of(job: Job, seconds: float) -> dict[str, Any]:
    """A result as `nas.training.workspace` writes it, of a training that took no time or slept."""
    last = accuracy_of(job)
    epochs = [
        {
            "number": number,
            "train_loss": 2.3 / number,
            "val_loss": 2.4 / number,
            "accuracy": last * number / EPOCHS,
            "learning_rate": 0.1,
            "seconds": seconds / EPOCHS,
            "images_per_second": 1000.0,
        }
        for number in range(1, EPOCHS + 1)
    ]
    ended = {"key": job.key, "digest": job.architecture.digest, "state": "complete", "reason": "", "accuracy": last}
    return {
        **ended,
        "seconds": seconds,
        "finished": time.time(),
        "device": "cpu",
        "precision": "fp32",
        "epochs": epochs,
    }


def phase_of(key: str, each: int) -> int:
    return int(key) // each


class Actor:
    """The interface that Tune's controller expects of a worker, without importing Tune, whose pandas and pyarrow take 1 s and 70 MiB.

    For the driver there is no difference: it makes the same calls and gets the same amount of data. Each trial sleeps, writes its
    result and ends at its first step.
    """

    def __init__(self, config: dict[str, Any], logger_creator: Any = None, storage: Any = None) -> None:
        seconds, each, workers = os.environ[PHASES].split(":")
        self.seconds, self.each, self.workers = (
            [float(second) for second in seconds.split(",")],
            int(each),
            int(workers),
        )
        self.waits = True
        self.reset(config)

    def reset(self, config: dict[str, Any], logger_creator: Any = None, storage: Any = None) -> bool:
        self.config = {name: value for name, value in config.items() if not name.startswith("__")}
        self.job = Job.from_dict(self.config)
        return True

    def where(self) -> tuple[str, int]:
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def train(self) -> dict[str, Any]:
        if self.waits:
            self._wait_for_all()
        mean = self.seconds[min(phase_of(self.job.key, self.each), len(self.seconds) - 1)]
        seconds = mean * random.Random(self.job.key).uniform(0.5, 1.5)  # so that workers don't end together
        time.sleep(seconds)
        write_json(self.job.result_path, result_of(self.job, seconds))
        return {
            "epoch": "",
            "done": True,
            "training_iteration": 1,
            "time_this_iter_s": seconds,
            "time_total_s": seconds,
            "timestamp": int(time.time()),
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "node_ip": "127.0.0.1",
            "config": self.config,
        }

    def _wait_for_all(self) -> None:
        """Wait until all workers of the run have started, which takes minutes; otherwise the first ones would run all trials."""
        folder = self.job.folder.parent / "started"
        folder.mkdir(exist_ok=True)
        (folder / str(os.getpid())).touch()
        until = time.monotonic() + START_SECONDS
        while sum(1 for _ in folder.iterdir()) < self.workers and time.monotonic() < until:
            time.sleep(2.0)
        self.waits = False

    def get_auto_filled_metrics(self, *args: Any, **options: Any) -> dict[str, Any]:
        return {}

    def stop(self) -> None: ...


def install() -> None:
    """Make Tune, in this process, start `Actor` instead of a trial's own class, and send it nothing that imports Tune."""
    import functools

    from ray.cloudpickle import CloudPickler
    from ray.train._internal.storage import StorageContext
    from ray.tune.execution import class_cache
    from ray.tune.experiment.trial import _TrialInfo

    own = class_cache._ActorClassCache.get
    class_cache._ActorClassCache.get = lambda cache, trainable: own(cache, Actor)

    def partial(found: functools.partial[Any]) -> Any:
        ours = getattr(found.func, "__module__", "").startswith("ray.tune")
        return (dict, ()) if ours else found.__reduce__()

    table = CloudPickler.dispatch_table  # which copies in this process don't use
    table |= {
        StorageContext: lambda found: (dict, ()),
        _TrialInfo: lambda found: (dict, ()),
        functools.partial: partial,
    }
