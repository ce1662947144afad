"""Access protection of the Ray that nas starts or joins: its token, and a private folder for its sockets.

Ray's processes (gcs_server, raylet, workers) listen on all interfaces, whatever address they are given, and run the code that they
receive. Token authentication (RAY_AUTH_MODE=token) protects them from the network; a firewall should be a second protection
(docs/security.md). Only `join`, `require_authentication`, `restore_environment` and `set_mode` import Ray.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nas.errors import NasError, UsageError
from nas.execution.ray import tune_internals
from nas.execution.ray.address import CLIENT, parts
from nas.execution.ray.token import MODE, TOKEN, TOKEN_PATH, check_token, token_file

PROBE_SECONDS = 10.0
CLIENT_SECONDS = 20.0  # for Ray's client server, a slower process in Python
SOCKET_BYTES = 103  # longest path of a Unix socket: 107 on Linux, 103 on macOS
# The longest path that Ray makes in the folder.
SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

_own_token = ""  # of the Ray that was started here
_mode_before: list[str | None] = []  # RAY_AUTH_MODE before it was first set here; empty if it is unchanged


def private_folder() -> Path:
    """A folder that only this user can enter, for Ray's sockets and logs, to which Ray gives mode 777 without the sticky bit.

    The first writable place whose path is short enough for sockets. UsageError if there is none; NasError if another user has the
    folder's name.
    """
    refused = []
    for base in dict.fromkeys(Path(place).absolute() for place in _places()):
        folder = base / f"nas-ray-{os.getuid()}"
        if len(os.fsencode(folder / SOCKET)) > SOCKET_BYTES:
            refused.append(f"{base}: the path is too long for sockets")
            continue
        try:
            _make_private(folder)
        except OSError as error:
            refused.append(f"{base}: {(error.strerror or str(error)).lower()}")
            continue
        return folder / "ray"
    raise UsageError(
        f"Ray needs a folder for its sockets, and none can be used ({'; '.join(refused)}): make /tmp writable, or name a writable "
        "folder with a short path in TMPDIR, or train without Ray: --executor local"
    )


def _places() -> list[str]:
    named = (os.environ.get(name) for name in ("TMPDIR", "XDG_RUNTIME_DIR"))
    return ["/tmp", *filter(None, named), "/var/tmp", "/dev/shm"]


def _make_private(folder: Path) -> None:
    """Make the folder with mode 700, and test that sockets can be made in it. OSError if not."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise NasError(
            f"{folder}: belongs to another user or is no folder, so Ray's sockets have no private folder; remove it"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
    probe = folder / secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(probe))
    probe.unlink()


def require_authentication() -> list[str]:
    """Turn token authentication on before Ray is started here, whatever the environment says. Returns messages about changes."""
    mode = os.environ.get(MODE)
    notes = _give_token()
    if mode is not None and mode.lower() != "token":
        notes.append(f"{MODE}={mode} is ignored: a Ray that nas starts always asks for the token")
    set_mode("token")
    return notes


def _give_token() -> list[str]:
    """Provide the token for the Ray that is started here: the user's if one is named, else a new one that is in no file."""
    global _own_token
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        return check_token()
    _own_token = os.environ[TOKEN] = secrets.token_hex(32)  # as `ray get-auth-token --generate` does
    return []


def restore_environment() -> None:
    """Restore the environment after the end of a Ray: its token and mode must not be used for the next cluster."""
    if _own_token and os.environ.get(TOKEN) == _own_token:
        del os.environ[TOKEN]
    if _mode_before:
        mode = _mode_before.pop()
        os.environ.pop(MODE, None)
        if mode is not None:
            os.environ[MODE] = mode
        tune_internals.reload_authentication()


def join(address: str) -> list[str]:
    """Before a cluster is joined, test whether it asks for a token, and provide the token only then. Returns warnings.

    A cluster without authentication does not receive the token. ConnectionError if no cluster answers. ImportError if the address is
    ray://... and Ray's client is not installed. UsageError if the token is missing or refused.
    """
    restore_environment()
    client = address.startswith(CLIENT)
    admits: Callable[[], bool]
    if client:
        admits = functools.partial(tune_internals.client_admits, *parts(address), CLIENT_SECONDS)
    else:
        admits = functools.partial(tune_internals.admits, _gcs(address), PROBE_SECONDS)
    set_mode("disabled")
    if admits():
        if client:
            return []  # the head node, which is joined next, gives the warning
        warning = f"the Ray cluster at {address} runs without authentication: anyone who reaches its ports can run programs as its users"
        return [f"{warning}. Start it with {MODE}=token, and protect its ports with a firewall (docs/security.md)"]
    path = token_file()
    if path is not None and not path.exists():
        raise UsageError(
            f"--address {address}: the cluster asks for its token, but {path} does not exist (docs/security.md)"
        )
    notes = check_token()
    set_mode("token")
    if not admits():
        where = TOKEN if path is None else path
        raise UsageError(
            f"--address {address}: the cluster refuses the token of {where}; its token is another one (docs/security.md)"
        )
    return notes


def _gcs(address: str) -> str:
    """HOST:PORT of a cluster's head. ConnectionError if it is not reachable; Ray itself would try for minutes."""
    place = tune_internals.head_address(address)
    host, _, port = place.rpartition(":")
    if not port.isdigit():
        raise ConnectionError(f"{address} is not HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS):
        return place


def set_mode(mode: str) -> None:
    """Set RAY_AUTH_MODE for this process and its children, and let Ray, which reads it only once, read it again.

    UsageError if this Ray has no token authentication.
    """
    if not _mode_before:
        _mode_before.append(os.environ.get(MODE))
    os.environ[MODE] = mode
    if tune_internals.reload_authentication() != (mode == "token"):
        raise NasError(f"Ray does not accept {MODE}={mode}, and nas does not start it without")
