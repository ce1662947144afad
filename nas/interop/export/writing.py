"""Writes networks to files, atomically, and the index of these files."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nas.errors import UsageError
from nas.interop.export.formats import EXPORTERS, Exporter, NotExpressible, Subject
from nas.networks.build import cost_of
from nas.utils import limits
from nas.utils.files import holds, write_text, write_with
from nas.utils.text import format_count, format_ms, format_percent

INDEX = "index"  # .md and .csv
MEANS = ("accuracy_mean", "accuracy_std_error", "accuracy_seeds")  # of a network that was trained again
Times: TypeAlias = Mapping[tuple[str, int], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Written:
    """A network with the name of its files: by format their paths, or the reasons why there is none."""

    name: str
    subject: Subject
    paths: Mapping[str, Path]
    reasons: Mapping[str, str]


def write_networks(
    named: Sequence[tuple[str, Subject]], folder: Path, formats: Mapping[str, Exporter], *, force: bool = False
) -> list[Written]:
    """Write each network in each format as `folder/<name><suffix>`; a network that a format can't express gets a reason instead.

    UsageError, before anything is written, if a file of the same name holds something else and `force` is not given, or if
    there is a folder of that name.
    """
    rows: list[Written] = []
    files: dict[Path, bytes] = {}
    for wanted, subject in named:
        paths: dict[str, Path] = {}
        reasons: dict[str, str] = {}
        made: dict[Path, bytes] = {}
        name, k = wanted, 2
        while any(name == row.name for row in rows):  # labels may differ only in characters that file names don't have
            name, k = f"{wanted}-{k}", k + 1
        for format_name, exporter in formats.items():
            try:
                contents = _files(exporter, name, subject)
            except NotExpressible as error:
                reasons[format_name] = str(error)
                continue
            made |= {folder / path: content for path, content in contents.items()}
            paths[format_name] = folder / f"{name}{exporter.suffix}"
        files |= made
        rows.append(Written(name, subject, paths, reasons))
    if taken := next((path for path in files if path.is_dir()), None):
        raise UsageError(f"{taken}: is a folder, which no file replaces; remove it or give another --out")
    folders = [path for row in rows for name, path in row.paths.items() if formats[name].folder]
    strangers = [path for folder in folders for path in _strangers(folder, files)]
    different = [path for path, content in files.items() if path.exists() and not holds(path, content)] + strangers
    if different and not force:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UsageError(
            f"{different[0]}{more}: holds something else; --force overwrites it, another --out leaves it alone"
        )
    for path in strangers:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path, content in files.items():
        write_with(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return rows


def check_index(folder: Path) -> None:
    """UsageError if `write_index` would overwrite a file that is not the index of an export."""
    for name, begins in ((f"{INDEX}.md", "| file | format |"), (f"{INDEX}.csv", "file,name,format,")):
        path = folder / name
        if path.is_dir():
            raise UsageError(f"{path}: is a folder, which no file replaces; remove it or give another --out")
        if path.exists() and limits.read_bytes(path, limits.RECORD_BYTES, "a table")[: len(begins)] != begins.encode():
            raise UsageError(f"{path}: is no table of an export; --force overwrites it, another --out leaves it alone")


def write_index(folder: Path, rows: Iterable[Written], times: Sequence[Times] = ()) -> list[Path]:
    """Write `index.md` and `index.csv`: a line for each network and format, in the order of the rows, also where there is no file.

    times: for each row, median and interquartile range of latencies in ms, by format and batch size. The network in PyTorch,
    which has no file, gets a line if its latency is among them.
    """
    rows = list(rows)
    times = times or [{}] * len(rows)
    batches = sorted({batch for latencies in times for _, batch in latencies})
    means = MEANS if any(MEANS[0] in row.subject.provenance for row in rows) else ()
    table: list[dict[str, Any]] = []
    for row, latencies in zip(rows, times, strict=True):
        without_file = [name for name in dict.fromkeys(name for name, _ in latencies) if name not in row.paths]
        for name in (*without_file, *row.paths, *row.reasons):
            spans = [latencies.get((name, batch), (None, None)) for batch in batches]
            table.append(
                {
                    "file": row.paths[name].name if name in row.paths else "",
                    "name": row.name,
                    "format": name,
                    "accuracy": row.subject.provenance.get("accuracy"),
                    **{name: row.subject.provenance.get(name) for name in means},
                    **dict(zip(("params", "macs"), _costs(row.subject), strict=True)),
                    "digest": row.subject.architecture.digest,
                    "state": "in PyTorch, for comparison" if name in without_file else row.reasons.get(name, "written"),
                    **{f"latency_ms_batch{batch}": ms for batch, (ms, _) in zip(batches, spans, strict=True)},
                    **{f"latency_iqr_ms_batch{batch}": ms for batch, (_, ms) in zip(batches, spans, strict=True)},
                }
            )
    text = io.StringIO()
    sheet = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    sheet.writeheader()
    sheet.writerows(table)
    timed = "".join(f" batch {batch}, ms |" for batch in batches)
    lines = [
        f"| file | format | accuracy, % | params | MACs | digest | state |{timed}",
        "|---|---|---:|---:|---:|---|---|" + "---:|" * len(batches),
    ]
    for entry in table:
        accuracy = "" if entry["accuracy"] is None else format_percent(entry["accuracy"])
        if entry.get(MEANS[0]) is not None:  # by which the files are named, and the front is ranked
            mean, error, seeds = (entry[name] for name in MEANS)
            accuracy = f"{format_percent(mean)} ± {format_percent(error)} ({seeds})"
        file = f"[{entry['name']}]({entry['file']})" if entry["file"] else entry["name"]
        params, macs = (format_count(entry[key]) for key in ("params", "macs"))
        state = entry["state"].replace("|", "\\|")
        medians = [entry[f"latency_ms_batch{batch}"] for batch in batches]
        timed = "".join(f" {'' if ms is None else format_ms(ms)} |" for ms in medians)
        start = f"| {file} | {entry['format']} | {accuracy} | {params} | {macs} | `{entry['digest']}` | {state} |"
        lines.append(start + timed)
    paths = [folder / f"{INDEX}.md", folder / f"{INDEX}.csv"]
    write_text(paths[0], "\n".join(lines) + "\n")
    write_text(paths[1], text.getvalue())
    return paths


def formats_of(names: Iterable[str]) -> dict[str, Exporter]:
    """The exporters of these names; UsageError for an unknown one."""
    return {name: EXPORTERS.find(name) for name in names}


def _costs(subject: Subject) -> tuple[int, int]:
    cost = cost_of(subject.architecture)
    return cost.params, cost.macs


def _files(exporter: Exporter, name: str, subject: Subject) -> dict[Path, bytes]:
    """The files that an exporter writes: path under the folder -> content."""
    if exporter.text is not None and subject.weights is None:
        text = exporter.text(subject.architecture, subject.provenance)
        return {Path(f"{name}{exporter.suffix}"): text.encode()}
    with tempfile.TemporaryDirectory(prefix="nas-export-") as place:
        exporter.write(subject, Path(place) / f"{name}{exporter.suffix}")
        paths = sorted(path for path in Path(place).rglob("*") if path.is_file())
        return {path.relative_to(place): path.read_bytes() for path in paths}


def _strangers(folder: Path, files: Mapping[Path, bytes]) -> list[Path]:
    """Other files in a network's folder, of an earlier export for instance, which would be loaded together with the new ones.

    Hidden files, such as .git, and Python's cache are never loaded and are left out.
    """
    if not folder.is_dir():
        return []
    ours = {path.relative_to(folder).parts[0] for path in files if path.is_relative_to(folder)}
    ours.add("__pycache__")
    return sorted(path for path in folder.iterdir() if path.name not in ours and not path.name.startswith("."))
