"""`nas export --measure`: what is run is what was written, beside PyTorch; where the figures go. No test asserts a time."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from helpers_cli import nas_, refusal
from helpers_export import images_for, logits_of, small_designs, subject_of
from make_run import make_run

from nas.interop.export import EXPORTERS, Subject
from nas.interop.export.measuring import EAGER, Measured, measure, programs, write_measured
from nas.interop.export.writing import formats_of, write_networks
from nas.networks import zoo
from nas.profiling.latency import Latency
from nas.runs.run import load_run

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = {"seconds": 0.0, "least": 2, "most": 2, "warm_seconds": 0.0, "pause": 0.0}


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A design that all formats can say."""
    return subject_of(zoo.get("resnet18").adapted(classes=10, resolution=32, channels=3))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("onnx", "pt2") else ()) for name in EXPORTERS]
)
def test_a_program_is_run_as_it_was_written_and_a_config_is_none(name, subject, tmp_path):
    """The file gives logits of any number of images; ours, where it has our weights."""
    assert (EXPORTERS[name].load is None) == (name in ("yaml", "json", "pycls"))
    if (load := EXPORTERS[name].load) is None:
        return
    EXPORTERS[name].write(subject, path := tmp_path / f"network{EXPORTERS[name].suffix}")
    images = images_for(subject.architecture, 2)
    with torch.inference_mode():
        logits = load(path, 1)(images)
    assert logits.shape == (2, 10) and not logits.requires_grad
    if name not in ("python", "torchvision"):  # whose time is measured without their weights
        torch.testing.assert_close(logits, logits_of(subject, images), rtol=1e-3, atol=1e-4)


def test_each_format_is_measured_beside_the_network_for_each_batch(tmp_path):
    formats = formats_of(["yaml", "torchscript", "python", "torchvision"])
    assert programs(formats) == ["torchscript", "python", "torchvision"]
    (row,) = write_networks([("net", subject_of(small_designs()["basic"]))], tmp_path, formats)
    assert "torchvision" in row.reasons
    found = measure(row, formats, (1, 3), threads=1, **FEW)
    assert [(own.format, own.latency.batch) for own in found] == [
        (name, batch) for batch in (1, 3) for name in (EAGER, "torchscript", "python")
    ]
    assert all((own.latency.repeats, own.latency.threads, own.latency.resolution) == (2, 1, 48) for own in found)
    said = json.loads(write_measured(tmp_path, row, found).read_text())
    assert said["digest"] == row.subject.architecture.digest
    assert [entry["file"] for entry in said["latencies"]] == [None, "net.torchscript.pt", "net.py"] * 2
    fields = {key for key in said["latencies"][0] if key not in ("format", "file")}
    assert [Latency.from_dict({key: entry[key] for key in fields}) for entry in said["latencies"]] == [
        own.latency for own in found
    ]


def test_a_whole_front_has_its_latencies_in_the_table(tmp_path, monkeypatch):
    def made_up(row, formats, batches, threads):
        def latency(name, batch):
            ms = batch * (2.0 if name == EAGER else 1.5)
            return Latency(ms, ms / 8, 9, 0, 0.01, "a CPU", batch, threads, 32, "2")

        return [Measured(name, latency(name, batch)) for batch in batches for name in (EAGER, "python")]

    monkeypatch.setattr("nas.interop.export.measuring.measure", made_up)
    run = make_run(tmp_path / "run", trials=8)
    words = ("--format", "yaml", "--format", "python", "--measure", "--batch", "1,4", "--threads", 3)
    result = nas_("export", run, *words, "--out", tmp_path / "out")
    assert result.exit_code == 0
    count = len(load_run(run).front())
    assert all(Path(line).suffix in (".yaml", ".py") for line in result.stdout.splitlines()), "paths alone, for scripts"
    rows = list(csv.DictReader((tmp_path / "out" / "index.csv").open()))
    assert [row["format"] for row in rows] == [EAGER, "yaml", "python"] * count
    eager, config, program = rows[:3]
    assert (eager["file"], eager["state"]) == ("", "in PyTorch, for comparison")
    assert [row["latency_ms_batch4"] for row in (eager, config, program)] == ["8.0", "", "6.0"]
    assert [row["latency_iqr_ms_batch1"] for row in (eager, config, program)] == ["0.25", "", "0.1875"]
    assert "| batch 1, ms | batch 4, ms |" in (tmp_path / "out" / "index.md").read_text()
    assert "| 1.50 ms | 6.00 ms |" in (tmp_path / "out" / "index.md").read_text()
    assert "a CPU, 3 threads" in result.stderr and "varied by up to 1.0%" in result.stderr
    assert "yaml: not a program, so there is nothing to measure" in result.stderr
    assert len(list((tmp_path / "out").glob("*.latency.json"))) == count


def test_options_of_measuring_without_it_are_refused():
    assert "--batch: goes with --measure" in refusal("export", "resnet20", "--batch", 2)
    assert "--threads: goes with --measure" in refusal("export", "resnet20", "--threads", 2)
