"""Where what lies in a run's folder, and under which names its study keeps it."""

from __future__ import annotations

from nas.runs.storage import JOURNAL as JOURNAL
from nas.runs.storage import STUDY_NAME as STUDY_NAME

LOCK, TRIALS, BASELINES, SESSIONS = "run.lock", "trials", "baselines", "sessions.json"
ELAPSED = (
    "elapsed.json"  # seconds that the drivers of a run by the clock took, the one that may have been killed among them
)
DECISIONS = "stopping.json"  # in a trial's folder: what early stopping has decided about it
CONFIG = "config.yaml"  # in the folder of a trial that failed: its network, to be looked into
CONFIRMED = "confirmed"  # networks that were trained again from further seeds (`nas.runs.repeats`)
ATTRIBUTE = "nas"  # the Optuna user attribute that holds a trial's digest, cost and architecture
