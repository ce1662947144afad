"""The only module of nas that uses private parts of Optuna.

It is written for Optuna 5.0. If another release lacks a private part, the results are the same, but slower: identifiers are looked
up by name and number, and `synchronized` yields None, so that a journal writes each operation separately and searches all trials.
Only the storage of a study has no public substitute: without it, UsageError names the installed release.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import Study
    from optuna.trial import FrozenTrial

SUPPORTED = "5.0"
JOURNAL = ("_thread_lock", "_sync_with_backend", "_replay_result")  # attributes of a `JournalStorage`
REPLAY = ("log_number_read", "get_trial", "_study_id_to_trial_ids")  # of its `_replay_result`


def storage_of(study: Study) -> BaseStorage:
    """The storage of a study. UsageError if this release of Optuna keeps it elsewhere."""
    storage: BaseStorage | None = getattr(study, "_storage", None)
    if storage is None:
        raise UsageError(
            f"nas can't access the storage of a study in Optuna {version('optuna')}; install optuna=={SUPPORTED}.*"
        )
    return storage


def study_id(study: Study) -> int:
    """The number of a study in its storage."""
    known = getattr(study, "_study_id", None)
    return known if isinstance(known, int) else storage_of(study).get_study_id_from_name(study.study_name)


def trial_id(study: Study, number: int) -> int:
    """The identifier of a trial in the storage of its study."""
    return storage_of(study).get_trial_id_from_study_id_trial_number(study_id(study), number)


def set_user_attribute(study: Study, number: int, name: str, value: Any) -> None:
    """Set a user attribute of a trial in any state. `Trial.set_user_attr` needs the `Trial` that `Study.ask` returned."""
    storage_of(study).set_trial_user_attr(trial_id(study, number), name, value)


def set_system_attribute(study: Study, trial: FrozenTrial, name: str, value: Any) -> None:
    """Set a system attribute of a running trial."""
    known = getattr(trial, "_trial_id", None)
    identifier = known if isinstance(known, int) else trial_id(study, trial.number)
    storage_of(study).set_trial_system_attr(identifier, name, value)


def enqueued_params(trial: FrozenTrial) -> dict[str, Any]:
    """The params given to `Study.enqueue_trial`; empty for a trial that was not enqueued."""
    return dict(trial.system_attrs.get("fixed_params") or {})


# -- journals ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replayed:
    """The content of a journal in memory. lines: number of lines read; trials: of one study, in order, by identifier."""

    lines: int
    _replay: Any

    def trial_ids(self, study: int) -> Sequence[int]:
        return self._replay._study_id_to_trial_ids[study]  # type: ignore[no-any-return]

    def trial(self, identifier: int) -> FrozenTrial:
        return self._replay.get_trial(identifier)  # type: ignore[no-any-return]


def thread_lock(journal: JournalStorage) -> AbstractContextManager[Any]:
    """The lock that a journal takes for each operation; nothing if this release has none."""
    return getattr(journal, "_thread_lock", contextlib.nullcontext())


@contextlib.contextmanager
def synchronized(journal: JournalStorage) -> Iterator[Replayed | None]:
    """Hold the lock of a journal that has read its file to the end; None if this release keeps the content elsewhere."""
    replay: Any = getattr(journal, "_replay_result", None)
    if all(hasattr(journal, name) for name in JOURNAL) and all(hasattr(replay, name) for name in REPLAY):
        with thread_lock(journal):
            journal._sync_with_backend()
            yield Replayed(replay.log_number_read, replay)
    else:
        yield None


def set_last_offset(backend: JournalFileBackend, line: int, offset: int) -> None:
    """Let the next reading of the file begin at this line, `offset` bytes from the start."""
    if hasattr(backend, "_log_number_offset"):
        backend._log_number_offset = {0: 0, line: offset}


def forget_offsets(backend: JournalFileBackend) -> None:
    """Keep the offset of the last line only: those of all lines take 20 MB in a large run."""
    offsets = getattr(backend, "_log_number_offset", None)
    if offsets:
        last = max(offsets)
        set_last_offset(backend, last, offsets[last])
