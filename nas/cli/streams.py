"""Makes standard input, output and error safe when they are closed, on a full disk, a pipe without a reader, or ASCII only.

Descriptors 0 to 2 must stay reserved: otherwise a file that is opened later gets one of them, and messages are written into
it. A failed write does not stop the work: on standard error the text is dropped; on standard output the first error is kept
(`failure`) until the command has finished.
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
    """A descriptor whose writes never raise; `failure`: the first error, or None."""

    def __init__(self, number: int, failure: OSError | None) -> None:
        super().__init__(number, "wb", closefd=False)
        self._always = failure
        self.failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        size = memoryview(data).nbytes
        try:
            if self._always:
                raise self._always
            while (written := super().write(data)) is None:  # a full pipe in non-blocking mode
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            return size


def make_safe() -> None:
    """Open closed descriptors among 0 to 2, and replace the streams by ones whose writes never raise. Call it before any open."""
    closed = [number for number in range(3) if not _is_open(number)]
    for number in closed:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        os.set_inheritable(number, True)
    if 0 in closed or sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = _safe(1, sys.stdout, CLOSED if 1 in closed else None)
    sys.stderr = _safe(2, sys.stderr, None)


def failure() -> OSError | None:
    """The first error of writing to standard output; None if all was written. Flush the stream first."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Sink) else None


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _safe(number: int, before: TextIO | None, failure: OSError | None) -> TextIO:
    """A stream that replaces `before`, Python's stream, which is None if the descriptor was closed."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    errors = getattr(before, "errors", None) or "strict"
    if errors == "strict" or not encoding.lower().startswith("utf"):
        errors = "backslashreplace"  # a character that the terminal lacks is escaped
    return io.TextIOWrapper(
        io.BufferedWriter(_Sink(number, failure)),
        encoding=encoding,
        errors=errors,
        line_buffering=number == 2 or bool(getattr(before, "line_buffering", False)),
        write_through=bool(getattr(before, "write_through", False)),
    )
