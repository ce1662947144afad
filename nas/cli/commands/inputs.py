"""Reads and checks the arguments of commands: networks, runs, weights, images and folders. Errors are UsageErrors of one line."""

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
    from nas.cli.commands.options import DataOptions, StreamOptions
    from nas.data import Dataset, Streamed
    from nas.networks.architecture import Architecture
    from nas.runs.run import Run

CONFIGS = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}  # formats of configs, by the suffix of their file


def read_architecture(source: str) -> Architecture:
    """The published network of this name, or the network in this YAML or JSON file.

    A network without a name is named after its file. If a published network and a file have the same name, the published
    network is taken; `./NAME` is always the file.
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
    if (run / FILE).is_file():  # a network of a run: its settings import the modules that the network needs
        Settings.load(run)
    architecture = Architecture.from_yaml(path)
    return architecture if architecture.name else replace(architecture, name=path.stem)


def read_run(path: Path) -> Run:
    """The run in a folder; if there is none, UsageError that lists runs in nearby folders."""
    from nas.runs.run import load_run
    from nas.runs.settings import FILE

    if not (path / FILE).is_file():
        for folder in (path if path.is_dir() else path.parent, Path("results")):
            runs = sorted(file.parent.name for file in folder.glob(f"*/{FILE}"))
            if runs:
                shown = ", ".join(runs[:5]) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
                raise UsageError(
                    f"{os.path.normpath(path)}: not a run folder{did_you_mean(path.name, runs)}; runs in {folder}: {shown}"
                )
    return load_run(path)


def weights_file(source: str) -> str:
    """A source of weights for `nas.weights.read`: for a folder of `nas train` its weights file, else `source` unchanged."""
    from nas.training.full_training_folder import CONFIG, WEIGHTS

    if not Path(source).is_dir():
        return source
    file = Path(source) / WEIGHTS
    if not file.is_file():
        reason = " yet: the training there has not ended" if (Path(source) / CONFIG).is_file() else ""
        raise UsageError(f"{source}: holds no {WEIGHTS}{reason}")
    return str(file)


def read_images(
    options: DataOptions, streaming: StreamOptions, *, progress: Callable[[str], None] | None
) -> Dataset | Streamed:
    """The data to train on: decoded, or with `--stream` as files. Decoded images that don't fit into memory stay on the disk."""
    from nas import data

    if streaming.stream:
        return data.stream(
            options.dataset,
            root=options.data_root,
            resolution=options.resolution,
            skip_corrupt=options.skip_corrupt,
            progress=progress,
        )
    if streaming.workers is not None:
        raise UsageError(
            "--workers: the number of processes that decode with --stream; without it, images are decoded once"
        )
    return data.load(
        options.dataset,
        root=options.data_root,
        download=options.download,
        resolution=options.resolution,
        skip_corrupt=options.skip_corrupt,
        paged=True,
        progress=progress,
    )


def check_folder(folder: Path, what: str = "--out") -> None:
    """UsageError unless `folder` is writable, or can be made. `what` names the option in the message."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UsageError(f"{what} {folder}: {nearest} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()  # permissions are not enough: the file system may be read-only
    except OSError as error:
        raise UsageError(f"{what} {folder}: {nearest} can't be written to: {error.strerror or error}") from None


def check_no_search(folder: Path) -> None:
    """UsageError if the folder holds a search's run: a training would overwrite its page, and commands would take it for the run."""
    from nas.runs.settings import FILE

    if (folder / FILE).is_file():
        raise UsageError(f"--out {folder}: holds a run of `nas search`; choose another folder")


def slug(text: str) -> str:
    """`text` as a part of a file's name: at most 80 letters, digits, dots, hyphens and underscores."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.")[:80] or "unnamed"
