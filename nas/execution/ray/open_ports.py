"""Ports on which processes of Ray listen for the whole network, read from /proc as Linux writes it."""

from __future__ import annotations

import re
from pathlib import Path

PROCESSES = ("gcs_server", "raylet", "dashboard", "ray::")  # prefixes of their names
LISTENING = "0A"  # the state in /proc/net/tcp
EVERYWHERE = {"00000000", "0" * 32}  # the local address of a socket that is bound to all interfaces


def listening(proc: Path) -> list[tuple[str, int, list[int]]]:
    """Name, process number and open ports of each process of Ray that other machines can reach; empty on systems without /proc."""
    sockets = _open_sockets(proc)
    listeners = []
    for folder in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)) if sockets else ():
        name = _name(folder)
        if name.startswith(PROCESSES):
            ports = sorted({sockets[inode] for inode in _inodes(folder) if inode in sockets})
            if ports:
                listeners.append((name, int(folder.name), ports))
    return listeners


def _open_sockets(proc: Path) -> dict[str, int]:
    """Port by inode of the sockets that listen on all interfaces."""
    port_of = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and address in EVERYWHERE:
                port_of[fields[9]] = int(port, 16)
    return port_of


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _inodes(folder: Path) -> list[str]:
    """Inodes of the open sockets of a process; none for a process of another user."""
    inodes: list[str] = []
    try:
        for link in (folder / "fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
            inodes += [match[1]] if match else []
    except OSError:
        return inodes
    return inodes
