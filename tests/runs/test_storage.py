"""Studies in a database: URLs and their secrets, SQLite, and a real PostgreSQL whose driver is killed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import helpers_postgres
import pytest
from helpers_cli import output, process, refusal
from helpers_faults import losses, plan, state_of
from helpers_search import environment, finish, settings_of, write_space
from hypothesis import given
from hypothesis import strategies as st
from make_run import result_of
from reliability import Faults

from nas.errors import NasError, UsageError
from nas.runs import storage
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.runs.specification import StorageSpec
from nas.searching.study import Study

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
    recorded = StorageSpec(url, "a")
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
    assert first.url == second.url == url
    assert first.study != second.study and first.study.startswith("a-run-of-ours-")


def test_a_relative_sqlite_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.planned("sqlite:///studies.db", "run").url == f"sqlite:///{tmp_path / 'studies.db'}"
    assert not list(tmp_path.iterdir())  # planning leaves no trace


def test_the_password_comes_from_the_option_or_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = "postgresql+psycopg://u:secret@host/name", Path("run")
    recorded = StorageSpec(storage.redacted(whole), "a")
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
    assert storage.resolved(None, None, folder) is None
    with pytest.raises(UsageError, match="in the folder itself"):
        storage.resolved(None, whole, folder)


# -- SQLite ----------------------------------------------------------------------------------------------------------


def test_runs_share_a_database_and_are_read_by_every_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    for name, seed in (("one", 0), ("two", 1)):
        settings = settings_of(trials=5, seed=seed)
        settings = dataclasses.replace(settings, storage=storage.planned(url, name))
        (tmp_path / name).mkdir()
        settings.save(tmp_path / name)
        with Study(tmp_path / name, settings) as study:
            finish(study)
    runs = [load_run(tmp_path / name) for name in ("one", "two")]
    assert [len(run.complete()) for run in runs] == [5, 5]
    assert runs[1].trials[0].number == 0  # numbers are of the study, not of the database
    assert not list(tmp_path.glob("*/study.journal"))
    assert '"front"' in output("front", tmp_path / "one", "--json")
    output("report", tmp_path / "one")
    assert (tmp_path / "one" / "report.html").stat().st_size > 10_000


def test_a_run_goes_on_in_the_database_that_it_began_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    settings = settings_of(trials=4)
    settings = dataclasses.replace(settings, storage=storage.planned(url, "run"))
    folder = tmp_path / "run"
    folder.mkdir()
    settings.save(folder)
    assert load_run(folder).trials == () and not (tmp_path / "studies.db").exists()  # reading makes no file
    with Study(folder, settings) as study:
        finish(study, most=2)
        flying = study.ask()  # and dies
        assert flying is not None
    with Study(folder, settings) as study:
        assert study.counts.complete == 2 and study.recovered == [f"resumed trial {flying.key}"]
        assert [key for key, _ in study.known()] == ["0", "1"]
        assert finish(study)[0].key == flying.key
    assert len(load_run(folder).complete()) == 4
    (tmp_path / "studies.db").unlink()
    for use in (lambda: load_run(folder), lambda: Study(folder, settings).__enter__()):
        with pytest.raises(UsageError, match="began in another database"):
            use()


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[helpers_postgres.Server]:
    with helpers_postgres.server() as running:
        yield running


def _secret_in(folder: Path) -> list[str]:
    """Files below a folder that hold the password, as it is or as a URL quotes it."""
    forms = [form.encode() for form in (helpers_postgres.PASSWORD, helpers_postgres.QUOTED)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(form in path.read_bytes() for form in forms)]


def _planned(folder: Path, url: str, trials: int, seed: int = 0) -> Settings:
    settings = settings_of(trials=trials, seed=seed)
    settings = dataclasses.replace(settings, storage=storage.planned(url, folder.name))
    folder.mkdir()
    settings.save(folder)
    return settings


@needs_postgres
def test_a_wrong_password_or_database_is_said_without_the_password(server: helpers_postgres.Server) -> None:
    for url, words in (
        (server.url(password="wr0ngsecret"), "password authentication failed"),
        (server.url("nosuch"), "does not exist"),
    ):
        with pytest.raises(UsageError, match=words) as refused:
            storage.planned(url, "run")
        for secret in ("wr0ngsecret", helpers_postgres.PASSWORD, helpers_postgres.QUOTED):
            assert secret not in str(refused.value)


@needs_postgres
def test_a_study_in_postgres_is_driven_read_and_resumed(
    server: helpers_postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = server.create("driven"), tmp_path / "run"
    settings = _planned(folder, url, trials=6)
    with Study(folder, settings, url) as study:
        finish(study, most=3)
        assert study.ask() is not None  # and dies
        with pytest.raises(UsageError, match="another driver works on this run"):
            Study(folder, Settings.load(folder), url).__enter__()
    monkeypatch.delenv(storage.VARIABLE, raising=False)
    with pytest.raises(UsageError, match=r"postgresql.*nas:\*\*\*@.*NAS_STORAGE"):
        load_run(folder)
    assert len(load_run(folder, url).complete()) == 3
    assert "NAS_STORAGE" in refusal("front", folder)
    monkeypatch.setenv(storage.VARIABLE, url)
    assert len(load_run(folder).complete()) == 3
    with Study(folder, Settings.load(folder)) as study:
        assert study.counts.complete == 3 and len(study.recovered) == 1
        finish(study)
    assert load_run(folder).status == "done"
    output("report", folder)
    shown = output("front", folder) + output("front", folder, "--json")
    assert helpers_postgres.PASSWORD not in shown and not _secret_in(tmp_path)


@needs_postgres
@pytest.mark.slow
def test_two_drivers_begin_in_one_empty_database_at_once(server: helpers_postgres.Server, tmp_path: Path) -> None:
    url = server.create("shared")
    code = f"""
