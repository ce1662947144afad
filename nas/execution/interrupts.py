"""Handling of signals while trials run: the first Ctrl-C stops after the current epochs, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self

from nas.execution.watchdog import Unanswered
from nas.utils.text import Say

# The longest time that a signal waits for code that does not return. Slurm and Kubernetes kill after 30 s.
SIGNAL_SECONDS = 10.0


class Interrupts(AbstractContextManager["Interrupts"]):
    """The first Ctrl-C stops after the current epochs; a second one, SIGTERM or SIGHUP raises KeyboardInterrupt at once.

    An end at once loses the current epochs. SIGTERM can't wait: it often goes to the whole process group, Ray's processes included,
    and SIGKILL follows. SIGHUP comes from a closed terminal; if it is ignored, as under `nohup`, it stays ignored.
    at_once: the first Ctrl-C ends at once, too. again: the command that resumes the run, for messages.
    Python runs a handler only between two Python instructions. If C code does not return, the process ends without a handler
    after `SIGNAL_SECONDS` (`nas.execution.watchdog.Unanswered`).
    """

    def __init__(self, note: Say, again: str, at_once: bool = False) -> None:
        self._note, self._again = note, again
        self._unanswered: Unanswered | None = None
        self._asked = at_once
        self._ignoring = False
        self._deferring = self._deferred = False
        self._before: dict[int, Any] = {}  # handlers by signal; `signal` gives a function or a number

    def ignoring(self, shut_down: Callable[[], None]) -> None:
        """Call `shut_down` and ignore signals meanwhile: after half a shutdown, Ray's next call ends the process without a message."""
        self._ignoring = True
        if self._unanswered is not None:
            self._unanswered.answer()  # a signal that Ray's handler took
        try:
            shut_down()
        finally:
            self._ignoring = False

    def deferring(self, work: Callable[[], None]) -> None:
        """Call `work` without interruption, for example PyTorch's import, which can't be repeated; an end at once waits for it."""
        self._deferring = True
        try:
            work()
        finally:
            self._deferring = False
        if self._deferred:
            raise KeyboardInterrupt

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._unanswered = Unanswered(SIGNAL_SECONDS, self._again)
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers, again if other code has replaced them. Does nothing outside the main thread, as Python requires."""
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
        if self._ignoring:
            return  # the process ends within seconds anyway
        if self._asked or number != signal.SIGINT:
            self._asked = True
            if self._deferring:
                self._deferred = True
                return
            raise KeyboardInterrupt
        self._asked = True
        self._note("stopping after the current epochs; press Ctrl-C again to stop at once ...")
