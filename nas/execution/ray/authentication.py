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
from nas.execution.ray.address import CLIENT, parts
from nas.execution.ray.token import MODE, TOKEN, TOKEN_PATH, check_token, token_file

PROBE_SECONDS = 10.0
CLIENT_SECONDS = 20.0  # of Ray's client server, which is Python's
SOCKET_BYTES = 103  # of a Unix socket's path: Linux takes 107, macOS 103
# The longest that Ray makes in our folder.
SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

_lent = ""  # the token of a Ray that was started here, which lasts as long as that
_mode_before: list[str | None] = []  # RAY_AUTH_MODE before it was first set here; empty when it is as it was


def private_folder() -> Path:
    """A folder of this user's own for Ray's sockets and logs, which Ray opens to everybody (mode 777, no sticky bit).

    The first place that can be written and whose path is short enough for sockets. UsageError if there is none; NasError if
    somebody else has taken the name.
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
    """The folder, with mode 700, in which sockets can be made; OSError if that can't be."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise NasError(f"{folder}: taken by somebody else, so that Ray's sockets have no place of their own; remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    probe = folder / secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(probe))
    probe.unlink()


def require_authentication() -> list[str]:
    """Before Ray is started here: authentication by token is on, whatever the environment says. What was changed, in words."""
    said = os.environ.get(MODE)
    notes = _give_token()
    if said is not None and said.lower() != "token":
        notes.append(f"{MODE}={said} is not heeded: a Ray that nas starts always asks for the token")
    refreshed("token")
    return notes


def _give_token() -> list[str]:
    """A token for the Ray that is started here: the user's if they named one, or a new one that no file keeps."""
    global _lent
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        return check_token()
    _lent = os.environ[TOKEN] = secrets.token_hex(32)  # as `ray get-auth-token --generate` makes them
    return []


def restore_environment() -> None:
    """Undo what was set for a Ray that has ended: its token is no cluster's that is joined next, nor its mode of one that is started."""
    if _lent and os.environ.get(TOKEN) == _lent:
        del os.environ[TOKEN]
    if _mode_before:
        mode = _mode_before.pop()
        os.environ.pop(MODE, None)
        if mode is not None:
            os.environ[MODE] = mode
        _reread()


def join(address: str) -> list[str]:
    """Before a cluster is joined: whether it asks for a token, which is then given. Warnings, in words.

    A cluster without authentication is not told the token. ConnectionError if nobody answers, ImportError if Ray's client is not
    installed and the address is one of it; UsageError if there is no token where one is asked for, or if it is refused.
    """
    restore_environment()
    client = address.startswith(CLIENT)
    place, admits = (address, _client_admits) if client else (_gcs(address), _admits)
    refreshed("disabled")
    if admits(place):
        if client:
            return []  # said of the head node, which is joined behind this
        said = f"the Ray cluster at {address} runs without authentication: whoever reaches its ports can run programs as its users"
        return [f"{said}. Start it with {MODE}=token, and let a firewall keep its ports from others (docs/security.md)"]
    path = token_file()
    if path is not None and not path.exists():
        raise UsageError(
            f"--address {address}: the cluster asks for its token, which should be in {path} (docs/security.md)"
        )
    notes = check_token()
    refreshed("token")
    if not admits(place):
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


def _client_admits(address: str) -> bool:
    """The same of Ray's client server at `ray://HOST:PORT`. ImportError without the extra that speaks to one."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    messages: Any = ray_client_pb2  # neither has types
    stubs: Any = ray_client_pb2_grpc
    host, port = parts(address)
    channel: Any = init_grpc_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    try:
        ping = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
        stubs.RayletDriverStub(channel).ClusterInfo(ping, timeout=CLIENT_SECONDS)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise ConnectionError(f"{error.code().name}: {error.details()}") from error
    finally:
        channel.close()
    return True


def refreshed(mode: str) -> None:
    """Set RAY_AUTH_MODE for this process and its children, and have Ray read it again, which looks once, when it is imported.

    NasError for a Ray that knows no authentication.
    """
    if not _mode_before:
        _mode_before.append(os.environ.get(MODE))
    os.environ[MODE] = mode
    if _reread() != (mode == "token"):
        raise NasError(f"Ray does not take {MODE}={mode}; it is not started without")


def _reread() -> bool:
    """Whether Ray asks for tokens, by the environment as it is now. NasError for a Ray that knows no authentication."""
    raylet = _raylet()
    try:
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
        return bool(raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN)
    except AttributeError:
        raise NasError("this Ray knows no token authentication; install a newer one") from None


def _raylet() -> Any:
    """Ray's compiled part, which has no types."""
    import ray._raylet

    return ray._raylet
