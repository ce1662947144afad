"""Image data sets: `load` reads one of `DATASETS` into a checked `Dataset`; `split` separates a validation part.

In: the name of a data set, a folder or a file, as in `--dataset`. Out: `Dataset` (in memory) or `Streamed` (files that are read
during training), and batches of them on a device (`batches`, `streaming`).
Used by: training and searches. To add a source: one file in `readers/` and a line in `DATASETS`.
"""

from __future__ import annotations

import os
from pathlib import Path

from nas.data.dataset import Dataset, Imbalance
from nas.data.readers.published import PUBLISHED, read_digits
from nas.data.readers.user_files import read_folder, read_npz
from nas.data.sources import Request, Source
from nas.data.splits import split, subset
from nas.data.streamed import Streamed, read_streamed
from nas.errors import UsageError
from nas.utils.registry import Registry
from nas.utils.text import Say

__all__ = ["DATASETS", "Dataset", "Imbalance", "Source", "Streamed", "load", "split", "stream", "subset"]

DATASETS: Registry[Source] = Registry("dataset")
DATASETS.register("digits")(Source("1,797 handwritten digits, 8 px; comes with scikit-learn", read_digits))
for _published in PUBLISHED:
    DATASETS.register(_published.name)(
        Source(f"{_published.about}; a download of {_published.megabytes} MB", _published.read)
    )
DATASETS.register("imagefolder")(
    Source("your images: folders of classes, Hugging Face's metadata or parquet", read_folder, takes_path=True)
)
DATASETS.register("npz")(Source("your arrays x_train, y_train, ... in one file", read_npz, takes_path=True))


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    resolution: int | None = None,
    max_images: int | None = None,
    skip_corrupt: bool = False,
    paged: bool = False,
    progress: Say | None = None,
) -> Dataset:
    """The data set called `name`: a key of `DATASETS`, or imagefolder:PATH or npz:PATH.

    root: folder of published data sets; default $NAS_DATA, then ~/.cache/nas/data. download: whether to download a data set that
    is not there. resolution: side in pixels to which all images are center-cropped and resized (bilinear, antialiased).
    max_images: number of train images to keep, at unchanged class shares; the test part stays complete. skip_corrupt: whether to
    leave out image files that can't be decoded instead of raising an error. paged: whether decoded images of a folder that exceed
    the memory may stay on the disk, memory-mapped; for callers that read a batch at a time. progress: called with lines of text
    about the data and, occasionally, about the progress of slow steps.

    Raises UsageError, before anything is trained, if the data can't be used as asked; NasError if a download fails.
    """
    source, request = _asked(name, root, download, resolution, max_images, skip_corrupt, paged, progress)
    dataset = source.read(request)
    if dataset.imbalance.notable:
        request.say(str(dataset.imbalance))
    return dataset


def stream(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    resolution: int | None = None,
    max_images: int | None = None,
    skip_corrupt: bool = False,
    progress: Say | None = None,
) -> Streamed:
    """The image files of imagefolder:PATH, to be decoded during training; arguments as in `load`.

    resolution: of the images that networks get; default 224. Raises UsageError as `load`, and for data that are not files.
    """
    source, request = _asked(name, root, False, resolution, max_images, skip_corrupt, False, progress)
    if source is not DATASETS["imagefolder"]:
        raise UsageError(f"{name} comes as arrays; only the images of imagefolder:PATH can be streamed")
    streamed = read_streamed(request)
    if streamed.imbalance.notable:
        request.say(str(streamed.imbalance))
    return streamed


def _asked(
    name: str,
    root: str | os.PathLike[str] | None,
    download: bool,
    resolution: int | None,
    max_images: int | None,
    skip_corrupt: bool,
    paged: bool,
    progress: Say | None,
) -> tuple[Source, Request]:
    """The source of this name and the checked request for it."""
    kind, colon, path = name.partition(":")
    if kind not in DATASETS and (existing := Path(name).expanduser()).exists():
        raise UsageError(
            f"{name!r} is a path, not a dataset; write {'imagefolder' if existing.is_dir() else 'npz'}:{name}"
        )
    source = DATASETS.find(kind)
    if colon and not source.takes_path:
        raise UsageError(f"dataset {kind!r} takes no path, but {name!r} gives one")
    if resolution is not None and resolution < 4:
        raise UsageError(f"the resolution is {resolution} pixels; it must be at least 4")
    if max_images is not None and max_images < 1:
        raise UsageError(f"max_images is {max_images}; it must be at least 1")
    folder = Path(root or os.environ.get("NAS_DATA") or "~/.cache/nas/data").expanduser().absolute()
    say = progress or (lambda _: None)
    return source, Request(path, folder, download, resolution, max_images, skip_corrupt, say, paged)
