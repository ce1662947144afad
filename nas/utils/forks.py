"""Whether this process was forked from one that had PyTorch loaded; there, training would hang for ever.

A fork takes over no threads. OpenMP and oneDNN, once used in the parent, still hand work to theirs, and wait. What is tested is whether
PyTorch was loaded when the process was forked, since nothing tells whether it was used. A process that is begun anew ("spawn", a
subprocess, a worker of Ray) is none, nor one that was forked first and loads PyTorch itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nas.errors import UsageError

_FORKED, _PLACE = 0x40, 6  # PF_FORKNOEXEC, and the place of a process's flags behind its name, in proc(5)'s stat


def check() -> None:
    """UsageError where PyTorch can't be trusted to return. Loads nothing, and costs nothing."""
    if _with_torch:
        raise UsageError(
            "this process was forked from one that had loaded PyTorch, so that training would hang for ever in it; start it "
            'with multiprocessing.get_context("spawn"), or fork before PyTorch is imported'
        )


def _inherited() -> bool:
    """Whether nas is first imported in a forked process, with PyTorch there already, and in the parent (by Linux's records)."""
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
