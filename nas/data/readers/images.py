"""Image files and arrays to square uint8 images of one size: in threads, and not without the memory for them."""

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

# Formats by their names, so that Pillow never hands a renamed file to one that runs other programs (EPS) or reads other files.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "MPO", "QOI")
# Known by the file's suffix alone: what they begin with says little, so that damaged files of other formats might pass for them.
_BY_SUFFIX = ("DIB", "PCX", "SGI", "TGA")
_FEATURES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_FLOATS = {".pfm"}
_CHUNK = 64
# Corrupt files that an error names: enough to see what they have in common.
LISTED = 20
_QUIET_SECONDS = 2.0


@cache
def formats_by_suffix() -> Mapping[str, str]:
    """Suffix, in lower case -> format, of what the installed Pillow decodes and what is read here."""
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
    """The formats that a file of this suffix may have, whatever the suffix says."""
    from PIL import Image

    by_suffix = formats_by_suffix()
    readable = Image.OPEN.keys() & by_suffix.values()  # an MPO is opened as the JPEG that it begins with
    named = by_suffix.get(suffix.lower(), "")
    return [name for name in (*_FORMATS, *((named,) if named in _BY_SUFFIX else ())) if name in readable]


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A file that can't be decoded: its place in the list, why, and whether the system rather than its bytes is to blame."""

    index: int
    reason: str
    file: Path
    unreachable: bool = False


def decode(
    files: Sequence[Path], root: Path, resolution: int, *, skip_corrupt: bool = False, say: Say
) -> tuple[Images, list[Corrupt]]:
    """(m, resolution, resolution, 3) RGB of the image files: turned as EXIF says, centre-cropped to a square, resized.

    Resizing is bilinear with antialiasing (an output pixel averages all the input pixels under it). Gray, palette, CMYK
    and 16-bit images become 8-bit RGB; what is transparent is laid on white; of an animation, the first frame counts.
    With skip_corrupt, files that can't be decoded are left out, m is smaller than their number, and they are returned.

    Raises UsageError when files can't be decoded, as `refuse_corrupt` does.
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
    """The images that `decode` returns, some at a time and in their order, with the files among them that have none.

    To be closed by who doesn't take them all: threads work ahead.
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
    """Pillow's warnings are not shown, but for images of so many pixels that they are refused: these are errors."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def corrupt_from(error: Exception, index: int, file: Path) -> Corrupt:
    """What to report of a file whose reading raised `error`."""
    unreachable = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
    return Corrupt(index, _reason(error), file, unreachable)


def refuse_corrupt(corrupt: Sequence[Corrupt], count: int, root: Path, *, skip: bool = False) -> None:
    """UsageError that lists the files that can't be decoded, if there are any, up to `LISTED` of them with the number of all.

    With `skip`, only for those that the system would not hand over (permissions, a disk that fails, memory): these may well be
    whole, and a data set that depends on the weather is none.
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
    """A line that says which files were left out."""
    listed = _listed(corrupt, root)
    return f"{len(corrupt):,} of {count:,} images in {root} can't be decoded and are left out: {listed}"


def common_square(files: Sequence[Path], largest: int) -> int | None:
    """The side in pixels that all the images share, if they are squares of one size up to `largest`; None otherwise.

    Reads headers only, and stops at the first that differs; a file that can't be read is left to `decode` to report.
    """
    from PIL import Image

    side = None
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(file, formats=_formats(file.suffix)) as image:
                    width, height = image.size
        except Exception:  # as in `decode`, which tells the user
            continue
        if width != height or width > largest or (side is not None and width != side):
            return None
        side = width
    return side


def opens(file: Path | BinaryIO) -> bool:
    """Whether a file begins like an image of a format that is read here, whatever its suffix says."""
    from PIL import Image

    try:
        with quiet_pillow(), Image.open(file, formats=_formats("")):
            return True
    except Exception:  # Pillow raises nearly every type
        return False


def fit(images: Images, resolution: int, what: str, say: Say) -> Images:
    """(n, h, w, c) resized to (n, resolution, resolution, c) as `decode` does: centre crop, antialiased bilinear."""
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
    """Whether this process can get so many bytes."""
    available = available_memory()
    return available is None or size <= available


def require_memory(what: str, count: int, size: int) -> None:
    """UsageError when `count` images of `size` bytes exceed the memory that this process can still get."""
    available = available_memory()
    if available is not None and count * size > available:
        fitting = f"; {available // size:,} of these would fit" if 0 < available // size < count else ""
        raise UsageError(
            f"{what} need {count * size / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are available; "
            f"choose a smaller resolution (--resolution) or fewer images (--max-images){fitting}"
        )


def square_rgb(file: Path | BinaryIO, resolution: int, suffix: str = "") -> Images:
    """One image as `decode` gives it, (resolution, resolution, 3); raises nearly anything for what is none.

    suffix: of the file's name, where `file` has none.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=_formats(file.suffix if isinstance(file, Path) else suffix)) as image:
        # A JPEG decodes at 1/2, 1/4 or 1/8 of its size in a fraction of the time.
        image.draft(None, (2 * resolution, 2 * resolution))
        return np.asarray(_square(_rgb(ImageOps.exif_transpose(image)), resolution))


def whole_rgb(file: Path) -> Image.Image:
    """One image at its own size, turned and coloured as `decode` does it; raises nearly anything for what is none."""
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
    """work(start, stop) over chunks of 0 .. total, in order, on all cores: Pillow works without the interpreter lock.

    No further ahead of who takes the results than keeps the cores busy.
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
        # After Ctrl-C or an error, what has not begun is dropped instead of finished.
        pool.shutdown(cancel_futures=True)


def _listed(corrupt: Sequence[Corrupt], root: Path) -> str:
    listed = "; ".join(f"{place.file.relative_to(root)} ({place.reason})" for place in corrupt[:LISTED])
    return listed + (f"; and {len(corrupt) - LISTED:,} more" if len(corrupt) > LISTED else "")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image, or of another type than its name says"
    return reason_of(error, 120)
