"""What reads files, each with a valid one, for `fuzzing.py`."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from make_run import make_run

from nas.networks.architecture import Architecture


@dataclass(frozen=True)
class Reader:
    """valid: an input that is read without an error. read: raises NasError for one that can't be. kind: as `mutated` has it.

    weight: its share of the inputs of a long run; what is slow or simple has less.
    """

    valid: bytes
    kind: str
    read: Callable[[bytes], object]
    weight: int = 10


SPACE = b"""space: fuzzed
description: A small space.
stages: 2
values:
  stem: [cifar, imagenet]
  stem_width: {from: 8, to: 32, step: 8}
  stage*.block: [basic, bottleneck, res2net]
  stage*.depth: {from: 1, to: 3}
  stage*.width: [16, 32, 64]
  stage2.stride: 2
  stage*.scale: {values: [2, 4], when: {block: res2net}}
  act: [relu, silu]
  resolution: [0.5, 1.0]
budgets: {params: {min: 100, max: 1e6}, flops: {max: 1.0e9}}
variants:
- {name: small, max_resolution: 64}
- {name: large, stages: 3, values: {stage*.stride: 2}}
"""


TABLE = "a,b,arch,accuracy,acc2,params,latency_ms\n" + "".join(
    f"{a},{b},{a}{b}{a},{0.5 + a / 10 + b / 100},{0.6 + b / 10},{100 * a + b},{1.5 + a}\n"
    for a in range(1, 4)
    for b in range(1, 4)
)


def readers(folder: Path) -> dict[str, Reader]:
    """All readers by name; `folder` is theirs to write to."""
    import torch
    from safetensors.torch import save

    from nas.bench import table
    from nas.bench.folder import read_repeats
    from nas.bench.replay import Repeat
    from nas.cli.commands.front import front_data
    from nas.interop.export import EXPORTERS, export_trials
    from nas.networks import zoo
    from nas.networks.weights import read as read_weights
    from nas.report.figures.gradients import gradients
    from nas.report.run.gradient_section import spans
    from nas.report.run.page import page
    from nas.report.training.page import page as training
    from nas.runs.run import Run, load_run
    from nas.runs.settings import Settings
    from nas.searching.study import Study
    from nas.spaces.space import load_space
    from nas.spaces.yaml_format import parse_overrides
    from nas.training import gradient_flow as flow
    from nas.training.comparison_records import Compared, Outcome, Point
    from nas.training.gradient_flow import Layer, Moment
    from nas.training.workspace import Workspace as _unused  # noqa: F401  (torch is loaded before memory is limited)

    run = make_run(folder / "run", trials=4, told=4, running=1)
    used = 0

    def written(name: str, data: bytes) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        return path

    def use(read: Run) -> None:
        """What commands make of a run that could be read."""
        nonlocal used
        used += 1
        if read.complete():
            front_data(read)
            read.best()
            read.dataframe()
            read.hypervolume_history()
            export_trials(read, read.front(), folder / "exported", EXPORTERS["yaml"], force=True)
        if used % 20 == 0:
            page(read)

    def of_run(name: str) -> Callable[[bytes], object]:
        """Reads the run with one of its files replaced, and puts the file back."""
        path = run / name
        valid = path.read_bytes() if path.exists() else b""

        def read(data: bytes) -> None:
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(data)
            try:
                use(load_run(run))
            finally:
                path.write_bytes(valid)

        return read

    def resumed(data: bytes) -> None:
        """Opens the run for going on, as `nas resume` does: in a copy, since that repairs and adopts."""
        own = folder / "resumed"
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(run, own)
        (own / "study.journal").write_bytes(data)
        with Study(own, Settings.load(own)) as study:
            study.ask()

    def kept(name: str, kind: str, weight: int, valid: bytes | None = None) -> Reader:
        """The reader of a file of the run."""
        return Reader((run / name).read_bytes() if valid is None else valid, kind, of_run(name), weight)

    def path_of(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        return lambda data: read(written(name, data))

    epoch = json.loads((run / "trials" / "0" / "result.json").read_bytes())["epochs"][0]
    point = Point.from_dict({"epoch": epoch, "training_images": {"loss": 1.0, "accuracy": 0.5}})
    layers, moments = (Layer("stem", "Conv2d", 1, True),), (Moment(0, 2, (1.0,), (None,)),)
    compared = Outcome(0, "complete", "", (point,), layers, moments).to_dict()
    repeats = [Repeat("random", k, [1, 2], [0.1, 0.2], [0.01, 0.02], 2, 0, 0, 0, 0.03, 0.1).to_dict() for k in range(3)]
    network = zoo.get("resnet20")
    pickled, arrays = io.BytesIO(), io.BytesIO()
    tensors = {"stem.weight": torch.ones(4, 3, 3, 3), "bn.running_mean": torch.zeros(4), "n": torch.tensor(3)}
    torch.save({"state_dict": tensors}, pickled)
    plain = save(tensors, {"architecture": network.to_json(), "classes": '["a"]'})
    labels = np.arange(40) % 4
    images = np.zeros((40, 8, 8, 1), np.uint8)
    np.savez_compressed(arrays, x_train=images, y_train=labels, classes=np.array(list("abcd")))
    named = [{"file_name": f"{k}.png", "label": k % 2} for k in range(8)]
    as_csv = "".join(
        f"{row['file_name']},{row['label']}\n" for row in [{"file_name": "file_name", "label": "label"}, *named]
    )
    journal = (run / "study.journal").read_bytes()
    sessions = json.dumps([_SESSION] * 2).encode()
    (run / "sessions.json").write_bytes(sessions)
    running = str(next(run.glob("trials/*/epochs.json")).relative_to(run))
    extends = b"space: a\nextends: resnet\nvalues: {depth: [1, 2]}\n"

    flow.write(folder / "recorded", "digest", flow.Flow(layers, moments))
    norms = (folder / "recorded" / flow.FILE).read_bytes()

    def recorded(path: Path) -> None:
        found = flow.read(path.parent, "digest")
        if found is not None:
            outcome = Outcome(0, "complete", "", (), found.layers, found.moments)
            networks = [Compared("network", network, (outcome,))]
            gradients(networks, "outputs").to_json()
            spans(networks)

    def config(path: Path) -> str:
        return Architecture.from_yaml(path).digest

    return {
        "space": Reader(SPACE, "yaml", path_of("space.yaml", load_space), 20),
        "space that extends": Reader(extends, "yaml", path_of("extends.yaml", load_space), 4),
        "config.yaml": Reader(network.to_yaml().encode(), "yaml", path_of("c.yaml", config), 20),
        "config.json": Reader(network.to_json().encode(), "json", path_of("c.json", config), 10),
        "--set": Reader(
            b"stage*.block=[basic, res2net]", "bytes", lambda data: parse_overrides([data.decode(errors="replace")]), 10
        ),
        "run.yaml": kept("run.yaml", "yaml", 10),
        "sessions.json": kept("sessions.json", "json", 4),
        "journal": kept("study.journal", "lines", 12),
        "journal of a resumed run": Reader(journal, "lines", resumed, 3),
        "trial's result.json": kept("trials/0/result.json", "json", 6),
        "baseline's result.json": kept("baselines/resnet20/result.json", "json", 4),
        "epochs.json": kept(running, "json", 4),
        "trial's gradients.json": Reader(norms, "json", path_of(f"recorded/{flow.FILE}", recorded), 6),
        "training's result.json": Reader(
            json.dumps(_training_result(epoch)).encode(),
            "json",
            path_of("trained/result.json", lambda path: training(path.parent)),
            2,
        ),
        "comparison's result.json": Reader(json.dumps(compared).encode(), "json", _outcome, 10),
        "repeats.jsonl": Reader(_lines(repeats), "lines", path_of("repeats.jsonl", read_repeats), 10),
        "table": Reader(TABLE.encode(), "bytes", path_of("t.csv", lambda path: table.read(str(path))), 20),
        "npz": Reader(arrays.getvalue(), "zip", path_of("d.npz", lambda path: _data(f"npz:{path}", folder)), 10),
        "metadata.csv": Reader(
            as_csv.encode(), "bytes", lambda data: _images(folder / "csv", "metadata.csv", data), 10
        ),
        "metadata.jsonl": Reader(
            _lines(named), "lines", lambda data: _images(folder / "jsonl", "metadata.jsonl", data), 10
        ),
        "weights.pth": Reader(pickled.getvalue(), "zip", path_of("w.pth", lambda path: read_weights(str(path))), 10),
        "weights.safetensors": Reader(
            plain, "headed", path_of("w.safetensors", lambda path: read_weights(str(path))), 10
        ),
    }


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


_SESSION = {
    "begun": 1.0,
    "startup_seconds": 1.0,
    "search_seconds": 9.0,
    "training_seconds": 8.0,
    "workers": 1,
    "exhausted": False,
}


def _outcome(data: bytes) -> None:
    from nas.training.comparison_records import Outcome
    from nas.utils.validation import reading

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):  # as nas.training.comparison has it
        with reading("result.json"):
            Outcome.from_dict(found)


def _data(name: str, folder: Path) -> None:
    from nas import data

    data.load(name, root=folder / "data")


def _images(folder: Path, name: str, content: bytes) -> None:
    from PIL import Image

    if not folder.exists():
        folder.mkdir()
        for k in range(8):
            Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
    (folder / name).write_bytes(content)
    _data(f"imagefolder:{folder}", folder.parent)


def _training_result(epoch: dict[str, Any]) -> dict[str, Any]:
    from test_report_training import make_result

    return {**make_result(np.array([[3, 1], [2, 4]], np.int64), ["a", "b"]), "epochs": [epoch]}
