"""Faults of the driver's process, of its machine's memory and of a worker that outlives it: real `nas` processes, and what they cost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers_faults import LEFT_BYTES, LOG, losses, plan, state_of
from helpers_search import CONDITIONAL, environment, settings_of, training_data
from reliability import Faults

from nas.execution import local
from nas.execution.job import ATTEMPT, Job
from nas.runs.attempts import RETRIES, Cause
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.progress import Tally
from nas.searching.study import Study
from nas.training.records import Epoch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = Path(__file__).parents[1]
EPOCHS = 4
SECONDS = 400.0  # on a machine where others work too


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "space.yaml").write_text(CONDITIONAL)
    return tmp_path


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def search(home: Path, *options: str) -> list[str]:
    """What begins the run `home/run`."""
    common = "--space space.yaml --out run --sampler random --max-images 200 --precision fp32 --device cpu"
    return ["search", *common.split(), "--epochs", str(EPOCHS), *options]


def nas(home: Path, arguments: list[str], **variables: str) -> subprocess.Popen[bytes]:
    """The command line with instrumented workers, in a process group of its own; what it says goes to `home/said`."""
    with (home / "said").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, str(HERE / "faulty_nas.py"), *arguments],
            cwd=home, stdout=said, stderr=said, env=environment() | {"COLUMNS": "120"} | variables, start_new_session=True,
        )  # fmt: skip


def said(home: Path) -> str:
    return " ".join((home / "said").read_text().split())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], home: Path) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, said(home)
        assert time.monotonic() < until, said(home)
        time.sleep(0.05)


def lines(home: Path) -> list[str]:
    """What the workers logged so far."""
    path = home / "run" / LOG
    return path.read_text().splitlines() if path.exists() else []


def epochs(home: Path) -> int:
    """How many the workers have trained so far."""
    return sum(" done " in line for line in lines(home))


def finish(home: Path, *options: str) -> None:
    process = nas(home, ["resume", "run", *options])
    assert process.wait(SECONDS) == 0, said(home)


def check(home: Path, trials: int) -> None:
    run = load_run(home / "run")
    assert run.status == "done" and run.count("complete") == trials and run.count("failed") == run.count("running") == 0
    assert all([epoch.number for epoch in trial.epochs] == list(range(1, EPOCHS + 1)) for trial in run.complete())
    assert len({trial.digest for trial in run.complete()}) == trials


@pytest.mark.parametrize(("executor", "kills"), [("ray", 20), ("local", 10)])
def test_a_driver_killed_at_random_moments(
    home: Path, faults: Faults, request: pytest.FixtureRequest, executor: str, kills: int
) -> None:
    """From its start to its work, with the whole process group or (Ray) alone, so that its workers outlive it for a while."""
    if request.config.getoption("--reliability") is None:  # the page has the figures of all of them
        kills //= 3
    rng, trials, at_once = random.Random(11), 8, 2 if executor == "ray" else 1
    arguments = search(
        home, "--trials", str(trials), "--executor", executor, *(("--workers", "2") if at_once > 1 else ())
    )
    startup, killed = 0.0, 0
    most, idle, trained = (
        RETRIES[Cause.PROCESS],
        0,
        0,
    )  # a process that dies oftener in one epoch is taken for the trial's fault
    while killed < kills:
        begun = time.monotonic()
        process = nas(home, arguments)
        if not startup:  # how long it takes until something is trained here
            wait_for(lambda: len(lines(home)) >= 3, process, home)
            startup = time.monotonic() - begun
        else:
            time.sleep(rng.uniform(0.0, 1.5 * startup))
        while at_once == 1 and idle == most and epochs(home) < trained + 2 and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            if killed % 2 and executor == "ray":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        assert process.wait() in (0, -signal.SIGKILL), said(home)
        if process.returncode == 0:  # it was faster than we
            trials += 8
        # Of two epochs that were trained one is on the disk.
        idle, trained = (0, epochs(home)) if epochs(home) >= trained + 2 else (idle + 1, trained)
        arguments = ["resume", "run", "--trials", str(trials)]
    ended = {path: path.read_bytes() for path in home.glob("run/trials/*/result.json")}
    process = nas(home, arguments)
    assert process.wait(SECONDS) == 0, said(home)
    check(home, trials)
    assert {path: path.read_bytes() for path in ended} == ended
    cost = losses(home / "run")
    assert (cost.lost, cost.trained_twice) == (0, 0)
    assert cost.epochs_twice <= at_once * kills
    faults.record(
        f"driver killed at random moments ({executor})",
        made=f"SIGKILL {kills} times at random moments, until {trials} trials were trained ({cost.epochs} epochs)",
        **cost.counts(),
        then="`nas resume` continues under the same numbers; only interrupted epochs run again",
    )


@pytest.mark.parametrize(
    ("fault", "signals", "then"),
    [
        ("Ctrl-C once", [signal.SIGINT], "stops after the current epochs, exit code 130, says how to resume"),
        ("Ctrl-C twice", [signal.SIGINT, signal.SIGINT], "stops at once, exit code 130, says how to resume"),
        ("SIGTERM", [signal.SIGTERM], "stops at once, exit code 130, says how to resume"),
    ],
    ids=["once", "twice", "term"],
)
def test_a_driver_that_is_asked_to_stop(
    home: Path, faults: Faults, fault: str, signals: list[signal.Signals], then: str
) -> None:
    first, *again = signals
    # Once asked, it waits for an epoch that never ends: it is still at work when it is asked again.
    planned = plan(home, {"1": {"fault": "sleep", "epoch": 2, "times": 1}}) if again else {}
    process = nas(home, search(home, "--trials", "40", "--workers", "2"), **planned)
    wait_for(lambda: any(" ended " in line for line in lines(home)), process, home)
    if planned:
        wait_for(lambda: (home / "run" / "made-1-0").exists(), process, home)
    process.send_signal(first)
    for number in again:
        wait_for(lambda: "press Ctrl-C again" in said(home), process, home)
        process.send_signal(number)
    assert process.wait(SECONDS) == 130, said(home)
    assert "nas resume run" in said(home)
    trained = load_run(home / "run").count("complete") + 2
    process = nas(home, ["resume", "run", "--trials", str(trained)])
    assert process.wait(SECONDS) == 0, said(home)
    cost = losses(home / "run")
    assert (cost.lost, cost.trained_twice) == (0, 0)
    assert cost.epochs_twice <= (0 if fault == "Ctrl-C once" else 2)
    faults.record(
        fault,
        made=f"{' and '.join(number.name for number in signals)} to the driver during its work, two trials at once",
        **cost.counts(),
        then=then,
    )


def test_a_trial_that_hangs_in_the_drivers_own_process(home: Path, faults: Faults) -> None:
    planned = plan(home, {"0": {"fault": "sleep", "epoch": 2, "times": 99}})
    process = nas(home, search(home, "--trials", "3", "--executor", "local", "--trial-timeout", "20s"), **planned)
    assert process.wait(SECONDS) == 1, said(home)
    assert "trial 0: not done within --trial-timeout 20 s" in said(home) and "nas resume" in said(home)
    process = nas(home, ["resume", "run"], **planned)
    assert process.wait(SECONDS) == 1, said(home)
    finish(home, "--trial-timeout", "300s")  # the other trials may be slow on a machine where others work too
    run = load_run(home / "run")
    assert run.status == "done" and run.count("complete") == 3
    assert (run.trial(0).state, run.trial(0).cause, run.trial(0).attempts) == ("failed", "time limit", 2)
    cost = losses(home / "run")
    assert (cost.lost, cost.trained_twice, cost.epochs_twice) == (0, 0, 1)
    faults.record(
        "hung trial, --trial-timeout, --executor local",
        made="an epoch that never ends, always",
        **cost.counts(),
        then="the process ends with the reason and the command to resume (`nas resume`, `nas confirm`), which fails the trial after the "
        "second time",
    )


def test_host_memory_that_runs_out(home: Path, faults: Faults) -> None:
    """Ray's memory monitor, told that the machine is full at so much more than is in use, ends a worker that takes ever more."""
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    used, total = get_used_memory(), get_system_memory()
    # Wide, since what others on the machine take meanwhile is taken from it; and they must have room when it is used up.
    margin = min(10 << 30, total - used - 2 * LEFT_BYTES)
    if margin < 7 << 30:
        pytest.skip(f"it takes 11 GiB of free memory; {(total - used) / 2**30:.1f} GiB are free here")
    limits = {"RAY_memory_usage_threshold": f"{(used + margin) / total:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    hungry = {
        "0": {"fault": "host memory", "epoch": 2, "times": 1},
        "1": {"fault": "host memory", "epoch": 2, "times": 99},
    }
    process = nas(home, search(home, "--trials", "3", "--workers", "1"), **limits, **plan(home, hungry))
    assert process.wait(SECONDS) == 0, said(home)
    run = load_run(home / "run")
    assert run.status == "done" and run.count("complete") == 3
    assert (run.trial(0).state, run.trial(0).attempts) == ("complete", 2)
    assert (run.trial(1).state, run.trial(1).cause, run.trial(1).attempts) == ("failed", "host out of memory", 3)
    assert "host out of memory: Ray's memory monitor ended its process; resumes from its last epoch" in said(home)
    cost = losses(home / "run")
    assert (cost.lost, cost.trained_twice, cost.epochs_twice) == (0, 0, 2)  # of the two trials, one each
    faults.record(
        "host out of memory",
        made="a worker that allocates until Ray's memory monitor kills it: in one trial once, in another always",
        **cost.counts(),
        then="the trial continues from its last epoch; the other one fails after 3 attempts",
    )


