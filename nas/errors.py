"""The errors that a user may see as one line instead of a traceback."""

from __future__ import annotations

LONGEST = 4000  # characters of a message: what a hostile file holds must not scroll everything else away


class NasError(Exception):
    """The work failed for a reason that is known and said; the command line exits with 1.

    Of a message that quotes something huge, the beginning and the end are kept.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 600]} ... {message[-500:]}"
        super().__init__(message)


class UsageError(NasError):
    """What the user asked for can't be done as asked: the message says what is wrong, where, and what to do.

    The command line exits with 2, before anything is trained.
    """


class WriteError(NasError):
    """A file can't be written: the disk is full, read-only or gone. No trial is to blame, so none is failed for it."""
