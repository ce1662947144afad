"""Optuna's own test cases of storages, from the installed package, for the journal and the databases that a run is kept in.

All of them apply. PostgreSQL's is Optuna's own storage as SQLite's is, and test_storage.py drives runs in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from nas.runs import storage as storages
from nas.runs.journal import Journal


class TestJournal(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return storages.open_storage(None, tmp_path)


class TestJournalTogether(StorageTestCase):
    """While what is written is kept, to be written at once."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        storage = storages.open_storage(None, tmp_path)
        with storages.together(storage):
            yield storage


@pytest.mark.slow  # 15 s for Optuna's own storage, of which the options of the engine are ours
class TestDatabase(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return storages.open_storage(f"sqlite:///{tmp_path / 'studies.db'}", tmp_path)


WAITING = (TrialState.WAITING,)


def waiting(storage: BaseStorage, study: int) -> list[int]:
    """Numbers of the trials that wait, as `Study.ask` looks for them."""
    return [trial.number for trial in storage.get_all_trials(study, deepcopy=False, states=WAITING)]


def test_a_journal_tells_who_waits_of_each_of_its_studies(tmp_path: Path) -> None:
    storage = Journal(tmp_path / "study.journal")
    first, second = (storage.create_new_study([StudyDirection.MINIMIZE]) for _ in range(2))
    from optuna.trial import create_trial

    template = create_trial(state=TrialState.WAITING)
    trials = [storage.create_new_trial(study, template) for study in (first, first, second)]
    assert (waiting(storage, first), waiting(storage, second)) == ([0, 1], [0])
    storage.set_trial_state_values(trials[0], TrialState.RUNNING)
    assert (waiting(storage, first), waiting(storage, second)) == ([1], [0])
    storage.set_trial_state_values(trials[0], TrialState.WAITING)  # given back
    assert waiting(storage, first) == [0, 1]
    with pytest.raises(KeyError):
        waiting(storage, second + 1)
