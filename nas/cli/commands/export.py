"""`nas export`: networks of a run, or any network, as files that other programs take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.inputs import CONFIGS
from nas.cli.commands.options import Batches, examples, misused
from nas.errors import NasError, UsageError
from nas.utils.text import counted

if TYPE_CHECKING:
    from torch import Tensor

    from nas.interop.export import Exporter, Subject
    from nas.interop.export.measuring import Measured
    from nas.interop.export.writing import Written
    from nas.networks.architecture import Architecture
    from nas.networks.weights import Weights
    from nas.runs.records import Trial
    from nas.runs.run import Run


@click.command(
    epilog=examples(
        "nas export results/my-run",
        "nas export results/my-run --top 3 --format python --out models",
        "nas export trained --format onnx --format huggingface --out models",
        "nas export resnet50 --format python --out resnet50.py",
        "nas export results/my-run --format onnx --format pt2 --measure --batch 1,32 --threads 1",
    )
)
@click.argument("source", metavar="RUN|CONFIG|NAME")
@click.option("--top", metavar="N", type=click.IntRange(1), help="Only the N most accurate networks of the front.")
@click.option(
    "--trial",
    "trials",
    metavar="K",
    multiple=True,
    help="This trial, by number or label, on the front or not; may be repeated.",
)
@click.option(
    "--format",
    "format_names",
    metavar="FORMAT",
    multiple=True,
    default=("yaml",),
    show_default="yaml",
    help="What to write; may be repeated. See docs/export.md for the formats.",
)
@click.option(
    "--weights",
    metavar="FILE|DIR",
    help="Trained weights of the one network: a file, or the folder of `nas train`. Without them, formats that hold weights "
    "have random ones.",
)
@click.option(
    "--out",
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    help="Folder of the files, or for one network in one format the file.  [default: RUN/front, or the current folder]",
)
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
@click.option(
    "--measure", is_flag=True, help="Measure how long PyTorch and each file take on this CPU (docs/export.md)."
)
@click.option("--batch", type=Batches(), help="With --measure: images at once, one number or several.  [default: 1]")
@click.option("--threads", type=click.IntRange(1, 4096), help="With --measure: cores of the CPU.  [default: all]")
def export(
    source: str,
    top: int | None,
    trials: tuple[str, ...],
    format_names: tuple[str, ...],
    weights: str | None,
    out: Path | None,
    force: bool,
    measure: bool,
    batch: tuple[int, ...] | None,
    threads: int | None,
) -> None:
    """Write networks as files: those of a run's front, from the cheapest to the dearest, or one by its name or config.

    A run's folder gives its front, or what --top and --trial choose; the folder of `nas train` its network and its weights.
    Configs hold the whole architecture and where it comes from; `nas profile` and `nas train` take them, and
    nas.build(nas.Architecture.from_yaml(FILE)) makes the network. The number in front of a file's name is the network's
    place on the front, as `nas front` shows it. Of a whole front, index.md and index.csv list what was written.
    """
    from dataclasses import replace

    from nas.cli.commands.inputs import check_folder
    from nas.cli.commands.output import note
    from nas.interop.export.measuring import times_of
    from nas.interop.export.writing import check_index, formats_of, write_index, write_networks
    from nas.utils.text import shown

    if top is not None and trials:
        raise misused("--top and --trial: choose one")
    for option, value in (("batch", batch), ("threads", threads)):
        if value is not None and not measure:
            raise misused(f"--{option}: goes with --measure")
    formats = formats_of(dict.fromkeys(format_names))
    without = [name for name, exporter in formats.items() if weights is not None and exporter.weightless]
    if len(without) == len(formats):
        raise UsageError(f"--weights: no weights go into {', '.join(without)}; --format says what they are to go into")
    subjects, folder, whole = _subjects(source, top, trials, weights)
    if out is not None:
        folder = out
        if _is_file(out, len(subjects), formats):
            (name, exporter), *_ = formats.items()
            subjects, folder = [(out.stem, subjects[0][1])], out.parent
            formats = {name: replace(exporter, suffix=out.suffix)}
    check_folder(folder)
    if whole and not force:
        check_index(folder)
    configs = [name for name in formats if name in ("yaml", "json")]
    before = {path for name in configs for path in folder.glob(f"*{formats[name].suffix}")}
    rows = write_networks(subjects, folder, formats, force=force)
    paths = [path for row in rows for path in row.paths.values()]
    missing = [(row, reason) for row in rows for reason in row.reasons.values()]
    if missing and not paths:
        raise UsageError(f"{missing[0][0].name}: {missing[0][1]}")
    for path in paths:
        click.echo(shown(path.absolute()))
    measured = _measured(rows, folder, formats, batch or (1,), threads) if measure else []
    if whole:
        write_index(folder, rows, [times_of(own) for own in measured])
        note(f"{folder}/index.md lists them.")
    if others := len(before - set(paths)):
        note(f"{folder} holds {others} other config{'s' if others > 1 else ''}, from before.")
    for row, reason in missing:
        note(f"{row.name}: {reason}")
    if without:
        note(f"{', '.join(without)}: without the weights, which have no place there.")


def _is_file(out: Path, networks: int, formats: Mapping[str, Exporter]) -> bool:
    """Whether --out names the one file that is written; UsageError if it looks like one, and can't be it."""
    from nas.interop.export import EXPORTERS

    if not out.suffix or out.is_dir():
        return False
    (name, exporter), *more = formats.items()
    fits = exporter.suffix.endswith(out.suffix) or CONFIGS.get(out.suffix) == name
    if fits and networks == 1 and not more:
        return True
    known = {Path(exporter.suffix).suffix for exporter in EXPORTERS.values()} | CONFIGS.keys()
    if out.suffix not in known:
        return False
    if networks > 1 or more:
        raise UsageError(
            f"--out {out}: {counted(networks, 'network')} in {counted(len(formats), 'format')} go into a folder"
        )
    raise UsageError(f"--out {out}: what --format {name} writes ends with {exporter.suffix}")