WORKER = """\
import json, sys
from helpers_faults import instrument
from helpers_search import training_data
from nas.execution.job import Job
from nas.training.recipe import Recipe
from nas.execution.trial_training import TrialTraining
instrument()
settings, job = json.load(sys.stdin)
for epoch in TrialTraining(training_data(), Recipe.from_dict(settings), device="cpu", precision="fp32").run(Job.from_dict(job)):
    pass
"""
DRIVER = """\
import json, subprocess, sys
from pathlib import Path
from nas.runs.settings import Settings
from nas.searching.study import Study
folder = Path(sys.argv[1])
settings = Settings.load(folder)
with Study(folder, settings) as study:
    job = study.ask()
    worker = subprocess.Popen([sys.executable, "-c", sys.argv[2]], stdin=subprocess.PIPE, text=True, start_new_session=True)
    worker.stdin.write(json.dumps([settings.recipe.to_dict(), job.to_dict()]))
    worker.stdin.close()
    print(worker.pid, flush=True)
    worker.wait()
"""


@pytest.mark.parametrize("meanwhile", ["in training", "ended"])
def test_a_worker_that_outlives_its_driver_writes_nothing(
    tmp_path: Path, faults: Faults, processes: list[subprocess.Popen[bytes]], meanwhile: str
) -> None:
    """It is stopped in mid-epoch, its driver killed, its trial taken over by another driver, and then it goes on."""
    folder = tmp_path / "run"
    folder.mkdir()
    recipe = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.05, "warmup_epochs": 0.5}
    settings = settings_of(trials=1, recipe=recipe, executor={"kind": "ray"}, device="cpu")
    settings.save(folder)
    plan(folder, {"0": {"fault": "stop", "epoch": 2, "times": 1}})
    errors = (tmp_path / "said").open("wb")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), WORKER], stdout=subprocess.PIPE, stderr=errors, env=environment()
    )
    processes.append(driver)
    assert driver.stdout is not None
    orphan = int(driver.stdout.readline())
    wait_for(lambda: state_of(orphan) == "T", driver, tmp_path)
    driver.kill()
    driver.wait()
    with Study(folder, Settings.load(folder)) as study:
        if meanwhile == "ended":
            again = Reported(study)
            local.run(study, training_data(), again, lambda: False)
        else:
            study.ask()
        before = contents(folder / "trials" / "0")
        os.kill(orphan, signal.SIGCONT)
        until = time.monotonic() + SECONDS
        while state_of(orphan) not in ("", "Z"):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert contents(folder / "trials" / "0") == before
    assert b"Fenced: 0: the trial was handed out to another worker, or has ended" in (tmp_path / "said").read_bytes()
    if meanwhile == "in training":
        return
    run = load_run(folder)
    assert run.count("complete") == 1 and [epoch.number for epoch in run.trial(0).epochs] == [1, 2, 3, 4]
    assert not (folder / "trials" / "0" / ATTEMPT).exists()
    begun = {int(line.split()[2]) for line in (folder / LOG).read_text().splitlines() if " begun " in line}
    cost = losses(folder)
    assert again.numbers == [2, 3, 4] and (cost.lost, cost.trained_twice) == (0, 0)
    faults.record(
        "worker that outlives its driver",
        made="suspended during an epoch; its driver is killed, a new one takes over the trial, then the worker is resumed",
        lost=cost.lost,
        trained_twice=cost.trained_twice,
        epochs_twice=len(begun.intersection(again.numbers)),
        then="it writes nothing and stops, because the trial was assigned again",
    )


class Reported(Tally):
    """Keeps the numbers of the epochs that were trained."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.numbers: list[int] = []

    def epoch(self, job: Job, epoch: Epoch) -> None:
        super().epoch(job, epoch)
        self.numbers.append(epoch.number)


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
