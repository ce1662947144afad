"""Serves a run's page, kept up to date, to this machine only: `Server`.

Two addresses are answered: the page, and what has changed since a version. Both only read the run's folder. Only GET is
allowed, only from 127.0.0.1, and only with this server's address in the Host header, which refuses pages of other sites
whose name resolves to this machine (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nas.errors import NasError, UsageError
from nas.report.html.document import document, figures_json
from nas.report.run.page import Parts, parts
from nas.runs.layout import BASELINES, CONFIRMED, JOURNAL, SESSIONS, TRIALS
from nas.runs.run import load_run, locked
from nas.runs.settings import FILE, Settings
from nas.runs.storage import of_storage, resolved, storage_reason
from nas.runs.study_access import open_study

ADDRESS = "127.0.0.1"


def version(folder: Path) -> str:
    """A hash that changes whenever the run does: of the files in its folder, its database, and whether a driver holds its lock.

    All files of a trial are renamed into its folder, which changes the folder's modification time.
    """
    marks: list[object] = [locked(folder)]
    for name in (FILE, JOURNAL, SESSIONS):
        try:
            status = (folder / name).stat()
            marks.append((status.st_mtime_ns, status.st_size))
        except OSError:
            marks.append(None)
    for name in (TRIALS, BASELINES):
        try:
            with os.scandir(folder / name) as entries:
                marks.append(sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries))
        except OSError:
            marks.append(None)
    marks.append(sorted((str(path), path.stat().st_mtime_ns) for path in (folder / CONFIRMED).glob("*/seed*")))
    if not (folder / JOURNAL).exists():
        marks.append(_fates(folder))
    return hashlib.sha256(repr(marks).encode()).hexdigest()[:16]


def _fates(folder: Path) -> list[tuple[int, int, int]]:
    """Number, state and attributes of each trial of a study that is kept in a database; [] for a run in its folder.

    The folder is not enough: a trial that was rejected, or ended by another process, leaves no trace there.
    """
    settings = Settings.load(folder)
    if not settings.storage:
        return []
    url = resolved(settings.storage, None, folder)
    try:
        study = open_study(folder, settings, url)
        trials = [] if study is None else study.get_trials(deepcopy=False)
    except Exception as error:
        if of_storage(error):
            raise NasError(storage_reason(error, url)) from None
        raise
    return [(trial.number, trial.state.value, len(trial.user_attrs)) for trial in trials]


class Follower:
    """The current page of a run, built again when the run has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._version = ""
        self._parts: Parts | None = None

    def parts(self) -> tuple[str, Parts]:
        """The version of the run and its page's parts; NasError or UsageError if it can't be read."""
        with self._lock:
            now = version(self.folder)  # before reading: a change during reading makes another version
            if self._parts is None or now != self._version:
                self._parts, self._version = parts(load_run(self.folder)), now
            return self._version, self._parts

    def page(self) -> bytes:
        now, made = self.parts()
        return document(made.title, made.main, made.charts, made.data, live=now).encode("utf-8", "replace")

    def changes(self, known: str) -> tuple[str, bytes | None]:
        """The version and, unless it is the known one, the page's parts as JSON."""
        with self._lock:
            if known == self._version == version(self.folder):
                return known, None
        now, made = self.parts()
        text = f'{{"main":{json.dumps(made.main)},"figures":{figures_json(made.charts)},"run":{made.data or "null"}}}'
        return now, text.encode("utf-8", "replace")


class Server(ThreadingHTTPServer):
    """Serves a run's page at `url`, which has a free port if `port` is 0. UsageError if the port is taken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.follower = Follower(folder)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror or error}; another, or none for a free one") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a browser that closed the connection is not an error."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "nas"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that an idle connection is kept

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            return self._send(HTTPStatus.FORBIDDEN, b"this server answers 127.0.0.1 and localhost alone\n")
        try:
            if self.path == "/":
                return self._send(HTTPStatus.OK, self.server.follower.page(), "text/html")
            if self.path == "/live.json":
                known = self.headers.get("If-None-Match", "").strip('"')
                now, text = self.server.follower.changes(known)
                status = HTTPStatus.OK if text is not None else HTTPStatus.NOT_MODIFIED
                return self._send(status, text or b"", "application/json", etag=now)
        except NasError as error:
            return self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode("utf-8", "replace"))
        return self._send(HTTPStatus.NOT_FOUND, b"not here\n")

    def _refuse(self) -> None:
        self.close_connection = True  # its body is not read
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"GET alone\n")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain", etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page that asks every two seconds would fill the terminal."""
