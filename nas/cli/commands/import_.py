"""`nas import`: converts networks of other programs to our configs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.inputs import CONFIGS
from nas.cli.commands.options import examples, json_option
from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.interop.importers import Found, Imported

INDEX = "index.csv"  # of a population: one line per network
OTHERS = (
    "file",
    "architecture",
    "imported",
    "notes",
)  # fields of a network in --json or the index, in addition to its facts
REASONS = 3  # printed reasons of skipped entries
KINDS = ("auto", "pycls", "torchvision", "timm", "tinynas", "ofa", "optuna")


@click.command(
    "import",
    epilog=examples(
        "nas import RegNetX-400MF_dds_8gpu.yaml --out regnetx-400mf.yaml",
        "nas import sweep.json --out pycls-sweep",
        "nas import timm:resnet50d",
        "nas import best_structure.json --resolution 224 --classes 1000 --out configs",
        "nas import optuna:sqlite:///mine.db#study --space resnext --out warm",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--from",
    "kind",
    metavar="KIND",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help=f"What the source is: {', '.join(KINDS[1:])}.",
)
@click.option(
    "--out",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="Config to write, or a folder.  [default: print it]",
)
@click.option("--resolution", metavar="PIXELS", type=click.IntRange(1, 1 << 14), help="Side of the images.")
@click.option("--classes", metavar="N", type=click.IntRange(1, 1 << 20), help="Classes of the head.")
@click.option("--channels", metavar="N", type=click.IntRange(1, 1 << 12), help="Channels of the images.")
@click.option("--space", metavar="NAME|PATH", help="The space that an Optuna study searched.")
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
@json_option
def import_(
    source: str,
    kind: str,
    out: Path | None,
    resolution: int | None,
    classes: int | None,
    channels: int | None,
    space: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Convert a network of another program to a config with equal parameters and multiply-adds.

    SOURCE is a pycls model config or sweep.json, torchvision:NAME, timm:NAME, a best_structure.json of TinyNAS, an OFA
    ResNet-50 subnet {"d": ..., "e": ..., "w": ...}, or an Optuna study (its journal, or optuna:URL#STUDY). A
    network that our blocks can't express is refused, with a list of all reasons. A sweep or a study becomes a folder of
    configs and index.csv.
    """
    from nas.cli.commands.output import note, print_json
    from nas.interop.importers import Options, import_source

    result = import_source(source, kind, Options(classes, resolution, channels, space))
    files = _files(result, out) if out is not None else []
    if out is not None:
        _write(result, files, out, force)
    if as_json:
        print_json(_as_json(result, files))
        return
    if out is None:
        _print(result)
    for path in files:
        click.echo(str(path))
    for network in result.networks[:1] if not result.many else ():
        for remark in network.notes:
            note(f"{remark}.")
    _print_refused(result)


def _files(result: Found, out: Path) -> list[Path]:
    """The file of each network: `out` itself, or in the folder `out` a file with the network's name."""
    from nas.cli.commands.inputs import slug

    if not result.many and out.suffix in CONFIGS and not out.is_dir():
        return [out]
    taken: set[str] = set()
    files = []
    for network in result.networks:
        wanted = slug(network.architecture.name or network.architecture.digest)
        name, count = wanted, 2
        while name.lower() in taken:  # some file systems ignore case
            name, count = f"{wanted}-{count}", count + 1
        taken.add(name.lower())
        files.append(out / f"{name}.yaml")
    return files


def _write(result: Found, files: Sequence[Path], out: Path, force: bool) -> None:
    from nas.cli.commands.inputs import check_folder
    from nas.cli.commands.output import write_texts

    if result.many and out.suffix in CONFIGS:
        raise UsageError(f"--out {out}: {len(result.networks)} networks go into a folder")
    check_folder(files[0].parent if files else out)
    texts = {path: _config(network, CONFIGS[path.suffix]) for path, network in zip(files, result.networks, strict=True)}
    if result.many:
        texts[out / INDEX] = _index(result, files)
    write_texts(texts, force)


def _config(network: Imported, format_name: str) -> str:
    """The text of a config that `Architecture.from_yaml` reads, with the network's provenance at the end."""
    from nas.interop.export import EXPORTERS

    notes = {"notes": list(network.notes)} if network.notes else {}
    return EXPORTERS[format_name](network.architecture, {**network.provenance, **notes})


def _index(result: Found, files: Sequence[Path]) -> str:
    """CSV of a population: file, digest, exact costs, and the measurements of the source."""
    from nas.utils.text import cell

    rows = [_facts(network) for network in result.networks]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *map(cell, columns)])
    for path, row in zip(files, rows, strict=True):
        writer.writerow([path.name, *(cell(row.get(column, "")) for column in columns)])
    return text.getvalue()


def _facts(network: Imported) -> dict[str, Any]:
    from nas.networks.build import cost_of

    cost = cost_of(network.architecture)
    ours = {
        "name": network.architecture.name,
        "digest": network.architecture.digest,
        "resolution": network.architecture.resolution,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
    }
    # A study's "params" may be in millions: it is added next to the exact cost, and does not replace it.
    taken = {*ours, *OTHERS}
    return ours | {f"measured_{key}" if key in taken else key: value for key, value in network.measured.items()}


def _as_json(result: Found, files: Sequence[Path]) -> dict[str, object]:
    networks = []
    for number, network in enumerate(result.networks):
        where = {"file": str(files[number])} if files else {"architecture": network.architecture.to_dict()}
        networks.append({**_facts(network), **where, **network.provenance, "notes": list(network.notes)})
    return {"networks": networks, "refused": [{"name": entry.name, "reason": entry.reason} for entry in result.refused]}


def _print(result: Found) -> None:
    """The config of one network, or a table of a population."""
    from nas.cli.commands.output import note, print_table
    from nas.networks.describe import describe
    from nas.utils.text import format_count, printable

    if not result.many:
        text = _config(result.networks[0], "yaml")
        click.echo("".join(f"{printable(line)}\n" for line in text.splitlines()), nl=False)
        return
    column = next(iter(result.networks[0].measured), "measured")
    rows = []
    for network in result.networks:
        facts = _facts(network)
        value = network.measured.get(column)
        rows.append(
            (
                facts["name"],
                format_count(facts["params"]),
                format_count(facts["macs"]),
                f"{value:.4g}" if isinstance(value, (int, float)) else "–",
                describe(network.architecture),
            )
        )
    print_table(("Network", ">Params", ">MACs", f">{column.capitalize()}", "Design"), rows)
    note("--out DIR writes them as configs, with an index.csv.")


def _print_refused(result: Found) -> None:
    from nas.cli.commands.output import note

    if not result.refused:
        return
    note(f"{len(result.refused)} of {len(result.refused) + len(result.networks)} entries are left out:")
    for entry in result.refused[:REASONS]:
        note(f"  {entry.name}: {entry.reason}")
    if (more := len(result.refused) - REASONS) > 0:
        note(f"  and {more} more; --json lists them all.")