def _measured(
    rows: list[Written], folder: Path, formats: Mapping[str, Exporter], batches: tuple[int, ...], threads: int | None
) -> list[list[Measured]]:
    """The latencies of each network and its files; written beside them, and shown."""
    from time import monotonic

    from nas.cli.commands.output import note, print_table
    from nas.interop.export.measuring import measure, programs, write_measured
    from nas.utils.text import format_ms, format_seconds, shown

    found: list[list[Measured]] = []
    begun = monotonic()
    for k, row in enumerate(rows):
        left = f", about {format_seconds((monotonic() - begun) / k * (len(rows) - k))} left" if k else ""
        note(f"measuring latency, network {k + 1} of {len(rows)}{left} ...")
        found.append(measure(row, formats, batches, threads))
        note(shown(write_measured(folder, row, found[-1])))
    lines = [
        (
            row.name,
            own.format,
            f"{own.latency.batch}",
            format_ms(own.latency.median_ms),
            format_ms(own.latency.spread_ms),
            f"{own.latency.repeats}",
        )
        for row, measured in zip(rows, found, strict=True)
        for own in measured
    ]
    print_table(("Network", "Format", ">Batch", ">Median", ">IQR", ">Repeats"), lines, stderr=True)
    latencies = [own.latency for measured in found for own in measured]
    last, noise = latencies[-1], max(own.noise for own in latencies)
    note(
        f"{last.device}, {last.threads} thread{'s' if last.threads > 1 else ''}, torch {last.torch}, fp32. "
        f"eager is the network in PyTorch. A reference network run between them varied by up to {noise:.1%} (IQR over median): "
        "differences below that are noise."
    )
    if idle := [name for name in formats if name not in programs(formats)]:
        note(f"{', '.join(idle)}: no program, so that there is nothing to measure.")
    return found


def _subjects(
    source: str, top: int | None, trials: tuple[str, ...], weights: str | None
) -> tuple[list[tuple[str, Subject]], Path, bool]:
    """The networks with the names of their files, the folder where they go unasked, and whether they are a whole front."""

    from nas.cli.commands.inputs import read_run
    from nas.interop.export.trials import subjects
    from nas.networks import zoo
    from nas.runs.settings import FILE
    from nas.training.full_training_folder import PLAN
    from nas.utils.registry import did_you_mean

    path = Path(source)
    if (path / PLAN).is_file():
        return [_trained(path, top, trials, weights)], Path(), False
    if not path.exists() and (near := did_you_mean(source.lower(), zoo.names())) and not _is_network(source):
        raise UsageError(f"{source}: neither a run's folder nor a network's name{near}")
    if (path / FILE).is_file() or path.is_dir() or not _is_network(source):
        run = read_run(path)
        chosen = [_trial(run, text) for text in trials] or _of_front(run, top)
        found = subjects(run, chosen)
        if weights is not None:
            if len(found) > 1:
                raise UsageError("--weights are one network's; choose it with --trial")
            (name, subject), *_ = found
            found = [(name, _with_weights(subject, weights))]
        return found, run.path / "front", not trials and top is None
    return [_network(source, top, trials, weights)], Path(), False


