"""A run folder on the table: its settings, its journal, its trials, then the folder around them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nas.errors import UsageError
from nas.runs.doctor import databases, journals, repeats, settings, trials
from nas.runs.doctor import leftovers as surroundings
from nas.runs.doctor._base import Finding
from nas.runs.layout import JOURNAL, LOCK
from nas.runs.lock import take
from nas.runs.settings import FILE


def examine(folder: Path, *, repair: bool) -> list[Finding]:
    """See `nas.runs.doctor.examine`."""
    folder = folder.absolute()
    if not folder.is_dir() or not ((folder / FILE).is_file() or (folder / JOURNAL).is_file()):
        raise UsageError(f"{os.path.normpath(folder)}: not a run folder (neither {FILE} nor {JOURNAL} in it)")
    with contextlib.ExitStack() as ending:
        if repair:
            ending.callback(take(folder / LOCK).release)
        return _examined(folder, repair)


def _examined(folder: Path, repair: bool) -> list[Finding]:
    findings, kept = settings.check(folder, repair)
    if kept is None:
        return [*findings, *surroundings.check(folder, repair)]
    lies, study = databases.check(folder, kept) if kept.storage else journals.check(folder, kept, repair)
    findings += lies
    if study is not None:
        findings += trials.check(folder, kept, study, repair) + repeats.check(folder, kept, study, repair)
    return [*findings, *surroundings.check(folder, repair)]
