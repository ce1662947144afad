"""What ends an attempt at a trial without a result, and how often the trial is tried again for it. Pure: no files, no clock, no Ray.

An attempt is one worker's work on a trial. The next attempt resumes after the last saved epoch, and is counted by the cause
that ended the one before: what may be the machine's fault is tried again, what the same network would do again is not. Every
count is bounded, so that no trial can keep a run from ending.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from nas.utils.text import format_seconds


class Cause(StrEnum):
    """What ended an attempt."""

    WORKER = "worker died"  # its process: a signal, a crash in C code, a CUDA context that is lost
    MEMORY = "host out of memory"
    TIMEOUT = "time limit"
    NODE = "node lost"
    PROCESS = "process died"  # this one, if it trains the trial (the local executor)
    DEVICE_MEMORY = "device out of memory"
    DIVERGED = "diverged"
    EXCEPTION = "exception"


# How often a trial is tried again. An exception, a loss that is not finite and a network too large for the device come from the
# network and the seed, and would come again; a lost node says nothing about the trial, but a run must not wait for ever.
RETRIES: Mapping[Cause, int] = {
    Cause.WORKER: 2,
    Cause.MEMORY: 2,
    Cause.TIMEOUT: 1,
    Cause.NODE: 10,
    Cause.PROCESS: 4,
    Cause.DEVICE_MEMORY: 0,
    Cause.DIVERGED: 0,
    Cause.EXCEPTION: 0,
}
ENDED: Mapping[Cause, str] = {
    Cause.WORKER: "the worker died",
    Cause.MEMORY: "the host ran out of memory",
    Cause.TIMEOUT: "the trial ran into its time limit",
    Cause.NODE: "the node was lost",
    Cause.PROCESS: "the process died in the same epoch",
    Cause.DEVICE_MEMORY: "the device ran out of memory",
    Cause.DIVERGED: "the training diverged",
    Cause.EXCEPTION: "the training raised",
}

LOW_MEMORY = "running low on memory"  # in every error of Ray about a process that its memory monitor has killed


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts at a trial that ended without a result: how many, by cause."""

    ended: Mapping[str, int] = field(default_factory=dict)

    def after(self, cause: Cause) -> Self:
        """With one more."""
        return type(self)({**self.ended, cause.value: self.ended.get(cause.value, 0) + 1})

    def allow(self, cause: Cause) -> bool:
        """Whether the trial is tried again after its last attempt ended for this cause."""
        return self.ended.get(cause.value, 0) <= RETRIES[cause]

    def gave_up(self, cause: Cause, last: str) -> str:
        """Why there is no further attempt, as a person reads it. last: how the last attempt ended."""
        times = self.ended.get(cause.value, 0)
        return f"{ENDED[cause]} {f'{times} times; last' if times > 1 else 'once'}: {last}"


def limit_text(seconds: float) -> str:
    """How an attempt that took too long ended."""
    return f"not done within --trial-timeout {format_seconds(seconds)}"


def counted(causes: Iterable[str]) -> str:
    """`2 exception, 1 time limit`: trials by the cause of their failure, the most frequent first; "" where none is known."""
    counts = Counter(cause for cause in causes if cause)
    return ", ".join(
        f"{number} {cause}" for cause, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def frequent(reasons: Iterable[str]) -> str:
    """`most often (4 times) because: ...`: the reason that most trials failed for; the last one's where none occurs twice."""
    counts = Counter(reason for reason in reasons if reason)
    if not counts:
        return "for reasons that were not recorded"
    reason, times = counts.most_common(1)[0]
    return f"most often ({times} times) because: {reason}" if times > 1 else f"the last because: {list(counts)[-1]}"


def cause_of(text: str) -> Cause:
    """The cause that Ray means by the text of its error about a worker that is gone."""
    if LOW_MEMORY in text:
        return Cause.MEMORY
    return Cause.NODE if "node has died" in text else Cause.WORKER


def killed_for_memory(text: str) -> frozenset[int]:
    """The process numbers of the workers that Ray's memory monitor killed, by the text of its error."""
    chosen = text.partition("Selected to kill:")[2].partition("\n]")[0] if LOW_MEMORY in text else ""
    return frozenset(map(int, re.findall(r"\bpid=(\d+)", chosen)))
