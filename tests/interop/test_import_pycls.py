"""pycls: its shipped configs have its published costs here, sweeps become populations, and what we write it reads back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from helpers_cli import nas_, output, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures
from torch import nn

from nas.errors import UsageError
from nas.interop.export.pycls import to_pycls
from nas.interop.importers import Inexpressible, import_source
from nas.interop.importers.pycls import read_config, regnet_stages
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.networks.regnet_design import quantised_linear
from nas.utils.yaml_text import parse_yaml

# What every config of pycls' model zoo says beside its network.
TRAINING = """
OPTIM: {LR_POLICY: cos, BASE_LR: 0.8, MAX_EPOCH: 100, MOMENTUM: 0.9, WEIGHT_DECAY: 5e-5, WARMUP_EPOCHS: 5}
TRAIN: {DATASET: %s, IM_SIZE: %d, BATCH_SIZE: 1024}
TEST: {DATASET: %s, IM_SIZE: 256, BATCH_SIZE: 800}
NUM_GPUS: 8
OUT_DIR: .
"""
IMAGENET = "STEM_TYPE: res_stem_in, STEM_W: 64, STRIDES: [1, 2, 2, 2], WIDTHS: [256, 512, 1024, 2048]"
BOTTLENECK = f"{IMAGENET}, BLOCK_TYPE: res_bottleneck_block"
CIFAR = "STEM_TYPE: res_stem_cifar, STEM_W: 16, DEPTHS: [9, 9, 9], WIDTHS: [16, 32, 64], STRIDES: [1, 2, 2]"
EFFNET = "STRIDES: [1, 2, 2, 2, 1, 2, 1], EXP_RATIOS: [1, 6, 6, 6, 6, 6, 6], KERNELS: [3, 3, 5, 3, 5, 5, 3]"

# Name -> model, images, and what pycls counts: params, flops, acts (its dev/model_complexity.json).
PUBLISHED = {
    "RegNetX-200MF": ("REGNET: {DEPTH: 13, W0: 24, WA: 36.44, WM: 2.49, GROUP_W: 8}", 224, 2684792, 199040872, 2164056),
    "RegNetX-400MF": (
        "REGNET: {DEPTH: 22, W0: 24, WA: 24.48, WM: 2.54, GROUP_W: 16}",
        224,
        5157512,
        397678568,
        3143272,
    ),
    "RegNetX-1.6GF": (
        "REGNET: {DEPTH: 18, W0: 80, WA: 34.01, WM: 2.25, GROUP_W: 24}",
        224,
        9190136,
        1602850792,
        7933512,
    ),
    "RegNetX-12GF": (
        "REGNET: {DEPTH: 19, W0: 168, WA: 73.36, WM: 2.37, GROUP_W: 112}",
        *(224, 46106056, 12086679016, 21366568),
    ),
    "RegNetY-400MF": (
        "REGNET: {SE_ON: True, DEPTH: 16, W0: 48, WA: 27.89, WM: 2.09, GROUP_W: 8}",
        *(224, 4344144, 401849056, 3892496),
    ),
    "RegNetY-8.0GF": (
        "REGNET: {SE_ON: true, DEPTH: 17, W0: 192, WA: 76.82, WM: 2.19, GROUP_W: 56}",
        *(224, 39180068, 7963074196, 17968916),
    ),
    "R-50": (
        f"ANYNET: {{{BOTTLENECK}, DEPTHS: [3, 4, 6, 3], BOT_MULS: {4 * [0.25]}, GROUP_WS: [64, 128, 256, 512]}}",
        *(224, 25557032, 4089185256, 11315688),
    ),
    "X-152-32x4d": (
        f"ANYNET: {{{BOTTLENECK}, DEPTHS: [3, 8, 36, 3], BOT_MULS: {4 * [0.5]}, GROUP_WS: [4, 8, 16, 32]}}",
        *(224, 59951400, 11709514728, 29855720),
    ),
    "R-56": (f"ANYNET: {{BLOCK_TYPE: res_basic_block, {CIFAR}}}", 32, 855770, 125747850, 544778),
    "V-56": (f"ANYNET: {{BLOCK_TYPE: vanilla_block, {CIFAR}}}", 32, 853018, 125485706, 532490),
    "EN-B0": (
        f"EN: {{STEM_W: 32, {EFFNET}, DEPTHS: [1, 2, 2, 3, 3, 4, 1], WIDTHS: [16, 24, 40, 80, 112, 192, 320]}}",
        *(224, 5288548, 385825092, 6748036),
    ),
    "EN-B3": (
        f"EN: {{STEM_W: 40, {EFFNET}, DEPTHS: [2, 3, 3, 5, 5, 6, 2], WIDTHS: [24, 32, 48, 96, 136, 232, 384], HEAD_W: 1536}}",
        *(300, 12233232, 1827162472, 23831296),
    ),
    "R-56 by depth": ("MODEL: {DEPTH: 56}\nRESNET: {TRANS_FUN: basic_transform}", 32, 855770, 125747850, 544778),
    "X-50 by depth": (
        "MODEL: {DEPTH: 50}\nRESNET: {TRANS_FUN: bottleneck_transform, NUM_GROUPS: 32, WIDTH_PER_GROUP: 4, STRIDE_1X1: False}",
        *(224, 25028904, 4230480872, 14602216),
    ),
}


def config(name: str) -> dict:
    """One of pycls' configs as plain data."""
    model, pixels, *_ = PUBLISHED[name]
    data = yaml.safe_load(model)
    kinds = {"REGNET": "regnet", "ANYNET": "anynet", "EN": "effnet", "RESNET": "resnet"}
    kind = next(kinds[key] for key in data if key in kinds)
    images = "imagenet" if pixels > 32 else "cifar10"
    own = {"TYPE": kind, "NUM_CLASSES": 1000 if pixels > 32 else 10, **data.get("MODEL", {})}
    if kind == "effnet":
        own["ACTIVATION_FUN"] = "silu"
    return {**yaml.safe_load(TRAINING % (images, pixels, images)), **data, "MODEL": own}


