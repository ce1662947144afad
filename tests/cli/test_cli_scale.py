"""`nas scale` as a user meets it: what it prints, what it writes, and every way to get it wrong."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from helpers_cli import SMALL, nas_, output, process, refusal

from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.networks.scaling import METHODS, Scaling, fitted, phi_scaling, published, scaled
from nas.utils.text import format_count


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def printed(*arguments: object) -> Architecture:
    return Architecture.from_yaml(output("scale", *arguments, "--yaml"))


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        (("--phi", 1.5), phi_scaling(1.5)),
        (("--phi", -1), phi_scaling(-1)),
        (("--phi", 1, "--alpha", 1.5, "--beta", 1, "--gamma", 1.2), phi_scaling(1, 1.5, 1.0, 1.2)),
        (("--depth", 1.4, "--width", 1.2, "--resolution", 1.3), Scaling(1.4, 1.2, 1.3)),
        (("--width", 1.2, "--divisor", 1), Scaling(width=1.2, divisor=1)),
        (("--pixels", 301), Scaling(resolution=301 / 224)),
        (("--as", "b3"), published("b3")),
        (("--by", 3), METHODS["compound"].scaling(3)),
        (("--by", 3, "--how", "fast"), METHODS["fast"].scaling(3)),
    ],
)
def test_options_are_factors(options, scaling):
    network = printed("resnet50", *options)
    assert network == scaled(zoo.get("resnet50"), scaling)
    if "--pixels" in options:
        assert network.resolution == 301


@pytest.mark.parametrize("how", ["compound", "fast", "width"])
def test_targets_are_read_as_counts_and_met(how):
    network = printed("resnet50", "--target-macs", "2.5G", "--target-params", "1e9", "--how", how)
    assert network == fitted(zoo.get("resnet50"), METHODS[how], {"params": 10**9, "macs": 2_500_000_000})[1]
    assert 2_300_000_000 < cost_of(network).macs <= 2_500_000_000


def test_the_table_shows_both_networks_stage_by_stage():
    result = nas_("scale", "resnext50_32x4d", "--phi", 1)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    costs = cost_of(zoo.get("resnext50_32x4d")), cost_of(scaled(zoo.get("resnext50_32x4d"), phi_scaling(1)))
    for metric, noun in (("params", "params"), ("macs", "MACs"), ("activations", "activations")):
        before, after = (getattr(cost, metric) for cost in costs)
        assert f"{noun} {format_count(before)} {format_count(after)} {after / before:.3f}".split() in lines
    assert ["resolution", "224", "px", "258", "px", "1.152"] in lines
    assert ["stem", "64", "72"] in lines
    assert ["stage1", "3", "×", "256", "(32×4d)", "4", "×", "280", "(32×5d)"] in lines
    assert result.stderr == "--out FILE writes the config, --yaml prints it.\n"


def test_json_says_what_a_script_needs():
    data = json.loads(output("scale", "resnet50", "--target-params", "20M", "--json"))
    network = Architecture.from_dict(data["architecture"])
    assert data["after"]["digest"] == network.digest
    assert data["after"]["params"] == cost_of(network).params <= 20_000_000
    assert data["before"]["digest"] == zoo.get("resnet50").digest
    assert (data["before"]["params"], data["before"]["resolution"]) == (25_557_032, 224)
    assert data["target_shares"] == {"params": cost_of(network).params / 20_000_000}
    assert scaled(zoo.get("resnet50"), Scaling(**data["scaling"])) == network


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_the_file_is_a_config_that_other_commands_take(config, tmp_path, suffix):
    out = tmp_path / "new" / f"large.{suffix}"
    shown = output("scale", config, "--depth", 2, "--width", 1.5, "--out", out)
    assert shown.splitlines()[-1].endswith(f"large.{suffix}")
    assert Architecture.from_yaml(out) == scaled(Architecture.from_yaml(config), Scaling(2, 1.5))
    profile = json.loads(output("profile", out, "--json"))[0]
    assert profile["name"] == "small-d2-w1.5" and profile["params"] == cost_of(Architecture.from_yaml(out)).params
    again = json.loads(output("scale", out, "--depth", 2, "--json"))
    assert again["after"]["name"] == "small-d2-w1.5-d2"


def test_a_file_trains(config, tmp_path):
    out = tmp_path / "large.yaml"
    output("scale", config, "--depth", 2, "--out", out)
    folder = tmp_path / "trained"
    arguments = ("train", out, "--dataset", "digits", "--epochs", 1, "--batch-size", 256, "--device", "cpu")
    assert json.loads(output(*arguments, "--out", folder, "--json", "--quiet"))["cost"]


def test_another_file_is_overwritten_only_by_force(config, tmp_path):
    out = tmp_path / "large.yaml"
    output("scale", config, "--depth", 2, "--out", out)
    before = out.read_text()
    output("scale", config, "--depth", 2, "--out", out)
    assert "--force" in refusal("scale", config, "--depth", 3, "--out", out)
    assert out.read_text() == before
    output("scale", config, "--depth", 3, "--out", out, "--force")
    assert Architecture.from_yaml(out).stages[0].depth == 3


def test_remarks_go_to_standard_error(config):
    nothing = nas_("scale", config, "--width", 1.01)
    assert nothing.exit_code == 0 and "Nothing changes" in nothing.stderr
    short = nas_("scale", "resnet20", "--target-params", "80k", "--how", "depth")
    assert "% of the target of params" in short.stderr and "--divisor 1" in short.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "choose how to scale: --phi"),
        (("--phi", 1, "--by", 2), "--phi and --by: choose one"),
        (("--depth", 2, "--as", "b1"), "--depth/--width/--resolution/--pixels and --as: choose one"),
        (("--resolution", 2, "--pixels", 64), "--resolution and --pixels: choose one"),
        (("--phi", 1, "--yaml", "--json"), "--yaml and --json: choose one"),
        (("--phi", 1, "--how", "fast"), "--how goes with --by or a target, not with --phi"),
        (("--by", 2, "--how", "fast", "--alpha", 2), "--alpha, --beta and --gamma are those of compound scaling"),
        (("--width", 2, "--gamma", 2), "--alpha, --beta and --gamma are those of compound scaling"),
        (("--by", 2, "--how", "quick"), "'quick' is not one of"),
        (("--as", "b9"), "'b9' is not one of"),
        (("--width", "nan"), "width: a factor is from 1/64 to 64, not nan"),
        (("--depth", 0), "depth: a factor is from 1/64 to 64, not 0"),
        (("--phi", 1e6), "phi is from"),
        (("--by", -1), "finite number above 0"),
        (("--by", 1e300), "a factor is from 1/64 to 64"),
        (("--phi", 1, "--beta", 0.5), "beta must be from 1 to 64, not 0.5"),
        (("--target-macs", "few"), "'few' is not a count"),
        (("--target-macs", "0"), "a target of macs is at least 1"),
        (("--target-macs", "1"), "no scaling meets 1 macs: the smallest has"),
        (("--target-params", "1k", "--how", "resolution"), "the resolution does not change params"),
        (("--phi", 1, "--out", "large.txt"), "a config is a .yaml or a .json file"),
        (("--phi", 1, "--divisor", 0), "0 is not in the range"),
    ],
)
def test_wrong_options_are_refused_in_one_line(config, options, message):
    assert message in refusal("scale", config, *options)


def test_wrong_networks_and_places_are_refused(config, tmp_path):
    assert "did you mean 'resnet50'" in refusal("scale", "resnet500", "--phi", 1)
    assert "identity can't lead" in refusal("scale", broken(tmp_path), "--phi", 1)
    assert "is a file, not a folder" in refusal("scale", config, "--phi", 1, "--out", config / "large.yaml")
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert "a folder; name the file" in refusal("scale", config, "--phi", 1, "--out", folder)
    assert "from 1 to 1,024" in refusal("scale", "resnet1202", "--depth", 10)


def broken(folder):
    path = folder / "broken.yaml"
    path.write_text(
        SMALL.replace("{depth: 1, width: 4, branch: basic}", "{depth: 1, width: 8, branch: basic, shortcut: identity}")
    )
    return path


def test_yaml_is_printed_whatever_the_file_is(tmp_path):
    printed = output("scale", "resnet20", "--phi", 1, "--yaml", "--out", tmp_path / "large.json")
    assert printed == output("scale", "resnet20", "--phi", 1, "--yaml")
    written = Architecture.from_yaml(tmp_path / "large.json")
    assert written == Architecture.from_yaml(printed)
    assert (tmp_path / "large.json").read_text().startswith("{")


@pytest.mark.slow
def test_it_runs_as_a_process_too(config):
    done = process("scale", config, "--phi", 1, "--yaml")
    assert done.returncode == 0 and done.stderr == ""
    assert Architecture.from_yaml(done.stdout).name.startswith("small-d1.2")


PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
COMMANDS = (
    re.findall(r"^nas scale (.*?)(?: +#.*)?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) if PAGE.exists() else []
)


@pytest.mark.skipif(not PAGE.exists(), reason="the pages are not part of this distribution")
def test_commands_of_the_page_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        output("scale", *shlex.split(command))


@pytest.mark.skipif(not PAGE.exists(), reason="the pages are not part of this distribution")
def test_the_efficientnets_of_the_page_cost_what_it_says():
    rows = re.findall(r"^\| (b\d) \|.*\| ([\d,]+) \| ([\d,]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _, _ in rows] == [f"b{k}" for k in range(8)]
    for name, params, macs in rows:
        cost = cost_of(scaled(zoo.get("efficientnet_b0"), published(name)))
        assert (f"{cost.params:,}", f"{cost.macs:,}") == (params, macs)


def test_by_says_how_the_costs_of_resnet50_go():
    """The table of the page: four times the multiply-adds by each method."""
    text = (
        PAGE.read_text(encoding="utf-8")
        if PAGE.exists()
        else pytest.skip("the pages are not part of this distribution")
    )
    base = cost_of(zoo.get("resnet50"))
    for how, method in METHODS.items():
        scaling = method.scaling(4)
        cost = cost_of(scaled(zoo.get("resnet50"), scaling))
        factors = (scaling.depth, scaling.width, scaling.resolution)
        shares = (cost.params / base.params, cost.macs / base.macs, cost.activations / base.activations)
        assert f"| `{how}` | " + " | ".join(f"{x:.2f}" for x in (*factors, *shares)) + " |" in text
