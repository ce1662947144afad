"""Whether this process was forked from one that had PyTorch loaded, in which case training would hang forever.

A fork has none of its parent's threads. Once used in the parent, OpenMP and oneDNN still hand work to these threads, and wait. The test
is whether PyTorch was loaded at the fork, because whether it was used can't be known. A process that was started freshly ("spawn", a
subprocess, a Ray worker) passes; so does one that was forked first and loads PyTorch afterwards.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nas.errors import UsageError

_FORKED, _PLACE = (
    0x40,
    6,
)  # PF_FORKNOEXEC, and the index of the flags among the fields after the name, in proc(5)'s stat


def check() -> None:
    """UsageError if PyTorch may hang in this process. Loads nothing."""
    if _with_torch:
        raise UsageError(
            "this process was forked from one that had loaded PyTorch, so that training would hang forever in it; start it "
            'with multiprocessing.get_context("spawn"), or fork before PyTorch is imported'
        )


def _inherited() -> bool:
    """Whether nas is first imported in a forked process, with PyTorch loaded here and in the parent (by Linux's /proc)."""
    if "torch" not in sys.modules:
        return False
    try:
        flags = int(Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()[_PLACE])
        return bool(flags & _FORKED) and "libtorch" in Path(f"/proc/{os.getppid()}/maps").read_text(errors="replace")
    except (OSError, ValueError, IndexError):
        return False


def _forked() -> None:
    global _with_torch
    _with_torch = _with_torch or "torch" in sys.modules


_with_torch = _inherited()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
