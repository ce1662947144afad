"""Time limits: of an attempt at a trial, under Ray and in this process, and of a signal that waits for C code."""

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

GRACE_SECONDS = 30.0  # from the time limit until the process ends without a message


class Deadlines:
    """Deadlines of the running attempts: `seconds` after each one's beginning (None: no limit)."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._begun: dict[str, float] = {}

    def begin(self, key: str, now: float | None = None) -> None:
        self._begun[key] = time.monotonic() if now is None else now

    def end(self, key: str) -> None:
        self._begun.pop(key, None)

    def overdue(self, now: float | None = None) -> list[str]:
        """Keys of the attempts whose time is over; each is returned once."""
        if self.seconds is None:
            return []
        limit = (time.monotonic() if now is None else now) - self.seconds
        late = [key for key, begun in self._begun.items() if begun < limit]
        for key in late:
            del self._begun[key]
        return late


class Watch:
    """Ends this process if its trial takes longer than `seconds` (None: no limit): code that hangs can't be ended alone.

    A context manager around one attempt. again: the command that resumes the run, for the message.
    A thread counts the attempt in the trial's folder before it ends the process: the next driver tries the trial once more and then
    gives it up. PyTorch lets that thread run. If C code holds the interpreter, a system timer ends the process `GRACE_SECONDS`
    later, with a traceback.
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
            f"{_cursor()}error: trial {self._job.key}: {limit_text(self._seconds)}. A trial that hangs in this process can't be ended "
            f"alone, so the process ends. `{self._again}` resumes, and gives up a trial that hangs again. --executor ray ends the "
            "trial alone.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


class Unanswered:
    """Ends this process if a signal to end it waits `seconds` for its handler: C code that never returns holds the main thread.

    Applies to each SIGTERM and SIGHUP, and to SIGINT (Ctrl-C) from the second on. again: the command that resumes the run, for the
    message. The system writes a signal's number into a socket as it arrives (`signal.set_wakeup_fd`), and a thread reads it; the
    handlers, which Python runs in the main thread alone, call `answer`. If C code also holds the interpreter, no thread runs, and
    only SIGKILL ends the process.
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
        # Ends the thread's `recv` even if a forked child has a copy of the socket.
        self._writer.shutdown(socket.SHUT_RDWR)
        self._answered.set()
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def _wait(self) -> None:
        interrupts = 0
        while received := self._reader.recv(1):
            number = received[0]
            if number not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                continue
            interrupts += number == signal.SIGINT
            if self._answered.wait(self._seconds):
                self._answered.clear()
                with contextlib.suppress(BlockingIOError):  # the answer covers all signals that came before it
                    self._reader.recv(4096, socket.MSG_DONTWAIT)
            elif number != signal.SIGINT or interrupts > 1:
                self._end(signal.Signals(number).name)

    def _end(self, name: str) -> None:
        message = threading.Thread(target=self._say, args=(name,), daemon=True)
        message.start()
        message.join(1.0)  # the process may be stuck in writing to standard error
        os._exit(130)

    def _say(self, name: str) -> None:
        print(
            f"{_cursor()}error: {name} has waited {self._seconds:g} s for code that does not return, so the process ends; everything "
            f"that was saved is kept. Continue with: {self._again}",
            file=sys.stderr,
            flush=True,
        )


_watching: set[Unanswered] = set()


def _in_child() -> None:
    """Keep a forked child's signals out of its parent's socket."""
    if _watching:
        _watching.clear()
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_in_child)


def _cursor() -> str:
    """The escape sequence that shows the cursor again after a live display has hidden it; empty without a terminal."""
    return "\033[?25h" if sys.stderr.isatty() else ""


def _has_descriptor() -> bool:
    """Whether standard error has a file descriptor, which the system timer writes to."""
    try:
        return sys.stderr.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