def architecture(name: str) -> Architecture:
    return read_config(config(name), name).architecture


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_are_what_pycls_publishes(name, tmp_path):
    _, pixels, params, flops, acts = PUBLISHED[name]
    path = tmp_path / "net.yaml"
    path.write_text(yaml.dump(config(name)))
    (found,) = import_source(str(path)).networks
    cost = cost_of(found.architecture)
    assert (cost.params, found.architecture.resolution, found.architecture.name) == (params, pixels, "net")
    # Each counts what the other leaves out: biases there, and the output of the maximum in the stem.
    assert flops - cost.macs == biases(found.architecture)
    pooled = 64 * (pixels // 4) ** 2 if found.architecture.stem.kind == "imagenet" else 0
    assert acts - cost.activations == pooled


def biases(network: Architecture) -> int:
    """Biases of linear layers and squeeze-excitations; these see one pixel each."""
    import torch

    with torch.device("meta"):
        modules = list(build(network).modules())
    return sum(m.bias.numel() for m in modules if isinstance(m, (nn.Linear, nn.Conv2d)) and m.bias is not None)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("R-50", "resnet50"),
        ("X-50 by depth", "resnext50_32x4d"),
        ("V-56", "plain56"),
        ("RegNetY-400MF", "regnet_y_400mf"),
    ],
)
def test_networks_that_the_zoo_has_too_are_the_same(name, ours):
    assert architecture(name).digest == zoo.get(ours).digest


def test_stride_in_the_first_1x1_is_its_resnets_default():
    data = config("X-50 by depth")
    data["RESNET"] = {"TRANS_FUN": "bottleneck_transform"}
    assert read_config(data, "x").architecture.digest == zoo.get("resnet50_v1").digest


@given(
    depth=st.integers(1, 40),
    w0=st.integers(1, 40).map(lambda n: 8 * n),
    wa=st.floats(0, 200),
    wm=st.floats(1.1, 4),
    group=st.sampled_from([1, 8, 16, 24, 56, 112]),
)
def test_regnet_widths_are_ours_but_for_the_last_rounding(depth, w0, wa, wm, group):
    theirs, ours = regnet_stages(depth, w0, wa, wm, group), quantised_linear(depth, w0, wa, wm, group)
    assert [stage.depth for stage in theirs] == [stage.depth for stage in ours]
    for their, own in zip(theirs, ours, strict=True):
        assert their.width % their.group_width == 0 and their.group_width == own.group_width
        assert abs(their.width - own.width) in (0, own.group_width)


