"""One driver a run, in real processes, and what is left when it is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from helpers_search import CONDITIONAL, again, begin, environment, finish, holding, settings_of

from nas.errors import UsageError
from nas.runs import lock as locks
from nas.runs.layout import JOURNAL, LOCK
from nas.runs.run import load_run

HOLDER = """\
    import sys, time
    from pathlib import Path
    from nas.runs.settings import Settings
    from nas.searching.study import Study
    folder = Path(sys.argv[1])
    with Study(folder, Settings.load(folder)) as study:
        study.ask()
        print("holds", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that drives the run in `tmp_path`."""
    with begin(tmp_path, trials=2):
        pass
    with holding(HOLDER, tmp_path) as process:
        yield process


def test_a_second_driver_is_refused_until_the_first_is_killed(tmp_path, holder):
    journal = (tmp_path / JOURNAL).read_bytes()
    for _ in range(2):
        with (
            pytest.raises(UsageError, match=rf"another driver works on this run \(process {holder.pid} on "),
            again(tmp_path),
        ):
            pass
    assert load_run(tmp_path).status == "running"
    assert (tmp_path / JOURNAL).read_bytes() == journal
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert load_run(tmp_path).status == "unfinished"
    with again(tmp_path) as study:
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
        assert study.recovered == ["resumed trial 0"]
        assert len(finish(study)) == 2
    assert load_run(tmp_path).status == "done"


def test_a_second_driver_in_this_process_is_refused(tmp_path):
    with begin(tmp_path, trials=1), pytest.raises(UsageError, match=f"process {os.getpid()} on"), again(tmp_path):
        pass


def test_readers_do_not_keep_a_driver_out(tmp_path, monkeypatch):
    """Whoever looks whether a run is active holds its lock for an instant; the driver waits for it."""
    with begin(tmp_path, trials=1):
        pass
    look = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", look, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        reader.stdout.readline()
        sleep = time.sleep

        def waits(seconds: float) -> None:
            reader.stdin.close()  # the reader is done once the driver has waited
            sleep(seconds)

        monkeypatch.setattr(locks, "READERS_SECONDS", 60.0)
        monkeypatch.setattr(locks.time, "sleep", waits)
        with again(tmp_path) as study:
            assert reader.stdin.closed and len(finish(study)) == 1


# It trains as many networks as lines come to it, and all that are left once none can come.
DRIVER = """\
    import sys
    from pathlib import Path
    from make_run import result_of
    from nas.utils.files import write_json
    from nas.runs.settings import Settings
    from nas.searching.study import Study
    folder = Path(sys.argv[1])
    with Study(folder, Settings.load(folder)) as study:
        print("open", flush=True)
        sys.stdin.readline()
        while (job := study.ask()) is not None:
            assert not job.result_path.exists(), f"{job.key} is trained twice"
            result_of(job).write(job.folder)
            study.tell(job.key)
            sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_at_random_moments_loses_nothing(tmp_path):
    """Each driver but the last is allowed fewer networks than are left, so it is alive when it is killed."""
    rng, trials, kills = random.Random(4), 30, 5
    with begin(tmp_path, settings_of(CONDITIONAL, trials=trials, budgets={"params": [None, 4000]})):
        pass
    for attempt in range(kills + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        assert process.stdout.readline() == "open\n", process.stderr.read()
        if attempt < kills:
            allowed = rng.randint(1, 5)
            process.stdin.write(allowed * "\n")
            process.stdin.flush()
            time.sleep(rng.uniform(0, 0.012) * allowed)
            process.kill()
        _, errors = process.communicate()
        assert errors == ""
        assert process.returncode == (-signal.SIGKILL if attempt < kills else 0)
    run = load_run(tmp_path)
    assert run.status == "done" and run.count("complete") == trials and run.count("running") == 0
    assert len({trial.digest for trial in run.complete()}) == trials
