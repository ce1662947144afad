"""The errors that a user may see as one line instead of a traceback."""

from __future__ import annotations

import re

_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # what str.splitlines breaks at
LONGEST = 4000  # characters of a message; quoting a hostile file must not flood the terminal


class NasError(Exception):
    """The work failed for a known reason, which the message states; the command line exits with 1.

    A message is one line: line breaks, as in a hostile file's name, are escaped. One longer than `LONGEST` keeps its beginning and
    its end.
    """

    def __init__(self, message: str = "") -> None:
        message = _BREAKS.sub(lambda match: match[0].encode("unicode_escape").decode(), message)
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 600]} ... {message[-500:]}"
        super().__init__(message)


class UsageError(NasError):
    """The user's request can't be carried out; the message says what is wrong, where, and what to do.

    The command line exits with 2, before anything is trained.
    """


class WriteError(NasError):
    """A file can't be written: the disk is full, read-only or gone. No trial is marked as failed for it."""


class StartError(NasError):
    """A worker can't start: something is missing where it runs. No trial is to blame; the next one would not start either."""


# Escape sequences of terminals (colors, titles, cursor), and single control characters other than white space.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[@-Z\\-_])?|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]"
)
# PyTorch's restricted reader gives the reason after advice to turn the restriction off, which users must not follow.
_ADVICE = re.compile(r"Weights only load failed.*?WeightsUnpickler error:", re.DOTALL)


def reason_of(problem: BaseException | str, most: int = 300, *, first_line: bool = False) -> str:
    """The message of a library's error as one line: no escape sequences, no line breaks, at most `most` characters.

    An empty message gives the name of the error's type. first_line: for libraries whose further lines are advice.
    """
    text = _ADVICE.sub("", _ESCAPES.sub("", str(problem)[: 100 * most]))
    if first_line:
        text = next((line for line in text.splitlines() if line.strip()), "")
    text = " ".join(text.split())
    if len(text) > most:
        text = f"{text[: most - 4]} ..."
    return text or (type(problem).__name__ if isinstance(problem, BaseException) else "no reason given")


class Interrupted(NasError):
    """The user stopped the search; everything that was trained is kept, and `nas resume` continues."""