def test_a_bottleneck_ratio_widens_the_inside():
    data = config("RegNetX-400MF")
    data["REGNET"] |= {"BOT_MUL": 0.5, "HEAD_W": 640}
    found = read_config(data, "x").architecture
    assert (found.head.kind, found.head.to_dict()["width"]) == ("expanded", 640)
    for stage in found.stages:
        branch = stage.branch.to_dict()
        assert 2 * branch["cardinality"] * branch["group_width"] == stage.width
    with pytest.raises(UsageError, match=r"BOT_MUL must be a whole number where it is above 1, not 1.5"):
        regnet_stages(10, 32, 5.0, 2.5, 16, 1.5)


def test_everything_that_is_in_the_way_is_listed():
    data = config("EN-B0")
    data["MODEL"]["ACTIVATION_FUN"] = "mish"
    data["EN"] |= {"EXP_RATIOS": [1, 6, 4.5, 6, 6, 6, 6], "KERNELS": [3, 9, 5, 3, 5, 5, 3]}
    with pytest.raises(Inexpressible) as error:
        read_config(data, "net")
    assert error.value.reasons == (
        "MODEL.ACTIVATION_FUN 'mish' is none of relu, silu, swish, gelu",
        "stage 2: KERNELS 9 is none of 3, 5, 7",
        "stage 3: EXP_RATIOS 4.5 is no whole number",
    )


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("R-50", {"MODEL": {"TYPE": "vit"}}, "MODEL.TYPE 'vit' is no residual network of ours"),
        ("R-50", {"MODEL": {"TYPE": 7}}, "MODEL.TYPE must be a word, not 7"),
        ("R-50", {"ANYNET": {"BLOCK_TYPE": "res_bottleneck_linear_block"}}, "no activation after the sum"),
        ("R-50", {"ANYNET": {"DEPTHS": [3, 4]}}, "the other lists need one value a stage each"),
        ("R-50", {"ANYNET": {"DEPTHS": 3}}, "ANYNET.DEPTHS must be a list, not 3"),
        ("R-50", {"ANYNET": {"DEPTHS": [3, 4, 10**9, 3]}}, "from 1 to 1,024, not 1000000000"),
        ("R-50", {"ANYNET": {"GROUP_WS": [20, 128, 256, 512]}}, "64 inner channels"),
        ("R-50", {"ANYNET": {"SE_ON": True, "SE_R": 0.0001}}, "leaves a block without squeeze-excitation"),
        ("R-50", {"ANYNET": {"STEM_TYPE": "patchify"}}, "ANYNET.STEM_TYPE 'patchify' is none of"),
        ("R-50", {"TRAIN": {"IM_SIZE": "large"}}, "TRAIN.IM_SIZE must be a whole number"),
        ("R-50", {"TRAIN": ["IM_SIZE"]}, "TRAIN must be a mapping, not a list"),
        ("R-50", {"BN": {"EPS": float("nan")}}, "BN.EPS must be a number from 0 to 1, not nan"),
        ("RegNetX-400MF", {"REGNET": {"WM": 1.0}}, "wm must be above 1"),
        ("RegNetX-400MF", {"REGNET": {"W0": 25}}, "w0 must be a multiple of 8"),
        ("RegNetX-400MF", {"REGNET": {"WA": float("inf")}}, "REGNET.WA must be a number"),
        ("RegNetX-400MF", {"REGNET": {"DEPTH": True}}, "REGNET.DEPTH must be a whole number"),
        ("RegNetX-400MF", {"REGNET": {"WA": 1e6, "WM": 1.001, "DEPTH": 1000}}, "gives 1000 stages, of at most 64"),
        ("R-56 by depth", {"MODEL": {"DEPTH": 57}}, "MODEL.DEPTH 57 is not 6n + 2"),
        (
            "R-56 by depth",
            {"RESNET": {"TRANS_FUN": "bottleneck_transform"}},
            "can't be built on TRAIN.DATASET 'cifar10'",
        ),
        ("X-50 by depth", {"MODEL": {"DEPTH": 34}}, "34 is none of 50, 101, 152"),
        ("EN-B0", {"EN": {"SE_R": 0}}, "leaves a squeeze-excitation without channels"),
    ],
)
def test_what_is_wrong_or_not_ours_is_said(name, changes, reason):
    data = config(name)
    for section, values in changes.items():
        data[section] = {**data.get(section, {}), **values} if isinstance(values, dict) else values
    with pytest.raises(Inexpressible) as error:
        read_config(data, "net")
    assert reason in str(error.value)


