"""The command line as a user meets it: help, exit codes, `spaces` and `profile`, and every way to get them wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import click
import pytest
from helpers_cli import SMALL, nas_, output, process, refusal
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.cli.commands.options import COUNT, Option
from nas.cli.main import COMMANDS, FIRST_SPEAKS_SECONDS, cli
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import costs_by_piece
from nas.spaces.space import load_space, names
from nas.training.memory import training_memory
from nas.utils.registry import NEAR, did_you_mean

NAMES = [name for name, _, _ in COMMANDS]


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


# -- the group --------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_each_can_be_called():
    text = output("--help")
    for name, _, about in COMMANDS:
        assert re.search(rf"^  {name} +{re.escape(about)}$", text, flags=re.MULTILINE)
    assert output("-h") == output() == text


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_ends_with_examples_that_name_its_options(name):
    _, shown = output(name, "--help").split("Examples:\n")
    lines = [line.strip() for line in shown.strip().splitlines()]
    assert 2 <= len(lines) <= 5
    for line in lines:
        assert line.startswith(f"nas {name}")
        for one in line.split(" && "):  # an example may lead on to another command
            command = cli.get_command(click.Context(cli), one.split()[1])
            known = {option for parameter in command.params for option in parameter.opts}
            assert one.startswith("nas ") and set(re.findall(r"(?<= )--[\w-]+", one)) <= known


def commands_with_many_options() -> list[str]:
    commands = {name: cli.get_command(click.Context(cli), name) for name in NAMES}
    return [
        name
        for name, command in commands.items()
        if sum(not isinstance(p, click.Argument) for p in command.params) > 10
    ]


@pytest.mark.parametrize("name", commands_with_many_options())
def test_each_of_many_options_stands_under_exactly_one_heading(name):
    shown = re.split(r"^(\S.*):$", output(name, "--help"), flags=re.MULTILINE)
    sections = {
        heading: re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
        for heading, text in zip(shown[1::2], shown[2::2], strict=True)
    }
    assert sections.pop("Examples", []) == [] and sections.pop("Other") == ["--import", "--help"]
    assert 3 <= len(sections) <= 7 and "Options" not in sections
    listed = [option for options in sections.values() for option in options]
    command = cli.get_command(click.Context(cli), name)
    options = [parameter.opts[-1] for parameter in command.params if isinstance(parameter, Option)]
    assert sorted(listed) == sorted(options)


def test_version_is_the_package_s():
    assert output("--version") == f"nas, version {nas.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serach"], "did you mean 'search'?"),
        (["frobnicate"], "known: search, resume, confirm, spaces"),
        (["--frobnicate"], "No such option"),
        (["profile"], "Missing argument 'NAME|CONFIG...'; see nas profile --help"),
        (["front"], "Missing argument 'RUN'"),
        (["train", "resnet20"], "Missing option '--dataset'"),
        (["export", "x", "--top", "many"], "'many' is not a valid integer"),
        (["profile", "resnet18", "--resolution", "0"], "0 is not in the range"),
    ],
)
def test_bad_usage_is_one_line_and_exits_with_2(arguments, message):
    assert message in refusal(*arguments)


def test_as_processes():
    """The ends that only a real process has: exit codes, the streams, `python -m nas`, NAS_DEBUG."""
    done = process("profile", "resnet20", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["params"] == 269_722
    wrong = process("profile", "resnext50_32x4")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: unknown network 'resnext50_32x4' (did you mean 'resnext50_32x4d', ")
    assert wrong.stderr.count("\n") == 1
    shown = process("profile", "resnext50_32x4", env={**os.environ, "NAS_DEBUG": "1"})
    assert shown.returncode == 2
    assert "Traceback" in shown.stderr
    assert shown.stderr.splitlines()[-1] == wrong.stderr.strip()


def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process("spaces", "resnext", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


def test_an_interruption_exits_with_130_and_says_its_words(monkeypatch):
    from nas.cli.commands import spaces

    for error, words in ((KeyboardInterrupt(), "interrupted"), (KeyboardInterrupt("go on so"), "go on so")):

        def interrupted(as_json, error=error):
            raise error

        monkeypatch.setattr(spaces, "_list", interrupted)
        result = nas_("spaces")
        assert result.exit_code == 130
        assert result.stderr.strip() == words


def test_a_search_that_was_stopped_exits_with_130(monkeypatch):
    from nas.cli.commands import spaces
    from nas.errors import Interrupted

    def stopped(as_json):
        raise Interrupted("stopped; go on with: nas resume x")

    monkeypatch.setattr(spaces, "_list", stopped)
    result = nas_("spaces")
    assert (result.exit_code, result.stderr) == (130, "stopped; go on with: nas resume x\n")


# -- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2e6", 2_000_000),
        ("2M", 2_000_000),
        ("500k", 500_000),
        ("500K", 500_000),
        ("1.5G", 1_500_000_000),
        ("0.3T", 300_000_000_000),
        ("2,000,000", 2_000_000),
        ("2_000_000", 2_000_000),
        ("0", 0),
        (" 7 ", 7),
        ("4.089G", 4_089_000_000),
    ],
)
def test_counts(text, count):
    assert COUNT.convert(text, None, None) == count


@pytest.mark.parametrize("text", ["", "M", "two", "-1", "1.5", "0.1k1", "nan", "inf", "1e99", "2MM", "2 M s", "0x10"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(click.BadParameter, match="is not a count; write for example"):
        COUNT.convert(text, None, None)


@given(st.integers(0, 1 << 62))
def test_every_whole_number_is_a_count(number):
    assert COUNT.convert(str(number), None, None) == COUNT.convert(f"{number:,}", None, None) == number


# -- spaces -----------------------------------------------------------------------------------------------------------


def test_spaces_lists_all_with_their_sizes():
    listed = json.loads(output("spaces", "--json"))
    assert [entry["name"] for entry in listed] == names()
    text = output("spaces")
    for entry in listed:
        assert entry["name"] in text
        assert entry["description"] in text
        for variant, resolution in zip(entry["variants"], (8, 32, 224), strict=True):
            space = load_space(entry["name"], resolution=resolution)
            assert (variant["name"], variant["size"]) == (space.variant, space.size())


def test_a_space_is_described():
    text = output("spaces", "resnext", "--resolution", 8)
    space = load_space("resnext", resolution=8)
    assert f"{space.size():,} configurations, for images of 8 px and 10 classes" in text
    for key in space.knobs:
        assert re.search(rf"^{re.escape(key)} ", text, flags=re.MULTILINE)
    assert re.search(r"^stage1\.cardinality +1, 2, 4, 8 +block is bottleneck", text, flags=re.MULTILINE)
    assert re.search(r"^stage1\.width +8 to 64 step 8 *$", text, flags=re.MULTILINE)
    assert "what the ResNet paper calls FLOPs" in text


def test_conditions_that_follow_from_the_block_are_shown():
    """The space `resnet` writes no `when`: its group width exists where the block has that option."""
    described = json.loads(output("spaces", "resnet", "--json"))
    assert described["knobs"]["stage1.group_width"]["when"] == {"block": ["bottleneck"]}
    assert described["knobs"]["stage1.depth"]["when"] == {}


def test_a_space_as_json():
    described = json.loads(
        output("spaces", "resnext", "--resolution", 64, "--classes", 7, "--max-params", "1M", "--json")
    )
    space = load_space("resnext", resolution=64, classes=7)
    assert described["size"] == space.size()
    assert {key: tuple(knob["values"]) for key, knob in described["knobs"].items()} == {
        key: knob.values for key, knob in space.knobs.items()
    }
    assert set(described["fixed"]) | set(described["knobs"]) == {slot.key for slot in space.slots}
    for cost in described["costs"].values():
        assert cost["min"] < cost["median"] < cost["max"]
    assert described["budget"] == {"params": [None, 1_000_000]}
    assert 0 < described["feasible_share"] < 1
    example = described["example"]
    assert space.cost(example["choices"]).params == example["params"] <= 1_000_000


def test_a_budget_that_can_be_met_is_shown_with_an_example():
    text = output("spaces", "resnet", "--max-params", "500k", "--min-macs", "1M", "--resolution", 8)
    assert "Budget params <= 500,000, 1,000,000 <= macs: can be met." in text
    rare = output("spaces", "resnet", "--max-params", "6k", "--resolution", 8)
    assert "uniform samples none lie within it" in rare


def test_a_budget_that_can_t_be_met_is_refused():
    line = refusal("spaces", "resnext", "--max-params", "10")
    assert "no architecture of space 'resnext' at 32 px meets the budget params <= 10" in line
    assert "the space spans params" in line


def test_a_space_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("space: mine\nstages: 1\nvalues: {block: basic, depth: 1, width: [8, 16]}\n")
    text = output("spaces", path)
    assert "mine: no description\n2 configurations" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnex"], "did you mean 'resnext'?"),
        (["missing.yaml"], "missing.yaml: can't be read: No such file"),
        (["resnext", "--max-params", "lots"], "'lots' is not a count"),
        (["resnext", "--min-params", "2M", "--max-params", "1M"], "the lower bound 2,000,000 is above"),
        (["resnext", "--resolution", "2"], "2 is not in the range"),
        (["--max-params", "2M"], "need a space"),
    ],
)
def test_wrong_spaces(arguments, message):
    assert message in refusal("spaces", *arguments)


def test_a_broken_space_names_its_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("space: x\nstages: 1\nvalues: {block: basic, depth: [\n")
    assert "broken.yaml: line " in refusal("spaces", path)


# -- profile ----------------------------------------------------------------------------------------------------------


def test_profile_of_one_network():
    text = output("profile", "resnet50")
    assert "25,557,032 params, 4,089,184,256 MACs" in text
    assert re.search(r"^stage4 +2048 × 7 × 7 +14\.96 M", text, flags=re.MULTILINE)
    assert text.count("what the ResNet paper calls FLOPs") == 1
    assert re.search(
        r"^A training step on 128 images takes about \d+\.\d GiB in fp32 or \d\.\d GiB in bf16",
        text,
        flags=re.MULTILINE,
    )


def test_profile_of_several_side_by_side():
    text = output("profile", "resnet18", "resnet50", "wrn-28-10")
    lines = text.splitlines()
    for total in ("11.69 M", "25.56 M", "36.48 M", "1.814 G", "4.089 G", "5.243 G"):
        assert sum(line.endswith(total) for line in lines) == 1
    assert "resnet18 224, resnet50 224, wrn_28_10 32" in text
    assert text.count("what the ResNet paper calls FLOPs") == 1
    assert text.count("A training step on 128 images") == 3
    assert "Images of 64 px." in output("profile", "resnet18", "wrn-28-10", "--resolution", 64)


def test_profile_lists_every_published_network():
    result = nas_("profile", "--list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == zoo.names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", 0], "epochs must be a whole number from 1"),
        (["--lr", 1000], "learning_rate must be a number from 0"),
        (["--out", __file__], "exists and is not an empty folder"),
        (["--trials", 0], "--trials 0: at least one"),
        (["--hours", 0], "--hours 0: a number above 0"),
        (["--hours", 1, "--gpu-hours", 1], "--hours and --gpu-hours: give one of them"),
        (["--confirm", 1], "--confirm 1: from 2"),
    ],
)
def test_what_is_wrong_with_a_search_comes_before_any_other_word(arguments, message):
    result = nas_("search", *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert message in result.stderr


@pytest.mark.parametrize("resolution", [None, 64])
def test_profile_as_json_adds_up(resolution):
    more = [] if resolution is None else ["--resolution", resolution]
    for found in json.loads(output("profile", "resnet20", "resnext50_32x4d", "--json", *more)):
        architecture = zoo.get(found["name"])
        assert found["digest"] == architecture.digest
        assert found["resolution"] == (resolution or architecture.resolution)
        expected = costs_by_piece(architecture, resolution)
        assert found["training_memory"] == {
            "batch": 128,
            "fp32_bytes": training_memory(architecture, 128, "fp32", resolution=resolution).total,
            "bf16_bytes": training_memory(architecture, 128, "bf16", resolution=resolution).total,
        }
        assert [(piece["name"], tuple(piece["output"])) for piece in found["pieces"]] == [
            (row.name, tuple(row.output)) for row in expected
        ]
        for metric in ("params", "macs", "activations"):
            assert found[metric] == sum(piece[metric] for piece in found["pieces"])
            assert found[metric] == sum(getattr(row.cost, metric) for row in expected)


def test_profile_of_files(tmp_path, config):
    as_json = tmp_path / "named-by-its-file.json"
    as_json.write_text(json.dumps({**Architecture.from_yaml(config).to_dict(), "name": ""}))
    first, second = json.loads(output("profile", config, as_json, "--json"))
    assert (first["name"], second["name"]) == ("small", "named-by-its-file")
    assert first["digest"] == second["digest"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read: No such file"),
        ("- 1\n", "expected a mapping"),
        ("{", "not readable as YAML"),
        (SMALL.replace("basic", "basik"), "did you mean 'basic'?"),
        (SMALL.replace("width: 4", "width: -4"), "must be"),
        (SMALL.replace("branch: basic", "branch: basic, shortcut: identity, stride: 2"), "can't lead from"),
    ],
)
def test_wrong_configs(tmp_path, content, message):
    path = tmp_path / "wrong.yaml"
    if content is not None:
        path.write_text(content)
    assert message in refusal("profile", path)


def test_an_unknown_network_names_the_near_one():
    line = refusal("profile", "resnet-5O")
    assert did_you_mean("resnet-5o", zoo.names(), NEAR) in line
    assert "or the path of a YAML or JSON config" in line


def test_the_first_of_several_processes_says_what_is_wrong_and_another_waits_for_it(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("nas.cli.main.time.sleep", waits.append)  # in which torchrun ends it, if the first has ended
    monkeypatch.setenv("RANK", "0")
    said = refusal("profile", "resnet21")
    assert waits == []
    monkeypatch.setenv("RANK", "1")
    assert refusal("profile", "resnet21") == said
    assert waits == [FIRST_SPEAKS_SECONDS]
