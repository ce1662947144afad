"""Progress of a search: hypervolume over training time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.analysis.sample import Floats

if TYPE_CHECKING:
    from nas.runs.run import Run


@dataclass(frozen=True, slots=True)
class Progress:
    """Hypervolume after each complete trial, (n,), and the hours of training up to it, (n,).

    The hours include all earlier trials in the order in which they were asked for: baselines, stopped and failed ones too.
    unit: "GPU-hours", or "worker-hours" if the workers use no GPU or their share of a GPU is unknown.
    """

    hours: Floats
    volume: Floats
    unit: str


def progress(run: Run) -> Progress:
    """Progress in the order in which trials were asked for, as in `Run.hypervolume_history`."""
    share = run.config.get("executor", {}).get("gpus_per_trial")
    on_gpu = isinstance(share, (int, float)) and share > 0 and str(run.config.get("device", "")) != "cpu"
    ended = [trial for trial in run.asked() if trial.state != "running"]
    spent = np.cumsum([trial.seconds for trial in ended]) / 3600 * (float(share) if on_gpu and share else 1.0)
    complete = [k for k, trial in enumerate(ended) if trial.values is not None]
    return Progress(
        spent[complete] if complete else np.zeros(0),
        run.hypervolume_history(),
        "GPU-hours" if on_gpu else "worker-hours",
    )
