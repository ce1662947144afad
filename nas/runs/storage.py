"""Where a run's Optuna study lies: the journal in its folder, or any database that Optuna knows (`--storage URL`).

`run.yaml` keeps the URL without its secrets and the study's name, which no other run has. Whoever needs the password again
gives the whole URL, by `--storage` or in $NAS_STORAGE; drivers that know it by other means (PostgreSQL: ~/.pgpass,
PGPASSWORD) need nothing. No secret of a URL stands in a file, a message or a page that this program writes.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from nas.errors import NasError, UsageError, reason_of
from nas.runs.specification import StorageSpec

if TYPE_CHECKING:
    import optuna
    from sqlalchemy.engine import URL

    from nas.runs.journal import Journal

JOURNAL, STUDY_NAME = "study.journal", "nas"  # the file in the run folder, and the study's name in it
VARIABLE = "NAS_STORAGE"
HIDDEN = "***"  # what stands for a password; SQLAlchemy writes the same
TRIES = 5  # to make the tables, which another driver may be making at the same moment

# Package that brings the driver of a database, by SQLAlchemy's name of it.
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient", "pymysql": "PyMySQL"}


def journal(folder: Path) -> Journal:
    """The journal in a run folder. NasError if a line of it is damaged."""
    from nas.runs.journal import Journal

    return Journal(folder / JOURNAL)


def planned(url: str | None, run: str) -> StorageSpec | None:
    """What `run.yaml` keeps of a storage: the URL without secrets, and a name for the study of the run called `run`.

    None for the journal (`url` None). UsageError for a URL that no study can be kept at, or where nobody answers.
    """
    if url is None:
        return None
    parsed = _parsed(url)
    _connect(parsed)
    word = re.sub(r"[^\w.-]+", "-", run)[:80]  # as it may be read among the studies of others
    return StorageSpec(redacted(url), f"{word}-{secrets.token_hex(6)}")


def resolved(recorded: StorageSpec | None, given: str | None, folder: Path) -> str | None:
    """The whole URL of a run's storage, or None for its journal.

    `recorded` is what `planned` gave, `given` the URL that the user named now, which may be of a database that has moved.
    UsageError where the password is missing, or `given` is not what the run is kept in.
    """
    if not recorded:
        if given is not None:
            raise UsageError(f"--storage: the study of {folder} is in the folder itself; leave the option out")
        return None
    if given is not None:
        return _parsed(given).render_as_string(hide_password=False)
    kept = recorded.url
    if HIDDEN not in kept:
        return kept
    given = os.environ.get(VARIABLE)
    if given and redacted(given) == kept:
        return _parsed(given).render_as_string(hide_password=False)
    other = f"; ${VARIABLE} is of another database" if given else ""
    raise UsageError(
        f"{folder}: its study is in {kept}, whose password is not kept{other}. Give the whole URL in ${VARIABLE}, "
        "or by --storage where the command has it"
    )


def open_storage(url: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """The storage at a whole URL, or the journal of the run in `folder`. UsageError if it can't be opened."""
    if url is None:
        return journal(folder)
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    parsed = _parsed(url)
    _connect(parsed)
    text = parsed.render_as_string(hide_password=False)
    for attempt in range(TRIES):
        try:
            return RDBStorage(text, engine_kwargs=_engine_options(parsed))
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if attempt == TRIES - 1:
                raise UsageError(storage_reason(error, url)) from None
            time.sleep(0.2 * (attempt + 1))
        except Exception as error:
            raise UsageError(storage_reason(error, url)) from None
    raise AssertionError


def together(storage: optuna.storages.BaseStorage) -> AbstractContextManager[None]:
    """Writes within become one where the storage can do so: the journal; a database flushes each one."""
    join: Callable[[], AbstractContextManager[None]] = getattr(storage, "together", nullcontext)
    return join()


def study_name(recorded: StorageSpec | None) -> str:
    return recorded.study if recorded else STUDY_NAME


