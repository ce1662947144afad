"""What a search needs of the machine, checked before its folder is made: room on the disk, and what Ray can't start without.

The room is for checkpoints above all:

bytes = workers x 3 c + trials x (j + r(epochs)) + seeds x (front + baselines) x r(epochs) + page, with c a checkpoint of the
largest network that is drawn: weights, momenta and, with an average, its copy, each 4 bytes a parameter. A trial has three for a
moment: the last, the one before it and the one that is being written. j and r are the journal's and the result's bytes a trial,
measured and rounded up. seeds: from which the front is trained again at the end (`nas search --confirm`); of how many networks that
will be is not known before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.runs.settings import Settings
from nas.spaces.sampling import survey
from nas.utils.files import existing, free_space
from nas.utils.limits import available_cores
from nas.utils.text import format_bytes

CHECKPOINTS = 3
BYTES_PER_PARAMETER = 4
JOURNAL_BYTES = 20_000  # a trial; two that are rejected or known already come with it
RESULT_BYTES, EPOCH_BYTES = 2_000, 300
GRADIENT_BYTES = 20_000  # a trial's gradient norms: about 150 a layer
BLOCK = 4_096  # a file takes whole blocks
PAGE_BYTES = 6_000_000  # report.html brings Plotly along
FRONT = 100  # networks, or as many as there are trials: more than a front has
COMFORT = 2  # times what is needed, below which it is said


def needed(settings: Settings, workers: int, seeds: int = 0) -> int:
    """Bytes that a run may take on the disk at its largest, with so many trials at once, and its front confirmed from so many seeds."""
    largest = dict(zip(settings.objectives, settings.reference, strict=True)).get("params")
    if largest is None:
        known = [cost_of(Architecture.from_dict(entry["architecture"])).params for entry in settings.baselines]
        largest = max([survey(settings.search_space(), samples=100, seed=settings.seed).largest.params, *known])
    copies = 3 if settings.recipe.get("ema") else 2
    checkpoint = int(largest * settings.proxy.get("width", 1.0)) * copies * BYTES_PER_PARAMETER
    result = BLOCK + RESULT_BYTES + int(settings.recipe["epochs"]) * EPOCH_BYTES
    result += BLOCK + GRADIENT_BYTES if settings.gradient_steps else 0
    repeats = seeds * (min(settings.trials, FRONT) + len(settings.baselines)) * result
    return workers * CHECKPOINTS * checkpoint + settings.trials * (JOURNAL_BYTES + result) + repeats + PAGE_BYTES


def check_room(
    folder: Path, settings: Settings, say: Callable[[str], None], *, begun: bool = False, seeds: int = 0
) -> None:
    """UsageError if the disk can't hold the run; a word if it hardly can, or if the run is `begun` and has a part of it already.

    seeds: from which it is confirmed at its end.
    """
    executor = settings.executor
    workers = 1 if executor["kind"] == "local" else executor["workers"] or available_cores()
    need = needed(settings, workers, seeds)
    place = existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    about = f"about {format_bytes(need)} with {workers} trial{'s' if workers > 1 else ''} at once"
    if free < need and not begun:
        raise UsageError(
            f"{folder}: the disk has no room for this run ({free_space(place)}; it may take {about}); free space, name another "
            "place with --out, or say --workers if fewer train at once"
        )
    if free < COMFORT * need:
        say(f"warning: the disk is nearly full: {free_space(place)}, and this run may take {about}")
