"""`nas bench` as a user meets it."""

from __future__ import annotations

import itertools
import json

import pytest
from helpers_cli import nas_, process, refusal


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """tiny.csv in an empty folder that is the current one: 16 networks."""
    monkeypatch.chdir(tmp_path)
    lines = ["depth,kind,val_acc,params"]
    for number, (depth, kind) in enumerate(itertools.product((1, 2, 3, 4), "abcd")):
        lines.append(f"{depth},{kind},{60 + 5 * depth + 2 * (kind == 'b') - 0.1 * number},{100 * depth + 10 * number}")
    (tmp_path / "tiny.csv").write_text("\n".join(lines) + "\n")
    return "bench", "--table", "tiny.csv", "--budget", 8, "--repeats", 2, "--jobs", 2


def test_bench_prints_a_table_and_keeps_what_it_did(tiny, tmp_path):
    first = nas_(*tiny, "--samplers", "local,random", "--levels", "0.5,0.9", "--out", "here")
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0].split()[:2] == ["Sampler", "Repeats"] and "until 50.00 %" in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["local", "random"]
    assert "page: here/bench.html" in first.stdout
    assert "tiny.csv: 2 choices, 16 combinations" in first.stderr and "4/4 " in first.stderr
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        *(".lock", "bench.html", "repeats.jsonl", "settings.json", "summary.json", "trials.csv")
    }
    again = nas_(*tiny, "--samplers", "local,random,evolution", "--out", "here", "--json", "--parallel", 1)
    assert again.exit_code == 0, again.output
    assert "4 of 6 repeats are done already" in again.stderr
    about = json.loads(again.stdout)
    assert [own["sampler"] for own in about["samplers"]] == ["local", "random", "evolution"]
    assert about["protocol"] == {"budget": 8, "parallel": 1, "asks": 10, "floor": 0.1, "seed": 0}
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["samplers"] == about["samplers"]
    refused = refusal(*tiny, "--samplers", "random", "--out", "here", "--parallel", 4, "--quiet")
    assert "here: holds another benchmark: parallel is 1, not 4" in refused


@pytest.mark.slow
def test_bench_as_a_process_quietly(tiny, tmp_path):
    done = process(*tiny, "--samplers", "known-cost,nsga3", "--json", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    about = json.loads(done.stdout)
    assert about["page"] is None and about["samplers"][0]["asks"] == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "tiny.cs"], "--table tiny.cs: no such file"),
        (["--samplers", "known-cots"], "did you mean 'known-cost'?"),
        (["--samplers", "random,,tpe"], "has an empty name between its commas"),
        (["--samplers", "evolution:colour=1", "--quiet"], "evolution:colour=1"),
        (["--costs", "flops"], "tiny.csv has no column 'flops'"),
        (["--budget", "17"], "--budget 17: tiny.csv has only 16 distinct networks"),
        (["--levels", "0.5,2"], "must be shares above 0 and at most 1"),
        (["--floor", "2"], "not in the range"),
        (["--out", "tiny.csv"], "is a file, not a folder"),
    ],
)
def test_wrong_benchmarks_are_refused_in_one_line(tiny, tmp_path, arguments, message):
    assert message in refusal(*tiny, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.csv"]
