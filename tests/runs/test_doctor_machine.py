"""`nas doctor` without a run: the machine and what is installed on it."""

from __future__ import annotations

import json

import pytest
import torch
from helpers_cli import nas_

from nas.execution.ray.open_ports import listening


def test_ports_of_ray(tmp_path):
    """/proc as Linux writes it: a raylet that listens on all interfaces, one on loopback only, and somebody else's server."""
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"
    rows = [
        ("00000000:18EB", "0A", 1),
        ("0100007F:18EC", "0A", 2),
        ("00000000:0050", "0A", 3),
        ("00000000:18ED", "01", 4),
    ]
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        head + "".join(row.format(address=address, state=state, inode=inode) for address, state, inode in rows)
    )
    (tmp_path / "net" / "tcp6").write_text(head + row.format(address="0" * 32 + ":1F90", state="0A", inode=5))
    for pid, name, inodes in ((10, "raylet", (1, 2, 4, 5)), (11, "nginx", (3,)), (12, "gcs_server", (2,))):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
        for inode in inodes:
            (tmp_path / str(pid) / "fd" / str(inode)).symlink_to(f"socket:[{inode}]")
    assert listening(tmp_path) == [("raylet", 10, [0x18EB, 8080])]


def test_a_token_that_others_can_read(tmp_path):
    from nas.execution.machine_check import _token

    token = tmp_path / "auth_token"
    assert _token(token) == []
    token.write_text("secret")
    for mode, level in ((0o600, "fine"), (0o644, "warning"), (0o640, "warning")):
        token.chmod(mode)
        (finding,) = _token(token)
        assert finding.level == level and "secret" not in finding.what + finding.advice


@pytest.mark.slow
def test_this_machine_is_examined():
    result = nas_("doctor", "--json")
    found = {finding["where"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert {"python", "torch", "ray", "open files", "disk"} <= found.keys()
    assert found["torch"]["what"].startswith(torch.__version__)


def test_libraries_that_break_are_named(monkeypatch):
    from nas.execution import machine_check as machine

    monkeypatch.setattr(machine, "TORCH", "raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setattr(machine, "RAY", "import no_such_ray")
    for findings in (machine._torch(), machine._ray()):
        assert [finding.level for finding in findings] == ["needs you"]
    assert "torchvision::nms does not exist" in machine._torch()[0].what
