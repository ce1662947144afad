"""`nas export`: networks of a run, or any network, as files for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.inputs import CONFIGS
from nas.cli.commands.options import Batches, GroupedCommand, examples, misused, option
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
    cls=GroupedCommand,
    epilog=examples(
        "nas export results/my-run",
        "nas export results/my-run --top 3 --format python --out models",
        "nas export trained --format onnx --format huggingface --out models",
        "nas export resnet50 --format python --out resnet50.py",
        "nas export results/my-run --format onnx --format pt2 --measure --batch 1,32 --threads 1",
    ),
)
@click.argument("source", metavar="RUN|CONFIG|NAME")
@option(
    "Networks", "--top", metavar="N", type=click.IntRange(1), help="Only the N most accurate networks of the front."
)
@option(
    "Networks",
    "--trial",
    "trials",
    metavar="K",
    multiple=True,
    help="This trial, by number or label, on the front or not; may be repeated.",
)
@option(
    "Networks",
    "--weights",
    metavar="FILE|DIR",
    help="Trained weights of the one network: a file, or the folder of `nas train`. Without them, formats that contain weights "
    "get random ones.",
)
@option(
    "Output",
    "--format",
    "format_names",
    metavar="FORMAT",
    multiple=True,
    default=("yaml",),
    show_default="yaml",
    help="What to write; may be repeated. See docs/export.md for the formats.",
)
@option(
    "Output",
    "--out",
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    help="Folder of the files, or for one network in one format the file.  [default: RUN/front, or the current folder]",
)
@option("Output", "--force", is_flag=True, help="Overwrite files that differ.")
@option(
    "Latency",
    "--measure",
    is_flag=True,
    help="Measure how long PyTorch and each file take on this CPU (docs/export.md).",
)
@option("Latency", "--batch", type=Batches(), help="With --measure: one or several batch sizes.  [default: 1]")
@option("Latency", "--threads", type=click.IntRange(1, 4096), help="With --measure: cores of the CPU.  [default: all]")
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
    """Write networks as files: those of a run's front, from the cheapest to the most expensive, or one by its name or config.

    For a run's folder, the networks of its front are written, or those that --top or --trial choose; for the folder of
    `nas train` its network with its weights. Configs contain the whole architecture and its origin; `nas profile` and
    `nas train` accept them, and nas.build(nas.Architecture.from_yaml(FILE)) builds the network. The number at the start of a
    file's name is the network's rank on the front, as in `nas front`. For a whole front, index.md and index.csv list the files.
    """
    from nas.cli.commands.inputs import check_folder
    from nas.cli.commands.output import note
    from nas.interop.export.writing import check_index, write_networks
    from nas.utils.text import shown

    if top is not None and trials:
        raise misused("--top and --trial: choose one")
    for name, value in (("batch", batch), ("threads", threads)):
        if value is not None and not measure:
            raise misused(f"--{name}: goes with --measure")
    formats, without_weights = _formats(format_names, weights)
    subjects, folder, whole_front = _subjects(source, top, trials, weights)
    if out is not None:
        subjects, folder, formats = _named_target(out, subjects, formats)
    check_folder(folder)
    if whole_front and not force:
        check_index(folder)
    older = _configs_in(folder, formats)
    rows = write_networks(subjects, folder, formats, force=force)
    paths = [path for row in rows for path in row.paths.values()]
    missing = [(row, reason) for row in rows for reason in row.reasons.values()]
    if missing and not paths:
        raise UsageError(f"{missing[0][0].name}: {missing[0][1]}")
    for path in paths:
        click.echo(shown(path.absolute()))
    measured = _measured(rows, folder, formats, batch or (1,), threads) if measure else []
    if whole_front:
        _write_index(folder, rows, measured)
    if others := len(older - set(paths)):
        note(f"{folder} holds {others} other config{'s' if others > 1 else ''}, from before.")
    for row, reason in missing:
        note(f"{row.name}: {reason}")
    if without_weights:
        note(f"{', '.join(without_weights)}: written without the weights, which the format can't contain.")


def _formats(names: tuple[str, ...], weights: str | None) -> tuple[dict[str, Exporter], list[str]]:
    """The formats by name, and those that can't contain the given weights; UsageError if none of them can."""
    from nas.interop.export.writing import formats_of

    formats = formats_of(dict.fromkeys(names))
    weightless = [name for name, exporter in formats.items() if weights is not None and exporter.weightless]
    if len(weightless) == len(formats):
        raise UsageError(
            f"--weights: {', '.join(weightless)} can't contain weights; choose a format that can by --format"
        )
    return formats, weightless


def _named_target(
    out: Path, subjects: list[tuple[str, Subject]], formats: dict[str, Exporter]
) -> tuple[list[tuple[str, Subject]], Path, dict[str, Exporter]]:
    """The networks with the names of their files, the folder, and the formats with their suffixes, for this --out."""
    from dataclasses import replace

    if not _is_file(out, len(subjects), formats):
        return subjects, out, formats
    ((name, exporter),) = formats.items()
    ((_, subject),) = subjects
    return [(out.stem, subject)], out.parent, {name: replace(exporter, suffix=out.suffix)}


def _configs_in(folder: Path, formats: Mapping[str, Exporter]) -> set[Path]:
    configs = [exporter for name, exporter in formats.items() if name in ("yaml", "json")]
    return {path for exporter in configs for path in folder.glob(f"*{exporter.suffix}")}


def _write_index(folder: Path, rows: list[Written], measured: list[list[Measured]]) -> None:
    from nas.cli.commands.output import note
    from nas.interop.export.measuring import times_of
    from nas.interop.export.writing import write_index

    write_index(folder, rows, [times_of(latencies) for latencies in measured])
    note(f"{folder}/index.md lists them.")


