"""`nas doctor`: checks a run folder, and repairs what can be repaired without losing anything; or checks this machine.

Nothing is changed without `--repair`, so that a run can be checked while it is running, and on a read-only disk. Repairs take
the run's lock, keep a copy of whatever they replace, and are such that a second look finds nothing left to repair.
"""

from __future__ import annotations

from pathlib import Path

from nas.runs.doctor._base import Finding, healthy

__all__ = ["Finding", "examine", "healthy"]


def examine(folder: Path, *, repair: bool = False) -> list[Finding]:
    """What is found in a run folder, the worst of each place; with `repair`, after it was repaired.

    UsageError if the folder is no run's, or if another driver works on the run that is to be repaired.
    """
    from nas.runs.doctor import run_check as patient  # imports optuna

    return patient.examine(folder, repair=repair)
