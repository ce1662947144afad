"""Disks that fill up, for real: a small file system that has not one page left at the moment of a write.

No trial is failed for it, nothing is torn, and once there is room `nas resume` goes on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers_cli import nas_, output
from helpers_disks import check_done, check_whole, costs, epochs_twice, fill, logged, nas_done, nas_process, small_disk
from helpers_search import CONDITIONAL, TINY, settings_of, write_space
from make_run import changed

from nas.errors import UsageError, WriteError
from nas.runs.doctor import examine, healthy
from nas.runs.layout import JOURNAL
from nas.runs.run import load_run
from nas.searching.disk_space import PAGE_BYTES, check_room, needed
from nas.training.trainer import Training
from nas.utils.files import write_text, write_with

TRIALS, EPOCHS = 3, 3
OPTIONS = ("--trials", TRIALS, "--epochs", EPOCHS, "--max-images", 200, "--executor", "local", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


class Watch:
    """Called when a file is about to be opened whose path a pattern matches, the `nth` time. Python can't take the hook away."""

    def __init__(self) -> None:
        self.pattern, self.nth, self.then = "", 0, lambda: None
        sys.addaudithook(self._heard)

    def arm(self, pattern: str, nth: int, then: Callable[[], None]) -> None:
        self.pattern, self.nth, self.then = pattern, nth, then

    def _heard(self, event: str, arguments: tuple) -> None:
        if event != "open" or not self.nth or not isinstance(arguments[0], (str, os.PathLike)):
            return
        writes = arguments[1] is not None and set(arguments[1]) & set("wax")
        if writes and re.search(self.pattern, str(arguments[0])):
            self.nth -= 1
            if not self.nth:
                self.then()


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """Where the epochs that this process trains are written down."""
    log = tmp_path / "epochs.log"
    monkeypatch.setattr(Training, "epoch", logged(Training.epoch, log))
    return log


WRITES = {
    "journal": (rf"{JOURNAL}$", 4),
    "checkpoint": (r"/\.checkpoint\.pt\.", 3),
    "record of epochs": (r"/\.epochs\.json\.", 3),
    "result": (r"/\.result\.json\.", 2),
    "time accounting": (r"/\.sessions\.json\.", 1),
    "report": (r"/\.report\.html\.", 1),
    "front": (r"/front/\.", 1),
}
SLOW = [pytest.param(name, marks=[] if name in ("journal", "checkpoint") else pytest.mark.slow) for name in WRITES]


@pytest.mark.parametrize("name", SLOW)
def test_a_disk_that_is_full_at_a_write(disk, tmp_path, watch, log, faults, name):
    space, folder, ballast = write_space(tmp_path), disk / "run", disk / "ballast"
    watch.arm(*WRITES[name], lambda: fill(ballast))
    full = nas_("search", "--space", space, *OPTIONS, "--out", folder)
    assert full.exit_code == 1, full.output
    (line,) = full.stderr.splitlines()
    assert re.match(r"error: \S+: can't be written: No space left on device \(\S+ \S+ of 16.0 MiB free\); ", line)
    assert f"continue with: nas resume {folder}" in line
    check_whole(folder)
    assert all(trial.state != "failed" for trial in load_run(folder).trials)
    ballast.unlink()
    done = nas_("resume", folder)
    assert done.exit_code == 0, done.output
    check_done(folder, TRIALS, EPOCHS)
    assert healthy(examine(folder))
    assert epochs_twice(log) <= 1
    faults.record(
        f"disk full: {name}", made="a tmpfs without one free page at that write",
        **costs(folder, TRIALS, log),
        then="ends with 1 and says what failed, where, how much is free and how to resume; `nas resume` continues when there is room",
    )  # fmt: skip


def test_a_run_that_is_resumed_on_a_disk_that_is_still_full(disk, tmp_path, watch):
    space, folder, ballast = write_space(tmp_path), disk / "run", disk / "ballast"
    watch.arm(*WRITES["checkpoint"], lambda: fill(ballast))
    for command in (("search", "--space", space, *OPTIONS, "--out", folder), ("resume", folder), ("resume", folder)):
        full = nas_(*command)
        assert full.exit_code == 1 and "No space left on device" in full.stderr, full.output
        check_whole(folder)
    ballast.unlink()
    assert nas_("resume", folder).exit_code == 0
    check_done(folder, TRIALS, EPOCHS)