def there(url: str | None, folder: Path) -> bool:
    """Whether the storage exists at all, so that reading it makes no file."""
    if url is None:
        return (folder / JOURNAL).is_file()
    parsed = _parsed(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()


def of_storage(error: BaseException) -> bool:
    """Whether it is a database that an exception is about."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & {"sqlalchemy.SQLAlchemyError", "optuna.StorageInternalError"})


def failed(error: BaseException, url: str | None) -> NasError:
    """An error of the database, as a run that can be resumed says it."""
    return NasError(f"{storage_reason(error, url)}; what was trained is kept, and `nas resume` continues")


def storage_reason(error: BaseException, url: str | None) -> str:
    """An error of the database at `url`, without any secret of it."""
    cause = error.__cause__ if type(error).__name__ == "StorageInternalError" and error.__cause__ else error
    words = reason_of(getattr(cause, "orig", None) or cause, 400)
    return f"{redacted(url) if url else 'the database'}: {scrubbed(words, url)}"


def scrubbed(text: str, url: str | None) -> str:
    """A text in which each secret of the URL, however it is quoted, is hidden."""
    if not url:
        return text
    text = text.replace(url, redacted(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        for form in {secret, quote(secret, safe=""), quote_plus(secret), unquote(secret)}:
            text = text.replace(form, HIDDEN)
    return text


def redacted(url: str) -> str:
    """A URL with its password, and whatever in its query may be one, as ***. What is no URL is hidden whole."""
    try:
        parsed = _parsed(url)
    except UsageError:
        return HIDDEN
    query = {key: HIDDEN if _secret_key(key) else value for key, value in parsed.query.items()}
    # SQLAlchemy writes * in a query as %2A.
    return parsed.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", HIDDEN)


def _secret_key(key: str) -> bool:
    return re.search(r"pass|pwd|secret|token|odbc_connect", key, re.IGNORECASE) is not None


def _secrets(url: str) -> set[str]:
    try:
        parsed = _parsed(url)
    except UsageError:
        return set()
    values = [str(parsed.password)] if parsed.password else []
    for key, value in parsed.query.items():
        if _secret_key(key):
            values += [value] if isinstance(value, str) else list(value)
    return {value for value in values if value}


def _parsed(url: str) -> URL:
    """The parts of a URL; UsageError, which does not repeat it, if it is none, or of a storage that a run can't be kept in."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if re.match(r"(redis|rediss|unix|valkey)(\+\w+)?:", url):
        raise UsageError(
            "--storage: Optuna reads a Redis storage by unpickling it, which runs what stands in it; not used"
        )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(
            "--storage: not a URL of a database, as postgresql://user@host/name or sqlite:///absolute/path.db"
        ) from None
    backend = parsed.get_backend_name()
    if (
        backend == "postgresql"
        and parsed.drivername == "postgresql"
        and not find_spec("psycopg2")
        and find_spec("psycopg")
    ):
        parsed = parsed.set(drivername="postgresql+psycopg")  # SQLAlchemy's default is the older package
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise UsageError("--storage: a database in memory ends with the process; name a file")
        parsed = parsed.set(database=str(Path(parsed.database).absolute()))
    return parsed


def _engine_options(parsed: URL) -> dict[str, object]:
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 60}}  # seconds for which a reader waits for a writer
    options: dict[str, object] = {"pool_pre_ping": True}  # a restarted server costs a connection, not the run
    if parsed.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        # A server that is silent, or gone without a word, is noticed; what the URL says goes before.
        silent = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        options["connect_args"] = {name: value for name, value in silent.items() if name not in parsed.query}
    return options


def _connect(parsed: URL) -> None:
    """UsageError if the database can't be reached, or its driver isn't installed."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError

    url = parsed.render_as_string(hide_password=False)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").parent.is_dir():
        raise UsageError(f"--storage {redacted(url)}: there is no folder {Path(parsed.database or '').parent}")
    try:
        engine = create_engine(url, **_engine_options(parsed))
    except ImportError as error:
        package = PACKAGES.get(error.name or "", error.name or "its driver")
        extra = (
            "pip install 'nas[postgres]'" if parsed.get_backend_name() == "postgresql" else f"pip install '{package}'"
        )
        raise UsageError(f"--storage {redacted(url)}: the package {package} is missing: {extra}") from None
    except NoSuchModuleError:
        raise UsageError(
            f"--storage {redacted(url)}: unknown kind of database {parsed.drivername}; Optuna knows postgresql, mysql and sqlite"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return  # connecting would make the file
    try:
        engine.connect().close()
    except Exception as error:
        raise UsageError(f"--storage {storage_reason(error, url)}") from None
    finally:
        engine.dispose()
