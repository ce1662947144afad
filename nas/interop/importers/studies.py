"""Networks of a user's Optuna study: complete trials whose parameters are choices of a space.

`optuna:URL#STUDY`, or a file: an Optuna journal or an SQLite database. `#STUDY` may be left out if there is only one. Studies
are read and never written; a storage that would be unpickled (Redis) is refused.
"""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError, reason_of
from nas.interop.importers._base import IMPORTERS, SQLITE, Found, Imported, Importer, Options, Refused, Source
from nas.networks.architecture import MAX_NAME
from nas.runs import storage
from nas.spaces.space import SearchSpace, load_space
from nas.utils import limits
from nas.utils.registry import did_you_mean

if TYPE_CHECKING:
    import optuna

RESOLUTION, CHANNELS, CLASSES = 32, 3, 10
VALUES = 16  # most objectives in a table


def read_study(text: str, options: Options) -> Found:
    """The complete trials of a study as networks of the space; those that are not choices of the space as refused.

    UsageError if there is no such study or space, or if no trial is a choice of the space.
    """
    if options.space is None:
        raise UsageError("optuna: --space says which space the study's parameters are choices of")
    space = load_space(
        options.space,
        resolution=options.resolution or RESOLUTION,
        channels=options.channels or CHANNELS,
        classes=options.classes or CLASSES,
    )
    url, _, name = text.partition("#")
    import optuna
    from optuna.trial import TrialState

    opened = _open(url)
    study = optuna.load_study(
        study_name=_study_name(opened, name, url), storage=opened, sampler=optuna.samplers.RandomSampler()
    )
    networks, refused = [], []
    names = study.metric_names
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        label = _label(f"{study.study_name}-trial{trial.number}")
        try:
            networks.append(_trial(trial, space, label, names if isinstance(names, list) else []))
        except UsageError as error:
            refused.append(Refused(label, str(error)))
    if not networks:
        reason = f"; {refused[0].name}: {refused[0].reason}" if refused else ""
        if refused and options.resolution is None:
            reason += f". Choices are taken for images of {RESOLUTION} pixels; --resolution says otherwise"
        raise UsageError(
            f"study {study.study_name!r:.200}: none of its {len(refused):,} complete trials is a choice of space {space.name!r}{reason}"
        )
    return Found(tuple(networks), tuple(refused), many=True)


def _trial(trial: optuna.trial.FrozenTrial, space: SearchSpace, label: str, names: list[Any]) -> Imported:
    choices = {key: value for key, value in trial.params.items() if key in space.knobs}
    others = {str(key)[:MAX_NAME]: _plain(value) for key, value in trial.params.items() if key not in space.knobs}
    architecture = replace(space.architecture(choices), name=label)
    measured: dict[str, float | int | str] = {}
    for number, value in enumerate((trial.values or [])[:VALUES]):
        key = (
            str(names[number])[:80] if number < len(names) else "value" if len(trial.values) == 1 else f"value_{number}"
        )
        if math.isfinite(value):
            measured[key] = value
    imported = {
        "from": "optuna",
        "trial": trial.number,
        "values": dict(measured),
        "space": space.name,
        "choices": choices,
    }
    notes = (f"parameters that are no knobs of the space: {', '.join(others)}",) if others else ()
    return Imported(
        architecture, {"imported": imported | ({"other_parameters": others} if others else {})}, notes, measured
    )


def _plain(value: object) -> float | int | str | None:
    """A parameter as a value that JSON has."""
    if value is None or isinstance(value, (bool, int)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)[:MAX_NAME]


def _label(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[-MAX_NAME:]


def _open(url: str) -> optuna.storages.BaseStorage:
    """The storage that `url` names. A path is taken for a journal or an SQLite database by its first bytes."""
    if "://" in url:
        if not storage.there(url, Path()):
            raise UsageError(f"{storage.redacted(url)}: there is no such database")
        parsed = url
    else:
        path = Path(url)
        try:
            with path.open("rb") as file:
                head = file.read(len(SQLITE))
            size = path.stat().st_size
        except OSError as error:
            raise UsageError(f"{path}: can't be read: {error.strerror or error}") from None
        if size > limits.JOURNAL_BYTES:
            raise UsageError(f"{path}: {size:,} bytes are too many for a study (at most {limits.JOURNAL_BYTES:,})")
        if head != SQLITE:
            return _journal(path)
        parsed = f"sqlite:///{path.absolute()}"
    if parsed.startswith("sqlite"):
        _require_studies(parsed)
    return storage.open_storage(parsed, Path())


def _journal(path: Path) -> optuna.storages.BaseStorage:
    from nas.runs.journal import Journal

    try:
        return Journal(path)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path}: not readable as an Optuna journal: {type(error).__name__} {reason_of(error, 200)}"
        ) from None


def _require_studies(url: str) -> None:
    """UsageError unless an SQLite file has Optuna's tables, because opening it would create them."""
    path = Path(url.partition("///")[2].partition("?")[0])
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchall()
    except sqlite3.Error as error:
        raise UsageError(f"{path}: not readable as an SQLite database: {reason_of(error)}") from None
    if not tables:
        raise UsageError(f"{path}: holds no Optuna study")


def _study_name(opened: optuna.storages.BaseStorage, name: str, url: str) -> str:
    import optuna

    studies = optuna.get_all_study_names(opened)
    where = storage.redacted(url) if "://" in url else url
    if name in studies:
        return name
    known = ", ".join(sorted(studies)[:10]) or "none"
    if name:
        raise UsageError(f"{where}: no study {name!r:.200}{did_you_mean(name, studies)}; there are: {known}")
    if not studies:
        raise UsageError(f"{where}: holds no Optuna study")
    if len(studies) != 1:
        raise UsageError(f"{where}: which study? add its name as #STUDY; there are: {known}")
    return studies[0]


def _claims(source: Source) -> bool:
    return source.prefix == "optuna" or (not source.prefix and source.is_study)


def _read(source: Source, options: Options) -> Found:
    return read_study(source.rest, options)


IMPORTERS.register("optuna")(
    Importer("an Optuna study, optuna:URL#STUDY or its journal, with --space", _claims, _read, of_choices=True)
)
