"""One driver a run: on one machine by the kernel's lock, where that does not reach by signs of life."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time

import pytest
from helpers_search import holding, settings_of

from nas.errors import NasError, UsageError
from nas.runs import lock as locks
from nas.runs.layout import LOCK
from nas.runs.lock import Holder, held, take
from nas.searching.study import Study
from nas.utils.files import UnderLock, take_lock

HOLDER = """\
    import sys, time
    from pathlib import Path
    from nas.runs import lock as locks
    locks.BEAT_SECONDS = 0.1
    lock = locks.take(Path(sys.argv[1]))
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock, and shows a sign of life ten times a second."""
    with holding(HOLDER, tmp_path / LOCK) as process:
        yield process


@pytest.fixture(params=["another machine", "no locks"])
def unreached(request, monkeypatch) -> str:
    """Where the holder's flock says nothing: on another machine whose mount keeps locks to itself, or on a mount without any."""

    def flock(file, how):
        if request.param == "no locks":
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    if request.param == "another machine":
        monkeypatch.setattr(locks, "boot", lambda: "another-boot")
    return request.param


def test_it_is_given_back(tmp_path):
    path = tmp_path / LOCK
    for _ in range(2):
        lock = take(path)
        assert held(path) and Holder.of(path) == Holder.me() and lock.took_over == ""
        lock.release()
        assert not held(path) and Holder.of(path) is None
    assert not held(tmp_path / "nothing")


def test_signs_of_life_keep_another_machine_out(tmp_path, holder, unreached, monkeypatch, faults):
    monkeypatch.setattr(locks, "WATCH_SECONDS", 60.0)
    before = (tmp_path / LOCK).read_bytes()
    with pytest.raises(
        UsageError, match=rf"process {holder.pid} on \S+\); its lock does not reach this machine, but it shows"
    ):
        take(tmp_path / LOCK)
    assert (tmp_path / LOCK).read_bytes() == before
    if unreached == "another machine":
        assert held(tmp_path / LOCK)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    monkeypatch.setattr(locks, "WATCH_SECONDS", 1.0)
    lock = take(tmp_path / LOCK)
    assert lock.took_over.startswith(f"from process {holder.pid} on ")
    lock.release()
    faults.record(
        "two drivers where locks don't reach",
        made="flock without effect, or refused, in the second of two processes; then the first is killed",
        lost=0, trained_twice=0, epochs_twice=0,
        then="the second sees that the first is alive and is refused (2); 20 s after the last sign of life it takes over, and says so",
    )  # fmt: skip


def test_a_holder_of_this_machine_that_died_is_not_waited_for(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(locks, "beats", lambda path: pytest.fail("nobody needs to watch: the kernel says it"))
    holder.kill()
    holder.wait()
    assert Holder.of(tmp_path / LOCK) is not None
    take(tmp_path / LOCK).release()


def test_a_driver_whose_run_was_taken_over_stops(tmp_path, monkeypatch):
    """It was away for longer than the other one waited: two would write into one journal."""
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    settings = settings_of(trials=2)
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        job = study.ask()
        (tmp_path / LOCK).write_text("process 5 on elsewhere, boot 0")
        until = time.monotonic() + 60
        while not study._lock._lost and time.monotonic() < until:
            time.sleep(0.01)
        for call in (study.ask, lambda: study.tell(job.key)):
            with pytest.raises(NasError, match="process 5 on elsewhere has taken this run over"):
                call()
    assert Holder.of(tmp_path / LOCK) == Holder(5, "elsewhere", "0"), "the other one's lock is left alone"


def test_a_folder_that_can_t_be_written_to(tmp_path):
    with pytest.raises(NasError, match="can't be written"):
        take(tmp_path / "nothing" / LOCK)
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(NasError, match="can't be written"):
            take(tmp_path / LOCK)


def test_what_fails_behind_its_lock_lets_it_go(tmp_path):
    class Work(UnderLock):
        fails = True

        def _enter(self) -> None:
            self._held.enter_context(take_lock(tmp_path / "lock", "another works here"))
            if self.fails:
                raise ValueError("behind the lock")

    first, second = Work(), Work()
    with pytest.raises(ValueError, match="behind the lock"):
        first.__enter__()
    second.fails = False
    with second, pytest.raises(UsageError, match="another works here"):
        first.__enter__()
    first.fails = False
    with first:
        pass
