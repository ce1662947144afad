"""Convert image files and arrays to square uint8 images of one size, in threads, after a check of the available memory."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from nas.data.dataset import Images
from nas.errors import UsageError, reason_of
from nas.utils.limits import available_cores
from nas.utils.limits import available_memory as available_memory
from nas.utils.text import Say, format_seconds

if TYPE_CHECKING:
    from PIL import Image

Done = TypeVar("Done")

# Only these formats are opened, so that a renamed file never reaches a decoder that runs programs (EPS) or reads other files.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "MPO", "QOI")
# Opened only for files with their suffix: they have no clear magic number, so that damaged files of other formats could pass.
_BY_SUFFIX = ("DIB", "PCX", "SGI", "TGA")
_FEATURES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_FLOATS = {".pfm"}
_CHUNK = 64
LISTED = 20  # corrupt files that an error names
_QUIET_SECONDS = 2.0


@cache
def formats_by_suffix() -> Mapping[str, str]:
    """Formats by lower-case suffix that the installed Pillow decodes and that are accepted here."""
    from PIL import Image, features

    built = features.get_supported()
    known = Image.registered_extensions()
    return {
        suffix: name
        for suffix, name in known.items()
        if name in (*_FORMATS, *_BY_SUFFIX) and _FEATURES.get(name, built[0]) in built and suffix not in _FLOATS
    }


@cache
def _formats(suffix: str) -> list[str]:
    """The formats that are tried for a file with this suffix."""
    from PIL import Image

    by_suffix = formats_by_suffix()
    readable = Image.OPEN.keys() & by_suffix.values()  # an MPO is opened as the JPEG that it begins with
    named = by_suffix.get(suffix.lower(), "")
    return [name for name in (*_FORMATS, *((named,) if named in _BY_SUFFIX else ())) if name in readable]


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A file that can't be decoded. index: its position in the list. unreachable: whether the system failed, not its bytes."""

    index: int
    reason: str
    file: Path
    unreachable: bool = False


def decode(
    files: Sequence[Path], root: Path, resolution: int, *, skip_corrupt: bool = False, say: Say
) -> tuple[Images, list[Corrupt]]:
    """RGB images (m, resolution, resolution, 3) of the files: rotated by EXIF, center-cropped to a square and resized.

    Resizing is bilinear with antialiasing (an output pixel averages all the input pixels under it). Gray, palette, CMYK and
    16-bit images become 8-bit RGB; transparent pixels are blended with white; only the first frame of an animation is read. With
    skip_corrupt, files that can't be decoded are left out of the m images and returned.

    Raises UsageError if files can't be decoded, as `refuse_corrupt` does.
    """
    images = np.empty((len(files), resolution, resolution, 3), np.uint8)
    corrupt: list[Corrupt] = []
    done = 0
    with contextlib.closing(decoded_chunks(files, root, resolution, say)) as chunks:
        for chunk, broken in chunks:
            images[done : done + len(chunk)] = chunk
            done += len(chunk)
            corrupt += broken
    refuse_corrupt(corrupt, len(files), root, skip=skip_corrupt)
    return images[:done], corrupt


def decoded_chunks(
    files: Sequence[Path], root: Path, resolution: int, say: Say
) -> Generator[tuple[Images, list[Corrupt]], None, None]:
    """The images that `decode` returns, in chunks in their order, each with its corrupt files.

    Threads work ahead, so that the generator must be closed if it is not exhausted.
    """

    def decode_range(start: int, stop: int) -> tuple[Images, list[Corrupt]]:
        images = np.empty((stop - start, resolution, resolution, 3), np.uint8)
        corrupt: list[Corrupt] = []
        for index in range(start, stop):
            try:
                images[index - start - len(corrupt)] = square_rgb(files[index], resolution)
            except Exception as error:  # Pillow raises nearly every type on broken bytes; all of them are reported
                corrupt.append(corrupt_from(error, index, files[index]))
        return images[: stop - start - len(corrupt)], corrupt

    with quiet_pillow():
        yield from in_threads(decode_range, len(files), f"decoding {root}", say)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Hide Pillow's warnings, except the one about images with too many pixels, which becomes an error."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def corrupt_from(error: Exception, index: int, file: Path) -> Corrupt:
    """The record of a file whose reading raised `error`."""
    unreachable = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
    return Corrupt(index, _reason(error), file, unreachable)


def refuse_corrupt(corrupt: Sequence[Corrupt], count: int, root: Path, *, skip: bool = False) -> None:
    """UsageError if there are files that can't be decoded; it lists up to `LISTED` of them and gives their number.

    With `skip`, only for files that the system failed to read (permissions, disk errors, memory): they may be intact, and the
    data set must not depend on such chance events.
    """
    if skip:
        corrupt = [place for place in corrupt if place.unreachable]
    if not corrupt:
        return
    remedy = "make them readable" if skip else "replace or remove them, or leave them out with --skip-corrupt"
    raise UsageError(
        f"{len(corrupt):,} of {count:,} images in {root} can't be read: {_listed(corrupt, root)}; {remedy}"
    )


def skipped(corrupt: Sequence[Corrupt], count: int, root: Path) -> str:
    """A message about the files that were left out."""
    listed = _listed(corrupt, root)
    return f"{len(corrupt):,} of {count:,} images in {root} can't be decoded and are left out: {listed}"


