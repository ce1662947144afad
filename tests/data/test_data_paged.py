"""Decoded images that exceed the memory: mapped, read from the disk as they are needed, and never held at once."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import SMALL, nas_
from PIL import Image

from nas.data import load
from nas.errors import UsageError
from nas.execution.trial_training import TrialTraining
from nas.training.full_training import held_out
from nas.training.recipe import Recipe
from nas.training.trainer import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, COUNT = 256, 600
WHOLE = COUNT * SIDE * SIDE * 3  # bytes


def links(root: Path, count: int = COUNT) -> Path:
    """Half as many names of each of two small images."""
    for number, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        first = root / name / "0.png"
        Image.fromarray(np.full((4, 4, 3), 50 + 100 * number, np.uint8)).save(first)
        for copy in range(1, count // 2):
            os.link(first, root / name / f"{copy}.png")
    return root


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: WHOLE // 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # threads that decode ahead take memory


@pytest.mark.usefixtures("little_memory")
def test_images_beyond_memory_are_trained_on_without_ever_being_held(tmp_path: Path) -> None:
    root = links(tmp_path / "set")
    said: list[str] = []
    tracemalloc.start()
    try:
        data = load(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE, paged=True, progress=said.append)
        assert len(data.fingerprint) == 64
        assert data.mean == pytest.approx((100 / 255,) * 3)
        assert data.std == pytest.approx((50 / 255,) * 3)
        bench = TrialTraining(held_out(data, 0), Recipe.of(1, 16), device="cpu", precision="fp32")
        train, validation = bench.batches(0)
        seen = [len(labels) for _, labels in train.epoch(0)]
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
        evaluate(network, validation)
        test = bench.test(data)
        evaluate(network, test)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(seen) == 432
    assert peak < WHOLE // 2, "NumPy's memory: some chunks of decoded images, but not all"
    for batches, images in ((train, data.x_train), (validation, data.x_train), (test, data.x_test)):
        assert batches._x.data_ptr() == images.ctypes.data, "PyTorch's memory: that of the mapped file"
    assert not train._resident, "gathered ahead of training"
    assert any("more than memory holds: they are read from the disk in each epoch" in line for line in said)
    assert any(line.startswith("decoded images are kept in") for line in said)
    said.clear()
    again = load(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE, paged=True, progress=said.append)
    assert again.fingerprint == data.fingerprint
    assert any("more than memory holds" in line for line in said)
    assert any(line.startswith("decoded before") for line in said)


@pytest.mark.usefixtures("little_memory")
def test_a_search_is_refused_what_memory_doesn_t_hold_even_if_it_is_kept(tmp_path: Path) -> None:
    root = links(tmp_path / "set")
    load(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE, paged=True)
    with pytest.raises(UsageError, match=r"600 images .* at 256 px need .*--resolution.*--max-images"):
        load(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE)


def test_more_than_is_kept_otherwise_is_kept_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = links(tmp_path / "set", 20)
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: 10)
    monkeypatch.setattr("nas.data.readers.decoded_cache.MOST_BYTES", 10)
    load(f"imagefolder:{root}", root=tmp_path / "home", resolution=8, paged=True)
    assert len(list((tmp_path / "home" / "decoded").glob("*.npy"))) == 1


@pytest.mark.parametrize("reason", ["full", "read-only", "inside"])
def test_neither_memory_nor_disk_is_refused(reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = links(tmp_path / "set", 20)
    home = tmp_path / "home"
    said = r"fit neither into the memory, .* nor on the disk: .*--resolution.*--data-root.*--stream"
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: 10)
    if reason == "full":
        monkeypatch.setattr(
            "nas.data.readers.decoded_cache.shutil.disk_usage", lambda _: type("Usage", (), {"free": 20 * 8 * 8 * 3})
        )
    elif reason == "read-only":
        home.write_text("a file, not a folder")
    else:
        home, said = root / "home", r"at 8 px need .*--resolution"
    with pytest.raises(UsageError, match=said):
        load(f"imagefolder:{root}", root=home, resolution=8, paged=True)


def test_train_maps_what_memory_doesn_t_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = links(tmp_path / "set", 40)
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    monkeypatch.setattr("nas.data.readers.images.available_memory", lambda: 10)
    arguments = ["--dataset", f"imagefolder:{root}", "--resolution", 8, "--device", "cpu", "--data-root", "home"]
    done = nas_("train", "small.yaml", *arguments, "--epochs", 1, "--out", "here")
    assert done.exit_code == 0, done.output
    assert "more than memory holds: they are read from the disk in each epoch" in done.stderr