def _is_network(source: str) -> bool:
    """Whether a source is said as a network's: a file, a name of the zoo, or what can't be a folder's."""
    from nas.networks import zoo

    return Path(source).is_file() or Path(source).suffix in CONFIGS or source.lower() in zoo.names()


def _network(source: str, top: int | None, trials: tuple[str, ...], weights: str | None) -> tuple[str, Subject]:
    """A published network, or that of a config with the provenance that stands there."""
    from nas.cli.commands.inputs import read_architecture, slug
    from nas.interop.export import Subject
    from nas.utils.yaml_text import parse_yaml, read_text

    _require_no_choice(source, top, trials)
    architecture = read_architecture(source)
    path, said = Path(source), None
    if path.is_file() and path.suffix in CONFIGS:
        data = parse_yaml(read_text(path), source)
        said = data.get("provenance") if isinstance(data, dict) else None
    name = path.stem if said is not None or path.is_file() else architecture.name
    subject = Subject(architecture, said if isinstance(said, dict) else {})
    return slug(name), subject if weights is None else _with_weights(subject, weights)


def _trained(folder: Path, top: int | None, trials: tuple[str, ...], weights: str | None) -> tuple[str, Subject]:
    """The network of a folder of `nas train`, with its weights."""
    from nas.cli.commands.inputs import slug
    from nas.interop.export import Subject
    from nas.networks.architecture import Architecture
    from nas.training.full_training_folder import CONFIG, WEIGHTS, is_comparison, written
    from nas.utils.versions import VERSION

    _require_no_choice(str(folder), top, trials)
    if is_comparison(folder):
        configs = sorted(folder.glob(f"*/*/{CONFIG}"))
        named = f", as {configs[0]}" if configs else ""
        raise UsageError(
            f"{folder}: holds a comparison, which keeps no weights; give the config of one of its networks{named}"
        )
    if not (folder / WEIGHTS).is_file():
        raise NasError(f"{folder}: its training is not done yet, so that there are no weights; nas train goes on there")
    architecture = Architecture.from_yaml(folder / CONFIG)
    result = written(folder)
    data = result.get("dataset", {})
    provenance = {
        "trained": folder.absolute().name,
        "accuracy": result["test"]["accuracy"] if result else None,
        "accuracy_on": "test",
        "epochs": len(result.get("epochs", ())),
        "dataset": {key: data[key] for key in ("name", "fingerprint", "classes", "mean", "std") if key in data},
        "recipe": result.get("recipe", {}),
        "nas": result.get("versions", {}).get("nas", VERSION),
    }
    name = slug(architecture.name or folder.absolute().name)
    if weights is not None:
        return name, _with_weights(Subject(architecture), weights)
    state, _ = _weights(str(folder), architecture)
    return name, Subject(architecture, provenance, state)


def _require_no_choice(source: str, top: int | None, trials: tuple[str, ...]) -> None:
    if top is not None or trials:
        raise UsageError(f"{source}: is one network; --top and --trial choose among a run's")


def _with_weights(subject: Subject, source: str) -> Subject:
    """The subject with weights that were given beside it; its provenance then says what is known of their training."""
    from dataclasses import replace

    state, weights = _weights(source, subject.architecture)
    told = {"source": Path(source).absolute().name, "fingerprint": weights.fingerprint, **weights.training}
    return replace(subject, weights=state, provenance={**subject.provenance, "weights": told})


def _weights(source: str, architecture: Architecture) -> tuple[Mapping[str, Tensor], Weights]:
    """Weights under our names, all of them, and as they were read."""
    from nas.cli.commands.inputs import weights_file
    from nas.cli.commands.output import note
    from nas.networks.weights import fit, read

    weights = read(weights_file(source))
    for remark in weights.notes:
        note(f"weights: {weights.source}: {remark}")
    fitted = fit(weights, architecture)
    if fitted.fresh:
        raise UsageError(
            f"--weights {source}: has other classes than the network's {architecture.head.classes}; export what was trained"
        )
    return fitted.state, weights


def _of_front(run: Run, top: int | None) -> list[Trial]:
    front = run.front()
    if not front:
        raise NasError(f"{run.path}: {run.no_front('to export')}")
    if top is None:
        return front
    # Of equally accurate ones the cheaper; they stay in the order of the front.
    best = sorted(range(len(front)), key=lambda k: (-(run.accuracy(front[k]) or 0.0), k))[:top]
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
