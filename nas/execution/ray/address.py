"""Addresses of running Ray clusters: what they look like, whether somebody listens there, and in words what is wrong.

Ray itself waits two minutes where nobody listens, and then ends the process.
"""

from __future__ import annotations

import contextlib
import socket

from nas.errors import UsageError

AUTO = "auto"
CLIENT, CLIENT_PORT = "ray://", 10001
SECONDS = 10.0  # for a connection


def check(address: str) -> None:
    """UsageError if this is no address of a cluster, or nobody listens there. `auto` is left to Ray, which knows its own."""
    if address == AUTO:
        return
    host, port = parts(address)
    try:
        with contextlib.closing(socket.create_connection((host, port), timeout=SECONDS)):
            return
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UsageError(
            f"--address {address}: nobody listens there ({reason}); the head node says its address when `ray start --head` is done"
        ) from None


def said(address: str, error: BaseException) -> str:
    """Why Ray could not join a cluster, of which `check` found somebody who listens."""
    words = " ".join(str(error).split())
    if isinstance(error, ImportError) or "ray[client]" in words:
        return f"--address {address}: Ray's client is not installed: pip install 'nas[client]', or name the head node itself, HOST:PORT"
    if address == AUTO and "find any running Ray" in words:
        return "--address auto: no Ray runs on this machine; start one (`ray start --head`), or name the head node's HOST:PORT"
    if "no authentication token was found" in words:
        return (
            f"--address {address}: no token of the cluster is here; copy the head node's ~/.ray/auth_token, or name it in "
            "RAY_AUTH_TOKEN_PATH"
        )
    if address.startswith(CLIENT) and isinstance(error, ConnectionError):
        return (
            f"--address {address}: somebody listens there, but does not answer as a client server of Ray of this version "
            f"({CLIENT_PORT} unless told otherwise): {words[:300]}. The head node itself is named without ray://, HOST:PORT"
        )
    if isinstance(error, ConnectionError | SystemExit) or "timeout" in words or "UNAUTHENTICATED" in words.upper():
        what = (
            "the Ray that ran here last does not answer"
            if address == AUTO
            else "somebody listens there, but lets nobody in"
        )
        return (
            f"--address {address}: {what}. Either it is no Ray of this version, or its token is not the one here (RAY_AUTH_TOKEN, "
            "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, with RAY_AUTH_MODE=token): see docs/cluster.md"
        )
    return f"--address {address}: Ray can't join: {words[:300] or type(error).__name__}"


def parts(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or ray://HOST[:PORT]; IPv6 in brackets."""
    place = address.removeprefix(CLIENT).rstrip("/")
    host, colon, port = place.rpartition(":")
    if address.startswith(CLIENT) and (not colon or place.endswith("]")):
        host, port = place, str(CLIENT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--address {address}: neither auto, HOST:PORT of a head node (6379 unless told otherwise) nor ray://HOST:PORT"
        )
    return host, int(port)
