"""What commands are given: networks, runs, and places to write to. Each wrong one is a UsageError of one line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.utils.registry import NEAR, did_you_mean

if TYPE_CHECKING:
    from nas.data import Dataset, Streamed
    from nas.networks.architecture import Architecture
    from nas.runs.run import Run

CONFIGS = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}  # formats of configs, by the suffix of their file


def read_architecture(source: str) -> Architecture:
    """The published network of this name, or the one in this YAML or JSON file.

    A network that has no name of its own is named after its file. A name wins over a file of that name; `./NAME` is
    always the file.
    """
    from dataclasses import replace

    from nas.networks import zoo
    from nas.networks.architecture import Architecture
    from nas.runs.settings import FILE, Settings

    path = Path(source)
    looks_like_path = os.sep in source or path.suffix in CONFIGS
    if not looks_like_path:
        try:
            return zoo.get(source)
        except UsageError:
            if not path.is_file():
                near = did_you_mean(source.lower(), zoo.names(), NEAR)
                raise UsageError(
                    f"unknown network {source!r}{near}; give one of `nas profile --list`, or the path of a YAML or JSON config"
                ) from None
    run = path.absolute().parent.parent
    if (run / FILE).is_file():  # one of its front: the modules that it needs stand in the run's settings
        Settings.load(run)
    architecture = Architecture.from_yaml(path)
    return architecture if architecture.name else replace(architecture, name=path.stem)


def read_run(path: Path) -> Run:
    """The run in a folder; if there is none, UsageError with the runs that lie near."""
    from nas.runs.run import load_run
    from nas.runs.settings import FILE

    if not (path / FILE).is_file():
        for folder in (path if path.is_dir() else path.parent, Path("results")):
            runs = sorted(found.parent.name for found in folder.glob(f"*/{FILE}"))
            if runs:
                shown = ", ".join(runs[:5]) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
                said = os.path.normpath(path)
                raise UsageError(f"{said}: not a run folder{did_you_mean(path.name, runs)}; runs in {folder}: {shown}")
    return load_run(path)


def weights_file(source: str) -> str:
    """What `nas.weights.read` takes for a source of weights: of a folder of `nas train` the file in it, of others the source."""
    from nas.training.full_training_folder import CONFIG, WEIGHTS

    if not Path(source).is_dir():
        return source
    file = Path(source) / WEIGHTS
    if not file.is_file():
        ended = " yet: the training there has not ended" if (Path(source) / CONFIG).is_file() else ""
        raise UsageError(f"{source}: holds no {WEIGHTS}{ended}")
    return str(file)


def read_images(
    dataset: str,
    *,
    stream: bool,
    workers: int | None,
    root: Path | None,
    download: bool,
    resolution: int | None,
    skip_corrupt: bool,
    progress: Callable[[str], None] | None,
) -> Dataset | Streamed:
    """The data to train on, decoded, or with `stream` as files; of the former, more than memory holds stay on the disk."""
    from nas import data

    if stream:
        return data.stream(dataset, root=root, resolution=resolution, skip_corrupt=skip_corrupt, progress=progress)
    if workers is not None:
        raise UsageError("--workers says how many processes decode with --stream; without it, images are decoded once")
    return data.load(
        dataset,
        root=root,
        download=download,
        resolution=resolution,
        skip_corrupt=skip_corrupt,
        paged=True,
        progress=progress,
    )


def check_folder(folder: Path, what: str = "--out") -> None:
    """UsageError unless files can be written to `folder`, or it can be made."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UsageError(f"{what} {folder}: {nearest} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()  # permissions alone don't tell: the file system may be read-only
    except OSError as error:
        raise UsageError(f"{what} {folder}: {nearest} can't be written to: {error.strerror or error}") from None


def check_no_search(folder: Path) -> None:
    """UsageError if a search's run lies there: a training would take its page, and stand for it where the folder is named."""
    from nas.runs.settings import FILE

    if (folder / FILE).is_file():
        raise UsageError(f"--out {folder}: holds a run of `nas search`; choose another folder")


def slug(text: str) -> str:
    """`text` as a part of a file's name: letters, digits, dots, hyphens and underscores, at most 80 of them."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.")[:80] or "unnamed"
