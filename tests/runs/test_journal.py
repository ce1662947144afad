"""The journal: what is written together, and who waits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from nas.execution.ray.tune_internals import Memory
from nas.runs.journal import Journal


def opened(path: Path) -> tuple[Journal, optuna.Study]:
    storage = Journal(path)
    return storage, optuna.create_study(storage=storage, study_name="a", load_if_exists=True)


def test_a_suggestion_is_one_write_and_optuna_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.journal"
    storage, study = opened(path)
    for number in range(3):
        before = path.read_bytes()
        with storage.together():
            trial = study.ask()
            trial.suggest_int("x", 0, 9)
            trial.set_user_attr("y", number)
            assert path.read_bytes() == before  # nothing yet
        assert path.read_bytes() != before
        study.tell(trial, float(number))
    plain = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    trials = optuna.load_study(study_name="a", storage=plain).trials
    assert [(trial.value, trial.user_attrs) for trial in trials] == [(float(n), {"y": n}) for n in range(3)]
    assert [trial.params for trial in trials] == [trial.params for trial in study.trials]


def test_who_waits_is_asked_first_also_by_the_next_driver(tmp_path: Path) -> None:
    _, study = opened(tmp_path / "study.journal")
    study.tell(study.ask(), 0.0)
    study.enqueue_trial({"x": 7})
    study.enqueue_trial({"x": 8})
    assert study.ask().suggest_int("x", 0, 9) == 7
    _, study = opened(tmp_path / "study.journal")
    assert study.ask().suggest_int("x", 0, 9) == 8
    assert study.ask().number == 3


def test_a_trial_is_forgotten_once_tune_has_ended_it() -> None:
    def trial(name: str) -> Any:
        return SimpleNamespace(trial_id=name, placement_group_factory=0, finished=False)

    class Trial(SimpleNamespace):
        __hash__ = object.__hash__

        def is_finished(self) -> bool:
            return bool(self.finished)

    one, two = (Trial(**vars(trial(name))) for name in ("one", "two"))
    controller = SimpleNamespace(
        _trials=[one, two], _stopped_trials={one}, _trial_metadata={"one": ""}, _trial_to_actor={}
    )
    memory = Memory()
    memory.ended(controller, one)
    assert controller._trials == [one, two]  # Tune has yet to stop it
    one.finished = True
    memory.ended(controller, two)
    assert controller._trials == [two] and not controller._stopped_trials and not controller._trial_metadata
