"""Workers that die on purpose, or whose networks are as accurate as a test needs. Ray's processes import the module by name."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any

from nas.execution.ray.tune_driver import Worker
from nas.training.records import Epoch
from nas.training.trainer import Training


class KilledOnce(Worker):
    """Trial 0's process is killed behind its second epoch, the first time."""

    def step(self) -> dict[str, Any]:
        result = super().step()
        mark = self.job.folder.parent / "killed"
        if self.job.key == "0" and '"number": 2' in result["epoch"] and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class Declining(Worker):
    """Trains, and reports of each trial that it is less accurate than all trials before it."""

    def setup(self, config: dict[str, Any], data: Any = None, options: Any = None) -> None:
        trained = Training.epoch

        def epoch(training: Training) -> Epoch:
            return dataclasses.replace(trained(training), accuracy=0.9 - 0.1 * int(self.job.key))

        Training.epoch = epoch  # type: ignore[method-assign]  # in the worker's process alone
        super().setup(config, data, options)