def common_square(files: Sequence[Path], largest: int) -> int | None:
    """The common side in pixels of all images, if they are squares of one size up to `largest`; None otherwise.

    Reads only headers, and stops at the first different size. Files that can't be read are ignored; `decode` reports them.
    """
    from PIL import Image

    side = None
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(file, formats=_formats(file.suffix)) as image:
                    width, height = image.size
        except Exception:  # `decode` reports it
            continue
        if width != height or width > largest or (side is not None and width != side):
            return None
        side = width
    return side


def opens(file: Path | BinaryIO) -> bool:
    """Whether the file's header is that of a supported image format, whatever its suffix."""
    from PIL import Image

    try:
        with quiet_pillow(), Image.open(file, formats=_formats("")):
            return True
    except Exception:  # Pillow raises nearly every type
        return False


def fit(images: Images, resolution: int, what: str, say: Say) -> Images:
    """Images (n, h, w, c) resized to (n, resolution, resolution, c) as by `decode`: center crop, antialiased bilinear."""
    count, height, width, channels = images.shape
    if height == width == resolution:
        return images
    require_memory(f"{what} at {resolution} px", count, resolution * resolution * channels)
    from PIL import Image

    resized = np.empty((count, resolution, resolution, channels), np.uint8)

    def fit_range(start: int, stop: int) -> None:
        for index in range(start, stop):
            if channels == 3:
                resized[index] = np.asarray(_square(Image.fromarray(images[index]), resolution))
                continue
            for channel in range(channels):
                plane = Image.fromarray(images[index, :, :, channel])
                resized[index, :, :, channel] = np.asarray(_square(plane, resolution))

    for _ in in_threads(fit_range, count, f"resizing {what} to {resolution} px", say):
        pass
    return resized


def memory_holds(size: int) -> bool:
    """Whether this process can allocate `size` bytes."""
    available = available_memory()
    return available is None or size <= available


def require_memory(what: str, count: int, size: int) -> None:
    """UsageError if `count` images of `size` bytes exceed the memory that this process can still allocate."""
    available = available_memory()
    if available is not None and count * size > available:
        fitting = f"; {available // size:,} of these would fit" if 0 < available // size < count else ""
        raise UsageError(
            f"{what} need {count * size / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are available; "
            f"choose a smaller resolution (--resolution) or fewer images (--max-images){fitting}"
        )


def square_rgb(file: Path | BinaryIO, resolution: int, suffix: str = "") -> Images:
    """One image as by `decode`, (resolution, resolution, 3). Raises exceptions of nearly any type for a corrupt file.

    suffix: of the file's name, if `file` is not a path.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=_formats(file.suffix if isinstance(file, Path) else suffix)) as image:
        # Decoding a JPEG at 1/2, 1/4 or 1/8 of its size takes a fraction of the time.
        image.draft(None, (2 * resolution, 2 * resolution))
        return np.asarray(_square(_rgb(ImageOps.exif_transpose(image)), resolution))


def whole_rgb(file: Path) -> Image.Image:
    """One image at its own size, rotated and converted to RGB as by `decode`. Raises nearly any type for a corrupt file."""
    from PIL import Image, ImageOps

    with Image.open(file, formats=_formats(file.suffix)) as image:
        return _rgb(ImageOps.exif_transpose(image))


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        gray = np.asarray(image).astype(np.int64)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError(f"gray values from {gray.min()} to {gray.max()} are neither 8 nor 16 bits")
        image = Image.fromarray(((gray * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed white; save it as 8 or 16 bits")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _square(image: Image.Image, resolution: int) -> Image.Image:
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def in_threads(work: Callable[[int, int], Done], total: int, what: str, say: Say) -> Generator[Done, None, None]:
    """Results of work(start, stop) for chunks of 0 .. total, in order, in threads: Pillow releases the interpreter lock.

    Work is only as far ahead of the consumer as is needed to keep all cores busy.
    """
    threads = min(available_cores(), 32)
    stops = iter(range(_CHUNK, total + _CHUNK, _CHUNK))
    begun = spoken = time.monotonic()
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[int, Future[Done]]] = deque()
    try:
        while True:
            while len(waiting) < 2 * threads and (stop := next(stops, None)) is not None:
                end = min(stop, total)
                waiting.append((end, pool.submit(work, stop - _CHUNK, end)))
            if not waiting:
                return
            end, job = waiting.popleft()
            yield job.result()
            if (now := time.monotonic()) - spoken > _QUIET_SECONDS:
                spoken = now
                say(f"{what}: {end:,} of {total:,} images, {format_seconds((now - begun) * (total - end) / end)} left")
    finally:
        # After Ctrl-C or an error, waiting jobs are dropped.
        pool.shutdown(cancel_futures=True)


def _listed(corrupt: Sequence[Corrupt], root: Path) -> str:
    listed = "; ".join(f"{place.file.relative_to(root)} ({place.reason})" for place in corrupt[:LISTED])
    return listed + (f"; and {len(corrupt) - LISTED:,} more" if len(corrupt) > LISTED else "")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image, or of another type than its name says"
    return reason_of(error, 120)