def test_what_concerns_training_alone_is_noted():
    data = config("EN-B0")
    data["EN"] |= {"DC_RATIO": 0.2, "DROPOUT_RATIO": 0.3}
    data["BN"] = {"MOM": 0.01, "ZERO_INIT_FINAL_GAMMA": True, "EPS": 0.001}
    found = read_config(data, "net")
    assert [note.split()[0] for note in found.notes] == ["BN.MOM", "BN.ZERO_INIT_FINAL_GAMMA", "EN.DC_RATIO"]
    assert found.architecture.head.to_dict()["dropout"] == 0.3 and found.architecture.norm_eps == 0.001


# -- back to pycls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_comes_from_pycls_goes_back(name):
    network = architecture(name)
    assert read_config(parse_yaml(to_pycls(network), name), name).architecture.digest == network.digest


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet152_v1", "wide_resnet50_2", "resnext29_8x64d", "plain20", "regnet_y_1_6gf"]
)
def test_networks_of_the_zoo_come_back_from_pycls(name):
    network = zoo.get(name)
    assert read_config(parse_yaml(to_pycls(network), name), name).architecture.digest == network.digest


def test_stochastic_depth_is_left_out_and_said():
    text = to_pycls(zoo.get("efficientnet_b5"))
    back = read_config(parse_yaml(text, "b5"), "b5").architecture
    assert "# Not part of the model: stochastic depth" in text
    assert cost_of(back) == cost_of(zoo.get("efficientnet_b5"))
    assert (back.norm_eps, back.head) == (0.001, zoo.get("efficientnet_b5").head)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        (
            "resnet50d",
            "the deep stem; stage 2: avg_pool shortcut; stage 3: avg_pool shortcut; stage 4: avg_pool shortcut",
        ),
        ("seresnet50", "stage 1: bottleneck with se_ratio 0.0625"),
        ("wrn_28_10", "stage 1: basic with order pre"),
        ("highway110", "stage 1: highway merge"),
        ("res2net50_26w_4s", "res2net blocks"),
        ("convnext_tiny", "the patch stem; convnext blocks"),
        ("efficientnet_v2_s", "stages of different blocks (fused_mbconv, mbconv)"),
        ("mobilenet_v2", "activation relu6"),
        ("resnet20", "stage 2: zero_pad shortcut"),
    ],
)
def test_what_pycls_cant_express_is_listed(name, reasons):
    with pytest.raises(UsageError, match="not expressible as pycls because ") as error:
        to_pycls(zoo.get(name))
    assert reasons in str(error.value)


@settings(max_examples=150)
@given(architectures())
def test_any_network_comes_back_equal_or_is_refused(network):
    try:
        text = to_pycls(network)
    except UsageError as error:
        assert "not expressible as pycls because " in str(error)
        return
    back = read_config(parse_yaml(text, "back"), "back").architecture
    assert cost_of(back) == cost_of(network)
    if "# Beside" not in text:
        assert back.digest == network.digest


# -- sweeps ------------------------------------------------------------------------------------------------------------


def job(name: str, error: float, *, epochs: int = 50, number: int = 1) -> dict:
    """What tools/sweep_collect.py writes of one trained config."""
    _, _, params, flops, acts = PUBLISHED[name]
    by_epoch = {
        "epoch": [f"{k}/{epochs}" for k in (1, epochs)],
        "epoch_ind": [1, epochs],
        "epoch_max": [epochs, epochs],
        "mem": [512, 512],
        "time_avg": [0.0312, 0.0308],
    }
    errors = {"top1_err": [60.0, error + 0.25], "min_top1_err": [60.0, error + 0.25]}
    average = {"top1_err": [90.0, error], "min_top1_err": [90.0, error]}
    folder = f"/checkpoints/sweeps/cifar/logs/{number:05d}"
    return {
        "cfg": config(name),
        "complexity": {"params": params, "flops": flops, "acts": acts},
        "test_epoch": {**by_epoch, **errors},
        "test_ema_epoch": {**by_epoch, **average},
        "train_epoch": {**by_epoch, "loss": [2.5, float("nan")], "top1_err": [70.0, 1.5]},
        "log_file": f"{folder}/stdout.log",
        "err_file": f"{folder}/stderr.log",
        "err": "",
    }


