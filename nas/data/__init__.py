"""Images to search on: `load` one of `DATASETS` into a checked `Dataset`, `split` its train part for validation."""

from __future__ import annotations

import os
from pathlib import Path

from nas.data.dataset import Dataset
from nas.data.files import read_folder, read_npz
from nas.data.images import Say
from nas.data.sources import DATASETS, Request, Source
from nas.data.splits import split, subset
from nas.errors import UsageError

__all__ = ["DATASETS", "Dataset", "Source", "load", "split", "subset"]


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    resolution: int | None = None,
    max_images: int | None = None,
    progress: Say | None = None,
) -> Dataset:
    """The data set called `name`: a key of `DATASETS`, or `imagefolder:PATH`, or `npz:PATH`.

    root: where published data sets lie or go; $NAS_DATA, then ~/.cache/nas/data, where none is given. download: whether to
    get one that is not there. resolution: side in pixels to which all images are cropped and resized (bilinear, antialiased).
    max_images: how many train images to keep, with the class shares kept; the test part stays whole. progress: called with
    a line of text now and then while something takes seconds.

    Raises UsageError, before anything is trained, where the data can't be used as asked; NasError where a download fails.
    """
    kind, colon, path = name.partition(":")
    if kind not in DATASETS and Path(name).expanduser().exists():
        prefix = "imagefolder" if Path(name).expanduser().is_dir() else "npz"
        raise UsageError(f"{name!r} is a path, not a dataset; write {prefix}:{name}")
    source = DATASETS.find(kind)
    if colon and not source.takes_path:
        raise UsageError(f"dataset {kind!r} takes no path, but {name!r} gives one")
    if resolution is not None and resolution < 4:
        raise UsageError(f"the resolution is {resolution} pixels; it must be at least 4")
    if max_images is not None and max_images < 1:
        raise UsageError(f"max_images is {max_images}; it must be at least 1")
    folder = Path(root or os.environ.get("NAS_DATA") or "~/.cache/nas/data").expanduser().absolute()
    return source.read(Request(path, folder, download, resolution, max_images, progress or (lambda _: None)))
