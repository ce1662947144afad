"""What keeps strangers out of the Ray that we start or join: its token, and where its sockets lie.

Ray's processes (gcs_server, raylet, workers) listen on all interfaces, whatever address they are given, and run the code
that they are sent. Token authentication (RAY_AUTH_MODE=token) is what stands between them and the network; a firewall
should be another (docs/security.md). Nothing here imports Ray, but for `join` and `refreshed`.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.errors import NasError, UsageError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
PROBE_SECONDS = 10.0


def token_file() -> Path | None:
    """Where Ray looks for the token; None if the environment holds the token itself."""
    if os.environ.get(TOKEN):
        return None
    told = os.environ.get(TOKEN_PATH)
    return Path(told) if told else Path.home() / ".ray" / "auth_token"


def ensure_token() -> list[str]:
    """See to it that there is a token and that its owner alone can read it; what was changed, in words.

    UsageError where that can't be: a file of somebody else's, or one named by RAY_AUTH_TOKEN_PATH that is not there.
    """
    path = token_file()
    if path is None:
        return []
    try:
        if not path.exists() or not path.read_text(encoding="utf-8").strip():
            if os.environ.get(TOKEN_PATH) and not path.exists():
                raise UsageError(f"{TOKEN_PATH}={path}: no such file; it should hold the token of Ray")
            _write(path)
            return []
        found = path.stat()
        open_to = stat.S_IMODE(found.st_mode) & 0o077
        if not open_to:
            return []
        if found.st_uid != os.getuid():
            raise UsageError(
                f"{path}: others may use this token of Ray (mode {stat.S_IMODE(found.st_mode):o}), and it is not yours to change; "
                f"name another by {TOKEN_PATH}"
            )
        path.chmod(stat.S_IMODE(found.st_mode) & ~0o077)
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(
            f"{path}: the token of Ray can't be kept: {getattr(error, 'strerror', None) or error}"
        ) from error
    said = f"{path}: others could use this token of Ray (mode {stat.S_IMODE(found.st_mode):o}); now its owner alone can read it"
    return [f"{said}. Whoever has read it before can still use it: remove the file, and a new one is made"]


def _write(path: Path) -> None:
    """A new token, in a file that was never anybody else's to read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))  # as `ray get-auth-token --generate` makes them
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def private_folder() -> Path:
    """A folder of this user's own for Ray's sockets and logs, which Ray opens to everybody (mode 777, no sticky bit).

    It lies in /tmp, since the path of a socket may have 107 characters only. NasError if somebody else has taken the name.
    """
    base = Path("/tmp") if os.access("/tmp", os.W_OK) else Path(os.environ.get("TMPDIR", "/var/tmp"))
    folder = base / f"nas-ray-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise NasError(f"{folder}: taken by somebody else, so that Ray's sockets have no place of their own; remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder / "ray"


def require_authentication() -> list[str]:
    """Before Ray is started here: authentication by token is on, whatever the environment says. What was changed, in words."""
    said = os.environ.get(MODE)
    notes = ensure_token()
    if said is not None and said.lower() != "token":
        notes.append(f"{MODE}={said} is not heeded: a Ray that nas starts always asks for the token")
    refreshed("token")
    return notes


def join(address: str) -> list[str]:
    """Before a cluster is joined: whether it asks for a token, which is then given. Warnings, in words.

    A cluster without authentication is not told the token. ConnectionError if nobody answers; UsageError if there is no token
    where one is asked for, or if it is refused.
    """
    if "://" in address:  # Ray's client, which has a server of its own
        return []
    place = _gcs(address)
    refreshed("disabled")
    if _admits(place):
        said = f"the Ray cluster at {address} runs without authentication: whoever reaches its ports can run programs as its users"
        return [f"{said}. Start it with {MODE}=token, and let a firewall keep its ports from others (docs/security.md)"]
    path = token_file()
    if path is not None and not path.exists():
        raise UsageError(
            f"--address {address}: the cluster asks for its token, which should be in {path} (docs/security.md)"
        )
    notes = ensure_token()
    refreshed("token")
    if not _admits(place):
        where = TOKEN if path is None else path
        raise UsageError(
            f"--address {address}: the cluster refuses the token of {where}; it has another (docs/security.md)"
        )
    return notes


def _gcs(address: str) -> str:
    """Host and port of a cluster's head. ConnectionError if nobody listens there: Ray itself would try for minutes."""
    from ray._private.services import canonicalize_bootstrap_address

    place = str(canonicalize_bootstrap_address(address, None))
    host, _, port = place.rpartition(":")
    if not port.isdigit():
        raise ConnectionError(f"{address} is not HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS):
        return place


def _admits(place: str) -> bool:
    """Whether a cluster answers this process as it is set (`refreshed`). ConnectionError if it is no cluster."""
    from ray.exceptions import AuthenticationError, RayError

    try:
        _raylet().GcsClient(address=place).get_all_node_info(timeout=PROBE_SECONDS)
    except AuthenticationError:
        return False
    except RayError as error:
        raise ConnectionError(str(error)) from error
    return True


def refreshed(mode: str) -> None:
    """Set RAY_AUTH_MODE for this process and its children, and have Ray read it again, which looks once, when it is imported.

    NasError for a Ray that knows no authentication.
    """
    os.environ[MODE] = mode
    raylet = _raylet()
    try:
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
        heeded = raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN
    except AttributeError:
        raise NasError("this Ray knows no token authentication; install a newer one") from None
    if heeded != (mode == "token"):
        raise NasError(f"Ray does not take {MODE}={mode}; it is not started without")


def _raylet() -> Any:
    """Ray's compiled part, which has no types."""
    import ray._raylet

    return ray._raylet
