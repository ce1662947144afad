"""A training's page, log and event files: from its folder alone, whatever its classes are called and however many they are."""

from __future__ import annotations

import csv
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from browsing import CHARTS
from helpers_training_results import EPOCHS, make_result, save
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import NasError, UsageError
from nas.networks import zoo
from nas.report.training.figures import BEST, WORST, interval
from nas.report.training.page import COLUMNS, RESULT, write, write_csv, write_tensorboard
from nas.training.records import Epoch

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&%{y}"


def counted(count: int, images: int = 40, seed: int = 0) -> np.ndarray:
    """A confusion matrix in which most images are recognised and each class has some `images`."""
    random = np.random.default_rng(seed)
    right = random.uniform(0.5, 0.98, count)
    shares = random.dirichlet(np.full(count, 0.1), count) * (1 - right)[:, None] + np.diag(right)
    return np.stack([random.multinomial(images + k % 3, row / row.sum()) for k, row in enumerate(shares)]).astype(
        np.int64
    )


def named(count: int) -> list[str]:
    return [f"bird {k}" for k in range(count)]


SMALL = make_result(np.array([[8, 2, 0], [1, 39, 0], [5, 0, 5]], np.int64), ["wren", "crow", "owl"])


class Reader(HTMLParser):
    """The page's texts, its elements, and the data of its figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.data = ""
        self._inside = ""
        self.feed(page)
        self.text = " ".join(" ".join(self.texts).replace("\u00a0", " ").split())
        self.figures = {figure["id"]: figure for figure in json.loads(self.data)}

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self._inside = "figures" if dict(attrs).get("id") == "figures" else tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "figures":
            self.data += data
        elif self._inside not in {"script", "style"}:
            self.texts.append(data)


def read(folder: Path, result: object) -> Reader:
    return Reader(write(save(folder, result)).read_text(encoding="utf-8"))


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_answer_stands_first(tmp_path):
    text = read(tmp_path, SMALL).text
    for said in (
        "resnet20 on birds",
        "classifies 86.67 % of 60 test images right; the standard error is 4.39 percentage points",
        "Of the 120 validation images it classifies 92.50 % right",
        "trained from random weights for 12 epochs on 1,080 images, in 48 s on cpu",
        "Most confused: owl is taken for wren in 5 of 10 images (50.00 %).",
        "The classes are unbalanced: crow has 40 test images, owl 10. Always answering crow would be right for 66.67 %",
        "The mean of the classes' accuracies is 75.83 %.",
        "8 of 60 test images were taken for another class",
        "wren is taken for crow in 2 of 10 images (20.00 %)",
    ):
        assert said in text


def test_classes_stand_from_the_worst_on(tmp_path):
    figure = read(tmp_path, SMALL).figures["classes"]
    assert figure["layout"]["yaxis"]["ticktext"] == ["owl", "wren", "crow"]
    assert figure["data"][0]["x"] == [0.5, 0.8, 0.975]
    low, high = figure["layout"]["yaxis"]["range"]
    assert low > high, "the first class is on top"


def test_the_matrix_holds_every_count_once(tmp_path):
    figure = read(tmp_path, SMALL).figures["confusion"]
    right, wrong = (trace["text"] for trace in figure["data"])
    assert right == [["8", "", ""], ["", "39", ""], ["", "", "5"]]
    assert wrong == [["", "2", ""], ["1", "", ""], ["5", "", ""]]
    assert figure["data"][1]["z"][0][1] == 0.2
    assert figure["data"][1]["zmax"] == 0.5


def test_curves_are_the_records(tmp_path):
    figures = read(tmp_path, SMALL).figures
    for chart, trace, key in (
        ("loss", 0, "train_loss"),
        ("loss", 1, "val_loss"),
        ("accuracy", 0, "accuracy"),
        ("rate", 0, "learning_rate"),
    ):
        assert figures[chart]["data"][trace]["y"] == [epoch[key] for epoch in SMALL["epochs"]]
    assert figures["accuracy"]["data"][1]["y"] == [SMALL["test"]["accuracy"]]


def test_how_it_was_made_is_said(tmp_path):
    recipe = {**SMALL["recipe"], "ema": 0.99}
    weights = {"source": "torchvision:resnet50", "fingerprint": "abc123"}
    policy = {"kind": "last-stages", "trained": ["head"]}
    more = {"recipe": recipe, "weights": weights, "policy": policy, "micro_batch": 16}
    train = {**SMALL["train"], "images_by_class": [100, 1000, 0]}
    text = read(tmp_path, {**SMALL, **more, "train": train}).text
    for said in (
        "trained from the weights of torchvision:resnet50",
        "moving average over all steps (decay 0.99)",
        "their fingerprint abc123",
        "kind last-stages",
        "images in memory at once 16",
        "seed 3",
        "torch 2.9",
        "crow has 1,000 training images, owl 0",
    ):
        assert said in text


def test_the_network_is_described_where_its_config_is(tmp_path):
    assert "cifar stem 16" not in read(tmp_path, SMALL).text
    (tmp_path / "config.yaml").write_text(zoo.get("resnet20").to_yaml())
    assert "cifar stem 16" in read(tmp_path, SMALL).text


@pytest.mark.parametrize("gone", [("per_class", "confusion"), ("confusion",)])
def test_older_results_give_a_page_too(tmp_path, gone):
    test = {key: value for key, value in SMALL["test"].items() if key not in gone}
    page = read(tmp_path, {**SMALL, "test": test})
    assert "classifies 86.67 % of 60 test images right" in page.text
    assert "confusion" not in page.figures
    assert ("Accuracy by class is not known" in page.text) == ("classes" not in page.figures) == (len(gone) == 2)


def test_a_perfect_network_has_no_mistakes(tmp_path):
    page = read(tmp_path, make_result(np.diag([4, 4]).astype(np.int64), ["a", "b"]))
    assert "No test image was taken for another class." in page.text
    assert "Each class has 4 test images." in page.text
    assert "confusion" not in page.figures


@pytest.mark.parametrize("classes", [50, 51, 300])
def test_many_classes_are_cut_to_what_can_be_read(tmp_path, classes):
    confusion = counted(classes)
    page = read(tmp_path, make_result(confusion, named(classes)))
    shown = page.figures["classes"]["layout"]["yaxis"]["ticktext"]
    accuracy = dict(zip(named(classes), confusion.diagonal() / confusion.sum(1), strict=True))
    if classes <= 50:
        assert len(shown) == len(page.figures["confusion"]["data"][0]["z"]) == classes
        return
    assert len(shown) == WORST + BEST
    ranked = sorted(accuracy.values())
    assert [accuracy[name] for name in shown] == ranked[:WORST] + ranked[-BEST:]
    assert f"of {classes} classes the 25 worst and, below the gap, the 10 best" in page.text
    assert "confusion" not in page.figures
    np.fill_diagonal(confusion, 0)
    true, predicted = np.unravel_index(confusion.argmax(), confusion.shape)
    assert confusion[true, predicted] == confusion.max()
    assert f"in {confusion.max()} of" in page.text
    assert f"most confused of {(confusion > 0).sum():,} pairs" in page.text


def test_classes_without_images_are_said_and_have_no_bar(tmp_path):
    page = read(tmp_path, make_result(np.array([[3, 1], [0, 0]], np.int64), ["a", "b"]))
    assert page.figures["classes"]["layout"]["yaxis"]["ticktext"] == ["a"]
    assert "1 of 2 classes have no test image and no accuracy" in page.text


def test_hostile_names_stay_text(tmp_path):
    result = make_result(np.array([[3, 1], [2, 4]], np.int64), [HOSTILE, "b"], name=HOSTILE, device=HOSTILE)
    page = read(tmp_path, result)
    assert page.elements.count("img") == 0
    assert page.elements.count("script") == 3  # figures, Plotly, the page's own
    assert f"b is taken for {HOSTILE} in 2 of 6 images" in page.text
    shown = json.dumps([page.figures["confusion"], page.figures["classes"]])
    assert "<script" not in shown
    assert "<img" not in shown


@given(st.integers(0, 60), st.integers(1, 60))
def test_intervals_hold_the_share_and_are_shares(hits, images):
    share = min(hits, images) / images
    low, high = interval(share, images)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert high - low > 0, "no number of images makes a share certain"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no result.json in it"),
        ("", "not the result of a training"),
        ("[]", "not the result of a training"),
        (json.dumps({"accuracy": 0.5}), "lacks name, digest, cost"),
        (json.dumps({**SMALL, "epochs": []}), "no epochs"),
    ],
)
def test_a_folder_without_a_result_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / RESULT).write_text(content)
    for action in (write, write_csv):
        with pytest.raises(UsageError, match=message):
            action(tmp_path)


def test_a_page_that_cant_be_written_is_said(tmp_path):
    save(tmp_path, SMALL)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(NasError, match=r"report\.html: can't be written"):
        write(tmp_path)


# -- the logs ---------------------------------------------------------------------------------------------------------


def test_the_log_holds_the_records_exactly(tmp_path):
    path = write_csv(save(tmp_path, SMALL))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    back = [{field: float(row[column]) for column, field in COLUMNS.items()} for row in rows]
    assert back == SMALL["epochs"]


def test_the_log_of_a_training_under_way_needs_no_result(tmp_path):
    records = [Epoch.from_dict(epoch) for epoch in SMALL["epochs"][:2]]
    assert len(write_csv(tmp_path, records).read_text().splitlines()) == 3


def test_tensorboard_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="uv pip install tensorboard"):
        write_tensorboard(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_every_number(tmp_path, monkeypatch):
    written, opened = {}, []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            opened.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written[name, step] = value

        def close(self) -> None:
            opened.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    records = [Epoch.from_dict(epoch) for epoch in SMALL["epochs"][4:]]
    assert write_tensorboard(tmp_path, records) == tmp_path / "tensorboard"
    assert opened == [(str(tmp_path / "tensorboard"), 5), "closed"]
    assert {step for _, step in written} == set(range(5, EPOCHS + 1))
    for record in records:
        assert written["loss/train", record.number] == record.train_loss
        assert written["accuracy/validation", record.number] == record.accuracy


def test_event_files_are_read_back_by_tensorboard(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the event files' test needs tensorboard"
    )
    records = [Epoch.from_dict(epoch) for epoch in SMALL["epochs"]]
    write_tensorboard(tmp_path, records)
    write_tensorboard(tmp_path, records[5:])  # trained again
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    seen = events.Scalars("loss/validation")
    assert [event.step for event in seen] == list(range(1, EPOCHS + 1))
    assert [event.value for event in seen] == pytest.approx([record.val_loss for record in records])


# -- in a browser -----------------------------------------------------------------------------------------------------


RESULTS = {
    "small": SMALL,
    "fifty": make_result(counted(50), named(50)),
    "many": make_result(counted(200), named(200)),
    "hostile": make_result(np.array([[3, 1], [2, 4]], np.int64), [HOSTILE, "b"], name=HOSTILE),
}


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "charts", "width"),
    [("small", 5, 1280), ("small", 5, 320), ("fifty", 5, 320), ("many", 4, 320), ("hostile", 5, 320)],
)
def test_the_page_draws_and_fits_without_a_network(open_page, tmp_path, name, charts, width):
    page = open_page(write(save(tmp_path, RESULTS[name])).as_uri(), {"width": width, "height": 900})
    page.wait_for_function(CHARTS)
    page.wait_for_timeout(200)  # an injected handler would have had its moment
    assert page.locator(".chart svg[role=img]").count() == charts
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").count() == 0
    bars = page.locator("#classes .barlayer .point").count()
    assert bars == {"small": 3, "fifty": 50, "many": WORST + BEST, "hostile": 2}[name]
    if name == "small":
        counts = page.locator("#confusion .heatmap-label").all_text_contents()
        assert sorted(filter(None, counts)) == ["1", "2", "39", "5", "5", "8"]


@pytest.mark.browser
def test_numbers_in_the_matrix_follow_the_scheme(open_page, tmp_path):
    address = write(save(tmp_path, SMALL)).as_uri()
    colours = []
    for scheme in ("light", "dark"):
        number = open_page(address, scheme=scheme).locator("#confusion .heatmap-label text").first
        number.wait_for(state="attached")
        colours.append(number.evaluate("(element) => getComputedStyle(element).fill"))
    light, dark = (sum(int(part) for part in colour.strip("rgba()").split(",")[:3]) for colour in colours)
    assert light < 200 < 500 < dark
