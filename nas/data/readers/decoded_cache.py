"""Cache of decoded images on the disk: a folder of image files is decoded once, and later mapped into memory.

An entry is two files in `$NAS_DATA/decoded`: KEY.npy, the images as a plain NumPy array, and KEY.json, which describes them and
is written last. If it is missing or the two don't fit together, the entry is invalid and is created again. KEY is the SHA-256 of
all that the pixels depend on: each file's name, size and times of modification and change, the requested resolution, and the
versions of Pillow and of this format.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nas.data.dataset import Images
from nas.data.readers.images import (
    Corrupt,
    available_memory,
    common_square,
    decode,
    decoded_chunks,
    memory_holds,
    refuse_corrupt,
    require_memory,
)
from nas.errors import NasError, UsageError
from nas.utils import limits
from nas.utils.files import read_json, write_json, write_with
from nas.utils.text import Say

DEFAULT_RESOLUTION = 64  # side in pixels, unless all images are squares of one smaller size
FORMAT = 1
LEAST_BYTES = 1 << 20  # of image files; fewer are decoded in a fraction of a second and are not kept
MOST_BYTES = 64 << 30  # of all entries together; the least recently used ones are removed first
_ABANDONED_SECONDS = 24 * 3600.0
_ENTRY = re.compile(r"[0-9a-f]{64}\.npy")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.(npy|json)\..+")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images (m, r, r, 3), and the corrupt files. own_size: whether the files are squares of r px, so that none was resized."""

    images: Images
    corrupt: list[Corrupt]
    own_size: bool


