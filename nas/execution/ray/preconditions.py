"""What this machine needs before Ray can be started on it, checked without importing Ray."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

from nas.errors import UsageError
from nas.execution.ray.authentication import private_folder

SHARED = Path("/dev/shm")
LOOPBACK = "127.0.0.1"
LOOPBACK_SECONDS = 10.0


def check_machine() -> None:
    """UsageError if this machine lacks what Ray needs: a folder for sockets, temporary files, shared memory, local ports."""
    private_folder()
    alternative = "or train without Ray: --executor local"
    try:
        tempfile.gettempdir()
    except OSError:
        raise UsageError(f"no folder for temporary files is writable: name one in TMPDIR, {alternative}") from None
    if sys.platform == "linux" and not os.access(SHARED, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"{SHARED}: not writable, but Ray's workers share the images there: mount it (docker run --shm-size=4g), {alternative}"
        )
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), LOOPBACK_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"{LOOPBACK}: Ray's processes can't reach each other ({error.strerror or error}): set up the loopback interface, {alternative}"
        ) from None
