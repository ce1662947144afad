"""What this machine must offer before Ray can be started on it. Ray itself is not imported."""

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
    """UsageError if a Ray can't be started here: a folder for its sockets, temporary files, shared memory, ports of this machine."""
    private_folder()
    without = "or train without Ray: --executor local"
    try:
        tempfile.gettempdir()
    except OSError:
        raise UsageError(f"no folder for temporary files can be written: name one in TMPDIR, {without}") from None
    if sys.platform == "linux" and not os.access(SHARED, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"{SHARED}: can't be written, where Ray's workers share the images: mount it (docker run --shm-size=4g), {without}"
        )
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), LOOPBACK_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"{LOOPBACK}: Ray's processes can't reach each other ({error.strerror or error}): set the loopback interface up, {without}"
        ) from None
