"""All evaluations of a benchmark as CSV, one row for each trained network; every curve can be computed from it."""

from __future__ import annotations

import csv
import io

from nas.bench.folder import Folder
from nas.bench.replay import Luck
from nas.utils.text import cell


def trials(folder: Folder) -> str:
    """sampler, repeat, evaluation (from 1), network, its choices, observed, score, costs, hypervolume, ask_seconds.

    observed: the accuracy reported to the sampler. hypervolume: share of the table's after this evaluation, in [0, 1].
    """
    table, names = folder.table, folder.table.columns.costs
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    choices = [f"choice:{choice.name}" for choice in table.choices]
    costs = [f"cost:{name}" for name in names]
    head = ["sampler", "repeat", "evaluation", "network", *choices, "observed", "score", *costs]
    writer.writerow([*head, "hypervolume", "ask_seconds"])
    observed: dict[int, list[float]] = {}  # by repeat; all samplers of a repeat get the same accuracies
    for study in sorted(folder.done, key=lambda study: (study.sampler, study.repeat)):
        if study.repeat not in observed:
            observed[study.repeat] = Luck(table, folder.protocol.seed, study.repeat).accuracy.tolist()
        for place, network in enumerate(study.networks):
            picked = [choice.values[k] for choice, k in zip(table.choices, table.examples[network], strict=True)]
            measured = [observed[study.repeat][network], float(table.score[network]), *table.costs[network].tolist()]
            first = [cell(study.sampler), study.repeat, place + 1, network, *map(cell, picked)]
            writer.writerow([*first, *measured, study.hypervolume[place], study.ask_seconds[place]])
    return text.getvalue()
