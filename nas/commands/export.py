"""`nas export`: networks of a run as configs that build again anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.commands.options import examples, run_argument
from nas.errors import NasError, UsageError

if TYPE_CHECKING:
    from nas.records import Trial
    from nas.run import Run


@click.command(
    epilog=examples(
        "nas export results/my-run",
        "nas export results/my-run --top 3 --out configs",
        "nas export results/my-run --trial 12 --format json",
    )
)
@run_argument
@click.option("--top", metavar="N", type=click.IntRange(1), help="Only the N most accurate networks of the front.")
@click.option(
    "--trial",
    "trials",
    metavar="K",
    multiple=True,
    help="This trial, by number or label, on the front or not; may be repeated.",
)
@click.option("--format", "format_name", metavar="FORMAT", default="yaml", show_default=True, help="yaml or json.")
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the configs.  [default: RUN/front]"
)
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
def export(
    run: Path, top: int | None, trials: tuple[str, ...], format_name: str, out: Path | None, force: bool
) -> None:
    """Write the networks of a run's front, from the cheapest to the dearest, as configs.

    Each holds the whole architecture and where it comes from; `nas profile` and `nas train` take it, and
    nas.build(nas.Architecture.from_yaml(FILE)) makes the network. The number in front of a file's name is the network's
    place on the front, as `nas front` shows it.
    """
    from nas.commands.inputs import check_folder, read_run
    from nas.commands.output import note
    from nas.export import EXPORTERS, export_trials
    from nas.text import shown

    if top is not None and trials:
        raise click.UsageError("--top and --trial: choose one", click.get_current_context())
    exporter = EXPORTERS.find(format_name)
    read = read_run(run)
    chosen = [_trial(read, text) for text in trials] or _of_front(read, top)
    folder = out if out is not None else read.path / "front"
    check_folder(folder)
    before = set(folder.glob(f"*{exporter.suffix}"))
    paths = export_trials(read, chosen, folder, exporter, force=force)
    for path in paths:
        click.echo(shown(path.absolute()))
    if others := len(before - set(paths)):
        note(f"{folder} holds {others} other config{'s' if others > 1 else ''}, from before.")


def _of_front(run: Run, top: int | None) -> list[Trial]:
    front = run.front()
    if not front:
        raise NasError(f"{run.path}: no trial is complete yet, so that there is no front to export")
    if top is None:
        return front
    # Of equally accurate ones the cheaper; they stay in the order of the front.
    best = sorted(range(len(front)), key=lambda k: (-(front[k].accuracy or 0.0), k))[:top]
    return [front[k] for k in sorted(best)]


def _trial(run: Run, text: str) -> Trial:
    """The trial that has this number or label."""
    for trial in run.trials:
        if text in (trial.label or str(trial.number), str(trial.number)):
            return trial
    labels = [trial.label for trial in run.baselines()]
    known = f"; baselines: {', '.join(labels)}" if labels else ""
    count = sum(not trial.label for trial in run.trials)
    raise UsageError(f"{run.path}: no trial {text!r}; the run has {count} so far{known}")
