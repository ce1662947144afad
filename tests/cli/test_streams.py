"""Standard streams in every state that a process may get them in: no search ends by it, and no result is hidden or lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers_cli import process
from helpers_search import write_space

from nas.cli.main import streams
from nas.runs.run import load_run
from nas.searching.progress import _print

FULL = Path("/dev/full")
with_full = pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
TRIALS = ("--trials", "2", "--epochs", "1", "--executor", "local", "--device", "cpu")


def closed(*numbers: int):
    """What a process does before its program begins, as a shell by `>&-`."""

    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def unread(*words: object) -> subprocess.CompletedProcess[str]:
    """`nas WORDS` whose standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return process(*words, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search with all three streams closed, as cron or a daemon may start one: its exit status and its folder."""
    folder = tmp_path_factory.mktemp("searched")
    words = ("search", "--space", write_space(folder), *TRIALS, "--out", folder / "run")
    return process(*words, capture_output=False, preexec_fn=closed(0, 1, 2)).returncode, folder / "run"


@pytest.mark.slow
def test_a_search_with_all_streams_closed_does_its_work_and_writes_into_nothing_else(searched):
    status, folder = searched
    assert status == 0
    assert load_run(folder).status == "done" and (folder / "report.html").is_file()
    written = [path for path in folder.rglob("*") if path.is_file() and b"Searching space" in path.read_bytes()]
    assert written == [], "files that got the numbers of the streams"


def test_a_front_that_can_t_be_printed_is_an_error_of_one_line(searched):
    _, folder = searched
    said = "error: the output can't be written: standard output is closed\n"
    done = process("front", folder, preexec_fn=closed(1))
    assert (done.returncode, done.stderr) == (1, said)
    whole = process("front", folder, "--json", stdin=None, preexec_fn=closed(0, 2))
    assert whole.returncode == 0 and json.loads(whole.stdout)["front"]


def test_a_front_that_nobody_reads_ends_quietly(searched):
    done = unread("front", searched[1], "--csv")
    assert (done.returncode, done.stderr) == (1, "")


def test_signs_that_the_encoding_lacks_are_written_out(searched):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    table = process("front", searched[1], env=environment)
    assert table.returncode == 0 and table.stderr == "" and "trial" in table.stdout
    assert json.loads(process("front", searched[1], "--json", env=environment).stdout)["front"]


@pytest.mark.parametrize("states", [(0, 1), (0, 1, 2)])
def test_closed_streams_of_a_command_that_only_prints(states):
    done = process("spaces", preexec_fn=closed(*states))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == ("" if 2 in states else "error: the output can't be written: standard output is closed\n")


def test_closed_streams_that_a_command_does_not_print_to():
    done = process("spaces", preexec_fn=closed(0, 2))
    assert done.returncode == 0 and "resnext" in done.stdout


@with_full
def test_an_output_that_is_full_is_one_line():
    with FULL.open("w") as full:
        done = process("spaces", "--json", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (1, f"error: the output can't be written: {os.strerror(errno.ENOSPC)}\n")


@with_full
def test_an_error_that_can_t_be_said_keeps_its_status():
    with FULL.open("w") as full:
        assert process("front", "nowhere", stderr=full, stdout=subprocess.PIPE, capture_output=False).returncode == 2


@with_full
@pytest.mark.slow
@pytest.mark.parametrize("to", ["full", "pipe"])
def test_a_search_goes_on_when_its_words_can_t_be_written(tmp_path, to):
    words = ("search", "--space", write_space(tmp_path), *TRIALS, "--out", tmp_path / "run")
    if to == "pipe":
        done, said = unread(*words), ""
    else:
        with FULL.open("w") as full:
            done = process(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        said = f"note: the output can't be written: {os.strerror(errno.ENOSPC)}; the files are whole\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert load_run(tmp_path / "run").status == "done"


# -- the streams themselves --------------------------------------------------------------------------------------------


def test_closed_descriptors_are_taken_before_files_can_get_them():
    code = "from nas.cli.main import streams; streams.make_safe(); import os; print(os.open(os.devnull, os.O_RDONLY) > 2, flush=True)"
    for states in ((0,), (0, 2)):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, preexec_fn=closed(*states)
        )
        assert done.stdout == "True\n"


def sink(number: int, failure: OSError | None = None):
    return streams._Sink(number, failure)


@with_full
def test_a_write_that_fails_is_remembered_and_raises_nothing():
    with FULL.open("w") as full:
        raw = sink(full.fileno())
        assert raw.write(b"abc") == 3
        assert raw.failure is not None and raw.failure.errno == errno.ENOSPC


def test_a_pipe_that_somebody_has_made_non_blocking_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data, taken = b"x" * (1 << 18), bytearray()  # more than a pipe holds
    child = os.fork()
    if not child:
        os.close(writer)
        while piece := os.read(reader, 1 << 16):
            taken += piece
        os._exit(0 if bytes(taken) == data else 1)
    os.close(reader)
    raw, rest = sink(writer), memoryview(data)
    while rest:
        rest = rest[raw.write(rest) :]
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert raw.failure is None


class Broken:
    """A stream of a caller from Python whose reader is gone."""

    encoding = "ascii"

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.said = error, ""

    def write(self, text: str) -> None:
        if self.error:
            raise self.error
        text.encode(self.encoding)
        self.said += text

    def flush(self) -> None: ...


def streams_of_callers() -> Iterable[Broken | None]:
    return [None, Broken(BrokenPipeError()), Broken(OSError(errno.ENOSPC, "full")), Broken(ValueError("closed file"))]


@pytest.mark.parametrize("out", streams_of_callers())
def test_words_from_python_end_no_search(out):
    _print("a word", out)


def test_words_from_python_are_written_out_for_ascii():
    out = Broken()
    _print("2×4", out)
    assert out.said == "2\\xd74\n"
