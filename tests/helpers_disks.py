"""Faults made for real: small disks, clocks that jump, locks that don't reach; and counts of what they cost."""

from __future__ import annotations

import collections
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas.runs.journal_repair import damaged, whole
from nas.runs.layout import JOURNAL
from nas.runs.run import Run, load_run
from nas.utils.files import TEMPORARY, read_json

PAGE = 4096
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

/* Seconds by which the wall clock is wrong at this moment; another jump every 50 ms. */
static long jump(void) {
    static const long jumps[] = {0, 86400L * 400, -86400L * 400, 3600, -7200, 1};
    static int (*real)(clockid_t, struct timespec *);
    struct timespec now;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &now);
    unsigned long slot = now.tv_sec * 20 + now.tv_nsec / 50000000;
    return jumps[(slot * 2654435761UL >> 16) % 6];  /* hashed: a trial takes no whole number of its rounds */
}
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += jump();
    return result;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def jumping_clocks(folder: Path) -> dict[str, str]:
    """The environment in which a process's wall clock jumps by hours and years, back and forth; skips without a C compiler."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(SHIM)
    made = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no C compiler here, of which the clock that jumps is made")
    return {"LD_PRELOAD": str(library)}


@contextmanager
def small_disk(place: Path, size: str = "16m") -> Iterator[Path]:
    """A file system of its own; skips where none may be mounted."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    try:
        refused = subprocess.run(command, capture_output=True, check=False).returncode
    except FileNotFoundError:
        refused = 1
    if refused:
        pytest.skip("file systems can't be mounted here, which takes root's rights")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Write until not one more page goes onto the disk."""
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * PAGE)
        except OSError:
            return


# Runs as every Python of a process and its children starts, Ray's workers too: patches `nas.training.trainer` when that is imported.
SITE = """\
import importlib.abc, importlib.util, os, sys
from pathlib import Path

class Patching(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "nas.training.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            import helpers_disks
            module.Training.epoch = helpers_disks.logged(module.Training.epoch, Path(os.environ["EPOCHS_LOG"]))
        spec.loader.exec_module = exec_module
        return spec

if "EPOCHS_LOG" in os.environ:
    sys.meta_path.insert(0, Patching())
"""


def nas_process(*arguments: object, log: Path, **options) -> subprocess.Popen[str]:
    """`nas ARGUMENTS` as a process that writes each epoch that it or its workers train into `log`."""
    site = log.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    log.touch()
    path = os.pathsep.join([str(site), str(Path(__file__).parent)])
    own = options.pop("environment", {})
    environment = {
        **os.environ,
        "EPOCHS_LOG": str(log),
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "NAS_DEBUG": "",
        **own,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "nas", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


def nas_done(*arguments: object, log: Path, **options) -> tuple[int, str, str]:
    """The same to its end: status, standard output, standard error."""
    process = nas_process(*arguments, log=log, **options)
    said, errors = process.communicate(timeout=280)
    assert "Traceback" not in errors, errors
    return process.returncode, said, errors


def logged(epoch: Callable, log: Path) -> Callable:
    """`Training.epoch` that, when it is trained, writes a line: which network by the shapes of its weights, which epoch."""

    def logging(self):
        found = epoch(self)
        shapes = repr([(name, tuple(weight.shape)) for name, weight in self.network.named_parameters()])
        with log.open("a") as file:
            file.write(f"{hashlib.sha256(shapes.encode()).hexdigest()[:12]} {found.number}\n")
        return found

    return logging


def epochs_twice(log: Path) -> int:
    """How many epochs were trained again, saved or not, over all processes that wrote into the log."""
    assert log.stat().st_size > 0
    counted = collections.Counter(log.read_text().split("\n")[:-1])
    return sum(count - 1 for count in counted.values())


def check_whole(folder: Path) -> None:
    """Nothing in a run folder is torn, and no temporary file is left."""
    data = (folder / JOURNAL).read_bytes()
    assert whole(data) == len(data) and damaged(data) == []
    assert [path for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name)] == []
    for path in folder.rglob("*.json"):
        assert read_json(path) is not None, path


def check_done(folder: Path, trials: int, epochs: int) -> Run:
    """A run in which every trial is complete, with each epoch once, and no network was trained twice."""
    run = load_run(folder)
    assert run.status == "done"
    assert run.count("complete") == trials and run.count("failed") == run.count("running") == 0
    assert all([epoch.number for epoch in trial.epochs] == list(range(1, epochs + 1)) for trial in run.complete())
    digests = [trial.digest for trial in run.complete()]
    assert len(digests) == len(set(digests))
    for trial in run.complete():
        assert read_json(folder / "trials" / str(trial.number) / "result.json")["accuracy"] == trial.accuracy
    check_whole(folder)
    return run


def costs(folder: Path, trials: int, log: Path) -> dict[str, int]:
    """What a run of so many trials has cost by its end, as `Faults.record` takes it: counted, not assumed."""
    run = load_run(folder)
    digests = [trial.digest for trial in run.complete()]
    return {
        "lost": trials - len(run.complete()),
        "trained_twice": len(digests) - len(set(digests)),
        "epochs_twice": epochs_twice(log),
    }
