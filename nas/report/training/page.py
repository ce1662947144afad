"""A training's folder as an HTML page, as a CSV table of its epochs, and as TensorBoard's event files.

The page needs `result.json`, and uses `config.yaml` if it exists. If the result is from a version that did not keep predictions
by class, the page has no such sections.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.describe import describe
from nas.report import FILE
from nas.report.html.chart import Chart, Json
from nas.report.html.document import document
from nas.report.html.markup import Html, table, tag
from nas.report.run.sections import MACS, facts, tied
from nas.report.training import figures
from nas.report.training.figures import BEST, MANY, WORST, ByClass, ClassResults, Pair
from nas.training.records import Epoch
from nas.utils.files import read_json, write_text
from nas.utils.text import format_count, format_percent, format_seconds, shown
from nas.utils.validation import reading

RESULT, CONFIG, LOG, EVENTS = "result.json", "config.yaml", "log.csv", "tensorboard"
NEEDED = ("name", "digest", "cost", "dataset", "test", "validation", "train", "recipe", "seed", "versions", "epochs")
COLUMNS = {  # of the log, with the field of an epoch's record
    "epoch": "number",
    "train_loss": "train_loss",
    "validation_loss": "val_loss",
    "validation_accuracy": "accuracy",
    "learning_rate": "learning_rate",
    "seconds": "seconds",
    "images_per_second": "images_per_second",
}
PAIRS = 5  # confused pairs that are listed in words
ROWS = 30  # of the table of pairs that replaces a large matrix
UNBALANCED = 1.5  # least ratio of the largest to the smallest class that is called unbalanced


def write(folder: Path) -> Path:
    """Write the self-contained page FOLDER/report.html and return its path.

    UsageError if the folder has no completed training; NasError if the page can't be written.
    """
    path = folder / FILE
    write_text(path, page(folder))
    return path


def write_csv(folder: Path, records: Sequence[Epoch] | None = None) -> Path:
    """Write FOLDER/log.csv with a row for each epoch, and return its path.

    records: epochs of a training that has not ended; None for those of the folder's result. Columns: epoch, train_loss,
    validation_loss, validation_accuracy (in [0, 1]), learning_rate (of the epoch's last step), seconds, images_per_second (of
    training). The numbers read back as the same floats.
    """
    epochs = _read(folder).epochs if records is None else records
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows([getattr(epoch, field) for field in COLUMNS.values()] for epoch in epochs)
    write_text(folder / LOG, text.getvalue())
    return folder / LOG


def check_tensorboard() -> None:
    """UsageError if the package tensorboard is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UsageError(
            "TensorBoard's event files need the package tensorboard: uv pip install tensorboard"
            f" ({LOG} holds the same numbers)"
        ) from None


def write_tensorboard(folder: Path, records: Sequence[Epoch] | None = None) -> Path:
    """Write the scalars of these epochs as an event file under FOLDER/tensorboard, and return that folder's path.

    records: all epochs, or only the latest; None for those of the folder's result. They replace entries of earlier files from
    their first epoch on, so that an epoch that is trained again is shown once. UsageError without the package tensorboard.
    """
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    path = folder / EVENTS
    records = _read(folder).epochs if records is None else records
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
    """The whole page of a completed training. UsageError for an invalid result."""
    with reading(str(folder / RESULT)):
        return _page(folder)


def _page(folder: Path) -> str:
    result = _read(folder)
    by_class = result.by_class
    charts: list[Chart] = []

    def place(*new: Chart) -> Html:
        charts.extend(new)
        return tag("div", *(chart.place() for chart in new), class_="charts")

    parts = [_opening(result, _architecture(folder))]
    if by_class.classes:
        words = [tag("p", tied(text)) for text in _balance(result)]
        drawn = place(_bars(by_class, result.data["test"]["accuracy"]))
        parts.append(tag("section", tag("h2", "Accuracy by class"), *words, drawn, _class_table(by_class)))
    if by_class.confusion:
        matrices = [place(_matrix(by_class))] if by_class.pairs() and len(by_class.classes) <= MANY else []
        parts.append(tag("section", tag("h2", "Mistakes"), *_mistakes(result), *matrices))
    if not by_class.classes:
        unknown = "Accuracy by class is not known: this result was made by a version that did not keep it."
        parts.append(tag("section", tag("h2", "Accuracy by class"), tag("p", unknown)))
    parts.append(tag("section", tag("h2", "Training"), place(*_curves(result))))
    parts.append(_provenance(folder, result))
    return document(result.title, tag("main", *parts), charts)