@pytest.fixture
def sweep(tmp_path) -> Path:
    unfinished = {key: value for key, value in job("R-56", 0, number=3).items() if not key.startswith("test")}
    other = job("R-56", 9.5, number=4)
    other["cfg"]["MODEL"]["TYPE"] = "vit"
    wrong = job("V-56", 8.0, number=5)
    wrong["complexity"]["params"] += 1
    jobs = [job("R-56", 6.5, number=1), job("V-56", 7.25, number=2), unfinished, other, wrong, {"log_file": 3}]
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(jobs, sort_keys=True))
    return path


def test_a_sweep_becomes_configs_and_a_table(sweep, tmp_path):
    out = tmp_path / "population"
    result = nas_("import", sweep, "--out", out)
    assert result.exit_code == 0
    assert [Path(line).name for line in result.stdout.splitlines()] == ["00001.yaml", "00002.yaml"]
    assert "4 of 6 entries are left out" in result.stderr
    rows = list(csv.DictReader((out / "index.csv").open()))
    assert [(row["file"], row["params"], row["error"], row["error_without_ema"]) for row in rows] == [
        ("00001.yaml", "855770", "6.5", "6.75"),
        ("00002.yaml", "853018", "7.25", "7.5"),
    ]
    assert {row["pycls_flops"] for row in rows} == {"125747850", "125485706"} and rows[0]["epochs"] == "50"
    found = Architecture.from_yaml(out / "00002.yaml")
    assert found.digest == rows[1]["digest"] == zoo.get("plain56").digest
    assert yaml.safe_load((out / "00001.yaml").read_text())["provenance"]["imported"]["error"] == 6.5


def test_jobs_of_equal_names_have_a_file_each(tmp_path):
    jobs = [job("R-56", error, number=1) for error in (1.0, 2.0, 3.0, 4.0)]
    for own, name in zip(jobs, ("a", "a", "a-2", "=1+1"), strict=True):
        own["log_file"] = f"/logs/{name}/stdout.log"
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(jobs))
    files = [Path(line).name for line in output("import", path, "--out", tmp_path / "out").splitlines()]
    assert files == ["a.yaml", "a-2.yaml", "a-2-2.yaml", "1-1.yaml"]
    rows = list(csv.DictReader((tmp_path / "out" / "index.csv").open()))
    assert [(row["file"], row["error"]) for row in rows] == list(zip(files, ["1.0", "2.0", "3.0", "4.0"], strict=True))
    errors = [
        yaml.safe_load((tmp_path / "out" / file).read_text())["provenance"]["imported"]["error"] for file in files
    ]
    assert errors == [1.0, 2.0, 3.0, 4.0]
    assert rows[3]["name"] == "'=1+1", "a spreadsheet would compute it"


def test_a_sweep_says_why_jobs_are_left_out(sweep):
    refused = {entry["name"]: entry["reason"] for entry in json.loads(output("import", sweep, "--json"))["refused"]}
    assert refused["00003"] == "no test error: the job has not finished an epoch"
    assert "MODEL.TYPE 'vit'" in refused["00004"]
    assert refused["00005"] == "complexity.params is 853,019, but its cfg has 853,018"
    assert refused["job00006"] == "it has no cfg"


def test_a_sweep_without_networks_is_an_error(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps([{"log_file": "logs/a/stdout.log"}]))
    assert "none of its 1 jobs gives a network; a: it has no cfg" in refusal("import", path)


def test_what_is_wrong_with_a_part_names_the_file(tmp_path):
    """Each of its numbers may be, and their product can't."""
    wide = {"TRANS_FUN": "bottleneck_transform", "NUM_GROUPS": 1_000_000, "WIDTH_PER_GROUP": 1_000_000}
    path = tmp_path / "wide.yaml"
    path.write_text(yaml.safe_dump({"MODEL": {"TYPE": "resnet", "DEPTH": 50}, "RESNET": wide}))
    assert f"{path}: can't be imported: bottleneck: group_width must be" in refusal("import", path)
