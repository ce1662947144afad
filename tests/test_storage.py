"""Studies in a database: URLs and their secrets, SQLite, and a real PostgreSQL whose driver is killed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import helpers_postgres
import pytest
from helpers_cli import output
from helpers_search import finish, settings_of
from hypothesis import given
from hypothesis import strategies as st

from nas import storage
from nas.errors import UsageError
from nas.run import load_run
from nas.settings import Settings
from nas.study import Study

needs_postgres = pytest.mark.skipif(
    bool(helpers_postgres.why_not()), reason=helpers_postgres.why_not() or "it is there"
)


# -- URLs and secrets ------------------------------------------------------------------------------------------------

PASSWORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=6, max_size=20)


@given(PASSWORDS)
def test_no_password_survives_redaction_however_it_is_quoted(password: str) -> None:
    password = "§" + password  # so that it can't be a part of the words around it
    url = f"postgresql+psycopg://user:{quote(password, safe='')}@host:5432/name?sslpassword={quote(password, safe='')}"
    kept = storage.redacted(url)
    assert password not in kept and quote(password, safe="") not in kept
    assert kept == "postgresql+psycopg://user:***@host:5432/name?sslpassword=***"
    said = storage.scrubbed(f"can't log in to {url} as user with {password} or {quote(password)}", url)
    assert password not in said and quote(password, safe="") not in said and "can't log in to" in said


def test_a_url_without_secrets_is_kept_whole() -> None:
    url = "postgresql+psycopg://user@host/name?sslmode=require"
    assert storage.redacted(url) == url
    recorded = {"url": url, "study": "a"}
    assert storage.resolved(recorded, None, Path("run")) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:hunter22@host", "unpickling"),
        ("rediss://host", "unpickling"),
        ("hunter22", "not a URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////nowhere/at/all.db", "no folder"),
        ("martian://u:hunter22@host/x", "unknown kind of database"),
        ("mysql+pymysql://u:hunter22@host/x", "pip install 'PyMySQL'"),
        ("postgresql+psycopg://u:hunter22@127.0.0.1:1/x", "127.0.0.1"),
    ],
)
def test_a_storage_that_cannot_be_used_is_said_without_its_password(url: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        storage.planned(url, "run")
    assert words in str(refused.value) and "hunter22" not in str(refused.value)


def test_names_of_studies_differ_though_the_runs_are_called_alike(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    first, second = (storage.planned(url, "a run / of ours") for _ in range(2))
    assert first["url"] == second["url"] == url
    assert first["study"] != second["study"] and first["study"].startswith("a-run-of-ours-")


def test_a_relative_sqlite_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.planned("sqlite:///studies.db", "run")["url"] == f"sqlite:///{tmp_path / 'studies.db'}"
    assert not list(tmp_path.iterdir())  # planning leaves no trace


def test_the_password_comes_from_the_option_or_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = "postgresql+psycopg://u:secret@host/name", Path("run")
    recorded = {"url": storage.redacted(whole), "study": "a"}
    monkeypatch.delenv(storage.VARIABLE, raising=False)
    with pytest.raises(UsageError, match="NAS_STORAGE") as refused:
        storage.resolved(recorded, None, folder)
    assert "***@host" in str(refused.value)
    assert storage.resolved(recorded, whole, folder) == whole
    monkeypatch.setenv(storage.VARIABLE, whole)
    assert storage.resolved(recorded, None, folder) == whole
    monkeypatch.setenv(storage.VARIABLE, whole.replace("host", "elsewhere"))
    with pytest.raises(UsageError, match="another database"):
        storage.resolved(recorded, None, folder)
    # The study of a run without a storage is in its folder, whatever the variable says.
    assert storage.resolved({}, None, folder) is None
    with pytest.raises(UsageError, match="in the folder itself"):
        storage.resolved({}, whole, folder)


# -- SQLite ----------------------------------------------------------------------------------------------------------


def test_runs_share_a_database_and_are_read_by_every_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    for name, seed in (("one", 0), ("two", 1)):
        settings = settings_of(trials=5, seed=seed)
        settings = Settings(**{**_fields(settings), "storage": storage.planned(url, name)})
        (tmp_path / name).mkdir()
        settings.save(tmp_path / name)
        with Study(tmp_path / name, settings) as study:
            finish(study)
    runs = [load_run(tmp_path / name) for name in ("one", "two")]
    assert [len(run.complete()) for run in runs] == [5, 5]
    assert [trial.number for trial in runs[1].trials][0] == 0  # numbers are of the study, not of the database
    assert not list(tmp_path.glob("*/study.journal"))
    assert '"front"' in output("front", tmp_path / "one", "--json")
    output("report", tmp_path / "one")
    assert (tmp_path / "one" / "report.html").stat().st_size > 10_000


def test_a_run_goes_on_in_the_database_that_it_began_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    settings = settings_of(trials=4)
    settings = Settings(**{**_fields(settings), "storage": storage.planned(url, "run")})
    folder = tmp_path / "run"
    folder.mkdir()
    settings.save(folder)
    assert load_run(folder).trials == () and not (tmp_path / "studies.db").exists()  # reading makes no file
    with Study(folder, settings) as study:
        finish(study, most=2)
        flying = study.ask()  # and dies
        assert flying is not None
    with Study(folder, settings) as study:
        assert study.counts.complete == 2 and study.recovered == [f"goes on with trial {flying.key}"]
        assert [key for key, _ in study.known()] == ["0", "1"]
        assert finish(study)[0].key == flying.key
    assert len(load_run(folder).complete()) == 4
    (tmp_path / "studies.db").unlink()
    for use in (lambda: load_run(folder), lambda: Study(folder, settings).__enter__()):
        with pytest.raises(UsageError, match="began in another database"):
            use()


def _fields(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
