"""Image files and arrays to square uint8 images of one size: in threads, and not without the memory for them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.data.dataset import Images
from nas.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

Say = Callable[[str], None]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Named so that Pillow never hands a renamed file to a format that runs other programs (EPS) or reads other files.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_CHUNK = 64
_QUIET_SECONDS = 2.0


def decode(files: Sequence[Path], root: Path, resolution: int, say: Say) -> Images:
    """(n, resolution, resolution, 3) RGB of the image files: turned as EXIF says, centre-cropped to a square, resized.

    Resizing is bilinear with antialiasing (an output pixel averages all the input pixels under it). Gray, palette, CMYK
    and 16-bit images become 8-bit RGB; what is transparent is laid on white; of an animation, the first frame counts.

    Raises UsageError when files can't be decoded, with the first names (relative to `root`) and the number of all, and,
    before any is decoded, when the result would not fit into memory.
    """
    from PIL import Image

    require_memory(f"{len(files):,} images of {root} at {resolution} px", len(files) * resolution * resolution * 3)
    images = np.empty((len(files), resolution, resolution, 3), np.uint8)
    broken: list[tuple[Path, str]] = []

    def decode_range(start: int, stop: int) -> None:
        for index in range(start, stop):
            try:
                images[index] = _read_rgb(files[index], resolution)
            except Exception as error:  # Pillow raises nearly every type on broken bytes; all of them are reported
                broken.append((files[index], _reason(error)))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        _in_threads(decode_range, len(files), f"decoding {root}", say)
    if broken:
        broken.sort()
        first = "; ".join(f"{file.relative_to(root)} ({reason})" for file, reason in broken[:3])
        more = f"; and {len(broken) - 3:,} more" if len(broken) > 3 else ""
        raise UsageError(
            f"{len(broken):,} of {len(files):,} images in {root} can't be read: {first}{more}; replace or remove them"
        )
    return images


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
                with Image.open(file, formats=_FORMATS) as image:
                    width, height = image.size
        except Exception:  # as in `decode`, which tells the user
            continue
        if width != height or width > largest or (side is not None and width != side):
            return None
        side = width
    return side


def fit(images: Images, resolution: int, what: str, say: Say) -> Images:
    """(n, h, w, c) resized to (n, resolution, resolution, c) as `decode` does: centre crop, antialiased bilinear."""
    count, height, width, channels = images.shape
    if height == width == resolution:
        return images
    require_memory(f"{what} at {resolution} px", count * resolution * resolution * channels)
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

    _in_threads(fit_range, count, f"resizing {what} to {resolution} px", say)
    return resized


def require_memory(what: str, needed: int) -> None:
    """UsageError when `needed` bytes exceed the memory that this process can still get."""
    available = available_memory()
    if available is not None and needed > available:
        raise UsageError(
            f"{what} need {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are available; "
            "choose a smaller resolution or fewer images"
        )


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


def _read_rgb(file: Path, resolution: int) -> Images:
    from PIL import Image, ImageOps

    with Image.open(file, formats=_FORMATS) as image:
        # A JPEG decodes at 1/2, 1/4 or 1/8 of its size in a fraction of the time.
        image.draft(None, (2 * resolution, 2 * resolution))
        return np.asarray(_square(_rgb(ImageOps.exif_transpose(image)), resolution))


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


def _in_threads(work: Callable[[int, int], None], total: int, what: str, say: Say) -> None:
    """work(start, stop) over chunks of 0 .. total, on all cores: Pillow works without the interpreter lock."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    starts = range(0, total, _CHUNK)
    spoken = time.monotonic()
    pool = ThreadPoolExecutor(min(cores, 32))
    try:
        jobs = [pool.submit(work, start, min(start + _CHUNK, total)) for start in starts]
        for start, job in zip(starts, jobs, strict=True):
            job.result()
            if time.monotonic() - spoken > _QUIET_SECONDS:
                spoken = time.monotonic()
                say(f"{what}: {min(start + _CHUNK, total):,} of {total:,} images")
    finally:
        # After Ctrl-C or an error, what has not begun is dropped instead of finished.
        pool.shutdown(cancel_futures=True)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image, or of another type than its name says"
    return " ".join(str(error).split())[:120] or type(error).__name__