def decode_once(
    files: Sequence[Path],
    root: Path,
    asked: int | None,
    *,
    kept_in: Path,
    skip_corrupt: bool,
    paged: bool = False,
    say: Say,
) -> Decoded:
    """The result of `nas.data.readers.images.decode` for these files, from the cache `kept_in`, or kept there for the next time.

    asked: the resolution; None keeps the size of squares of one size up to `DEFAULT_RESOLUTION`, and resizes others to it. A
    cached array is a read-only memory map of its file: it uses memory only for pages that are read, and the system can reclaim
    them. If the folder can't be written to or has no room, this is reported and the images are decoded into memory. Nothing is
    kept inside `root`, where a folder would be a class.

    paged: whether images that exceed the memory may be mapped and read from the disk again and again. If not, they are refused
    even if they are cached, because training reads all of them in a random order in each epoch.

    Raises UsageError for files that can't be decoded, and if the images fit neither into memory nor, if paged, on the disk.
    """
    entry = None if kept_in.resolve().is_relative_to(root.resolve()) else _Entry.of(files, root, asked, kept_in)
    if entry is not None and (decoded := entry.read(files)) is not None:
        refuse_corrupt(decoded.corrupt, len(files), root, skip=skip_corrupt)
        _held(files, root, decoded.images.shape[1], paged, say)
        say(f"decoded before: {len(decoded.images):,} images, mapped from {entry.array}")
        entry.touch()
        return decoded
    square = common_square(files, DEFAULT_RESOLUTION) if asked is None else None
    resolution = asked or square or DEFAULT_RESOLUTION
    held = _held(files, root, resolution, paged and entry is not None, say)
    if entry is not None and (entry.source_bytes >= LEAST_BYTES or not held):
        try:
            entry.require_room(resolution, needed=not held)
            entry.write(files, root, resolution, own_size=square is not None, skip_corrupt=skip_corrupt, say=say)
            if (decoded := entry.read(files)) is None:
                raise NasError(f"{entry.array} does not read as it was written")
        except UsageError:
            raise
        except NasError as error:
            if not held:
                memory = available_memory()
                raise UsageError(
                    f"{len(files):,} images of {root} at {resolution} px fit neither into the memory, of which "
                    f"{_size(memory or 0)} are available, nor on the disk: {error}; choose a smaller resolution (--resolution), "
                    "another place (--data-root), or have them decoded again in each epoch (--stream)"
                ) from error
            say(f"the decoded images can't be kept for the next time: {error}")
        else:
            say(
                f"decoded images are kept in {kept_in} ({_size(decoded.images.nbytes)}), to be read from there next time"
            )
            tidy(kept_in, keep=entry.array)
            return decoded
    images, corrupt = decode(files, root, resolution, skip_corrupt=skip_corrupt, say=say)
    return Decoded(images, corrupt, square is not None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """The cache entry of some files, whether it exists or not. facts: required contents of its .json. source_bytes: of the files."""

    array: Path
    facts: dict[str, object]
    count: int
    source_bytes: int

    @property
    def about(self) -> Path:
        return self.array.with_suffix(".json")

    @classmethod
    def of(cls, files: Sequence[Path], root: Path, asked: int | None, kept_in: Path) -> _Entry | None:
        """The entry of these files; None if one of them is not accessible, which `decode` reports."""
        try:
            key, total = key_of(files, root, f"{FORMAT} RGB {asked}")
        except OSError:
            return None
        facts: dict[str, object] = {"format": FORMAT, "key": key, "files": len(files), "asked": asked}
        return cls(kept_in / f"{key}.npy", facts, len(files), total)

    def read(self, files: Sequence[Path]) -> Decoded | None:
        """The images as a read-only memory map; None unless the entry exists and is complete."""
        about = read_json(self.about, limits.INDEX_BYTES)
        if not isinstance(about, dict) or {name: about.get(name) for name in self.facts} != self.facts:
            return None
        try:
            corrupt = [Corrupt(index, str(reason), files[index]) for index, reason in about["corrupt"]]
            side, own_size = about["resolution"], bool(about["own_size"])
            mapped = np.load(self.array, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, LookupError, TypeError, EOFError):
            return None
        if mapped.dtype != np.uint8 or mapped.shape != (self.count - len(corrupt), side, side, 3):
            return None
        return Decoded(mapped.view(np.ndarray), corrupt, own_size)

    def write(
        self, files: Sequence[Path], root: Path, resolution: int, *, own_size: bool, skip_corrupt: bool, say: Say
    ) -> None:
        """Decode into the file in chunks. NasError if it can't be written, UsageError as `decode`."""
        corrupt: list[Corrupt] = []

        def fill(file: BinaryIO) -> None:
            written = 0
            begin = _write_header(file, len(files), resolution)
            with contextlib.closing(decoded_chunks(files, root, resolution, say)) as chunks:
                for images, broken in chunks:
                    corrupt.extend(broken)
                    written += len(images)
                    file.write(images.data)
            refuse_corrupt(corrupt, len(files), root, skip=skip_corrupt)
            file.seek(0)
            if _write_header(file, written, resolution) != begin:
                raise NasError("the header of the array changed its length")

        write_with(self.array, fill)
        left_out = [[place.index, place.reason] for place in corrupt]
        about = {"root": str(root), "resolution": resolution, "own_size": own_size, "corrupt": left_out}
        write_json(self.about, self.facts | about)

    def require_room(self, resolution: int, *, needed: bool = False) -> None:
        """NasError unless twice the needed bytes are free: a full disk is worse than decoding again.

        needed: the images fit nowhere else. Then 1.1 times the bytes are enough, and `MOST_BYTES` is ignored.
        """
        need = self.count * resolution * resolution * 3
        if need > MOST_BYTES and not needed:
            raise NasError(f"they take {_size(need)}, and {_size(MOST_BYTES)} are kept at most")
        folder = next((parent for parent in self.array.parents if parent.exists()), self.array.parent)
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
            if free < (1.1 if needed else 2) * need:
                raise NasError(f"they take {_size(need)}, and {folder} has {_size(free)} left")

    def touch(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(self.array)


def tidy(folder: Path, *, keep: Path) -> None:
    """Remove unfinished files of killed writers, and the least recently used entries beyond `MOST_BYTES` in total."""
    with contextlib.suppress(OSError):
        entries, now = [], time.time()
        for path in folder.iterdir():
            status = path.stat()
            if _UNFINISHED.fullmatch(path.name) and now - status.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
            elif _ENTRY.fullmatch(path.name):
                entries.append((path == keep, status.st_mtime, status.st_size, path))
        total = 0
        for _, _, size, path in sorted(entries, reverse=True):
            total += size
            if total > MOST_BYTES and path != keep:
                # A process that has mapped the file can still read it.
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def _write_header(file: BinaryIO, count: int, resolution: int) -> int:
    """Write NumPy's header for `count` images. Its length, which is returned, is the same for a wide range of counts."""
    shape = (count, resolution, resolution, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()


def key_of(files: Sequence[Path], root: Path, what: str) -> tuple[str, int]:
    """A SHA-256, in hex, that changes when a file, the version of Pillow or `what` changes; and the total bytes of the files."""
    import PIL

    digest = hashlib.sha256(f"{what} Pillow {PIL.__version__}\n".encode())
    total = 0
    for file in files:
        status = file.stat()
        total += status.st_size
        name = os.fsencode(file.relative_to(root))
        # Archives restore the time of modification, so that it may be the same for other bytes; the time of change can't be set.
        digest.update(b"%d %d %d %d " % (len(name), status.st_size, status.st_mtime_ns, status.st_ctime_ns) + name)
    return digest.hexdigest(), total


def _held(files: Sequence[Path], root: Path, resolution: int, paged: bool, say: Say) -> bool:
    """Whether the decoded images fit into memory. If not, UsageError unless they may be paged, which is reported."""
    what, size = f"{len(files):,} images of {root} at {resolution} px", resolution * resolution * 3
    if not paged:
        require_memory(what, len(files), size)
    elif not memory_holds(len(files) * size):
        say(
            f"{what} take {_size(len(files) * size)}, more than memory holds: they are read from the disk in each epoch"
        )
        return False
    return True


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
