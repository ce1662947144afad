"""`nas import`: networks that others wrote down, as configs of ours."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import examples, json_option
from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.importing import Found, Imported

SUFFIXES = (".yaml", ".yml", ".json")
INDEX = "index.csv"  # of a population: a line a network
REASONS = 3  # of entries left out that are said
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
    """Read a network that another program wrote down, as a config of equal parameters and multiply-adds.

    SOURCE is a pycls model config or sweep.json, torchvision:NAME, timm:NAME, a best_structure.json of TinyNAS, an OFA
    ResNet-50 subnet {"d": ..., "e": ..., "w": ...}, or an Optuna study (its journal, or optuna:URL#STUDY). What our blocks
    can't express is refused, with a list of all that is in the way. A sweep or a study becomes a folder of configs and
    index.csv.
    """
    from nas.commands.output import note, print_json
    from nas.importing import Options, import_source

    found = import_source(source, kind, Options(classes, resolution, channels, space))
    files = _files(found, out) if out is not None else []
    if out is not None:
        _write(found, files, out, force)
    if as_json:
        print_json(_as_json(found, files))
        return
    if out is None:
        _print(found)
    for path in files:
        click.echo(str(path))
    for network in found.networks[:1] if not found.many else ():
        for remark in network.notes:
            note(f"{remark}.")
    _say_refused(found)


def _files(found: Found, out: Path) -> list[Path]:
    """Where each network goes: the file that `out` names, or one in the folder by the network's name."""
    from nas.commands.inputs import slug

    if not found.many and out.suffix in SUFFIXES and not out.is_dir():
        return [out]
    names: dict[str, int] = {}
    files = []
    for network in found.networks:
        name = slug(network.architecture.name or network.architecture.digest)
        names[name.lower()] = count = names.get(name.lower(), 0) + 1  # some file systems know no case
        files.append(out / f"{name if count == 1 else f'{name}-{count}'}.yaml")
    return files


def _write(found: Found, files: Sequence[Path], out: Path, force: bool) -> None:
    from nas.commands.inputs import check_folder
    from nas.files import holds, write_text

    if found.many and out.suffix in SUFFIXES:
        raise UsageError(f"--out {out}: {len(found.networks)} networks go into a folder")
    check_folder(files[0].parent if files else out)
    texts = {path: _config(network, path.suffix) for path, network in zip(files, found.networks, strict=True)}
    if found.many:
        texts[out / INDEX] = _index(found, files)
    different = [path for path, text in texts.items() if path.exists() and not holds(path, text.encode())]
    if different and not force:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UsageError(f"{different[0]}{more}: holds something else; --force overwrites it")
    for path, text in texts.items():
        write_text(path, text)


def _config(network: Imported, suffix: str) -> str:
    """What `Architecture.from_yaml` reads, with where the network is from behind it."""
    import yaml

    notes = {"notes": list(network.notes)} if network.notes else {}
    tail = json.loads(json.dumps({"provenance": {**network.provenance, **notes}}))  # nothing twice: YAML would alias it
    if suffix == ".json":
        return json.dumps({**network.architecture.to_dict(), **tail}, indent=2) + "\n"
    return network.architecture.to_yaml() + yaml.safe_dump(tail, sort_keys=False, width=120)


def _index(found: Found, files: Sequence[Path]) -> str:
    """CSV of a population: file, digest, exact costs, and what the source measured."""
    rows = [_facts(network) for network in found.networks]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", *columns], restval="", lineterminator="\n")
    writer.writeheader()
    for path, row in zip(files, rows, strict=True):
        writer.writerow({"file": path.name, **row})
    return text.getvalue()


def _facts(network: Imported) -> dict[str, Any]:
    from nas.network import cost_of

    cost = cost_of(network.architecture)
    return {
        "name": network.architecture.name,
        "digest": network.architecture.digest,
        "resolution": network.architecture.resolution,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
        **network.measured,
    }


def _as_json(found: Found, files: Sequence[Path]) -> dict[str, Any]:
    networks = []
    for number, network in enumerate(found.networks):
        where = {"file": str(files[number])} if files else {"architecture": network.architecture.to_dict()}
        networks.append({**_facts(network), **where, **network.provenance, "notes": list(network.notes)})
    return {
        "networks": networks,
        "refused": [{"name": entry.name, "reason": entry.reason} for entry in found.refused],
    }


def _print(found: Found) -> None:
    """The config of one network, or a table of a population."""
    from nas.commands.output import note, print_table
    from nas.text import describe, format_count, printable

    if not found.many:
        text = _config(found.networks[0], ".yaml")
        click.echo("".join(f"{printable(line)}\n" for line in text.splitlines()), nl=False)
        return
    column = next(iter(found.networks[0].measured), "measured")
    rows = []
    for network in found.networks:
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


def _say_refused(found: Found) -> None:
    from nas.commands.output import note

    if not found.refused:
        return
    note(f"{len(found.refused)} of {len(found.refused) + len(found.networks)} entries are left out:")
    for entry in found.refused[:REASONS]:
        note(f"  {entry.name}: {entry.reason}")
    if (more := len(found.refused) - REASONS) > 0:
        note(f"  and {more} more; --json lists them all.")
