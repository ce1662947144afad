"""Names that would command a terminal, compute in a spreadsheet or lead out of a folder: shown, kept as text, or refused."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import unicodedata
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from make_run import make_run

from nas.cli.main import cli
from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.zoo import get
from nas.runs.run import load_run
from nas.training.comparison import _folder_name
from nas.utils.files import write_text
from nas.utils.text import cell, printable, shown
from nas.utils.validation import file_name

ESCAPES = ("\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "a\rb", "a\x08b", "\x00", "\x7f", "\u202eexe.lmay")
LEADING_OUT = ("../../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\nb", "a\0b", "\x1b[2J", "x" * 5000, "é" * 150)
HOSTILE = ("=cmd|'calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "<img src=x onerror=alert(1)>", "a b (3x3 stem)", "x" * 200)


def commands(text: str) -> list[str]:
    """Characters of a text that a terminal obeys."""
    return [
        c
        for c in text
        if (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") or c in "\u202a\u202b\u202d\u202e"
    ]


# -- terminals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ESCAPES)
def test_what_commands_a_terminal_is_written_out(text):
    assert commands(text)
    assert not commands(printable(text))


@given(st.text())
def test_text_that_is_shown_commands_nothing_and_loses_nothing(text):
    said = printable(text)
    assert not commands(said)
    assert printable(said) == said
    if not commands(text) and not any(
        unicodedata.bidirectional(c) in ("LRE", "RLE", "PDF", "LRI", "RLI", "FSI", "PDI") for c in text
    ):
        assert said.replace("\\u200e", "\u200e").replace("\\u200f", "\u200f") == text


@pytest.mark.parametrize("name", [*ESCAPES[:5], "it's", "a b", "back\\slash", "$(touch x)", "`id`", "é", "-rf", "a\nb"])
def test_a_path_is_shown_as_a_shell_takes_it_and_commands_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    said = shown(tmp_path / name)
    assert not commands(said) and "\n" not in said
    done = subprocess.run(["bash", "-c", f"printf %s {said}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name)


@pytest.mark.parametrize("name", ESCAPES[:5])
def test_errors_command_nothing(tmp_path, name):
    path = tmp_path / f"{name}.yaml"
    path.write_text("name: [\n")
    for arguments in (["profile", str(path)], ["spaces", str(path)], ["front", str(path)], ["train", str(path)]):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 2
        assert not commands(done.output.strip()), done.output


# -- folders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEADING_OUT)
def test_baselines_of_a_run_lie_in_its_folder(tmp_path, name):
    folder = make_run(tmp_path / "run", trials=1)
    data = yaml.safe_load((folder / "run.yaml").read_text())
    data["baselines"][0]["name"] = name
    (folder / "run.yaml").write_text(yaml.safe_dump(data))
    assert file_name(name)
    with pytest.raises(
        UsageError, match=r"baselines: name must be a name of at most 200 characters|not readable as YAML"
    ):
        load_run(folder)


@pytest.mark.parametrize("name", [*LEADING_OUT, "...", "..hidden", "a b", "resnet20"])
def test_networks_of_a_comparison_lie_in_its_folder(tmp_path, name):
    made = (tmp_path / _folder_name(name)).resolve()
    assert made.parent == tmp_path.resolve()
    assert made.name.isprintable() and not made.name.startswith(".")


@pytest.mark.parametrize("name", [name for name in LEADING_OUT if "/" not in name and len(name) > 2])
def test_names_of_configs_are_one_line(tmp_path, name):
    data = {**get("resnet20").to_dict(), "name": name}
    if name.isprintable() and len(name) <= 200:
        assert Architecture.from_dict(data).name == name
    else:
        with pytest.raises(UsageError, match="name must be one line of at most 200 characters"):
            Architecture.from_dict(data)


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A run whose baselines, of one network each, have the hostile names that a run can hold."""
    folder = make_run(tmp_path / "run", trials=2)
    data = yaml.safe_load((folder / "run.yaml").read_text())
    network = data["baselines"][0]["architecture"]
    result = json.loads((folder / "baselines" / "resnet20" / "result.json").read_text())
    data["baselines"] = []
    for k, name in enumerate(HOSTILE):
        changed = Architecture.from_dict(network).adapted(classes=10 + k, resolution=8, channels=1)
        data["baselines"].append({"name": name, "architecture": changed.to_dict()})
        own = {**result, "digest": changed.digest, "accuracy": 0.99 + k / 1000}
        write_text(folder / "baselines" / name / "result.json", json.dumps(own))
    (folder / "run.yaml").write_text(yaml.safe_dump(data, allow_unicode=True))
    return folder


def test_exported_files_lie_in_the_folder_and_none_overwrites_another(hostile, tmp_path):
    out = tmp_path / "out"
    labels = [argument for name in HOSTILE for argument in ("--trial", name)]
    done = CliRunner().invoke(cli, ["export", str(hostile), *labels, "--out", str(out)])
    assert done.exit_code == 0, done.output
    files = list(out.iterdir())
    assert len(files) == len(HOSTILE)
    assert {path.parent for path in files} == {out}
    for path in files:
        assert path.suffix == ".yaml"
        assert len(path.name) <= 255
        assert not set(path.name) & set("/\\<>=|'!@ \n")
        assert Architecture.from_yaml(path).digest


def test_a_spreadsheet_computes_nothing(hostile):
    done = CliRunner().invoke(cli, ["front", str(hostile), "--csv"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.output)))
    labels = {row["label"] for row in rows}
    assert {f"'{name}" for name in HOSTILE[:4]} <= labels
    for row in rows:
        for value in row.values():
            number = value.replace(".", "", 1).replace("-", "", 1).isdigit()
            assert number or not value.startswith(("=", "+", "-", "@", "\t", "\r")), value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("=1", "'=1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\ta", "'\ta"),
        ("a=1", "a=1"),
        ("", ""),
        (-1, -1),
        (0.5, 0.5),
    ],
)
def test_cells(value, kept):
    assert cell(value) == kept


# -- modes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_exports_have_the_modes_that_the_umask_says(tmp_path, mask):
    folder = make_run(tmp_path / "run", trials=2)
    out = tmp_path / "out"
    before = os.umask(mask)
    try:
        for arguments in (["export", str(folder), "--out", str(out)], ["report", str(folder)]):
            done = CliRunner().invoke(cli, arguments)
            assert done.exit_code == 0, done.output
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    for path in (*out.iterdir(), folder / "report.html"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~mask


def test_a_folder_that_is_there_keeps_its_mode(tmp_path):
    folder = make_run(tmp_path / "run", trials=2)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2750)
    folder.chmod(0o750)
    assert CliRunner().invoke(cli, ["export", str(folder), "--out", str(out)]).exit_code == 0
    assert CliRunner().invoke(cli, ["report", str(folder)]).exit_code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o2750
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
