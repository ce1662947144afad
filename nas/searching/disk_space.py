"""Checks, before the run folder is made, that the disk has room for the run.

Checkpoints take most of it:

bytes = workers x 3 c + trials x (j + r(epochs)) + seeds x (front + baselines) x r(epochs) + page

c: a checkpoint of the largest network that may be drawn: weights, momenta and, with an average of the weights, its copy, with 4 bytes
for each parameter. A trial has up to three: the last one, the one before it, and the one that is being written. j, r: bytes of a
trial in the journal and in its result, measured and rounded up. seeds: from which the front is trained again at the end
(`nas search --confirm`); the size of the front is not known in advance.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from nas.errors import UsageError
from nas.networks.build import cost_of
from nas.runs.settings import Settings
from nas.spaces.sampling import survey
from nas.utils.files import existing, free_space
from nas.utils.limits import available_cores
from nas.utils.text import format_bytes

CHECKPOINTS = 3
BYTES_PER_PARAMETER = 4
JOURNAL_BYTES = 20_000  # for each trial, with two proposals that are rejected or duplicates
RESULT_BYTES, EPOCH_BYTES = 2_000, 300
GRADIENT_BYTES = 20_000  # a trial's gradient norms: about 150 for each layer
BLOCK = 4_096  # a file occupies whole blocks
PAGE_BYTES = 6_000_000  # report.html contains Plotly
FRONT = 100  # networks: more than a front has
COMFORT = 2  # a warning appears if the free space is less than so many times the needed space


def needed(settings: Settings, workers: int, seeds: int = 0) -> int:
    """The most bytes that a run may need, with so many trials at once and its front confirmed from so many seeds."""
    largest = dict(zip(settings.objectives, settings.reference, strict=True)).get("params")
    if largest is None:
        known = [cost_of(entry.network()).params for entry in settings.baselines]
        largest = max([survey(settings.search_space(), samples=100, seed=settings.seed).largest.params, *known])
    copies = 3 if settings.recipe.ema else 2
    checkpoint = int(largest * settings.proxy.width) * copies * BYTES_PER_PARAMETER
    result = BLOCK + RESULT_BYTES + settings.recipe.epochs * EPOCH_BYTES
    result += BLOCK + GRADIENT_BYTES if settings.gradient_steps else 0
    repeats = seeds * (min(settings.trials, FRONT) + len(settings.baselines)) * result
    return workers * CHECKPOINTS * checkpoint + settings.trials * (JOURNAL_BYTES + result) + repeats + PAGE_BYTES


def check_room(
    folder: Path, settings: Settings, say: Callable[[str], None], *, begun: bool = False, seeds: int = 0
) -> None:
    """UsageError if the disk has no room for the run; a warning if it has little room.

    begun: the run has written a part of this already, so that there is only a warning. seeds: from which it is confirmed at its end.
    """
    executor = settings.executor
    workers = 1 if executor.kind == "local" else executor.workers or available_cores()
    need = needed(settings, workers, seeds)
    place = existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    about = f"about {format_bytes(need)} with {workers} trial{'s' if workers > 1 else ''} at once"
    if free < need and not begun:
        raise UsageError(
            f"{folder}: the disk has no room for this run ({free_space(place)}; it may take {about}); free some space, choose another "
            "folder with --out, or give fewer --workers"
        )
    if free < COMFORT * need:
        say(f"warning: the disk is nearly full: {free_space(place)}, and this run may take {about}")
