"""Fixtures and settings of all tests."""

from __future__ import annotations

import os

# Before anything loads a BLAS or OpenMP, and for the processes that tests start: on matrices and tensors as small as theirs a second
# thread only waits for the first, and burns a core while it does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers have niceness 15: next to other tests on the same cores, trials of a second took minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from browsing import browser as browser  # fixtures of all that open a page
from browsing import open_page as open_page
from export_matrix import Matrix
from export_matrix import write as write_matrix
from hypothesis import settings
from import_list import Imports
from import_list import write as write_imports
from reliability import Faults, write

os.environ.setdefault(
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0"
)  # as nas.execution.ray.cluster does: for tests that import Ray before it

# No timed assertions: a busy machine is not a failure.
settings.register_profile("nas", deadline=None, max_examples=50)
settings.load_profile("nas")


FAULTS = pytest.StashKey[Faults]()
MATRIX = pytest.StashKey[Matrix]()
IMPORTS = pytest.StashKey[Imports]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, help="the page whose table of faults the tests write")
    parser.addoption("--export-matrix", type=Path, help="the page whose matrix of designs and formats the tests write")
    parser.addoption("--import-list", type=Path, help="the page whose list of timm's models the tests write")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a script's shell begins what it puts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which the programs that are tested inherit
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = (
            False  # pytest-xdist hands out files in the order below, not by their number of tests
        )
    pages = [name for name in ("reliability", "export_matrix", "import_list") if config.getoption(name)]
    if pages and config.getoption("numprocesses", None):
        raise pytest.UsageError(f"--{pages[0].replace('_', '-')}: one process writes the page; run without -n")
    config.stash[FAULTS] = Faults()
    config.stash[MATRIX] = Matrix()
    config.stash[IMPORTS] = Imports()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that may take longest come first, so that no process is left alone with one of them at the end."""
    allowed: Counter[Path] = Counter()  # seconds, over a file's slow tests
    for item in items:
        limit = item.get_closest_marker("timeout")
        if item.get_closest_marker("slow"):
            allowed[item.path] += limit.args[0] if limit else int(item.config.getini("timeout"))
    items.sort(key=lambda item: -allowed[item.path])


def pytest_sessionfinish(session: pytest.Session) -> None:
    page = session.config.getoption("--reliability")
    if page is not None:
        write(page, session.config.stash[FAULTS])
    page = session.config.getoption("--export-matrix")
    if page is not None:
        from nas.interop.export import EXPORTERS

        write_matrix(page, session.config.stash[MATRIX], EXPORTERS)
    page = session.config.getoption("--import-list")
    if page is not None:
        write_imports(page, session.config.stash[IMPORTS])


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """Where a test records what a fault that it made has cost: a row of docs/reliability.md."""
    return request.config.stash[FAULTS]


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> Matrix:
    """Where a test records what came of a design in a format: a cell of docs/export.md."""
    return request.config.stash[MATRIX]


@pytest.fixture
def import_list(request: pytest.FixtureRequest) -> Imports:
    """Where a test records what came of importing a model: a part of a row of docs/import.md."""
    return request.config.stash[IMPORTS]


@pytest.fixture(scope="session")
def python():
    """Runs code in a fresh interpreter and gives what it wrote to standard output; fails if the interpreter does."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def connected():
    """Ray, started as a search starts it, whose processes may import the tests' helpers."""
    from nas.execution.ray import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        cluster.start(None)
        yield
        cluster.shutdown()


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch on one thread: on tensors of a few numbers, threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
