"""Workers that die on purpose. A module of its own, since Ray's processes import it by name."""

from __future__ import annotations

import os
import signal
from typing import Any

from nas.execution.ray.tune_driver import Worker


class KilledOnce(Worker):
    """Trial 0's process is killed behind its second epoch, the first time."""

    def step(self) -> dict[str, Any]:
        result = super().step()
        mark = self.job.folder.parent / "killed"
        if self.job.key == "0" and '"number": 2' in result["epoch"] and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result
