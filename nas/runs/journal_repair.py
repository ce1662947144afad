"""A study's journal as lines: which are damaged, and what can be saved of them.

One JSON object a line: Optuna's operations in the order in which they were made, the first of which makes the study. Trials are
counted by the order of their CREATE_TRIAL lines, so that a line lost in the middle shifts the numbers of all later trials.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nas.utils.files import write_with

Line: TypeAlias = dict[str, Any]  # an operation of Optuna's journal

CREATE_STUDY, SET_STUDY_ATTRIBUTE, CREATE_TRIAL, SET_PARAM, SET_STATE, SET_ATTRIBUTE = (
    0,
    2,
    4,
    5,
    6,
    8,
)  # Optuna's op_code
OPERATIONS = 10  # the largest code
DIRECTIONS = {"minimize": 1, "maximize": 2}


def damaged(data: bytes) -> list[int]:
    """Numbers, from 1, of the lines that are no operation; a last one that is not ended is torn and not counted."""
    lines = data.split(b"\n")[:-1]
    return [number for number, line in enumerate(lines, 1) if operation(line) is None]


def operation(line: bytes) -> Line | None:
    """What a line says, or None if it is damaged."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if is_operation(entry) else None


def is_operation(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.get("op_code") not in range(OPERATIONS + 1):
        return False
    code = entry["op_code"]
    return "worker_id" in entry and ("trial_id" in entry or code <= CREATE_TRIAL or code == OPERATIONS)


def whole(data: bytes) -> int:
    """Bytes up to the end of the last valid line; the rest was torn by a crash or a full disk."""
    end = data.rfind(b"\n") + 1
    while end and not _is_json(data[data.rfind(b"\n", 0, end - 1) + 1 : end]):
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def torn(data: bytes) -> str:
    """A description of how much of a journal follows its last whole line; "" if nothing does."""
    tail = data[whole(data) :]
    lines = tail.rstrip(b"\n").count(b"\n") + 1
    return f"{len(tail)} bytes of {'a torn line' if lines == 1 else f'{lines} damaged lines'}" if tail else ""


def cut_torn(path: Path) -> str:
    """Cut a torn end off a journal: Optuna would append to it and could read nothing after it. Returns a description of what was cut.

    A crash tears one line. More than one is damage of another kind, and kept in a file next to the journal. Stale locks are removed, too:
    the caller holds the run's lock, so that nobody can hold them. OSError if it can't be written.
    """
    data = path.read_bytes()
    end, description = whole(data), torn(data)
    if b"\n" in data[end:].rstrip(b"\n"):
        kept = path.with_name(f"{path.name}.broken-{time.time_ns()}")
        write_with(kept, lambda file: file.write(data[end:]))
        description += f" (kept: {kept.name})"
    if description:
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink(missing_ok=True)
    return description


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Salvage:
    """A journal mended: its lines, how many had to be left out, and the trials, by number, that lines are missing of.

    holes: the places in `lines` at which something was lost.
    """

    lines: tuple[Line, ...]
    lost: int
    remade: tuple[int, ...]  # trials whose first line was lost
    holes: tuple[int, ...]

    def text(self) -> bytes:
        return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in self.lines)


def salvage(data: bytes, name: str, directions: Sequence[str]) -> Salvage:
    """All that can be read of a journal, with the lines that begin a study and its trials put back where they were lost.

    A line that names trial k says that k + 1 trials were begun before it: as many as are not there were lost with the last
    damage in front of it. name, directions: of the study, should its own line be lost.
    """
    lines: list[Line] = []
    holes: list[int] = []
    remade: list[int] = []
    begun = lost = 0
    for raw in data[: whole(data)].split(b"\n")[:-1]:
        entry = operation(raw)
        if entry is None:
            lost += 1
            if not holes or holes[-1] != len(lines):
                holes.append(len(lines))
            continue
        if entry["op_code"] == CREATE_TRIAL:
            begun += 1
        missing = entry.get("trial_id", -1) + 1 - begun
        if missing > 0:
            place = holes[-1] if holes else len(lines)
            before = sum(line["op_code"] == CREATE_TRIAL for line in lines[:place])
            begin = [{"op_code": CREATE_TRIAL, "worker_id": "doctor", "study_id": 0, "datetime_start": None}] * missing
            lines[place:place] = begin
            remade += range(before, before + missing)
            begun += missing
        lines.append(entry)
    if not lines or lines[0]["op_code"] != CREATE_STUDY:
        codes = [DIRECTIONS[direction] for direction in directions]
        lines.insert(0, {"op_code": CREATE_STUDY, "worker_id": "doctor", "study_name": name, "directions": codes})
        holes = [hole + 1 for hole in holes]
    return Salvage(tuple(lines), lost, tuple(remade), tuple(holes))
