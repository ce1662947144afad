"""Standard input, output and error in whatever state a process gets them: closed, full, a pipe that nobody reads, ASCII alone.

No file may get the numbers 0 to 2, into which words are written. What can't be written ends no work: of standard error it is
dropped, of standard output it is remembered (`failure`) until the command has done its work.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

CLOSED = OSError(errno.EBADF, "standard output is closed")


class _Sink(io.FileIO):
    """A descriptor whose writes never fail; `failure`: the first error that there was."""

    def __init__(self, number: int, failure: OSError | None) -> None:
        super().__init__(number, "wb", closefd=False)
        self._always = failure
        self.failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        size = memoryview(data).nbytes
        try:
            if self._always:
                raise self._always
            while (written := super().write(data)) is None:  # a full pipe that somebody has made non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            return size


def make_safe() -> None:
    """Before anything is opened: no closed descriptors among 0 to 2, and streams that a command can write to without harm."""
    closed = [number for number in range(3) if not _is_open(number)]
    for number in closed:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        os.set_inheritable(number, True)
    if 0 in closed or sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = _safe(1, sys.stdout, CLOSED if 1 in closed else None)
    sys.stderr = _safe(2, sys.stderr, None)


def failure() -> OSError | None:
    """What kept standard output from being written, once it is flushed; None if all of it was."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Sink) else None


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _safe(number: int, before: TextIO | None, failure: OSError | None) -> TextIO:
    """A stream in the place of Python's own, which is None where the descriptor was closed."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    errors = getattr(before, "errors", None) or "strict"
    if errors == "strict" or not encoding.lower().startswith("utf"):
        errors = "backslashreplace"  # a sign that the terminal lacks is written out
    return io.TextIOWrapper(
        io.BufferedWriter(_Sink(number, failure)),
        encoding=encoding,
        errors=errors,
        line_buffering=number == 2 or bool(getattr(before, "line_buffering", False)),
        write_through=bool(getattr(before, "write_through", False)),
    )
