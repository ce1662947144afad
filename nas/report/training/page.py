"""A training's folder as one HTML page, as a CSV table of its epochs, and as TensorBoard's event files.

The page is made of `result.json` alone, and of `config.yaml` where that is there. Results of before the predictions by class
were kept give a page without them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.describe import describe
from nas.report import FILE
from nas.report.html.chart import Chart
from nas.report.html.document import document
from nas.report.html.markup import Html, table, tag
from nas.report.run.sections import MACS, facts, tied
from nas.report.training import figures
from nas.report.training.figures import BEST, MANY, WORST, ByClass, Found, Pair
from nas.training.records import Epoch
from nas.utils.files import read_json, write_text
from nas.utils.text import format_count, format_percent, format_seconds, shown
from nas.utils.validation import reading

RESULT, CONFIG, LOG, EVENTS = "result.json", "config.yaml", "log.csv", "tensorboard"
NEEDED = ("name", "digest", "cost", "dataset", "test", "validation", "train", "recipe", "seed", "versions", "epochs")
COLUMNS = {  # of the log, and where an epoch's record has them
    "epoch": "number",
    "train_loss": "train_loss",
    "validation_loss": "val_loss",
    "validation_accuracy": "accuracy",
    "learning_rate": "learning_rate",
    "seconds": "seconds",
    "images_per_second": "images_per_second",
}
PAIRS = 5  # said in words
ROWS = 30  # of the table of pairs that stands for a large matrix
UNBALANCED = 1.5  # images of the most frequent class over those of the rarest


def write(folder: Path) -> Path:
    """Write FOLDER/report.html, which needs no other file and no network, and give its path.

    UsageError if no training came to its end in the folder; NasError if the page can't be written.
    """
    path = folder / FILE
    write_text(path, page(folder))
    return path


def write_csv(folder: Path, records: Sequence[Epoch] | None = None) -> Path:
    """Write FOLDER/log.csv, a row an epoch, and give its path. records: those of a training that is still under way.

    Columns: epoch, train_loss, validation_loss, validation_accuracy (in [0, 1]), learning_rate (of the epoch's last step),
    seconds, images_per_second (trained on). The numbers read back as the same floats.
    """
    epochs = _epochs(_read(folder)) if records is None else records
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows([getattr(epoch, field) for field in COLUMNS.values()] for epoch in epochs)
    write_text(folder / LOG, text.getvalue())
    return folder / LOG


def check_tensorboard() -> None:
    """UsageError without the package tensorboard."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UsageError(
            "TensorBoard's event files need the package tensorboard: uv pip install tensorboard"
            f" ({LOG} holds the same numbers)"
        ) from None


def write_tensorboard(folder: Path, records: Sequence[Epoch] | None = None) -> Path:
    """Write these epochs' scalars as an event file under FOLDER/tensorboard, and give that folder's path.

    records: None for those of the folder's result. All epochs at once, or each as it ends: what earlier files say of the first
    of them and of those behind it is superseded, so that an epoch which is trained again is shown once. UsageError without the
    package tensorboard.
    """
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    path = folder / EVENTS
    records = _epochs(_read(folder)) if records is None else records
    if not records:
        return path
    try:
        writer = SummaryWriter(str(path), purge_step=records[0].number)
        for epoch in records:
            for name, value in (
                ("loss/train", epoch.train_loss),
                ("loss/validation", epoch.val_loss),
                ("accuracy/validation", epoch.accuracy),
                ("learning_rate", epoch.learning_rate),
                ("images_per_second", epoch.images_per_second),
            ):
                writer.add_scalar(name, value, epoch.number)
        writer.close()
    except OSError as error:
        raise NasError(f"{path}: can't be written: {error.strerror or error}") from error
    return path


def page(folder: Path) -> str:
    """The whole page of a training that came to its end. UsageError for a result that holds anything else."""
    with reading(str(folder / RESULT)):
        return _page(folder)


