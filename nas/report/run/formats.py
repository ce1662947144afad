"""A run in formats other than HTML: images of its figures, CSV, JSON and Markdown."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nas.errors import NasError, UsageError, reason_of
from nas.networks.describe import describe
from nas.report import figures
from nas.report.html import theme
from nas.report.run import confirmed_section, summary
from nas.report.run.tables import estimated, front_csv, front_data, mean_cell, trial_rows, trials_csv
from nas.runs.records import LATENCY
from nas.utils.files import write_text, write_with
from nas.utils.registry import did_you_mean
from nas.utils.text import format_count, format_percent, format_price, format_setting

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.records import Trial
    from nas.runs.run import Run

FORMATS = ("html", "png", "svg", "csv", "json", "md")
IMAGES = ("png", "svg")
FOLDER = "report"  # in the run's folder, for formats of several files
WIDTH, HEIGHT, SCALE = 900, 560, 2  # pixels of an image; a PNG has SCALE times as many
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]|#"})


def write_as(run: Run, kind: str, out: Path | None = None, figure: str | None = None) -> list[Path]:
    """Write a run as `kind`, one of `FORMATS` except html, and return the paths of the files.

    json, md and a single figure are one file, `out` (default: RUN/report.json, RUN/report/FIGURE.png); csv is front.csv and
    trials.csv, png and svg a file for each figure, in the folder `out` (default: RUN/report). UsageError for an unknown figure or
    if the packages that draw images are missing, NasError if a file can't be written.
    """
    if figure is not None and kind not in IMAGES:
        raise UsageError(f"--figure {figure}: goes with --format png or svg")
    if kind in IMAGES:
        return _images(run, kind, out, figure)
    if kind == "csv":
        return _written(
            run.path / FOLDER if out is None else out, {"front.csv": front_csv(run), "trials.csv": trials_csv(run)}
        )
    path = run.path / f"report.{kind}" if out is None else out
    write_text(path, as_json(run) if kind == "json" else as_markdown(run))
    return [path]


def _written(folder: Path, texts: dict[str, str]) -> list[Path]:
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def as_json(run: Run) -> str:
    """What `nas front --json` prints, every trial with its learning curve, and the whole of run.yaml."""
    data = {**front_data(run), "all_trials": trial_rows(run), "config": dict(run.config)}
    return json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n"


# -- Markdown ----------------------------------------------------------------------------------------------------------


def as_markdown(run: Run) -> str:
    """Summary, front, comparison with baselines, all trials, and what is needed to reproduce the run."""
    parts = [f"# {_md(run.config['name'])}", _md(summary.searched(run)), _md(summary.progress(run))]
    parts += [_md(text) for text in summary.comparisons(run)]
    timed = any(trial.latency for trial in run.trials)
    if front := run.front():
        parts += ["## Pareto front", _front_table(run, front, timed)]
        if any(trial.confirmed for trial in front):
            parts += [_md(sentence) for sentence in confirmed_section.sentences(run)]
    parts += [_md(summary.caveat(run))]
    if run.trials:
        parts += ["## All trials", _trials_table(run.trials, timed)]
    parts += ["## Reproducibility", _facts_table(run)]
    return "\n\n".join(parts).encode("utf-8", "replace").decode() + "\n"


def _front_table(run: Run, front: Sequence[Trial], timed: bool) -> str:
    knee = summary.knee(run)
    again = any(trial.confirmed for trial in front)
    measured = ("In the search, %", "Mean ± s.e. (seeds), %") if again else ("Accuracy, %",)
    costs = ("Parameters", "MACs", "Activations", *(["Latency"] if timed else []))
    body = [
        (
            str(rank),
            trial.label or str(trial.number),
            format_percent(trial.accuracy or 0.0),
            *([mean_cell(estimated(trial))] if again else []),
            *(format_count(getattr(trial.cost, name)) for name in summary.COUNTS),
            *([_latency(trial)] if timed else []),
            describe(trial.architecture),
            "knee" if trial is knee else "",
        )
        for rank, trial in enumerate(front, 1)
    ]
    return _table(("#", "Trial", *measured, *costs, "Network", ""), body)


def _trials_table(trials: Sequence[Trial], timed: bool) -> str:
    body = [
        (
            trial.label or str(trial.number),
            trial.state,
            "–" if trial.accuracy is None else format_percent(trial.accuracy),
            format_count(trial.cost.params),
            format_count(trial.cost.macs),
            *([_latency(trial)] if timed else []),
            str(len(trial.epochs)),
            describe(trial.architecture),
        )
        for trial in trials
    ]
    costs = ("Parameters", "MACs", *(["Latency"] if timed else []))
    return _table(("Trial", "State", "Accuracy, %", *costs, "Epochs", "Network"), body)


def _facts_table(run: Run) -> str:
    config = run.config
    facts = {
        "command": config["command"] or "(called from Python)",
        "data": f"{config['dataset']['name']}, fingerprint {config['dataset']['fingerprint']}",
        "seed": config["seed"],
        "sampler": config["sampler"],
        "device, precision": f"{config['device']}, {config['precision']}",
        "recipe": ", ".join(f"{key} {format_setting(value)}" for key, value in config["recipe"].items()),
        "versions": ", ".join(f"{key} {value}" for key, value in config["versions"].items()),
        "begun": config["created"],
    }
    return _table(("What", "Value"), [(key, str(value)) for key, value in facts.items()])


def _latency(trial: Trial) -> str:
    """The trial's latency; a dash if it was not measured."""
    return format_price(LATENCY, trial.latency.median_ms if trial.latency else math.nan)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_md(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md(text: object) -> str:
    """Text on one line, with the characters escaped that mean something in Markdown."""
    return escape(" ".join(str(text).split()), quote=False).translate(_MARKDOWN)


# -- images ------------------------------------------------------------------------------------------------------------


def _images(run: Run, kind: str, out: Path | None, figure: str | None) -> list[Path]:
    names = list(figures.FIGURES)
    if figure is not None:
        name = figure.replace("_", "-")
        if name not in names:
            raise UsageError(f"--figure {figure}: unknown{did_you_mean(name, names)}; known: {', '.join(names)}")
        path = run.path / FOLDER / f"{name}.{kind}" if out is None else out
        return draw({path: figures.FIGURES[name](run)}, kind)
    folder = run.path / FOLDER if out is None else out
    return draw({folder / f"{name}.{kind}": make(run) for name, make in figures.FIGURES.items()}, kind)


def draw(wanted: dict[Path, go.Figure], kind: str) -> list[Path]:
    """Write figures as images, all drawn by one browser. UsageError if Kaleido or a browser is missing."""
    try:
        import kaleido  # noqa: F401 - plotly imports it itself, with a less clear message
    except ImportError:
        raise UsageError(
            f"--format {kind}: needs the package kaleido, and Chrome or Chromium; install it by pip install 'nas[images]'"
        ) from None
    import plotly.io

    drawn = []
    for figure in wanted.values():
        figure.update_layout(width=WIDTH, height=figure.layout.height or HEIGHT, font={"family": theme.FONT})
        figure.update_layout(margin={"l": 16, "r": 24, "t": 40, "b": 16})
        drawn.append(figure)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.{kind}" for number in range(len(drawn))]
        try:
            heights = [int(figure.layout.height) for figure in drawn]  # the default is 700 x 500 for all
            scale = SCALE if kind == "png" else 1
            plotly.io.write_images(drawn, files, format=kind, scale=scale, width=WIDTH, height=heights)
        except Exception as error:
            if "chrome" in f"{type(error).__name__} {error}".lower() and "not" in str(error).lower():
                raise UsageError(
                    f"--format {kind}: no Chrome or Chromium was found; install one, or name it in BROWSER_PATH"
                ) from error
            raise NasError(f"--format {kind}: the browser drew no image: {reason_of(error)}") from error
        for path, file in zip(wanted, files, strict=True):
            write_with(path, partial(_copy, file))
    return list(wanted)


def _copy(source: Path, target: BinaryIO) -> None:
    target.write(source.read_bytes())
