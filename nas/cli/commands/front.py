"""`nas front`: the Pareto front of a run, as a table, JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.options import examples, json_option, run_argument
from nas.errors import NasError

if TYPE_CHECKING:
    from nas.report.html.chart import Json
    from nas.runs.run import Run

WIDE = 110  # characters of a table with descriptions; on a narrower terminal they are below the table
STRONG = "bold green"


@click.command(
    epilog=examples(
        "nas front results/my-run", "nas front results/my-run --csv > front.csv", "nas front results/my-run --json"
    )
)
@run_argument
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, for a spreadsheet.")
def front(run: Path, as_json: bool, as_csv: bool) -> None:
    """The Pareto front of a run, from the cheapest network to the most expensive.

    Accuracy is measured on the validation split after the proxy's last epoch. After `nas confirm` the front is that of the
    confirmed networks, by their means over further seeds. The knee is the best compromise: the network
    furthest above the line between the ends of the front. Works while the run is in progress.
    """
    from nas.cli.commands.inputs import read_run
    from nas.cli.commands.output import print_json

    if as_json and as_csv:
        raise click.UsageError("--json and --csv: choose one", click.get_current_context())
    read = read_run(run)
    if as_json:
        print_json(front_data(read))
    elif as_csv:
        from nas.report.run.tables import front_csv

        check_complete(read)
        click.echo(front_csv(read), nl=False)
    else:
        print_front(read)


def front_data(run: Run) -> dict[str, object]:
    """A run's state and its front as plain data. NasError if no trial is complete yet."""
    from nas.report.run import tables

    check_complete(run)
    return tables.front_data(run)


def _rows(run: Run) -> list[Json]:
    from nas.report.run.tables import front_rows

    check_complete(run)
    return front_rows(run)


def check_complete(run: Run) -> None:
    """NasError if no trial is complete yet."""
    if not run.complete():
        raise NasError(f"{run.path}: {run.no_front()}. {_standing(run)}")


def print_front(run: Run) -> None:
    """The front as a table, and the run's progress. NasError if no trial is complete yet."""
    from nas.cli.commands.output import MACS_NOTE, say
    from nas.report.run import confirmed_section
    from nas.utils.text import counted

    rows = _rows(run)
    data = run.config["dataset"]
    say(
        f"{run.config['name']}: front of {', '.join(run.config['objectives'])} on {data['name']}, {data['resolution']} px\n",
        style="bold",
    )
    _print_rows(rows)
    epochs = max(row["epochs"] for row in rows)
    after = f" after {counted(epochs, 'epoch')}" if epochs else ""
    once = ", of the one training in the search" if _confirmed(rows) else ""
    say(f"\nAcc. is the accuracy on the validation split{after}{once}. {MACS_NOTE}")
    for sentence in confirmed_section.sentences(run):
        say(sentence)
    if _timed(rows) and (latency := run.front()[0].latency):
        on_cpu = run.config["latency"]["device"] == "cpu"
        cores = f", {counted(latency.threads, 'thread')}" if on_cpu else ""
        say(
            f"Latency is the median for a batch of {latency.batch} on {latency.device}{cores}, measured before training."
        )
    for sentence in _missing_baselines(run, rows):
        say(sentence)
    say(_standing(run))


def _timed(rows: Sequence[Mapping[str, object]]) -> bool:
    return all("latency_ms" in row for row in rows)


def _confirmed(rows: Sequence[Mapping[str, object]]) -> bool:
    return any(row["accuracy_seeds"] for row in rows)


def _print_rows(rows: list[Json]) -> None:
    """The table, with the networks' descriptions in its last column, or below it if the terminal is narrow."""
    from nas.cli.commands.output import console, print_table, say
    from nas.report.run.tables import mean_cell
    from nas.utils.text import format_count, format_ms, format_percent

    timed, confirmed = _timed(rows), _confirmed(rows)
    lines = [
        (
            str(row["rank"]),
            row["label"] or f"trial {row['trial']}",
            format_percent(row["accuracy"]),
            *([mean_cell(row)] if confirmed else []),
            *(format_count(row[metric]) for metric in ("params", "macs", "activations")),
            *([format_ms(row["latency_ms"])] if timed else []),
            "knee" if row["knee"] else "",
        )
        for row in rows
    ]
    descriptions = [row["description"] for row in rows]
    knees = [number for number, row in enumerate(rows) if row["knee"]]
    means = [">Mean ± s.e. (n)"] if confirmed else []
    latency = [">Latency"] if timed else []
    columns = (">#", "Network", ">Acc. %", *means, ">Params", ">MACs", ">Activ.", *latency, "")
    if console().width >= WIDE:
        joined = [(*line, text) for line, text in zip(lines, descriptions, strict=True)]
        print_table((*columns, "Description"), joined, strong=knees, style=STRONG)
    else:
        print_table(columns, lines, strong=knees, style=STRONG)
        say()
        numbered = [(line[0], text) for line, text in zip(lines, descriptions, strict=True)]
        print_table((">#", "Description"), numbered, strong=knees, style=STRONG)


def _missing_baselines(run: Run, rows: list[Json]) -> Iterator[str]:
    """A sentence for each trained baseline that is not on the front."""
    from nas.utils.text import format_count, format_percent

    on_front = {row["trial"] for row in rows}
    for trial in run.baselines():
        if trial.accuracy is not None and trial.number not in on_front:
            costs = f"{format_count(trial.cost.params)} params, {format_count(trial.cost.macs)} MACs"
            accuracy = format_percent(run.accuracy(trial) or 0.0)
            yield f"Baseline {trial.label} is not on the front: {accuracy} % with {costs}."


def _failed(run: Run) -> str:
    """`3 failed (2 exception, 1 time limit; see run/trials/NUMBER/config.yaml)`."""
    from nas.runs.attempts import counted
    from nas.runs.layout import CONFIG, TRIALS
    from nas.utils.text import shown

    causes = counted(trial.cause for trial in run.trials if trial.state == "failed" and not trial.label)
    why = f" ({causes}; see {shown(run.path)}/{TRIALS}/NUMBER/{CONFIG})" if causes else ""
    return f"{run.count('failed')} failed{why}"


def _standing(run: Run) -> str:
    """The run's progress, in a sentence."""
    from nas.utils.text import counted, shown

    standing = f"{run.trained} of {counted(run.config['trials'], 'trial')} trained"
    if run.trained > run.config["trials"]:  # resumed with fewer
        standing = f"{counted(run.trained, 'trial')} trained, more than the requested {run.config['trials']}"
    if stopped := run.count("stopped"):
        standing += f" ({stopped} of them stopped early)"
    endings = [_failed(run)] if run.count("failed") else []
    if rejected := run.count("rejected"):
        endings.append(f"{rejected} rejected")
    if duplicates := run.count("duplicate"):
        endings.append(f"{duplicates} duplicate{'s' if duplicates > 1 else ''}")
    counts = ", ".join([standing, *endings])
    if so_far := run.confirmed_so_far():
        return f"The run is being confirmed: {so_far[0]} of {counted(so_far[1], 'training')} done; {counts}."
    if run.status == "running":
        return f"The run is in progress: {counts}."
    if run.status == "unfinished":
        return f"The run is unfinished: {counts}. `nas resume {shown(run.path)}` continues."
    return f"The run is done: {counts}."
