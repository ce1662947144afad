"""How long an attempt at a trial may take, and a signal wait: whose time is over, and watches over the process that trains by itself."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from types import TracebackType
from typing import Self

from nas.execution import fencing
from nas.execution.job import Job
from nas.runs.attempts import Cause, limit_text

GRACE_SECONDS = 30.0  # that a watch has for its own last words, before the process ends without them


class Deadlines:
    """When each running attempt must be done: `seconds` (None: never) behind its beginning."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._begun: dict[str, float] = {}

    def begin(self, key: str, now: float | None = None) -> None:
        self._begun[key] = time.monotonic() if now is None else now

    def end(self, key: str) -> None:
        self._begun.pop(key, None)

    def overdue(self, now: float | None = None) -> list[str]:
        """Attempts whose time is over, each told once."""
        if self.seconds is None:
            return []
        limit = (time.monotonic() if now is None else now) - self.seconds
        found = [key for key, begun in self._begun.items() if begun < limit]
        for key in found:
            del self._begun[key]
        return found


class Watch:
    """Ends this process if the trial in it takes longer than `seconds` (None: never): what hangs in here can't be ended alone.

    again: the command that goes on, for the last words.
    A context manager around one attempt. The attempt is counted in the trial's folder, so that the next driver tries the trial
    once more and then gives it up. A thread does that, which PyTorch lets run; where code in C holds the interpreter, a timer of
    the system ends the process `GRACE_SECONDS` later, with a traceback.
    """

    def __init__(self, job: Job, seconds: float | None, again: str) -> None:
        self._job, self._seconds, self._again = job, seconds, again
        self._done = threading.Event()

    def __enter__(self) -> Self:
        if self._seconds is not None:
            threading.Thread(target=self._wait, name="trial-timeout", daemon=True).start()
            if _has_descriptor():
                faulthandler.dump_traceback_later(self._seconds + GRACE_SECONDS, exit=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()

    def _wait(self) -> None:
        assert self._seconds is not None
        if self._done.wait(self._seconds):
            return
        fencing.count(self._job, Cause.TIMEOUT)
        print(
            f"{_cursor()}error: trial {self._job.key}: {limit_text(self._seconds)}. What hangs in this process can't be ended alone, so "
            f"that the process ends; `{self._again}` goes on, and gives a trial up that hangs again. --executor ray ends the trial "
            "alone.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


class Unanswered:
    """Ends this process if a signal to end it has waited `seconds` for Python: code in C that never returns holds the main thread.

    again: the command that goes on, for the last words. Of SIGTERM and SIGHUP each, of SIGINT (Ctrl-C) the second and later ones.
    The system writes a signal's number into a socket as it comes (`signal.set_wakeup_fd`), which a thread reads; handlers, which
    Python runs in the main thread alone, call `answer`. Code that holds the interpreter, too, lets no thread run: then SIGKILL is left.
    """

    def __init__(self, seconds: float, again: str) -> None:
        self._seconds, self._again = seconds, again
        self._answered = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._wait, name="nas-signals", daemon=True)
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        _watching.add(self)
        self._thread.start()

    def answer(self) -> None:
        self._answered.set()

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        _watching.discard(self)
        # Ends the thread's reading, also where a forked child has a copy of the socket.
        self._writer.shutdown(socket.SHUT_RDWR)
        self._answered.set()
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def _wait(self) -> None:
        interrupts = 0
        while came := self._reader.recv(1):
            number = came[0]
            if number not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                continue
            interrupts += number == signal.SIGINT
            if self._answered.wait(self._seconds):
                self._answered.clear()
                with contextlib.suppress(BlockingIOError):  # those that came before the answer are answered by it
                    self._reader.recv(4096, socket.MSG_DONTWAIT)
            elif number != signal.SIGINT or interrupts > 1:
                self._end(signal.Signals(number).name)

    def _end(self, name: str) -> None:
        words = threading.Thread(target=self._say, args=(name,), daemon=True)
        words.start()
        words.join(1.0)  # standard error may be what the process is stuck in
        os._exit(130)

    def _say(self, name: str) -> None:
        print(
            f"{_cursor()}error: {name} has waited {self._seconds:g} s for code that does not return, so that the process ends; everything "
            f"that was saved is kept. Go on with: {self._again}",
            file=sys.stderr,
            flush=True,
        )


_watching: set[Unanswered] = set()


def _in_child() -> None:
    """A forked child's signals are its own: they must not be written into its parent's socket."""
    if _watching:
        _watching.clear()
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_in_child)


def _cursor() -> str:
    """What shows the cursor again, which a live display has hidden."""
    return "\033[?25h" if sys.stderr.isatty() else ""


def _has_descriptor() -> bool:
    """Whether standard error is a file of the system's, which the timer writes to."""
    try:
        return sys.stderr.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