def _page(folder: Path) -> str:
    result = _read(folder)
    found = _found(result)
    charts: list[Chart] = []

    def place(*new: Chart) -> Html:
        charts.extend(new)
        return tag("div", *(chart.place() for chart in new), class_="charts")

    parts = [_opening(result, found, _architecture(folder))]
    if found.classes:
        said = [tag("p", tied(text)) for text in _balance(result, found)]
        drawn = place(_bars(found, result["test"]["accuracy"]))
        parts.append(tag("section", tag("h2", "Accuracy by class"), *said, drawn, _class_table(found)))
    if found.confusion:
        matrices = [place(_matrix(found))] if found.pairs() and len(found.classes) <= MANY else []
        parts.append(tag("section", tag("h2", "Mistakes"), *_mistakes(result, found), *matrices))
    if not found.classes:
        words = "Accuracy by class is not known: this result was made by a version that did not keep it."
        parts.append(tag("section", tag("h2", "Accuracy by class"), tag("p", words)))
    parts.append(tag("section", tag("h2", "Training"), place(*_curves(result))))
    parts.append(_provenance(folder, result))
    return document(_title(result), tag("main", *parts), charts)


# -- what is read --------------------------------------------------------------------------------------------------------


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RESULT
    if not path.exists():
        raise UsageError(f"{folder}: no {RESULT} in it, so no training came to its end here (`nas train` writes one)")
    result = read_json(path)
    missing = [key for key in NEEDED if key not in result] if isinstance(result, dict) else list(NEEDED)
    if missing or not result["epochs"]:
        what = f"it lacks {', '.join(missing)}" if missing else "it has no epochs"
        raise UsageError(f"{path}: not the result of a training, or cut off: {what}")
    return dict(result)


def _epochs(result: Mapping[str, Any]) -> list[Epoch]:
    return [Epoch.from_dict(epoch) for epoch in result["epochs"]]


def _architecture(folder: Path) -> Architecture | None:
    """The folder's network; None if its file is gone, which the page can do without."""
    try:
        return Architecture.from_yaml(folder / CONFIG)
    except (NasError, OSError):
        return None


def _found(result: Mapping[str, Any]) -> Found:
    test = result["test"]
    classes = tuple(ByClass(str(row["class"]), row["images"], row["accuracy"]) for row in test.get("per_class") or ())
    return Found(classes, tuple(tuple(row) for row in (test.get("confusion") or ()) if classes))


# -- the opening ---------------------------------------------------------------------------------------------------------


def _title(result: Mapping[str, Any]) -> str:
    return f"{result['name']} on {result['dataset']['name']}"


def _opening(result: Mapping[str, Any], found: Found, architecture: Architecture | None) -> Html:
    test, validation, cost, recipe = (result[key] for key in ("test", "validation", "cost", "recipe"))
    weights = result.get("weights")
    start = f"the weights of {weights['source']}" if weights else "random weights"
    answer = (
        f"{result['name']} classifies {format_percent(test['accuracy'])} % of {test['images']:,} test images right; the"
        f" standard error is {format_percent(test['standard_error'])} percentage points. Of the {validation['images']:,}"
        f" validation images it was {format_percent(validation['accuracy'])} %."
    )
    made = (
        f"The network has {format_count(cost['params'])} parameters and takes {format_count(cost['macs'])} MACs an image."
        f" It was trained from {start} for {recipe['epochs']:,} epochs on {result['train']['images']:,} images, in"
        f" {format_seconds(result.get('seconds', 0.0))} on {result.get('device', 'a device that was not recorded')}."
    )
    lines = [answer, made]
    if executed := result.get("executed"):
        lines.append(
            f"What it executes depends on the image: {format_count(round(executed['macs']))} MACs on average over"
            f" {executed['images']:,} validation images; the count above is its most."
        )
    if pairs := found.pairs():
        lines.append(f"Most confused: {pairs[0].said()}.")
    kept = "The weights are those of the last epoch"
    if recipe.get("ema"):
        kept = f"The weights are the moving average over all steps (decay {recipe['ema']:g})"
    notes = f"The test images were used once, behind the last epoch. {kept}; nothing was chosen by an accuracy. {MACS}"
    if architecture is not None:
        notes = f"{describe(architecture)}. {notes}"
    written = (tag("p", tied(line)) for line in lines)
    return tag("header", tag("h1", _title(result)), *written, tag("p", tied(notes), class_="quiet"))


