"""Optuna's journal, made for one writer and many trials: what belongs together is written and flushed at once.

Optuna flushes each parameter of each trial to the disk on its own, 20 times for one suggestion, and looks through all trials for
one that waits whenever it is asked for the next. Files are those of Optuna's own `JournalStorage`, which reads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Generator, Iterator, Sequence
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from nas.errors import NasError
from nas.runs.journal_repair import Line, damaged, is_operation
from nas.samplers.optuna_internals import forget_offsets, set_last_offset, synchronized, thread_lock
from nas.utils.files import unwritable


class Lines(JournalFileBackend):
    """The file. Between `hold` and `release`, lines are kept in memory; the only reader of them is this process.

    Its errors are ours: WriteError for a full disk, which leaves nothing of the line; NasError for a damaged one.
    """

    def __init__(self, path: Path) -> None:
        # The default symlink lock hangs after its holder was killed.
        self.path = path.absolute()  # Tune changes the directory
        super().__init__(str(self.path), lock_obj=JournalFileOpenLock(str(self.path)))
        self._held: list[Line] | None = None
        self._before = 0  # lines of the file, while others are held

    def hold(self, lines: int) -> None:
        """Keep what is appended from now on; the file has so many lines."""
        self._held, self._before = [], lines

    def release(self) -> None:
        """Append what was kept, by one write and one flush."""
        held, self._held = self._held, None
        if held:
            self.append_logs(held)
            # Where the next reading begins: nobody else writes while a driver holds the run's lock.
            set_last_offset(self, self._before + len(held), self.path.stat().st_size)

    def append_logs(self, logs: list[dict[str, object]]) -> None:
        if self._held is not None:
            self._held += logs
            return
        size = self.path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError as error:
            # What was written of the line would be in front of the next one.
            with self.path.open("r+b") as file:
                file.truncate(size)
            raise unwritable(self.path, error) from error

    def read_logs(self, log_number_from: int) -> Generator[Line, None, None]:
        if self._held is not None:
            yield from self._held[log_number_from - self._before :]
            return
        try:
            for log in super().read_logs(log_number_from):
                if not is_operation(log):
                    raise ValueError("not an operation")
                yield log
        except ValueError:
            broken = damaged(self.path.read_bytes())
            if not broken:  # it was being appended to, and is whole now
                raise
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            raise NasError(
                f"{self.path}: line {broken[0]}{more} can't be read; `nas doctor {self.path.parent}` says what can be saved"
            ) from None
        forget_offsets(self)


class Journal(JournalStorage):
    """The storage: `together` makes one write of many, and who waits is known without looking through all trials."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        super().__init__(self._lines)
        self._waiting: dict[int, tuple[int, list[int]]] = {}  # by study: trials looked at, and which of them waited

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is written within is on the disk afterwards; if this process is killed, none of it or its beginning."""
        with synchronized(self) as replayed:
            if replayed is not None:
                self._lines.hold(replayed.lines)
        try:
            yield
        finally:
            with thread_lock(self):
                self._lines.release()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if states != (TrialState.WAITING,) or deepcopy:
            return super().get_all_trials(study_id, deepcopy, states)
        with synchronized(self) as replayed:
            if replayed is not None:
                numbers = replayed.trial_ids(study_id)
                seen, before = self._waiting.get(study_id, (0, []))
                trials = {number: replayed.trial(number) for number in [*before, *numbers[seen:]]}
                waiting = {number: trial for number, trial in trials.items() if trial.state == TrialState.WAITING}
                self._waiting[study_id] = len(numbers), list(waiting)
                return list(waiting.values())
        return super().get_all_trials(study_id, deepcopy, states)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state == TrialState.WAITING:  # a new trial waits; one that waits later is searched for again
            self._waiting.clear()
        return super().set_trial_state_values(trial_id, state, values)