# -- reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """The result of a completed training. data: the contents of `result.json`."""

    data: Json

    @property
    def title(self) -> str:
        return f"{self.data['name']} on {self.data['dataset']['name']}"

    @cached_property
    def epochs(self) -> list[Epoch]:
        return [Epoch.from_dict(epoch) for epoch in self.data["epochs"]]

    @cached_property
    def by_class(self) -> ClassResults:
        test = self.data["test"]
        rows = test.get("per_class") or ()
        classes = tuple(ByClass(str(row["class"]), row["images"], row["accuracy"]) for row in rows)
        return ClassResults(classes, tuple(tuple(row) for row in (test.get("confusion") or ()) if classes))


def _read(folder: Path) -> Result:
    path = folder / RESULT
    if not path.exists():
        raise UsageError(f"{folder}: no {RESULT} in it, so no training came to its end here (`nas train` writes one)")
    data = read_json(path)
    missing = [key for key in NEEDED if key not in data] if isinstance(data, dict) else list(NEEDED)
    if missing or not data["epochs"]:
        what = f"it lacks {', '.join(missing)}" if missing else "it has no epochs"
        raise UsageError(f"{path}: not the result of a training, or cut off: {what}")
    return Result(dict(data))


def _architecture(folder: Path) -> Architecture | None:
    """The folder's network; None if its file is missing, without which the page can still be made."""
    try:
        return Architecture.from_yaml(folder / CONFIG)
    except (NasError, OSError):
        return None


# -- the opening ---------------------------------------------------------------------------------------------------------


def _opening(result: Result, architecture: Architecture | None) -> Html:
    test, validation, cost, recipe = (result.data[key] for key in ("test", "validation", "cost", "recipe"))
    weights = result.data.get("weights")
    start = f"the weights of {weights['source']}" if weights else "random weights"
    answer = (
        f"{result.data['name']} classifies {format_percent(test['accuracy'])} % of {test['images']:,} test images right; the"
        f" standard error is {format_percent(test['standard_error'])} percentage points. Of the {validation['images']:,}"
        f" validation images it classifies {format_percent(validation['accuracy'])} % right."
    )
    made = (
        f"The network has {format_count(cost['params'])} parameters and takes {format_count(cost['macs'])} MACs an image."
        f" It was trained from {start} for {recipe['epochs']:,} epochs on {result.data['train']['images']:,} images, in"
        f" {format_seconds(result.data.get('seconds', 0.0))} on {result.data.get('device', 'a device that was not recorded')}."
    )
    lines = [answer, made]
    if executed := result.data.get("executed"):
        lines.append(
            f"It executes a number of MACs that depends on the image: {format_count(round(executed['macs']))} on average over"
            f" {executed['images']:,} validation images; the number above is the maximum."
        )
    if pairs := result.by_class.pairs():
        lines.append(f"Most confused: {pairs[0]}.")
    kept = "The weights are those of the last epoch"
    if recipe.get("ema"):
        kept = f"The weights are the moving average over all steps (decay {recipe['ema']:g})"
    notes = f"The test images were used once, after the last epoch. {kept}; nothing was selected by accuracy. {MACS}"
    if architecture is not None:
        notes = f"{describe(architecture)}. {notes}"
    written = (tag("p", tied(line)) for line in lines)
    return tag("header", tag("h1", result.title), *written, tag("p", tied(notes), class_="quiet"))