def _is_file(out: Path, networks: int, formats: Mapping[str, Exporter]) -> bool:
    """Whether --out names the one file to write, not a folder; UsageError if it has a file's suffix, but can't be that file."""
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
    raise UsageError(f"--out {out}: the file names of --format {name} end with {exporter.suffix}")


def _measured(
    rows: list[Written], folder: Path, formats: Mapping[str, Exporter], batches: tuple[int, ...], threads: int | None
) -> list[list[Measured]]:
    """Measure each network and its files; the latencies are printed, and written next to the files."""
    from time import monotonic

    from nas.cli.commands.output import note, print_table
    from nas.interop.export.measuring import measure, programs, write_measured
    from nas.utils.text import format_ms, format_seconds, shown

    measured: list[list[Measured]] = []
    start = monotonic()
    for k, row in enumerate(rows):
        left = f", about {format_seconds((monotonic() - start) / k * (len(rows) - k))} left" if k else ""
        note(f"measuring latency, network {k + 1} of {len(rows)}{left} ...")
        measured.append(measure(row, formats, batches, threads))
        note(shown(write_measured(folder, row, measured[-1])))
    lines = [
        (
            row.name,
            entry.format,
            f"{entry.latency.batch}",
            format_ms(entry.latency.median_ms),
            format_ms(entry.latency.spread_ms),
            f"{entry.latency.repeats}",
        )
        for row, entries in zip(rows, measured, strict=True)
        for entry in entries
    ]
    print_table(("Network", "Format", ">Batch", ">Median", ">IQR", ">Repeats"), lines, stderr=True)
    latencies = [entry.latency for entries in measured for entry in entries]
    last, noise = latencies[-1], max(latency.noise for latency in latencies)
    note(
        f"{last.device}, {last.threads} thread{'s' if last.threads > 1 else ''}, torch {last.torch}, fp32. "
        f"eager is the network in PyTorch. A reference network run between them varied by up to {noise:.1%} (IQR over median): "
        "differences below that are noise."
    )
    if idle := [name for name in formats if name not in programs(formats)]:
        note(f"{', '.join(idle)}: not a program, so there is nothing to measure.")
    return measured


def _subjects(
    source: str, top: int | None, trials: tuple[str, ...], weights: str | None
) -> tuple[list[tuple[str, Subject]], Path, bool]:
    """The networks with the names of their files, the default folder, and whether they are a whole front."""
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
        named = subjects(run, chosen)
        if weights is not None:
            if len(named) > 1:
                raise UsageError("--weights are one network's; choose it with --trial")
            ((name, subject),) = named
            named = [(name, _with_weights(subject, weights))]
        return named, run.path / "front", not trials and top is None
    return [_network(source, top, trials, weights)], Path(), False


def _is_network(source: str) -> bool:
    """Whether `source` names a network, not a run's folder: it is a file, has a config's suffix or is a name of the zoo."""
    from nas.networks import zoo

    return Path(source).is_file() or Path(source).suffix in CONFIGS or source.lower() in zoo.names()


def _network(source: str, top: int | None, trials: tuple[str, ...], weights: str | None) -> tuple[str, Subject]:
    """A published network, or the network of a config with the config's provenance."""
    from nas.cli.commands.inputs import read_architecture, slug
    from nas.interop.export import Subject
    from nas.utils.yaml_text import parse_yaml, read_text

    _require_no_choice(source, top, trials)
    architecture = read_architecture(source)
    path, provenance = Path(source), None
    if path.is_file() and path.suffix in CONFIGS:
        data = parse_yaml(read_text(path), source)
        provenance = data.get("provenance") if isinstance(data, dict) else None
    name = path.stem if provenance is not None or path.is_file() else architecture.name
    subject = Subject(architecture, provenance if isinstance(provenance, dict) else {})
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
        raise NasError(f"{folder}: its training has not ended, so there are no weights yet; nas train continues it")
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
    """The subject with the weights from --weights; its provenance then states what is known of their training."""
    from dataclasses import replace

    state, weights = _weights(source, subject.architecture)
    origin = {"source": Path(source).absolute().name, "fingerprint": weights.fingerprint, **weights.training}
    return replace(subject, weights=state, provenance={**subject.provenance, "weights": origin})


def _weights(source: str, architecture: Architecture) -> tuple[Mapping[str, Tensor], Weights]:
    """All weights of the network, under our names, and the weights as they were read."""
    from nas.cli.commands.inputs import weights_file
    from nas.cli.commands.output import note
    from nas.networks.weights import fit, read

    weights = read(weights_file(source))
    for remark in weights.notes:
        note(f"weights: {weights.source}: {remark}")
    fitted = fit(weights, architecture)
    if fitted.fresh:
        raise UsageError(
            f"--weights {source}: has other classes than the network's {architecture.head.classes}; export the network that was trained"
        )
    return fitted.state, weights


def _of_front(run: Run, top: int | None) -> list[Trial]:
    front = run.front()
    if not front:
        raise NasError(f"{run.path}: {run.no_front('to export')}")
    if top is None:
        return front
    # Among equally accurate networks the cheapest; the order of the front is kept.
    best = sorted(range(len(front)), key=lambda k: (-(run.accuracy(front[k]) or 0.0), k))[:top]
    return [front[k] for k in sorted(best)]


def _trial(run: Run, text: str) -> Trial:
    """The trial with this number or label."""
    for trial in run.trials:
        if text in (trial.label or str(trial.number), str(trial.number)):
            return trial
    labels = [trial.label for trial in run.baselines()]
    known = f"; baselines: {', '.join(labels)}" if labels else ""
    count = sum(not trial.label for trial in run.trials)
    raise UsageError(f"{run.path}: no trial {text!r}; the run has {count} so far{known}")
