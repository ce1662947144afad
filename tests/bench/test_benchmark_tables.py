"""The arithmetic behind the training benchmark: the floor of a step, trials an hour, ratios of pairs, merged files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from nas.networks.cost import Cost

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import floor
import tables
import torch
from tables import Epoch


def test_the_floor_is_the_longer_of_arithmetic_and_memory():
    cost = Cost(params=1_000, macs=1_000_000, activations=2_000)
    fast_memory, fast_arithmetic = floor.Rates(6e9, 1e15), floor.Rates(1e18, 1e6)
    assert floor.floor_seconds(cost, 100, fast_memory, 2) == pytest.approx(0.1)  # 3 x 2 x 1e6 x 100 / 6e9
    assert floor.floor_seconds(cost, 100, fast_arithmetic, 2) == pytest.approx((5 * 2 * 2_000 * 100 + 24_000) / 1e6)
    assert floor.floor_seconds(cost, 100, fast_arithmetic, 4) == pytest.approx((5 * 4 * 2_000 * 100 + 24_000) / 1e6)
    double = floor.Rates(2 * fast_memory.operations, fast_memory.bytes)
    assert floor.floor_seconds(cost, 100, double, 2) == pytest.approx(0.05)


def test_trials_an_hour():
    assert floor.trials_per_hour(45_000, 5_000) == pytest.approx(3600 / (10 * 2))
    assert floor.trials_per_hour(4_500, float("inf")) == pytest.approx(36)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rates_are_measured(dtype):
    found = floor.measured_rates(torch.device("cpu"), dtype, repeats=1)
    assert 1e8 < found.operations < 1e15 and 1e7 < found.bytes < 1e14


def run(*accuracies: float, seconds: float = 2.0) -> list[Epoch]:
    return [Epoch(seconds / 2, seconds, accuracy) for accuracy in accuracies]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| ").split("|")]


def test_a_table_compares_pairs_of_one_seed():
    runs = {"ours": {0: run(0.2, 0.6)}, "other": {0: run(0.5, 0.5, seconds=4.0)}}
    ratios = ["2.00 ± 0.00", "2.00 ± 0.00", "1.00 ± 0.00"]
    ours, other = (cells(row) for row in tables.table("net", runs, images=100).splitlines())
    assert ours == ["net", "ours", "100 ± 0", "4.0 ± 0.0", "4.0 ± 0.0", "60.0 ± 0.0", *["1.00 ± 0.00"] * 3]
    assert other == ["net", "other", "50 ± 0", "8.0 ± 0.0", "4.0 ± 0.0", "50.0 ± 0.0", *ratios]


def test_a_method_without_ours_has_no_ratios():
    assert cells(tables.table("net", {"timm": {0: run(0.5)}}, 100))[-3:] == ["–"] * 3


def test_a_row_of_the_floor():
    cost, rates = Cost(macs=1_000_000), floor.Rates(6e6 * 50, 1e18)  # 50 images a second
    row = cells(tables.floor_row("net", cost, 10, "fp32", rates, [run(0.1, 0.2, seconds=8.0)], (100, 10)))
    assert row[:5] == ["net", "fp32", "200.000", "400.00 ± 0.00", "50.0 ± 0.0"]
    assert row[5] == f"{floor.trials_per_hour(25, 2.5):.1f} ± 0.0"


def test_files_are_merged_by_network_method_and_seed(tmp_path):
    def file(name: str, method: str, seed: int, images: int = 100) -> Path:
        epochs = [dataclasses.asdict(epoch) for epoch in run(0.5, 0.5)]
        path = tmp_path / name
        content = {"machine": "m", "command": name, "dataset": "d", "images": images, "validation": 10}
        path.write_text(
            json.dumps({**content, "runs": [{"net": "n", "method": method, "seed": seed, "epochs": epochs}]})
        )
        return path

    files = [file("a", "ours", 0), file("b", "ours", 1), file("c", "timm", 0)]
    text = tables.merged(files)
    assert text.startswith("m; a\nm; b\nm; c\n\n| network") and len(text.splitlines()) == 3 + 1 + 2 + 2
    assert cells(text.splitlines()[-1])[6] == "1.00 ± 0.00"
    with pytest.raises(SystemExit, match="in two files"):
        tables.merged([files[0], files[0]])
    with pytest.raises(SystemExit, match="different data"):
        tables.merged([files[0], file("e", "ours", 2, images=99)])
