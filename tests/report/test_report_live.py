"""`nas watch`: what the server answers and refuses, and a page that follows a run."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import optuna
import pytest
from browsing import WIDE
from make_run import make_run, make_settings, result_of

from nas.errors import UsageError
from nas.report.run.live_server import Server, version
from nas.runs.repeats import repeat_folder
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.runs.storage import planned
from nas.runs.study_access import open_study
from nas.searching.study import Study
from nas.training.records import RESULT
from nas.utils.files import write_json


@contextmanager
def serving(folder):
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path: str = "/", method: str = "GET", **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply, body


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "watched", told=6, running=1)


def go_on(folder, trials: int) -> None:
    """Some more trials, as a driver would leave them."""
    with Study(folder, Settings.load(folder)) as study:
        for _ in range(trials):
            job = study.ask()
            result_of(job).write(job.folder)
            study.tell(job.key)


def test_what_is_served(folder):
    with serving(folder) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.url)
        reply, body = ask(server)
        assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"connect-src &#x27;self&#x27;" in body
        assert f'data-live="{version(folder)}"'.encode() in body
        reply, body = ask(server, "/live.json")
        assert reply.headers["ETag"] == f'"{version(folder)}"'
        parts = json.loads(body)
        assert parts["main"].startswith("<main>")
        assert len(parts["run"]["columns"]["number"]) == len(load_run(folder).trials)
        assert {figure["id"] for figure in parts["figures"]} >= {"curves", "hypervolume"}
        reply, body = ask(server, "/live.json", If_None_Match=reply.headers["ETag"])
        assert (reply.status, body) == (304, b"")


def test_a_change_is_another_version(tmp_path):
    folder = make_run(tmp_path / "run", told=3)
    with serving(folder) as server:
        before = ask(server, "/live.json")[0].headers["ETag"]
        go_on(folder, 1)
        reply, body = ask(server, "/live.json", If_None_Match=before)
        assert reply.status == 200
        assert reply.headers["ETag"] != before
        assert json.loads(body)["run"]["columns"]["number"] == [trial.number for trial in load_run(folder).trials]


def test_a_trial_that_ends_in_a_database_is_another_version(tmp_path):
    """What the database alone has been told."""
    settings = make_settings("kept", trials=3, baselines=())
    settings = dataclasses.replace(settings, storage=planned(f"sqlite:///{tmp_path / 'studies.db'}", "kept"))
    folder = tmp_path / "kept"
    folder.mkdir()
    settings.save(folder)
    with Study(folder, settings) as study:
        job = study.ask()
        assert job is not None
        result_of(job).write(job.folder)
        study.tell(job.key)
    before = version(folder)
    assert version(folder) == before
    known = open_study(folder, settings, settings.storage.url)
    assert known is not None
    known.tell(known.ask(), state=optuna.trial.TrialState.FAIL)  # no file is written
    assert version(folder) != before
    assert load_run(folder).count("complete") == 1
    (tmp_path / "studies.db").unlink()
    (tmp_path / "studies.db").mkdir()  # a database that can't be read
    with serving(folder) as server:
        assert ask(server, "/live.json")[0].status == 503


@pytest.mark.parametrize("path", ["/run.yaml", "/../run.yaml", "/trials/", "/%2e%2e/", "/live.json/", "/?x", "*"])
def test_nothing_else_is_served(folder, path):
    with serving(folder) as server:
        reply, body = ask(server, path)
        assert (reply.status, body) == (404, b"not here\n")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_a_page_elsewhere_is_refused_whatever_its_name_points_to(folder, host):
    with serving(folder) as server:
        for path in ("/", "/live.json"):
            reply, body = ask(server, path, Host=host.format(port=server.server_port))
            assert reply.status == 403
            assert b"main" not in body
        assert ask(server, "/live.json", Host=f"localhost:{server.server_port}")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_get_alone(folder, method):
    with serving(folder) as server:
        reply, _ = ask(server, method=method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET")


def test_it_listens_on_loopback_alone_and_says_whose_port_is_taken(folder):
    with serving(folder) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(UsageError, match=f"--port {server.server_port}"):
            Server(folder, server.server_port)


def test_a_run_that_can_no_longer_be_read_is_said(tmp_path):
    folder = make_run(tmp_path / "run", told=2)
    with serving(folder) as server:
        (folder / "run.yaml").unlink()
        reply, body = ask(server, "/live.json")
        assert reply.status == 503
        assert b"not a run folder" in body


def test_reading_changes_nothing(folder):
    def contents():
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    before = contents()
    with serving(folder) as server:
        ask(server)
        ask(server, "/live.json")
    assert contents() == before


def test_the_command_says_where_and_ctrl_c_ends_it(folder):
    with subprocess.Popen(
        [sys.executable, "-m", "nas", "watch", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        url = process.stdout.readline()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", url)
        port = int(url.rsplit(":", 1)[1].rstrip("/\n"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/live.json")
        assert connection.getresponse().status == 200
        connection.close()
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=250)
        assert process.returncode == 0
        assert "not finished, and no process works on it" in said
        assert "Traceback" not in said


@pytest.mark.browser
def test_the_page_follows_the_run_and_keeps_what_the_reader_did(browser, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    make_settings("run", trials=40).save(folder)  # nothing has been asked for yet
    troubles: list[str] = []
    with serving(folder) as server:
        context = browser.new_context(viewport=WIDE)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.goto(server.url)
        assert page.get_by_text("No trial has been trained to the end yet").is_visible()
        assert page.locator("progress").get_attribute("value") == "0"

        go_on(folder, 8)
        page.wait_for_selector("#explorer[data-cloud]", timeout=60_000)
        page.wait_for_selector("#detail h3")
        first = next(trial for trial in load_run(folder).complete() if not trial.label)
        page.fill("#trials-text", first.name)
        page.press("#trials-body tr[data-place]", "Enter")
        page.evaluate("Plotly.relayout('explorer', {'xaxis.range': [5, 5.5], 'yaxis.range': [0.3, 0.6]})")
        page.locator("#repeat summary").click()
        page.locator("#repeat summary").blur()
        known = page.locator("body").get_attribute("data-version")

        go_on(folder, 5)
        page.wait_for_function("(known) => document.body.dataset.version !== known", arg=known, timeout=60_000)
        run = load_run(folder)
        page.wait_for_function(
            """([trials, done]) => document.getElementById('trials-count').textContent.endsWith(` of ${trials} trials`)
            && document.querySelector('progress').getAttribute('value') === done""",
            arg=[len(run.trials), str(run.count("complete"))],  # the last one is told a moment after it is asked
            timeout=60_000,
        )
        assert page.evaluate("document.getElementById('explorer')._fullLayout.xaxis.range") == pytest.approx([5, 5.5])
        assert page.evaluate("document.getElementById('explorer')._fullLayout.yaxis.range") == pytest.approx([0.3, 0.6])
        assert first.name in page.locator("#detail h3").text_content()
        assert page.locator("#trials-text").input_value() == first.name
        assert page.locator("#repeat details").get_attribute("open") is not None
        assert not troubles
        context.close()
    assert not troubles


@pytest.mark.browser
def test_the_page_follows_a_confirmation(browser, tmp_path):
    folder = make_run(tmp_path / "run", trials=10)
    with serving(folder) as server:
        context = browser.new_context(viewport=WIDE)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("#explorer[data-cloud]", timeout=60_000)
        page.wait_for_selector("#detail h3")
        assert page.locator("#detail .again").count() == 0
        assert not page.is_checked("#explorer-bars")
        for trial in load_run(folder).to_confirm(0.0):
            for seed in (1, 2):
                place = repeat_folder(folder, trial, seed)
                place.mkdir(parents=True)
                result = {
                    "digest": trial.digest,
                    "state": "complete",
                    "accuracy": 0.5 + seed / 100,
                    "reason": "",
                    "seconds": 2.0,
                    "finished": 1.7e9,
                }
                write_json(place / RESULT, result)
        assert load_run(folder).by_means
        page.wait_for_function(
            "() => document.querySelector('#detail .again')?.textContent.includes('from further seeds: 51.00, 52.00')",
            timeout=60_000,
        )
        page.wait_for_function(
            "() => document.querySelector('#against-cost figcaption').textContent.startsWith('Points with an error bar')"
        )
        assert page.is_checked("#explorer-bars")
        context.close()
