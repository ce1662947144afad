"""The errors that a user may see as one line instead of a traceback."""

from __future__ import annotations

import re

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


class StartError(NasError):
    """A worker can't begin: something is missing where it runs. No trial is to blame, and the next one would not begin either."""


# Sequences that a terminal obeys (colours, titles, the cursor), and single control characters but for white space.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[@-Z\\-_])?|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]"
)
# PyTorch's restricted reader says why behind advice to switch it off, which is none of ours.
_ADVICE = re.compile(r"Weights only load failed.*?WeightsUnpickler error:", re.DOTALL)


def reason_of(problem: BaseException | str, most: int = 300, *, first_line: bool = False) -> str:
    """What a library says of a failure, as one line of ours can quote it: no escapes, no line breaks, at most `most` characters.

    first_line: for libraries that go on with advice. The name of the error's type, where it says nothing.
    """
    text = _ADVICE.sub("", _ESCAPES.sub("", str(problem)[: 100 * most]))
    if first_line:
        text = next((line for line in text.splitlines() if line.strip()), "")
    text = " ".join(text.split())
    if len(text) > most:
        text = f"{text[: most - 4]} ..."
    return text or (type(problem).__name__ if isinstance(problem, BaseException) else "no reason given")


class Interrupted(NasError):
    """The user stopped the search; everything that was trained is kept, and `nas resume` goes on."""
