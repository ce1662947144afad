"""A PostgreSQL server of a test's own, from Debian's package: on loopback, with a password, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ports import free_port

PASSWORD = "s3cr3t/w@rd:100%"  # with what a URL has to quote
QUOTED = "s3cr3t%2Fw%40rd%3A100%25"


class Server:
    """A running server; `url` logs in with the password, `database` may be one that `create` made."""

    def __init__(self, bin: Path, folder: Path, port: int, user: str | None) -> None:
        self.bin, self.folder, self.port, self.user = bin, folder, port, user
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", password: str | None = QUOTED) -> str:
        login = "nas" if password is None else f"nas:{password}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        command = [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder), "-F"]  # no fsync: nothing is kept
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user, cwd=self.folder)
        for _ in range(600):
            ready = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())

    def stop(self) -> None:
        """At once, connections and all."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
            self.process = None

    def create(self, database: str) -> str:
        """A new database; its URL."""
        command = [str(self.bin / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "nas", database]
        subprocess.run(command, check=True, env={**os.environ, "PGPASSWORD": PASSWORD})
        return self.url(database)


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, or None."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *(Path(entry) for entry in os.get_exec_path())]
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def why_not() -> str:
    """Why no server can be started here, or nothing."""
    if binaries() is None:
        return "PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)"
    if os.getuid() == 0 and _other_user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return ""


def _other_user() -> str | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


@contextlib.contextmanager
def server() -> Iterator[Server]:
    bin, user = binaries(), _other_user() if os.getuid() == 0 else None
    assert bin is not None
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-"))  # not below a test's folder, which only its user may enter
    try:
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        command = [str(bin / "initdb"), "-D", str(folder / "data"), "-U", "nas", "-A", "scram-sha-256", "-N"]
        command += ["--pwfile", str(folder / "password"), "-E", "UTF8", "--locale", "C"]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        found = Server(bin, folder, free_port(), user)
        try:
            found.start()
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