# -- by class ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sized(Chart):
    """A chart with the height that its rows need; it scrolls horizontally if the page is narrower than `rem`."""

    height_rem: float = 0

    def place(self) -> Html:
        size = f"height: {self.height_rem:g}rem; min-width: {self.rem:g}rem"
        drawing = tag("div", id=self.name, class_="chart", role="img", aria_label=self.label, style=size)
        scroll = tag("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=self.label)
        return tag("figure", scroll, tag("figcaption", tied(self.caption)))


def _balance(result: Result) -> list[str]:
    """Sentences about the balance of the classes, and the mean of their accuracies, in which all classes have equal weight."""
    by_class = result.by_class
    sentences = []
    names = [one.name for one in by_class.classes]
    tested = [one.images for one in by_class.classes]
    for where, counts in (("training", result.data["train"].get("images_by_class")), ("test", tested)):
        if not counts:
            continue
        (least, rarest), (most, commonest) = min(zip(counts, names, strict=True)), max(zip(counts, names, strict=True))
        if least == most:
            sentences.append(f"Each class has {most:,} {where} images.")
        elif most < UNBALANCED * least:
            sentences.append(f"The classes have {least:,} to {most:,} {where} images each.")
        else:
            sentences.append(
                f"The classes are unbalanced: {commonest} has {most:,} {where} images, {rarest} {least:,}. Always answering"
                f" {commonest} would be right for {format_percent(most / sum(counts))} % of them."
            )
    shares = [one.accuracy for one in by_class.classes if one.accuracy is not None]
    absent = len(by_class.classes) - len(shares)
    without = f"; {absent:,} of {len(by_class.classes):,} classes have no test image and no accuracy" if absent else ""
    sentences.append(f"The mean of the classes' accuracies is {format_percent(sum(shares) / len(shares))} %{without}.")
    return sentences


def _bars(by_class: ClassResults, overall: float) -> Chart:
    ranked, rows = by_class.worst_first, figures.rows(by_class)
    some = f": of {len(ranked):,} classes the {WORST} worst and, below the gap, the {BEST} best"
    caption = (
        f"Share of each class's test images that is classified right, the worst class first{some if None in rows else ''}."
        " Thin lines are 95 % intervals (Wilson): a share of few images is uncertain."
    )
    ends = " to ".join(f"{one.name} at {format_percent(one.accuracy or 0.0)} %" for one in (ranked[0], ranked[-1]))
    label = f"Chart of the test accuracy of {len(ranked):,} classes, from {ends}."
    height = max(14.0, 1.35 * len(rows) + 7)
    return Sized("classes", figures.bars(by_class, overall), label, caption, height_rem=height, rem=18)


def _class_table(by_class: ClassResults) -> Html:
    """A table of the data of the bars, with the class for which each class is most often taken."""
    mistaken: dict[str, str] = {}
    for pair in by_class.pairs():
        mistaken.setdefault(pair.true, f"{pair.predicted} ({pair.count:,})")
    rows = []
    for one in by_class.worst_first:
        share = one.accuracy or 0.0
        error = math.sqrt(share * (1 - share) / one.images)
        numbers = (f"{one.images:,}", format_percent(share), format_percent(error))
        rows.append((one.name, *numbers, mistaken.get(one.name, "–")))
    head = ("Class", "Test images", "Accuracy, %", "Standard error", "Most often taken for")
    content = table("All classes that have test images, the worst first.", head, rows, numbers=(1, 2, 3))
    return tag("details", tag("summary", f"Show {len(rows):,} classes"), content)


def _mistakes(result: Result) -> list[Html]:
    """The most confused pairs in words, and more of them in a table if the matrix would be too large."""
    by_class = result.by_class
    pairs = by_class.pairs()
    if not pairs:
        return [tag("p", "No test image was taken for another class.")]
    wrong = sum(pair.count for pair in pairs)
    images = result.data["test"]["images"]
    summary = f"{wrong:,} of {images:,} test images were taken for another class. The most frequent mistakes:"
    parts = [tag("p", summary), tag("ul", *(tag("li", tied(f"{pair}.")) for pair in pairs[:PAIRS]))]
    return parts if len(by_class.classes) <= MANY else [*parts, _pair_table(pairs, len(by_class.classes))]


def _pair_table(pairs: Sequence[Pair], classes: int) -> Html:
    rows = [
        (pair.true, pair.predicted, f"{pair.count:,}", f"{pair.images:,}", format_percent(pair.count / pair.images))
        for pair in pairs[:ROWS]
    ]
    which = f"The {len(rows)} most confused of {len(pairs):,} pairs" if len(pairs) > len(rows) else "All confused pairs"
    caption = f"{which}; the matrix of {classes:,} classes is test.confusion in {RESULT}."
    head = ("True class", "Taken for", "Images", "Of", "Share, %")
    return table(caption, head, rows, numbers=(2, 3, 4))


def _matrix(by_class: ClassResults) -> Chart:
    deepest = format_percent(figures.most_mistaken(by_class))
    caption = (
        "Test images of each true class (row) by predicted class (column). Blue: right, deepest where all of the class's images"
        f" are; orange: wrong, deepest at {deepest} % of the class's images. Cells without an image are empty."
    )
    label = f"Chart of the confusion matrix of {len(by_class.classes)} classes; its most frequent mistakes are listed above."
    side = 0.95 * len(by_class.classes) + 11
    return Sized("confusion", figures.matrix(by_class), label, caption, height_rem=max(26.0, side), rem=max(20.0, side))


# -- the training --------------------------------------------------------------------------------------------------------


def _curves(result: Result) -> list[Chart]:
    epochs, test = result.epochs, result.data["test"]
    first, last = epochs[0], epochs[-1]
    smoothing = result.data["recipe"].get("label_smoothing")
    smoothed = f" with label smoothing {smoothing:g}" if smoothing else ""
    loss = Chart(
        "loss",
        figures.loss(epochs),
        f"Chart of loss by epoch: training from {first.train_loss:.3g} to {last.train_loss:.3g}, validation from"
        f" {first.val_loss:.3g} to {last.val_loss:.3g}.",
        f"Mean cross-entropy. The training loss{smoothed} is measured on augmented images while the weights change, the"
        " validation loss on unchanged images after each epoch, so that the validation loss may be smaller.",
    )
    accuracy = Chart(
        "accuracy",
        figures.accuracy(epochs, test["accuracy"], test["standard_error"]),
        f"Chart of validation accuracy by epoch, from {format_percent(first.accuracy)} to {format_percent(last.accuracy)} %;"
        f" test accuracy {format_percent(test['accuracy'])} %.",
        "Validation accuracy after each epoch, and the test accuracy with twice its standard error.",
    )
    rate = Chart(
        "rate",
        figures.learning_rate(epochs),
        f"Chart of the learning rate by epoch, {max(epoch.learning_rate for epoch in epochs):.3g} at most.",
        "Learning rate of each epoch's last step.",
    )
    return [loss, accuracy, rate]


def _provenance(folder: Path, result: Result) -> Html:
    """What is needed to repeat the training: recipe, data, initial weights, seed, versions."""
    weights = result.data.get("weights") or {}
    training: dict[str, object] = {
        "network": result.data["digest"],
        "weights at the start": weights.get("source", "random"),
        "their fingerprint": weights.get("fingerprint"),
        "seed": result.data["seed"],
        "device": result.data.get("device"),
        "precision": result.data.get("precision"),
        "images in memory at once": result.data.get("micro_batch"),
        "time": format_seconds(result.data.get("seconds", 0.0)),
        "finished": _moment(result.data.get("finished")),
        "test loss": f"{result.data['test']['loss']:.4f}",
        "folder": shown(folder.absolute()),
    }
    dataset = result.data["dataset"]
    scales = {name: [f"{number:.4g}" for number in dataset[name]] for name in ("mean", "std") if name in dataset}
    images = {f"{part} images": f"{result.data[part]['images']:,}" for part in ("train", "validation", "test")}
    policy = result.data.get("policy")
    tables = [
        facts("Recipe", {name: f"{v:g}" if isinstance(v, float) else v for name, v in result.data["recipe"].items()}),
        facts("Data", {**dataset, **scales, **images}),
        facts("Training", {name: value for name, value in training.items() if value is not None}),
        *([facts("Learning rates by piece", policy)] if policy else []),
        facts("Versions", result.data["versions"]),
    ]
    return tag("section", tag("h2", "How it was made"), tag("div", *tables, class_="facts"))


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
