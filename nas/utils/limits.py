"""Upper limits of what is read or built. Larger inputs are refused before they take memory, with an error that names the limit.

A file's bytes are counted before it is parsed; what it asks for (stages, pixels, values) is counted before it is made.
Each limit is far above what research needs and far below what a machine of a few GiB holds. docs/security.md lists them.
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
INDEX_BYTES = 1 << 30  # the JSON index of our image caches: a line for each of about ten million files
JOURNAL_BYTES = 4 << 30  # about 400,000 trials
JOURNAL_LINE_BYTES = 4 << 20  # the record of one trial has 10 KB
TABLE_BYTES = 256 << 20  # `nas bench --table`, unpacked; the whole table is held in memory
PIPE_SECONDS = 5  # how long to wait for a writer where a named pipe is given as a file
WEIGHTS_FACTOR = 4  # unpacked bytes of a file of weights for each byte on the disk

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
DIGITS = 64  # of a number in a config; Python refuses to print, and so to report, one of thousands of digits
VALUES = 10_000  # of a knob: a typing slip in YAML must not fill the memory
CHAIN = 8  # spaces that extend one another
CLASSES = 1 << 20  # the same as MAX_OPTION, the limit of every whole-number option of a part
TRIALS = 10_000_000  # of a run
WORKERS = 1_000_000  # requested by the user

# -- tables of benchmarks ------------------------------------------------------------------------------------------------

ROWS = 1_000_000
COLUMNS = 1_000
CELLS = 30_000_000  # a cell is an object of 50 bytes and more
LEVELS = 256  # values of a choice

BYTES_A_PARAM = 4  # networks are built in fp32
BYTES_A_BLOCK = 100_000  # Python objects without parameters: measured 29,000 (convnext) to 83,000 (res2net)


def available_memory() -> int | None:
    """Bytes of memory that this process can still get: of the machine, or of its container (cgroup v2) if less; None if unknown."""
    bounds = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        bounds += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS: all memory, not only the free part
            bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            # Cached files count as used, but are freed on demand.
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
    """Set PyTorch's number of threads. Default: PyTorch's own, but at most one a core, since PyTorch reads no CPU quota."""
    import torch

    if asked:
        torch.set_num_threads(asked)
    elif (cores := available_cores()) < torch.get_num_threads():
        torch.set_num_threads(cores)


def _cpu_quotas(membership: Path, root: Path) -> list[float]:
    """Cores that each CPU quota allows: of the process's cgroups, their parents and the root, where a container's may be."""
    quotas: list[float | None] = []
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
        quotas += map(_quota_v2 if version_2 else _quota_v1, above)
    return [quota for quota in quotas if quota]


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
    """UsageError if a network of so many parameters and blocks doesn't fit into the available memory."""
    need, available = params * BYTES_A_PARAM + blocks * BYTES_A_BLOCK, available_memory()
    if available is not None and need > available:
        raise UsageError(
            f"{what}: {params:,} parameters in {blocks:,} blocks take {need / 2**30:,.1f} GiB to be built, and "
            f"{available / 2**30:,.1f} GiB of memory are available; take a smaller network (`nas profile` says its costs)"
        )


def read_bytes(path: Path, most: int, what: str) -> bytes:
    """The bytes of a file of any kind; UsageError if there are more than `most`; OSError as of `open`.

    A named pipe that nobody opens for writing within `PIPE_SECONDS` is a UsageError too.
    """
    if path.is_fifo():
        data = _from_pipe(path, most)
        size = len(data)
    else:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = bytearray()
            # A device, or a file that grows, may have more bytes than its size.
            while size <= most and (piece := file.read(1 << 20)):
                data += piece
                size = max(size, len(data))
    if size > most:
        raise UsageError(f"{path}: {size:,} bytes are too many for {what} (at most {most:,})")
    return bytes(data)


def _from_pipe(path: Path, most: int) -> bytearray:
    """The bytes written to a named pipe, until its writers have closed it or there are more than `most`."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK, opening waits for a writer
    try:
        data, written, patience = bytearray(), False, time.monotonic() + PIPE_SECONDS
        more = select.poll()
        more.register(pipe, select.POLLIN | select.POLLHUP)
        while len(data) <= most:
            try:
                piece = os.read(pipe, 1 << 20)
            except BlockingIOError:  # a writer has it open and is not ready
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
