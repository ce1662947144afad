"""One driver a run: a lock file that the kernel frees with its process, and signs of life for file systems where it can't.

`flock` is all that is needed on one machine, and on NFS and Lustre as they are usually mounted. Where a mount keeps locks to
itself (`local_lock`, `nolock`) or knows none, two machines could both hold it. So the holder writes who it is into the file and
touches it every few seconds; whoever finds the record of another machine, or no working lock, watches for such a sign first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path

from nas.errors import NasError, UsageError
from nas.utils.files import unwritable

BEAT_SECONDS = 5.0
WATCH_SECONDS = 4 * BEAT_SECONDS  # without a sign of life, before a holder elsewhere counts as dead
READERS_SECONDS = 0.5  # a reader that looks whether the run is active holds the lock for an instant
_RECORD = re.compile(r"process (\d+) on (\S+), boot (\S+)")
_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wrote a lock file. `boot` is that of the machine's kernel, which containers on it share."""

    pid: int
    host: str
    boot: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, boot {self.boot}"

    @property
    def named(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def here(self) -> bool:
        """Whether it ran on this machine since it was started."""
        return self.boot == boot()

    @classmethod
    def me(cls) -> Holder:
        return cls(os.getpid(), socket.gethostname(), boot())

    @classmethod
    def of(cls, path: Path) -> Holder | None:
        """The one whom a lock file names; None if it was given back, or is not there."""
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        match = _RECORD.match(text)
        return cls(int(match[1]), match[2], match[3]) if match else None


def doing(path: Path) -> str:
    """What the holder of a lock file says that it does; "" if it says nothing, or was given back."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = _RECORD.match(text)
    return text[match.end() :].strip() if match else ""


def boot() -> str:
    """What this run of this machine's kernel is called; the host's name where the kernel doesn't say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


class RunLock:
    """A run's lock, held. `took_over`: in words, from whom, if it was not given back."""

    def __init__(self, path: Path, file: FileIO, took_over: str) -> None:
        self.path, self.took_over = path, took_over
        self._file = file
        self._me = Holder.me()
        self._lost = ""
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="nas-run-lock", daemon=True)
        self._beats.start()

    def check(self) -> None:
        """NasError if another driver has taken the run over: this one showed no sign of life for a while."""
        if self._lost:
            raise NasError(f"{self.path.parent}: {self._lost} has taken this run over; this driver stops")

    def release(self) -> None:
        self._ended.set()
        self._beats.join()
        if not self._lost:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
        self._file.close()  # the kernel frees the lock with it, and with this process however it ends

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a file system that is away for a moment
                os.utime(self._file.fileno())
                holder = Holder.of(self.path)
                if holder is not None and holder != self._me:
                    self._lost = holder.named
                    return


def take(path: Path, does: str = "") -> RunLock:
    """The lock of the run in whose folder `path` lies; `does` says for readers what its holder does, in a line.

    UsageError naming the driver that has it; WriteError if it can't be made.
    """
    try:
        file = path.open("a+b", buffering=0)  # what a full disk does not take must not wait for its close
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        works = _flock(file)
        holder = Holder.of(path)
        took_over = ""
        if holder is not None and holder != Holder.me():
            if not (works and holder.here) and beats(path):
                raise UsageError(
                    f"{path.parent}: another driver works on this run ({holder.named}); its lock does not reach this machine, but "
                    "it shows signs of life: wait for it or stop it first"
                )
            took_over = "" if works and holder.here else f"from {holder.named}, which showed no sign of life"
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the name of its holder
            file.truncate(0)
            file.write(f"{Holder.me()} {does}".rstrip().encode())
        if took_over and not works:
            time.sleep(READERS_SECONDS)  # of two that took it over at once, the later one has it
            if (winner := Holder.of(path)) not in (None, Holder.me()):
                raise UsageError(f"{path.parent}: another driver works on this run ({winner and winner.named})")
        return RunLock(path, file, took_over)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise


def held(path: Path) -> bool:
    """Whether a driver has the lock, as far as can be determined without waiting for a heartbeat."""
    try:
        with path.open("rb") as file:
            works = _shared(file)
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except BlockingIOError:
        return True
    except OSError:
        return False
    holder = Holder.of(path)
    return holder is not None and not (works and holder.here) and 0 <= age < WATCH_SECONDS


def _shared(file: BufferedReader) -> bool:
    """Lock the file for reading; False where the file system has no locks. BlockingIOError if a driver has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return False
    return True


def beats(path: Path, seconds: float | None = None) -> bool:
    """Whether somebody touches the lock file within so many seconds; by no clock but this machine's steady one."""
    until = time.monotonic() + (WATCH_SECONDS if seconds is None else seconds)
    first = _touched(path)
    while time.monotonic() < until:
        time.sleep(min(BEAT_SECONDS, 0.5))
        if _touched(path) != first:
            return True
    return False


def _touched(path: Path) -> int:
    with path.open("rb") as file:  # opening asks an NFS server again
        return os.fstat(file.fileno()).st_mtime_ns


def _flock(file: FileIO) -> bool:
    """Lock the file; False where the file system has no locks; UsageError if another has it."""
    until = time.monotonic() + READERS_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                path = Path(file.name)
                holder = Holder.of(path)
                name = holder.named if holder else "unknown"
                raise UsageError(
                    f"{path.parent}: another driver works on this run ({name}); wait for it or stop it first"
                ) from None
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise unwritable(Path(file.name), error) from error
            return False
