"""`study.journal`: each line whole, of this run, and what can be saved where one is not."""

from __future__ import annotations

import time
from pathlib import Path

from nas.errors import NasError, reason_of
from nas.runs.doctor._base import Finding
from nas.runs.doctor.mending import Reading, mended, opened
from nas.runs.journal_repair import cut_torn, damaged, salvage, torn, whole
from nas.runs.layout import JOURNAL, STUDY_NAME, TRIALS
from nas.runs.settings import Settings
from nas.utils.files import write_with

NEWLINE = b"\n"


def check(folder: Path, settings: Settings, repair: bool) -> tuple[list[Finding], Reading | None]:
    """Findings about the journal, and the study as it is, or would be after its repair; None if there is none to go by."""
    path = folder / JOURNAL
    ended = any((folder / TRIALS).glob("*/result.json"))
    if not path.is_file():
        return [_without(ended, "missing", "not there yet")], None
    data = path.read_bytes()
    if ended and not whole(data):
        return [_without(ended, "holds nothing that can be read", "")], None
    end, broken = whole(data), damaged(data[: whole(data)])
    findings = []
    if end < len(data):
        findings.append(_torn(path, data, repair))
    if broken:
        mending, data = _mended(folder, settings, data[:end], broken, repair)
        findings += mending
    else:
        data = data[:end]
    try:
        study = opened(data)
    except (NasError, KeyError, ValueError, TypeError, AssertionError) as error:
        text = f"can't be read by Optuna: {type(error).__name__}: {reason_of(error, 200)}"
        return [*findings, Finding("needs you", JOURNAL, text[:300], "put it back from a copy")], None
    if study is None:
        if data.strip():
            text = "holds no study of a run"
            return [*findings, Finding("needs you", JOURNAL, text, "put the run's own journal back")], None
        return [*findings, _without(ended, "empty", "empty")], None
    return findings, study


def _without(ended: bool, lost: str, fresh: str) -> Finding:
    """A journal without a study: `lost` where trials have ended, else `fresh`."""
    if ended:
        return Finding("needs you", JOURNAL, f"{lost}, although trials have ended", "put it back from a copy")
    return Finding("note", JOURNAL, f"{fresh}: no trial was asked for")


def _torn(path: Path, data: bytes, repair: bool) -> Finding:
    if not repair:
        return Finding("repairable", JOURNAL, f"{torn(data)} at the end", "--repair or `nas resume` cuts it off")
    return Finding("repaired", JOURNAL, f"{cut_torn(path)} at the end: cut off")


def _mended(
    folder: Path, settings: Settings, data: bytes, broken: list[int], repair: bool
) -> tuple[list[Finding], bytes]:
    """Findings of a journal with damaged lines, and the journal as it is mended."""
    path = folder / JOURNAL
    directions = [objective.direction for objective in settings.parsed_objectives()]
    mending = mended(salvage(data, STUDY_NAME, directions), settings, folder)
    lines = f"line{'s' if len(broken) > 1 else ''} {', '.join(map(str, broken[:5]))}{' ...' if len(broken) > 5 else ''}"
    text = f"{lines} of {data.count(NEWLINE)} can't be read"
    findings = [
        Finding(
            "needs you",
            f"trial {number}",
            "what the study knew of it was lost with the damaged lines",
            "see its result.json",
        )
        for number in mending.lost
    ]
    if not repair:
        return [Finding("repairable", JOURNAL, text, f"what can be saved: {mending.saved}"), *findings], mending.data
    backup = path.with_name(f"{JOURNAL}.broken-{time.time_ns()}")
    write_with(backup, lambda file: file.write(data))
    write_with(path, lambda file: file.write(mending.data))
    return [Finding("repaired", JOURNAL, f"{text}: {mending.saved}; as it was: {backup.name}"), *findings], mending.data
