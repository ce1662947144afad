"""`run.yaml`: there, whole, of this format, and the one that the study was begun with; the study holds a copy of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml

from nas.errors import NasError, UsageError
from nas.runs.doctor._base import Finding
from nas.runs.journal_repair import SET_STUDY_ATTRIBUTE, operation
from nas.runs.layout import ATTRIBUTE, JOURNAL
from nas.runs.settings import FILE, Settings
from nas.runs.settings_formats import FORMAT
from nas.utils.files import write_with
from nas.utils.versions import versions
from nas.utils.yaml_text import read_text


def check(folder: Path, repair: bool) -> tuple[list[Finding], Settings | None]:
    """Findings about the settings, and the valid settings; None if there are none."""
    kept = _kept(folder)
    try:
        settings: Settings | None = Settings.load(folder)
        if settings is not None:
            settings.comparable()  # reads the space's text
            settings.search_space()
        problem = ""
    except (NasError, yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        settings, problem = None, _short(error, folder)
    if settings is None:
        return _replaced(folder, kept, problem, repair)
    findings = _format(folder, repair)
    if kept is not None and (changed := _changed(kept, settings)):
        if changed == ["id"]:
            text = f"the study is that of another run: {kept.name}, begun {kept.created}"
            return [*findings, Finding("needs you", JOURNAL, text, "put the run's own journal back")], settings
        text = f"other {' and '.join(name for name in changed if name != 'id')} than the run began with"
        restored, kept_settings = _replaced(folder, kept, text, repair)
        return [*findings, *restored], kept_settings
    if text := _versions(settings):
        findings.append(Finding("note", FILE, text))
    return findings, settings


def _replaced(folder: Path, kept: Settings | None, problem: str, repair: bool) -> tuple[list[Finding], Settings | None]:
    """The study's copy in place of an invalid `run.yaml`, which is kept under another name."""
    if kept is None:
        advice = "put it back from a copy; the study holds none"
        return [Finding("needs you", FILE, problem, advice)], None
    if not repair:
        return [Finding("repairable", FILE, problem, "the study holds a copy of it")], kept
    path = folder / FILE
    kept_as = ""
    if path.is_file():
        data = path.read_bytes()
        backup = path.with_name(f"{FILE}.broken-{time.time_ns()}")
        write_with(backup, lambda file: file.write(data))
        kept_as = f"; as it was: {backup.name}"
    kept.save(folder)
    return [Finding("repaired", FILE, f"{problem}: replaced by the copy that the study holds{kept_as}")], kept


def _format(folder: Path, repair: bool) -> list[Finding]:
    before = yaml.safe_load(read_text(folder / FILE))["version"]
    if before == FORMAT:
        return []
    if repair:
        return [Finding("repaired", FILE, Settings.migrate(folder).removeprefix(f"{FILE}: "))]
    text = f"of format {before}; this nas writes format {FORMAT}"
    return [Finding("note", FILE, text, "`nas resume` and --repair bring it to today's, and keep a copy")]


def _kept(folder: Path) -> Settings | None:
    """The settings that the study was begun or last resumed with, as its journal says; read without Optuna, whatever is broken."""
    try:
        lines = (folder / JOURNAL).read_bytes().split(b"\n")
    except OSError:
        return None
    last: dict[str, Any] | None = None
    for line in lines:
        entry = operation(line) if b'"user_attr"' in line else None
        if entry is not None and entry["op_code"] == SET_STUDY_ATTRIBUTE:
            last = entry["user_attr"].get(ATTRIBUTE, last)
    try:
        return None if last is None else Settings.from_dict(json.loads(json.dumps(last)), JOURNAL)
    except UsageError:
        return None


def _changed(kept: Settings, now: Settings) -> list[str]:
    before, after = kept.comparable(), now.comparable()
    if before["id"] != after["id"]:
        return ["id"]
    return [name for name in {**before, **after} if after.get(name) != before.get(name)]


def _versions(settings: Settings) -> str:
    now = versions()
    other = [f"{name} {was} (now {now[name]})" for name, was in settings.versions.items() if now.get(name, was) != was]
    return f"begun with {', '.join(other)}; results may differ a little for that" if other else ""


def _short(error: BaseException, folder: Path) -> str:
    text = " ".join(str(error).replace(f"{folder / FILE}: ", "").split())
    return text[:200] or type(error).__name__
