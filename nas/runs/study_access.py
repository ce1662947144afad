"""A run's Optuna study, opened: for reading, or by its driver; in the folder's journal, or in a database."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import NasError, UsageError, reason_of
from nas.runs.layout import JOURNAL, TRIALS
from nas.runs.settings import Settings
from nas.runs.storage import open_storage, redacted, study_name, there
from nas.utils import limits
from nas.utils.files import unwritable

if TYPE_CHECKING:
    import optuna


def open_study(folder: Path, settings: Settings, url: str | None) -> optuna.Study | None:
    """The run's Optuna study for reading, at this whole URL or in the journal; None if no trial was ever asked for."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not there(url, folder):
        check_begun(folder, url)
        return None
    if url is None:
        check_journal(folder / JOURNAL)
    with reading_study(folder, url):
        storage = open_storage(url, folder)
    try:
        return optuna.load_study(
            study_name=study_name(settings.storage), storage=storage, sampler=optuna.samplers.RandomSampler()
        )
    except KeyError:
        check_begun(folder, url)
        return None


def drive_study(folder: Path, settings: Settings, url: str | None) -> optuna.Study:
    """The run's Optuna study for its driver, made if there is none. UsageError if it is not of these settings' objectives."""
    import optuna

    # "Experimental" says nothing that a user of this program could act on.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="KnownCostSampler: found no feasible")  # the search says what came of it
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [objective.direction for objective in settings.parsed_objectives()]
    if not there(url, folder):
        check_begun(folder, url)  # before opening makes the file
    with reading_study(folder, url):
        storage = open_storage(url, folder)
        name, names = study_name(settings.storage), optuna.get_all_study_names(storage)
        if url is None and (others := [other for other in names if other != name]):
            raise UsageError(f"{folder}: {JOURNAL} holds another study than a run's: {others[0]}")
        if name in names:  # and not `load_if_exists`, which writes a line even so
            study = optuna.load_study(study_name=name, storage=storage)
        else:
            check_begun(folder, url)
            study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    if [direction.name.lower() for direction in study.directions] != directions:
        raise UsageError(f"{folder}: its study has other objectives than its run.yaml")
    return study


def cut_torn_line(folder: Path) -> str:
    """Cut a torn last line off the run's journal, if it has one; what was cut, in words."""
    from nas.runs.journal_repair import cut_torn, whole

    path = folder / JOURNAL
    if not path.is_file():
        return ""
    try:
        check_journal(path)
        if not whole(path.read_bytes()):
            check_begun(folder, None)  # nothing would be left
        return cut_torn(path)
    except OSError as error:
        raise unwritable(path, error) from error


def check_begun(folder: Path, url: str | None) -> None:
    """UsageError if the run has trained trials, so that where no study is there was one: it would train them all again."""
    if url is not None and any((folder / TRIALS).glob("*")):
        raise UsageError(f"{folder}: {redacted(url)} holds no study of this run; it began in another database")
    if url is None and any((folder / TRIALS).glob("*/result.json")):
        state = "holds nothing of its study" if (folder / JOURNAL).exists() else "is missing"
        raise UsageError(
            f"{folder}: {JOURNAL} {state}, although trials have ended; put it back from a copy, or start a new search"
        )


def check_journal(path: Path) -> None:
    """UsageError for a journal that would fill the memory: Optuna reads all of it, a line at a time."""
    if (size := path.stat().st_size) > limits.JOURNAL_BYTES:
        raise UsageError(f"{path}: {size:,} bytes are too many for a journal (at most {limits.JOURNAL_BYTES:,})")
    most = limits.JOURNAL_LINE_BYTES
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(most + 1), b""), 1):
            if len(line) > most:
                raise UsageError(f"{path}: line {number:,} has more than {most:,} bytes; no entry of a journal has")


@contextlib.contextmanager
def reading_journal(path: Path) -> Iterator[None]:
    """Turns whatever Optuna raises on a damaged journal, which is nearly any type, into a UsageError that names the file."""
    try:
        yield
    except NasError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise UsageError(f"{path}: damaged, or no journal of a study: {kind}: {reason_of(error, 200)}") from error


def reading_study(folder: Path, url: str | None) -> AbstractContextManager[None]:
    """`reading_journal` where the study is in the run's journal; a database raises other errors."""
    return contextlib.nullcontext() if url else reading_journal(folder / JOURNAL)