def test_a_disk_that_is_full_when_a_search_begins(disk, tmp_path, watch, faults):
    space, folder, ballast = write_space(tmp_path), disk / "run", disk / "ballast"
    watch.arm(r"/\.run\.yaml\.", 1, lambda: fill(ballast))
    full = nas_("search", "--space", space, *OPTIONS, "--out", folder)
    assert full.exit_code == 1 and "run.yaml: can't be written: No space left on device" in full.stderr
    assert not folder.exists(), "what could not be begun leaves nothing"
    faults.record(
        "disk full: run.yaml", made="a tmpfs without one free page when the search begins",
        lost=0, trained_twice=0, epochs_twice=0, then="ends with 1, and leaves no folder",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_disk_that_fills_up_under_ray_workers(disk, tmp_path, faults):
    """Whichever write of the driver or of a worker it is that fails: the disk is kept full until the driver ends."""
    space, folder, ballast, log = write_space(tmp_path, CONDITIONAL), disk / "run", disk / "ballast", tmp_path / "log"
    # More trials than any machine has done by the time that the disk is full; what is searched to the end is far less.
    options = ("--trials", 60, "--epochs", 6, "--max-images", 400, "--workers", 2, "--out", folder)
    driver = nas_process("search", "--space", space, *options, log=log)
    until = time.monotonic() + 400
    while not list(folder.glob("trials/*/result.json")):
        assert driver.poll() is None and time.monotonic() < until, driver.communicate()
        time.sleep(0.02)
    while driver.poll() is None and time.monotonic() < until:
        fill(ballast)
        time.sleep(0.01)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 1, errors
    assert "No space left on device" in errors and f"nas resume {folder}" in errors and "Traceback" not in errors
    ended = {path: path.read_bytes() for path in folder.glob("trials/*/result.json")}
    assert 0 < len(ended) < 60
    ballast.unlink()
    trials = len(list((folder / "trials").iterdir())) + 1
    code, _, errors = nas_done("resume", folder, "--trials", trials, log=log)
    assert code == 0, errors
    check_done(folder, trials, 6)
    assert all(path.read_bytes() == data for path, data in ended.items())
    assert epochs_twice(log) <= 2, "of each worker the one in flight"
    faults.record(
        "disk full under Ray workers", made="a tmpfs that fills up while two workers train, and stays full until the driver ends",
        **costs(folder, trials, log),
        then="no trial fails; the driver ends with 1, `nas resume` continues, and each worker's interrupted epoch is run again",
    )  # fmt: skip


LIMITED = """\
import resource, sys
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
sys.argv[0] = "nas"
from nas.cli.main import main
main()
"""


@pytest.mark.slow
def test_files_may_not_grow_any_more(tmp_path):
    """RLIMIT_FSIZE, which needs no rights: as a quota would, it cuts a write off in its midst."""
    space, folder = write_space(tmp_path), tmp_path / "run"
    arguments = ["search", "--space", space, *OPTIONS, "--out", folder]
    limited = subprocess.run(
        [sys.executable, "-c", LIMITED, "20000", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert limited.returncode == 1, limited.stderr
    assert "can't be written: File too large" in limited.stderr and f"nas resume {folder}" in limited.stderr
    assert "Traceback" not in limited.stderr
    check_whole(folder)
    assert nas_("resume", folder).exit_code == 0
    check_done(folder, TRIALS, EPOCHS)


APPEND = """\
import resource, sys
from pathlib import Path
from nas.errors import WriteError
from nas.runs.journal import Lines
path = Path(sys.argv[1])
journal = Lines(path)
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, size + 50))
try:
    journal.append_logs([{"op_code": 2, "worker_id": "", "study_id": 0, "user_attr": {"a": "b" * 200}}])
except WriteError as error:
    assert "study.journal: can't be written: File too large" in str(error), error
    assert path.stat().st_size == size, "half a line is left"
    print("refused")
"""


def test_half_a_line_is_not_left_in_the_journal(tmp_path):
    path = tmp_path / JOURNAL
    path.write_text('{"op_code": 0, "worker_id": "", "study_name": "nas", "directions": [2]}\n')
    done = subprocess.run([sys.executable, "-c", APPEND, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def test_a_write_that_fails_leaves_what_was_there(disk):
    path = disk / "file"
    write_text(path, "before")
    fill(disk / "ballast")
    with pytest.raises(
        WriteError, match=r"/file: can't be written: No space left on device \(0 bytes of 16\.0 MiB free\)"
    ):
        write_text(path, "after" * 10_000)
    import torch

    with pytest.raises(WriteError, match="No space left on device"):  # torch.save hides the reason behind its own
        write_with(path, lambda file: torch.save({"a": torch.zeros(100_000)}, file), keep=disk / "kept")
    assert path.read_text() == "before" and sorted(p.name for p in disk.iterdir()) == ["ballast", "file"]


def test_errors_of_what_is_written_are_not_the_disk_s(tmp_path):
    def fails(file):
        try:
            (tmp_path / "nothing").read_text()
        except OSError:
            raise UsageError("the image is torn") from None

    with pytest.raises(UsageError, match="the image is torn"):
        write_with(tmp_path / "file", fails)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_permissions_are_the_umask_s_and_stay_as_they_were_changed(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "deep" / "file", "1")
        assert (tmp_path / "deep" / "file").stat().st_mode & 0o777 == 0o666 & ~mask
        assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o777 & ~mask
        (tmp_path / "deep" / "file").chmod(0o640)
        write_text(tmp_path / "deep" / "file", "2")
        assert (tmp_path / "deep" / "file").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


# -- before a search ---------------------------------------------------------------------------------------------------


def test_a_search_that_the_disk_can_t_hold_is_refused(tmp_path, watch):
    space = write_space(tmp_path)
    with small_disk(tmp_path / "tiny", "2m") as disk:
        refused = nas_("search", "--space", space, *OPTIONS, "--out", disk / "run")
        assert refused.exit_code == 2
        assert re.search(
            r"the disk has no room for this run \(\S+ \S+ of 2.0 MiB free; it may take about 5\.\d MiB", refused.stderr
        )
        assert list(disk.iterdir()) == []


def test_a_search_that_is_to_be_confirmed_has_room_for_that_or_is_refused(tmp_path):
    """A thousand seeds take more than twice the disk that the search alone is well off with."""
    space = write_space(tmp_path)
    with small_disk(tmp_path / "small", "14m") as disk:
        words = ("search", "--space", space, *OPTIONS)
        refused = nas_(*words, "--confirm", 1000, "--out", disk / "run")
        assert refused.exit_code == 2 and "the disk has no room for this run" in refused.stderr
        assert list(disk.iterdir()) == []
        assert "nearly full" not in output(*words, "--out", disk / "run")


def test_what_a_run_needs_grows_with_what_it_keeps(tmp_path):
    from dataclasses import replace

    settings = settings_of(TINY, trials=10)
    base = needed(settings, 1)
    assert needed(settings, 9) > base < needed(replace(settings, trials=1000), 1)
    larger = changed(settings, recipe={"ema": 0.9, "epochs": 100})
    assert needed(larger, 1) > base
    said: list[str] = []
    check_room(tmp_path, settings, said.append)
    assert said == []
    few, many = (needed(replace(settings, trials=trials), 1, 3) - needed(replace(settings, trials=trials), 1)
                 for trials in (10, 1_000_000))  # fmt: skip
    assert needed(settings, 1, 4) > needed(settings, 1, 3) > base
    assert few < many == 10 * few, "no front has a million networks"


@pytest.mark.slow
def test_the_estimate_holds_what_a_run_takes(tmp_path, log):
    """Journal and results of a real run, without the page, are within what was foreseen for them."""
    folder = tmp_path / "run"
    assert nas_("search", "--space", write_space(tmp_path), *OPTIONS, "--out", folder).exit_code == 0
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    page = (folder / "report.html").stat().st_size
    from nas.runs.settings import Settings

    # The page is taken to bring the whole of Plotly's script, as it does with one that nobody has looked at.
    assert taken <= needed(Settings.load(folder), 1) <= 3 * (taken - page + PAGE_BYTES)
