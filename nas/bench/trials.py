"""All that was trained in a benchmark as CSV, a row a network, from which every curve can be drawn again."""

from __future__ import annotations

import csv
import io

from nas.bench.folder import Folder
from nas.bench.replay import Luck
from nas.utils.text import cell


def trials(folder: Folder) -> str:
    """sampler, repeat, evaluation (from 1), network, its choices, observed, score, costs, hypervolume, ask_seconds.

    observed: the accuracy that the sampler was told. hypervolume: share of the table's after this evaluation, in [0, 1].
    """
    table, names = folder.table, folder.table.columns.costs
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    choices = [f"choice:{own.name}" for own in table.choices]
    costs = [f"cost:{name}" for name in names]
    head = ["sampler", "repeat", "evaluation", "network", *choices, "observed", "score", *costs]
    writer.writerow([*head, "hypervolume", "ask_seconds"])
    observed: dict[int, list[float]] = {}  # repeats are paired: one luck for all samplers
    for own in sorted(folder.done, key=lambda own: (own.sampler, own.repeat)):
        if own.repeat not in observed:
            observed[own.repeat] = Luck(table, folder.protocol.seed, own.repeat).accuracy.tolist()
        for place, network in enumerate(own.networks):
            picked = [one.values[k] for one, k in zip(table.choices, table.examples[network], strict=True)]
            measured = [observed[own.repeat][network], float(table.score[network]), *table.costs[network].tolist()]
            first = [cell(own.sampler), own.repeat, place + 1, network, *map(cell, picked)]
            writer.writerow([*first, *measured, own.hypervolume[place], own.ask_seconds[place]])
    return text.getvalue()
