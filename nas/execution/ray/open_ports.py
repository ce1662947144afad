"""Ports on which processes of Ray listen for the whole network, read from /proc as Linux writes it."""

from __future__ import annotations

import re
from pathlib import Path

PROCESSES = ("gcs_server", "raylet", "dashboard", "ray::")  # as their names begin
LISTENING = "0A"  # the state in /proc/net/tcp
EVERYWHERE = {"00000000", "0" * 32}  # the local address of a socket that is bound to all interfaces


def listening(proc: Path) -> list[tuple[str, int, list[int]]]:
    """Name, process number and open ports of each process of Ray that can be reached from elsewhere; empty off Linux."""
    sockets = _open_sockets(proc)
    found = []
    for folder in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)) if sockets else ():
        name = _name(folder)
        if name.startswith(PROCESSES):
            ports = sorted({sockets[inode] for inode in _inodes(folder) if inode in sockets})
            if ports:
                found.append((name, int(folder.name), ports))
    return found


def _open_sockets(proc: Path) -> dict[str, int]:
    """Port by inode of the sockets that listen on all interfaces."""
    found = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and address in EVERYWHERE:
                found[fields[9]] = int(port, 16)
    return found


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _inodes(folder: Path) -> list[str]:
    """Inodes of the sockets that a process has open; none of a process of another user."""
    found = []
    try:
        for link in (folder / "fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
            found += [match[1]] if match else []
    except OSError:
        return found
    return found
