"""Fixtures and settings of all tests."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import settings

# No timed assertions: a busy machine is not a failure.
settings.register_profile("nas", deadline=None)
settings.load_profile("nas")


@pytest.fixture(scope="session")
def python():
    """Runs code in a fresh interpreter and gives what it wrote to standard output; fails if the interpreter does."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch on one thread: on tensors of a few numbers, threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
