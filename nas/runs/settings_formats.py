"""Formats of a run folder: the number that `run.yaml` begins with, and the steps from each to the next.

1: the first. 2: `id` names the run, and the study keeps what it was begun with (`nas.searching.study`), so that another journal, space or
recipe is found. Checkpoints hold their epochs' records; those of format 1 are read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from nas.errors import UsageError

FORMAT = 2

Data = dict[str, Any]


def upgraded(data: Mapping[str, Any], where: str) -> Data:
    """The contents of a `run.yaml` as they are in today's format; UsageError for a later one, or what has none."""
    version = data.get("version")
    if not isinstance(version, int) or version < 1:
        raise UsageError(f"{where}: not a run folder's settings (version: {version!r}, where 1 to {FORMAT} are known)")
    if version > FORMAT:
        wrote = data.get("versions")
        by = wrote.get("nas", "unknown") if isinstance(wrote, dict) else "unknown"
        raise UsageError(
            f"{where}: a run of format {version}, written by nas {by}; this nas knows formats up to {FORMAT}: "
            f"install nas {by} or later (pip install --upgrade nas)"
        )
    new = dict(data)
    while new["version"] < FORMAT:
        new = _STEPS[new["version"]](new)
    return new


def _from_1(data: Data) -> Data:
    """A run without an id gets one computed from its first settings, the same wherever it is read."""
    begun = json.dumps([data.get(key) for key in ("created", "command", "space", "seed")], sort_keys=True, default=str)
    dataset = data.get("dataset")
    if isinstance(dataset, dict):
        dataset = {"asked_resolution": None, "max_images": None, "skipped_images": 0, **dataset}
    digest = hashlib.sha256(begun.encode()).hexdigest()[:16]
    return {"engine": {}, "proxy": {}, "packing": {}, "id": digest, **data, "dataset": dataset, "version": 2}


_STEPS: dict[int, Callable[[Data], Data]] = {1: _from_1}
