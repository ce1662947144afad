"""Ports of the loopback for servers that tests start."""

from __future__ import annotations

import itertools
import os
import socket

LOW, COUNT = (
    20_000,
    10_000,
)  # below the ports that the kernel hands out, so that nobody is given one before its server has it
_turns = itertools.count()


def free_port() -> int:
    """A port that nobody listens on; another at each call, and in each process that runs tests."""
    while True:
        port = LOW + (os.getpid() * 101 + next(_turns)) % COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
