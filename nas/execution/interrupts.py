"""Signals while trials run: the first asks to end in order, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self

from nas.execution.watchdog import Unanswered
from nas.utils.text import Say

SIGNAL_SECONDS = 10.0  # that a signal may wait for code that does not return; Slurm and Kubernetes kill after 30


class Interrupts(AbstractContextManager["Interrupts"]):
    """Ctrl-C once: stop behind the current epochs. Ctrl-C twice, SIGTERM or SIGHUP: at once, and the epochs in flight are lost.

    SIGTERM can't wait: it often goes to the whole process group, Ray's own processes included, with SIGKILL behind it. SIGHUP is that
    of a terminal that was closed; where it is ignored, as under `nohup`, it stays so. at_once: Ctrl-C once ends at once, too.
    Python handles a signal only between two steps of its own. Where code in C does not return, the process ends without that, after
    `SIGNAL_SECONDS` (`nas.execution.watchdog.Unanswered`); again: the command that goes on then.
    """

    def __init__(self, note: Say, again: str, at_once: bool = False) -> None:
        self._note, self._again = note, again
        self._unanswered: Unanswered | None = None
        self._asked = at_once
        self._unheeded = False
        self._held = self._late = False  # whether an end at once is put off, and was asked for since
        self._before: dict[int, Any] = {}

    def unheeded(self, end: Callable[[], None]) -> None:
        """Do what must not be cut off: Ray ends the whole process, without a word, at the next call behind half a shutdown."""
        self._unheeded = True
        if self._unanswered is not None:
            self._unanswered.answer()  # of a signal that Ray's handler took
        try:
            end()
        finally:
            self._unheeded = False

    def whole(self, work: Callable[[], None]) -> None:
        """Do what must not be left half done, as PyTorch's import, which can't be begun again; an end at once comes behind it."""
        self._held = True
        try:
            work()
        finally:
            self._held = False
        if self._late:
            raise KeyboardInterrupt

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._unanswered = Unanswered(SIGNAL_SECONDS, self._again)
        self.install()
        return self

    def install(self) -> None:
        """Take the signals, again if somebody else has taken them since. Only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._unanswered is not None:
            self._unanswered.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._unanswered is not None:
            self._unanswered.answer()
        if self._unheeded:
            return  # it ends already, within seconds
        if self._asked or number != signal.SIGINT:
            self._asked = True
            if self._held:
                self._late = True
                return
            raise KeyboardInterrupt
        self._asked = True
        self._note("stopping behind the epochs in flight; press Ctrl-C again to stop at once ...")
