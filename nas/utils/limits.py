"""How much of anything is read or built. What is larger is refused, in a line that names the limit, before memory is used.

A file's bytes are counted before it is parsed; what a file asks for (stages, pixels, values) is counted before it is made.
Each number lies far above what research needs and far below what a machine of a few GiB holds. docs/security.md lists them.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from nas.errors import UsageError

# -- files, in bytes -----------------------------------------------------------------------------------------------------

CONFIG_BYTES = 1 << 20  # spaces, configs, run.yaml: the largest shipped one has 10 KB
RECORD_BYTES = 64 << 20  # the JSON of a run folder; a result of 1,000 classes and 200 epochs has 5 MB
INDEX_BYTES = 1 << 30  # the JSON that our own caches of images keep: a line for each of some ten million files
JOURNAL_BYTES = 4 << 30  # about 400,000 trials
JOURNAL_LINE_BYTES = 4 << 20  # one trial's facts have 10 KB
TABLE_BYTES = 256 << 20  # `nas bench --table`, unpacked; a table is held in memory as a whole
PIPE_SECONDS = 5  # that a named pipe is waited for in place of a file
WEIGHTS_FACTOR = 4  # bytes that tensors may take for each byte of the file that they come from

# -- what a config may ask for -------------------------------------------------------------------------------------------

STAGES = 64
SPACE_STAGES = 16  # each has its own knobs
DEPTH = 1024  # blocks of a stage; the deepest published residual net has 1,001 layers
WIDTH = 1 << 20  # channels
RESOLUTION = 1 << 14  # pixels of a side
CHANNELS = 1 << 12  # of the images
STRIDE = 16
NAME = 200  # characters
CLASS_NAME = 255  # characters, as many as a folder's name may have
DIGITS = 64  # of a number in a config; Python refuses to print, and so to report, one of thousands
VALUES = 10_000  # of a knob: a domain is meant to be read; a typing slip in YAML must not fill the memory
CHAIN = 8  # spaces that extend one another
CLASSES = 1 << 20  # as MAX_OPTION of every whole number that a part has
TRIALS = 10_000_000  # of a run
WORKERS = 1_000_000  # that are asked for

# -- tables of benchmarks ------------------------------------------------------------------------------------------------

ROWS = 1_000_000
COLUMNS = 1_000
CELLS = 30_000_000  # a cell is an object of 50 bytes and more
LEVELS = 256  # values of a choice

BYTES_A_PARAM = 4  # of a network as it is built, fp32
BYTES_A_BLOCK = 100_000  # of its Python objects: measured without its parameters, 29,000 (convnext) to 83,000 (res2net)


def available_memory() -> int | None:
    """Bytes that this process can still get: the machine's, or its container's (cgroup v2) if less; None if unknown."""
    bounds = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        bounds += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS: all of it rather than the free part
            bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            # Cached files count as used and are given back on demand.
            cached = Path("/sys/fs/cgroup/memory.stat").read_text().split()
            bounds.append(int(limit) - used + int(cached[cached.index("inactive_file") + 1]))
    except (OSError, ValueError):
        pass
    return min(bounds) if bounds else None


CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores that this process may keep busy: the least of the machine's, its CPU affinity and the CPU quota of its cgroups; at least 1.

    Affinity is what `taskset`, Slurm and cpusets set. A quota of 2.5 cores counts as 2.
    """
    bounds = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        bounds.append(len(os.sched_getaffinity(0)))
    return max(1, int(min([*bounds, *_cpu_quotas(MEMBERSHIP, CGROUPS)])))


def limit_threads(asked: int | None = None) -> None:
    """Have PyTorch compute with so many threads; if not asked for, with its own choice, but at most one a core: it reads no quota."""
    import torch

    if asked:
        torch.set_num_threads(asked)
    elif (cores := available_cores()) < torch.get_num_threads():
        torch.set_num_threads(cores)


def _cpu_quotas(membership: Path, root: Path) -> list[float]:
    """Cores by each quota of the process's cgroups and of those above them. In a container they may lie at the root itself."""
    found: list[float | None] = []
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    for hierarchy, controllers, path in (line for line in lines if len(line) == 3):
        version_2 = hierarchy == "0"
        if not version_2 and "cpu" not in controllers.split(","):
            continue
        mount = root if version_2 else root / "cpu"
        group = mount / path.lstrip("/")
        above = (folder for folder in {mount, group, *group.parents} if folder.is_relative_to(mount))
        found += map(_quota_v2 if version_2 else _quota_v1, above)
    return [quota for quota in found if quota]


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no quota
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def require_room(what: str, params: int, blocks: int = 0) -> None:
    """UsageError if a network of so many parameters and blocks can't be built in the memory that there is."""
    need, available = params * BYTES_A_PARAM + blocks * BYTES_A_BLOCK, available_memory()
    if available is not None and need > available:
        raise UsageError(
            f"{what}: {params:,} parameters in {blocks:,} blocks take {need / 2**30:,.1f} GiB to be built, and "
            f"{available / 2**30:,.1f} GiB of memory are available; take a smaller network (`nas profile` says its costs)"
        )


def read_bytes(path: Path, most: int, what: str) -> bytes:
    """The bytes of a file; UsageError if there are more than `most`, whatever kind of file it is. OSError as `open` does.

    A named pipe that nobody opens to write within `PIPE_SECONDS` is a UsageError too: one would wait for ever.
    """
    if path.is_fifo():
        data = _from_pipe(path, most)
        size = len(data)
    else:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = bytearray()
            while size <= most and (piece := file.read(1 << 20)):  # what grows, or a device, has no size to go by
                data += piece
                size = max(size, len(data))
    if size > most:
        raise UsageError(f"{path}: {size:,} bytes are too many for {what} (at most {most:,})")
    return bytes(data)


def _from_pipe(path: Path, most: int) -> bytearray:
    """What is written to a named pipe, until its writers are gone or it is more than `most`."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK, opening waits for a writer
    try:
        data, written, patience = bytearray(), False, time.monotonic() + PIPE_SECONDS
        more = select.poll()
        more.register(pipe, select.POLLIN | select.POLLHUP)
        while len(data) <= most:
            try:
                piece = os.read(pipe, 1 << 20)
            except BlockingIOError:  # somebody has it open to write, and takes time
                written = True
                more.poll()
                continue
            if not piece and written:
                break
            if not piece and time.monotonic() > patience:
                raise UsageError(
                    f"{path}: is a pipe, and nobody opened it to write in {PIPE_SECONDS} seconds; give a file"
                )
            if not piece:
                time.sleep(0.02)
            written = written or bool(piece)
            data += piece
        return data
    finally:
        os.close(pipe)
