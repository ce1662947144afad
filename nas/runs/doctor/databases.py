"""A study in a database (`--storage`): that it can be reached, is this run's, and was begun by the settings that the folder has."""

from __future__ import annotations

from pathlib import Path

from nas.errors import NasError
from nas.runs import study_claim as claims
from nas.runs.doctor._base import Finding
from nas.runs.doctor.mending import Reading
from nas.runs.layout import ATTRIBUTE
from nas.runs.settings import Settings
from nas.runs.storage import of_storage, resolved, storage_reason
from nas.runs.study_access import open_study


def check(folder: Path, settings: Settings) -> tuple[list[Finding], Reading | None]:
    """What is found of the study, and the study as it is; None if there is none to go by. The database itself mends its data."""
    assert settings.storage is not None  # a run with a journal has another check
    where, url = settings.storage.url, None
    try:
        url = resolved(settings.storage, None, folder)
        study = open_study(folder, settings, url)
        if study is None:
            return [Finding("note", where, "holds no study of this run yet: no trial was asked for")], None
        if (kept := study.user_attrs.get(ATTRIBUTE)) is not None:
            settings.check_unchanged(Settings.from_dict(kept, where), folder, mendable=False)
        claims.check(folder, study)  # what is missing here may lie in the other copy, and is not made up
        return [], Reading(tuple(study.get_trials(deepcopy=False)))
    except NasError as error:
        return [Finding("needs you", where, str(error))], None
    except Exception as error:
        if of_storage(error):
            return [Finding("needs you", where, storage_reason(error, url))], None
        raise
