"""Every reader of files on inputs that nobody meant: what comes out is the content, or a clear error. The inputs: `fuzzing.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.errors import NasError

NAMES = (
    *("space", "space that extends", "config.yaml", "config.json", "--set", "run.yaml", "sessions.json", "journal"),
    *(
        "journal of a resumed run",
        "trial's result.json",
        "baseline's result.json",
        "epochs.json",
        "trial's gradients.json",
    ),
    *("training's result.json", "comparison's result.json", "repeats.jsonl", "table", "npz"),
    *("metadata.csv", "metadata.jsonl", "weights.pth", "weights.safetensors"),
)
EXAMPLES = {
    "journal of a resumed run": 10,
    "training's result.json": 5,
}  # others 25: these take a tenth of a second each


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> dict[str, fuzzing.Reader]:
    return fuzzing.readers(tmp_path_factory.mktemp("fuzzing"))


def test_no_reader_is_left_out(readers):
    assert tuple(readers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_read_or_refused_in_a_line(readers, name):
    reader = readers[name]
    assert fuzzing.outcome(reader, reader.valid) == "read"

    @settings(max_examples=EXAMPLES.get(name, 25), deadline=None, suppress_health_check=list(HealthCheck))
    @given(random=st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        fuzzing.outcome(reader, fuzzing.mutated(reader.valid, reader.kind, random))

    check()


def test_faults_that_long_runs_have_found(readers):
    """Half a character in the name of a choice, which no table takes; settings without the version that exports name."""
    journal, settings_ = readers["journal"], readers["run.yaml"]
    assert b'"param_name":"block"' in journal.valid and b"  nas:" in settings_.valid
    broken = journal.valid.replace(b'"param_name":"block"', b'"param_name":"\\ud800"')
    assert fuzzing.outcome(journal, broken) == "UsageError"
    assert fuzzing.outcome(settings_, settings_.valid.replace(b"  nas:", b"  sna:")) == "UsageError"


@pytest.mark.slow
def test_thousands_of_inputs_within_little_memory():
    script = Path(fuzzing.__file__)
    command = [sys.executable, str(script), "--inputs", "4000", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4,000 inputs, 0 findings" in done.stdout


class TwoLines(NasError):
    """An error that escapes what `NasError` does to messages."""

    def __str__(self) -> str:
        return "two\nlines"


def test_a_reader_that_trips_is_found():
    def read(data: bytes) -> None:
        if data.startswith(b"1"):
            raise NasError("no one")
        if data.startswith(b"2"):
            raise TwoLines
        if data.startswith(b"3"):
            raise KeyError("three")

    reader = fuzzing.Reader(b"0", "bytes", read)
    assert fuzzing.outcome(reader, b"0") == "read"
    assert fuzzing.outcome(reader, b"1") == "NasError"
    with pytest.raises(AssertionError, match="several lines"):
        fuzzing.outcome(reader, b"2")
    with pytest.raises(KeyError):
        fuzzing.outcome(reader, b"3")


def test_a_reader_that_hangs_is_found(monkeypatch):
    monkeypatch.setattr(fuzzing, "SECONDS", 1)

    def read(data: bytes) -> None:
        while True:
            pass

    with pytest.raises(TimeoutError):
        fuzzing.outcome(fuzzing.Reader(b"", "bytes", read), b"")


def test_inputs_differ_and_are_repeated_by_their_number():
    valid = b'{"a": [1, 2, {"b": "c"}], "d": 1.5}'
    first = [fuzzing.mutated(valid, "json", Random(k)) for k in range(200)]
    assert first == [fuzzing.mutated(valid, "json", Random(k)) for k in range(200)]
    assert len(set(first)) > 120