# -- by class ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sized(Chart):
    """A chart as large as its rows and columns need; it scrolls by itself where the page is narrower."""

    height_rem: float = 0

    def place(self) -> Html:
        size = f"height: {self.height_rem:g}rem; min-width: {self.rem:g}rem"
        drawing = tag("div", id=self.name, class_="chart", role="img", aria_label=self.label, style=size)
        scroll = tag("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=self.label)
        return tag("figure", scroll, tag("figcaption", tied(self.caption)))


def _balance(result: Mapping[str, Any], found: Found) -> list[str]:
    """How unequal the classes' numbers of images are, and the accuracy in which every class counts the same."""
    said = []
    names = [one.name for one in found.classes]
    tested = [one.images for one in found.classes]
    for where, counts in (("training", result["train"].get("images_by_class")), ("test", tested)):
        if not counts:
            continue
        (least, rarest), (most, commonest) = min(zip(counts, names, strict=True)), max(zip(counts, names, strict=True))
        if least == most:
            said.append(f"Each class has {most:,} {where} images.")
        elif most < UNBALANCED * least:
            said.append(f"The classes have {least:,} to {most:,} {where} images each.")
        else:
            said.append(
                f"The classes are unbalanced: {commonest} has {most:,} {where} images, {rarest} {least:,}. Always answering"
                f" {commonest} would be right for {format_percent(most / sum(counts))} % of them."
            )
    shares = [one.accuracy for one in found.classes if one.accuracy is not None]
    absent = len(found.classes) - len(shares)
    without = f"; {absent:,} of {len(found.classes):,} classes have no test image, and none" if absent else ""
    said.append(f"The mean of the classes' accuracies is {format_percent(sum(shares) / len(shares))} %{without}.")
    return said


def _bars(found: Found, overall: float) -> Chart:
    ranked, rows = found.worst_first, figures.rows(found)
    some = f": of {len(ranked):,} classes the {WORST} worst and, below the gap, the {BEST} best"
    caption = (
        f"Share of each class's test images that was recognised, the worst class first{some if None in rows else ''}. Thin lines"
        " are 95 % intervals (Wilson): a share of few images is uncertain."
    )
    ends = " to ".join(f"{one.name} at {format_percent(one.accuracy or 0.0)} %" for one in (ranked[0], ranked[-1]))
    label = f"Chart of the test accuracy of {len(ranked):,} classes, from {ends}."
    height = max(14.0, 1.35 * len(rows) + 7)
    return Sized("classes", figures.bars(found, overall), label, caption, height_rem=height, rem=18)


def _class_table(found: Found) -> Html:
    """What the bars show, and what a class is taken for most, for those who read tables."""
    mistaken: dict[str, str] = {}
    for pair in found.pairs():
        mistaken.setdefault(pair.true, f"{pair.predicted} ({pair.count:,})")
    rows = []
    for one in found.worst_first:
        share = one.accuracy or 0.0
        error = math.sqrt(share * (1 - share) / one.images)
        numbers = (f"{one.images:,}", format_percent(share), format_percent(error))
        rows.append((one.name, *numbers, mistaken.get(one.name, "–")))
    head = ("Class", "Test images", "Accuracy, %", "Standard error", "Most often taken for")
    content = table("All classes that have test images, the worst first.", head, rows, numbers=(1, 2, 3))
    return tag("details", tag("summary", f"Show {len(rows):,} classes"), content)


def _mistakes(result: Mapping[str, Any], found: Found) -> list[Html]:
    """The most confused pairs in words, and more of them in a table where the matrix would be too large."""
    pairs = found.pairs()
    if not pairs:
        return [tag("p", "No test image was taken for another class.")]
    wrong = sum(pair.count for pair in pairs)
    images = result["test"]["images"]
    summary = f"{wrong:,} of {images:,} test images were taken for another class. The most frequent mistakes:"
    said = [tag("p", summary), tag("ul", *(tag("li", tied(f"{pair.said()}.")) for pair in pairs[:PAIRS]))]
    return said if len(found.classes) <= MANY else [*said, _pair_table(pairs, len(found.classes))]


def _pair_table(pairs: Sequence[Pair], classes: int) -> Html:
    rows = [
        (pair.true, pair.predicted, f"{pair.count:,}", f"{pair.images:,}", format_percent(pair.count / pair.images))
        for pair in pairs[:ROWS]
    ]
    which = f"The {len(rows)} most confused of {len(pairs):,} pairs" if len(pairs) > len(rows) else "All confused pairs"
    caption = f"{which}; the matrix of {classes:,} classes is test.confusion in {RESULT}."
    head = ("True class", "Taken for", "Images", "Of", "Share, %")
    return table(caption, head, rows, numbers=(2, 3, 4))


def _matrix(found: Found) -> Chart:
    deepest = format_percent(figures.most_mistaken(found))
    caption = (
        "Test images of each true class (row) by predicted class (column). Blue: right, deepest where all of the class's images"
        f" are; orange: wrong, deepest at {deepest} % of the class's images. Cells without an image are empty."
    )
    label = (
        f"Chart of the confusion matrix of {len(found.classes)} classes; its most frequent mistakes are listed above."
    )
    side = 0.95 * len(found.classes) + 11
    return Sized("confusion", figures.matrix(found), label, caption, height_rem=max(26.0, side), rem=max(20.0, side))


# -- the training --------------------------------------------------------------------------------------------------------


def _curves(result: Mapping[str, Any]) -> list[Chart]:
    epochs, test = _epochs(result), result["test"]
    first, last = epochs[0], epochs[-1]
    smoothing = result["recipe"].get("label_smoothing")
    smoothed = f" with label smoothing {smoothing:g}" if smoothing else ""
    loss = Chart(
        "loss",
        figures.loss(epochs),
        f"Chart of loss by epoch: training from {first.train_loss:.3g} to {last.train_loss:.3g}, validation from"
        f" {first.val_loss:.3g} to {last.val_loss:.3g}.",
        f"Mean cross-entropy. The training loss{smoothed} is that of augmented images while the weights change; the validation"
        " loss, of plain images behind each epoch, may be the smaller one.",
    )
    accuracy = Chart(
        "accuracy",
        figures.accuracy(epochs, test),
        f"Chart of validation accuracy by epoch, from {format_percent(first.accuracy)} to {format_percent(last.accuracy)} %;"
        f" test accuracy {format_percent(test['accuracy'])} %.",
        "Validation accuracy behind each epoch, and that of the one test, with twice its standard error.",
    )
    rate = Chart(
        "rate",
        figures.learning_rate(epochs),
        f"Chart of the learning rate by epoch, {max(epoch.learning_rate for epoch in epochs):.3g} at most.",
        "Learning rate of each epoch's last step.",
    )
    return [loss, accuracy, rate]


def _provenance(folder: Path, result: Mapping[str, Any]) -> Html:
    """What is needed to train it again: recipe, data, start, seed, versions."""
    weights = result.get("weights") or {}
    training: dict[str, object] = {
        "network": result["digest"],
        "weights at the start": weights.get("source", "random"),
        "their fingerprint": weights.get("fingerprint"),
        "seed": result["seed"],
        "device": result.get("device"),
        "precision": result.get("precision"),
        "images in memory at once": result.get("micro_batch"),
        "time": format_seconds(result.get("seconds", 0.0)),
        "finished": _moment(result.get("finished")),
        "test loss": f"{result['test']['loss']:.4f}",
        "folder": shown(folder.absolute()),
    }
    dataset = result["dataset"]
    scales = {name: [f"{number:.4g}" for number in dataset[name]] for name in ("mean", "std") if name in dataset}
    images = {f"{part} images": f"{result[part]['images']:,}" for part in ("train", "validation", "test")}
    policy = result.get("policy")
    tables = [
        facts("Recipe", {name: f"{v:g}" if isinstance(v, float) else v for name, v in result["recipe"].items()}),
        facts("Data", {**dataset, **scales, **images}),
        facts("Training", {name: value for name, value in training.items() if value is not None}),
        *([facts("Learning rates by piece", policy)] if policy else []),
        facts("Versions", result["versions"]),
    ]
    return tag("section", tag("h2", "How it was made"), tag("div", *tables, class_="facts"))


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
