"""Addresses of running Ray clusters: their form, a test whether a process listens there, and messages for failures.

Without the test, Ray waits two minutes for an address where nobody listens, and then ends the process.
"""

from __future__ import annotations

import contextlib
import socket

from nas.errors import UsageError

AUTO = "auto"
CLIENT, CLIENT_PORT = "ray://", 10001
SECONDS = 10.0  # for a connection


def check(address: str) -> None:
    """UsageError if this is no address of a cluster, or nobody listens there. Ray itself resolves `auto`."""
    if address == AUTO:
        return
    host, port = parts(address)
    try:
        with contextlib.closing(socket.create_connection((host, port), timeout=SECONDS)):
            return
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UsageError(
            f"--address {address}: nobody listens there ({reason}); `ray start --head` prints the head node's address"
        ) from None


def explanation(address: str, error: BaseException) -> str:
    """The message for Ray's error in joining a cluster at an address to which `check` could connect."""
    text = " ".join(str(error).split())
    if isinstance(error, ImportError) or "ray[client]" in text:
        return f"--address {address}: Ray's client is not installed: pip install 'nas[client]', or give the head node itself, HOST:PORT"
    if address == AUTO and "find any running Ray" in text:
        return "--address auto: no Ray runs on this machine; start one (`ray start --head`), or give the head node's HOST:PORT"
    if "no authentication token was found" in text:
        return (
            f"--address {address}: the cluster's token is missing here; copy the head node's ~/.ray/auth_token, or give its path in "
            "RAY_AUTH_TOKEN_PATH"
        )
    if address.startswith(CLIENT) and isinstance(error, ConnectionError):
        return (
            f"--address {address}: the process that listens there does not answer as a client server of this version of Ray (port "
            f"{CLIENT_PORT} by default): {text[:300]}. For the head node itself, leave out ray://: HOST:PORT"
        )
    if isinstance(error, ConnectionError | SystemExit) or "timeout" in text or "UNAUTHENTICATED" in text.upper():
        problem = (
            "the Ray that last ran here does not answer"
            if address == AUTO
            else "the process that listens there refuses the connection"
        )
        return (
            f"--address {address}: {problem}. Either it is not this version of Ray, or its token is not the one here (RAY_AUTH_TOKEN, "
            "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, with RAY_AUTH_MODE=token): see docs/cluster.md"
        )
    return f"--address {address}: Ray can't join: {text[:300] or type(error).__name__}"


def parts(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or ray://HOST[:PORT], with IPv6 addresses in brackets. UsageError for other forms."""
    place = address.removeprefix(CLIENT).rstrip("/")
    host, colon, port = place.rpartition(":")
    if address.startswith(CLIENT) and (not colon or place.endswith("]")):
        host, port = place, str(CLIENT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--address {address}: neither auto, HOST:PORT of a head node (port 6379 by default) nor ray://HOST:PORT"
        )
    return host, int(port)
