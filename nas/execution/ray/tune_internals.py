"""What Ray Tune's controller does not offer: it forgets trials that ended, keeps every worker for the next trial, and lets go of
trials that no worker has begun.

Left alone, it holds all trials that there ever were, some 30 KB each, and walks through them; and of workers that end at about
the same time it keeps one and ends the others, whose start costs seconds. What became of a trial stands in the run's study.
The attributes named here are Tune's own (2.60); in a release that has others, all goes on as without this, and the tests say so.
"""

from __future__ import annotations

import contextlib
from typing import Any

SETS = ("_stopped_trials", "_failed_trials", "_trials_to_cache", "_live_trials")
MANY = 1 << 20
PENDING = "PENDING"  # ray.tune.experiment.Trial's
LISTS = ("_trials", "_pending_trials_list")


class Memory:
    """Drops a trial behind the end of a later one, when Tune has nothing left to do with it."""

    def __init__(self) -> None:
        self._ended: list[Any] = []

    def ended(self, controller: Any, trial: Any) -> None:
        """Tune is about to stop this trial: forget those that it has stopped since."""
        keep_workers(controller, trial)
        gone = [earlier for earlier in self._ended if _gone(controller, earlier)]
        if gone:
            self._ended = [earlier for earlier in self._ended if not _gone(controller, earlier)]
            for earlier in gone:
                _forget(controller, earlier)
        self._ended.append(trial)


def keep_workers(controller: Any, trial: Any) -> None:
    """Let the controller keep as many idle workers of this trial's kind as there are; it ends them all when it is done."""
    cache = getattr(controller, "_actor_cache", None)
    limits = getattr(cache, "_max_num_objects", None)
    if limits is not None:
        limits[trial.placement_group_factory] = max(limits[trial.placement_group_factory], MANY)


def waits(controller: Any) -> bool:
    """Whether trials wait for a worker, and no worker has a place on the cluster, not even one that is still starting."""
    actors = getattr(controller, "_actor_manager", None)
    return bool(getattr(actors, "num_pending_actors", 0)) and not getattr(actors, "num_live_actors", 0)


def drop_waiting(controller: Any) -> None:
    """End the trials that no worker has begun, of which Tune tells its searcher that they ended without a result."""
    resetting = getattr(
        controller, "_resetting_trials", ()
    )  # a worker has been told to take these, and takes them at once
    for trial in list(controller.get_live_trials()):
        if trial.status == PENDING and trial not in resetting:
            for callback in _callbacks(controller):
                getattr(callback, "_completed_trials", set()).add(trial)  # the display would print that it is completed
            controller.stop_trial(trial)


def _gone(controller: Any, trial: Any) -> bool:
    """Whether Tune has ended it, and no worker of it is left but in the cache."""
    actors = getattr(controller, "_trial_to_actor", {})
    return bool(trial.is_finished()) and trial not in actors


def _callbacks(controller: Any) -> list[Any]:
    return list(getattr(getattr(controller, "_callbacks", None), "_callbacks", []))


def _forget(controller: Any, trial: Any) -> None:
    for name in SETS:
        getattr(controller, name, set()).discard(trial)
    for name in LISTS:
        with contextlib.suppress(ValueError):
            getattr(controller, name, []).remove(trial)
    getattr(controller, "_trial_metadata", {}).pop(trial.trial_id, None)
    for callback in _callbacks(controller):
        for kept in vars(callback).values():  # the display's, which shows nothing
            if isinstance(kept, dict):
                kept.pop(trial, None)
            elif isinstance(kept, set):
                kept.discard(trial)