import sys
from pathlib import Path
from helpers_search import finish
from nas.runs.settings import Settings
from nas.searching.study import Study
folder = Path(sys.argv[1])
with Study(folder, Settings.load(folder), {url!r}) as study:
    finish(study)
"""
    for seed in (0, 1):
        _planned(tmp_path / str(seed), url, trials=8, seed=seed)
    drivers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], env=environment()) for name in ("0", "1")
    ]
    assert [driver.wait(240) for driver in drivers] == [0, 0]
    for name in ("0", "1"):
        assert len(load_run(tmp_path / name, url).complete()) == 8


@needs_postgres
def test_a_server_that_goes_away_ends_the_driver_in_words_and_loses_nothing(tmp_path: Path) -> None:
    with helpers_postgres.server() as server:
        url, folder = server.url(), tmp_path / "run"
        settings = _planned(folder, url, trials=5)
        with pytest.raises(NasError, match="nas resume") as failed, Study(folder, settings, url) as study:
            finish(study, most=2)
            job = study.ask()
            assert job is not None
            result_of(job, failed=False).write(job.folder)  # its worker is done ...
            server.stop()
            study.tell(job.key)
        assert helpers_postgres.PASSWORD not in str(failed.value) and helpers_postgres.QUOTED not in str(failed.value)
        with pytest.raises(UsageError, match=r"127\.0\.0\.1"):
            load_run(folder, url)
        server.start()
        with Study(folder, settings, url) as study:  # ... and is taken over
            assert study.counts.complete == 3
            finish(study)
        assert len(load_run(folder, url).complete()) == 5


@needs_postgres
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_in_postgres_is_killed_and_resumed(
    server: helpers_postgres.Server, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = server.create("killed"), tmp_path / "run"
    space = write_space(tmp_path)
    planned = plan(tmp_path, {"3": {"fault": "stop", "epoch": 2, "times": 1}})  # until the second has looked
    counting = [sys.executable, str(Path(__file__).parents[1] / "faulty_nas.py")]  # it logs the epochs that it trains
    command = [*counting, "search", "--space", space, "--trials", 8, "--epochs", 2, "--out", folder]
    command += ["--executor", "local", "--max-images", 200, "--precision", "fp32", "--sampler", "random"]
    first = [str(word) for word in (*command, "--storage", url)]
    with (tmp_path / "first.log").open("w") as log:
        driver = subprocess.Popen(first, stdout=log, stderr=log, env=environment() | planned)
        try:
            waited = time.monotonic()
            while state_of(driver.pid) != "T":
                assert driver.poll() is None and time.monotonic() - waited < 240, (tmp_path / "first.log").read_text()
                time.sleep(0.02)
            second = process("resume", folder, env={**environment(), storage.VARIABLE: url})
            assert second.returncode == 2 and "another driver works on this run" in second.stderr
        finally:
            driver.kill()
            driver.wait(60)
    before = load_run(folder, url)
    finished = {trial.number: trial.finished for trial in before.complete()}
    blind = process("resume", folder)
    assert blind.returncode == 2 and "NAS_STORAGE" in blind.stderr
    again = [*counting, "resume", str(folder), "--storage", url]
    done = subprocess.run(again, capture_output=True, text=True, timeout=240, check=False, env=environment())
    (tmp_path / "done.log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr
    run = load_run(folder, url)
    assert len(run.complete()) == 8 and run.status == "done"
    twice = [trial.number for trial in run.complete() if finished.get(trial.number, trial.finished) != trial.finished]
    assert twice == []
    assert len({trial.digest for trial in run.complete()}) == 8
    assert not _secret_in(tmp_path)  # the run's folder, its report and what both drivers said
    monkeypatch.setenv(storage.VARIABLE, url)
    cost = losses(folder)
    assert (cost.lost, cost.trained_twice) == (0, 0) and cost.epochs_twice == 1 and cost.epochs == 16
    faults.record(
        "driver killed, study in PostgreSQL",
        made="SIGKILL in a search with --storage postgresql://",
        **cost.counts(),
        then="a second driver is refused while the first is alive; `nas resume` continues, and only the interrupted epoch runs again",
    )
