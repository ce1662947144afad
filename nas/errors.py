"""The errors that a user may see as one line instead of a traceback."""

from __future__ import annotations


class NasError(Exception):
    """The work failed for a reason that is known and said; the command line exits with 1."""


class UsageError(NasError):
    """What the user asked for can't be done as asked: the message says what is wrong, where, and what to do.

    The command line exits with 2, before anything is trained.
    """


class WriteError(NasError):
    """A file can't be written: the disk is full, read-only or gone. No trial is to blame, so none is failed for it."""
