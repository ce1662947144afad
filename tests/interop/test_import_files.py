"""TinyNAS structures, once-for-all subnets and Optuna studies as networks; files that are none of them, or hostile."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import optuna
import pytest
import torch
from helpers_cli import nas_, output, refusal
from helpers_subnets import SUBNETS, net
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from torch import nn

from nas.interop.importers import Inexpressible, Options, import_source
from nas.interop.importers.function import traced
from nas.interop.importers.ofa import BLOCKS, divisible, read_subnet
from nas.interop.importers.tinynas import read_structure
from nas.networks.build import build, cost_of
from nas.spaces.space import load_space

# -- TinyNAS -----------------------------------------------------------------------------------------------------------


def structure(*stages: tuple[int, int, int, int], stem: int = 16) -> list[dict]:
    """Blocks as TinyNAS writes them: a stem, then (L, btn, out, s) each."""
    blocks, width = [{"class": "ConvKXBNRELU", "in": 3, "k": 3, "out": stem, "s": 2}], stem
    for depth, inner, out, stride in stages:
        blocks.append(
            {"L": depth, "btn": inner, "class": "SuperResK1KXK1", "in": width, "k": 3, "out": out, "s": stride}
        )
        width = out
    return blocks


# Published by its authors (configs/classification): 10.8 M and 1.7 G, 21.3 M and 3.6 G, 53.5 M and 10.5 G. The exact numbers
# are those of their own code on the meta device.
R18 = structure((2, 64, 256, 2), (3, 88, 360, 2), (6, 128, 512, 2), (4, 176, 512, 2), (12, 176, 512, 1), stem=40)
R50 = structure((6, 64, 256, 2), (8, 88, 360, 2), (7, 176, 512, 2), (2, 360, 720, 2), (4, 256, 2896, 1))
R152 = structure((4, 88, 512, 2), (8, 176, 720, 2), (13, 256, 720, 2), (10, 360, 1024, 2), (12, 256, 1024, 1), stem=128)


@pytest.mark.parametrize(
    ("blocks", "params", "macs", "activations"),
    [
        (R18, 10_882_384, 1_680_404_480, 7_898_232),
        (R50, 21_371_592, 3_631_009_664, 15_111_424),
        (R152, 53_484_936, 10_425_194_624, 25_714_240),
    ],
)
def test_costs_are_those_of_tinynas_own_code(blocks, params, macs, activations, tmp_path):
    path = net(tmp_path / "best_structure.json", {"best_structures": [blocks], "space_arch": "CnnNet"})
    cost = cost_of(import_source(str(path)).networks[0].architecture)
    assert (cost.params, cost.macs, cost.activations) == (params, macs, activations)


def test_what_python_prints_is_read_too(tmp_path):
    path = net(tmp_path / "best.txt", repr({"best_structures": [R50], "space_arch": "CnnNet"}))
    (found,) = import_source(str(path)).networks
    assert found.architecture.name == "best" and cost_of(found.architecture).params == 21_371_592
    assert found.notes == ("a structure has no classes and no size of images: 1000 and 224 pixels",)


def test_the_first_bottleneck_projects_even_between_equal_shapes():
    found = read_structure(structure((3, 8, 16, 1)), "x", "x").architecture
    assert [(s.depth, s.shortcut.kind) for s in found.stages] == [(1, "projection_all"), (2, "identity")]


def test_depthwise_blocks_basic_blocks_and_a_last_1x1():
    blocks = structure((2, 8, 24, 2))
    blocks += [
        {"L": 2, "btn": 48, "class": "SuperResK1DWK1", "in": 24, "k": 3, "out": 40, "s": 2, "act": "swish"},
        {"L": 2, "btn": 40, "class": "SuperResKXKX", "in": 40, "k": 3, "out": 40, "s": 1},
        {"class": "ConvKXBNRELU", "in": 40, "k": 1, "out": 160, "s": 1},
    ]
    found = read_structure(blocks, "x", "x", Options(resolution=64)).architecture
    _, _, depthwise, basic = found.stages
    assert (
        depthwise.branch.to_dict() | {"cardinality": 48, "group_width": 1, "act": "silu"} == depthwise.branch.to_dict()
    )
    # The first has no way around, as its widths differ; the second has.
    assert (depthwise.shortcut.kind, basic.branch.kind, found.head.to_dict()["width"]) == ("matching", "basic", 160)


def test_all_that_is_not_ours_of_a_structure_is_listed():
    blocks = structure((1, 8, 24, 2), (2, 8, 24, 2))
    blocks[1] |= {"k": 5, "nbitsA": [8, 8, 8]}
    blocks[2] |= {"class": "SuperResK1DWSEK1"}
    blocks.append({"L": 2, "btn": 20, "class": "SuperResKXKX", "in": 23, "k": 3, "out": 24, "s": 2, "g": 2})
    with pytest.raises(Inexpressible) as error:
        read_structure(blocks, "net", "net")
    places = [reason.split(":")[0] for reason in error.value.reasons]
    assert places == ["block 2", "block 2", "block 3", "block 4.in is 23, after 24 channels", "block 4", "block 4"]
    assert "nbitsA (quantised)" in str(error.value) and "SuperResK1DWSEK1" in str(error.value)


def test_an_odd_size_before_a_mean_is_refused():
    with pytest.raises(Inexpressible, match="needs an even size; of 33 pixels it drops the last"):
        read_structure(structure((1, 8, 24, 2)), "net", "net", Options(resolution=66))
    with pytest.raises(Inexpressible, match="a mean of 2x2 without a convolution"):
        blocks = structure((1, 8, 16, 2))
        blocks[1]["class"] = "SuperResK1DWK1"
        read_structure(blocks, "net", "net")


def test_several_structures_are_a_population(tmp_path):
    quantised = structure((1, 8, 24, 2))
    quantised[1]["nbitsA"] = [8, 8, 8]
    path = net(tmp_path / "best.json", {"best_structures": [R50, quantised, R18], "space_arch": "CnnNet"})
    data = json.loads(output("import", path, "--json"))
    assert [entry["name"] for entry in data["networks"]] == ["best-1", "best-3"]
    assert data["refused"] == [{"name": "best-2", "reason": "block 2: nbitsA (quantised)"}]


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (Options(), ("a structure has no classes and no size of images: 1000 and 224 pixels",)),
        (Options(classes=7), ("a structure has no size of images: 224 pixels",)),
        (Options(resolution=64), ("a structure has no classes: 1000",)),
        (Options(classes=7, resolution=64), ()),
    ],
)
def test_only_what_was_not_said_is_noted_of_a_structure(options, notes, tmp_path):
    (found,) = import_source(str(net(tmp_path / "best.json", structure((1, 8, 24, 2)))), options=options).networks
    assert found.notes == notes
    assert found.architecture.head.classes == (options.classes or 1000)


# -- once-for-all ------------------------------------------------------------------------------------------------------


class Reference(nn.Module):
    """A subnet of once-for-all's ResNet-50, written down from its description: what ours is held against."""

    def __init__(self, depths: list[int], ratios: list[float], widths: list[int]) -> None:
        super().__init__()
        share = (0.65, 0.8, 1.0)
        full, inner = divisible(64 * share[widths[1]]), divisible(divisible(64 * share[widths[0]]) // 2)
        self.one = self.conv(3, inner, 3, 2)
        self.two = self.conv(inner, inner, 3) if depths[0] == 2 else None
        self.three, self.blocks = self.conv(inner, full, 3), nn.ModuleList()
        width_in, at = full, 0
        for k, (least, base) in enumerate(zip((2, 2, 4, 2), (256, 512, 1024, 2048), strict=True)):
            width = divisible(base * share[widths[k + 2]])
            for number in range(least + depths[k + 1]):
                stride, mid = 2 if k and not number else 1, divisible(round(width * ratios[at + number]))
                branch = [self.conv(width_in, mid, 1), self.conv(mid, mid, 3, stride), self.conv(mid, width, 1)[:2]]
                self.blocks.append(nn.ModuleList(branch))
                if not number:
                    pool = nn.AvgPool2d(stride, stride, ceil_mode=True)
                    self.blocks[-1].append(nn.Sequential(pool, *self.conv(width_in, width, 1)[:2]))
                width_in = width
            at += least + 2
        self.linear = nn.Linear(width_in, 1000)

    @staticmethod
    def conv(width_in: int, width: int, size: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(width_in, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(self, x):
        x = self.one(x)
        x = self.three(x if self.two is None else x + self.two(x))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for one, two, three, *path in self.blocks:
            x = torch.relu(three(two(one(x))) + (path[0](x) if path else x))
        return self.linear(x.mean((2, 3)))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("subnet", SUBNETS)
def test_a_subnet_has_the_costs_and_the_logits_of_its_description(subnet):
    torch.manual_seed(0)
    other = Reference(*(subnet[key] for key in "dew")).eval()
    found = read_subnet(subnet, "net", "net", 65).architecture
    ours = build(found).eval()
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    pairs = zip(*([m for m in one.modules() if isinstance(m, kinds)] for one in (ours, other)), strict=True)
    for own, their in pairs:
        own.load_state_dict(their.state_dict())
    x = torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        expected, got = other(x), ours(x)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5
    assert traced(other.to("meta"), 65).cost == cost_of(found)


def test_blocks_that_differ_within_a_stage_are_stages():
    found = read_subnet(SUBNETS[0], "net", "net").architecture
    assert [(s.depth, s.width, s.stride) for s in found.stages[:5]] == [*[(1, 256, 1)] * 4, (1, 408, 2)]
    assert len(read_subnet(SUBNETS[2], "net", "net").architecture.stages) == 4


def test_one_number_stands_for_all_and_the_size_is_read(tmp_path):
    path = net(tmp_path / "subnet.json", {"d": 1, "e": 0.25, "w": 2, "r": [192]})
    (found,) = import_source(str(path)).networks
    assert (found.architecture.resolution, found.notes) == (192, ())
    assert [stage.depth for stage in found.architecture.stages] == [3, 3, 5, 3]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"d": [2, 2], "w": [0, 1, 2, 1, 0, 3]}, ["d has 2 entries", "w must be a whole number from 0 to 2, not 3"]),
        ({"e": ["wide"] * BLOCKS}, ["e must be a number from 0.01 to 1, not 'wide'"]),
        ({"e": float("nan")}, ["e must be a number from 0.01 to 1, not nan"]),
        ({"d": {"1": 2}, "ks": 3, "k": 5}, ["d must be a whole number", "unknown keys k"]),
        ({"r": 10**9}, ["r must be a whole number from 1 to 16,384"]),
    ],
)
def test_what_is_no_subnet_is_said(changes, reasons):
    with pytest.raises(Inexpressible) as error:
        read_subnet({**SUBNETS[0], **changes}, "net", "net")
    assert all(reason in str(error.value) for reason in reasons)


# -- Optuna ------------------------------------------------------------------------------------------------------------


def fill(storage: object, name: str = "mine") -> optuna.Study:
    """Three trials that are choices of the space `resnet` and a learning rate, one that isn't, one that failed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
    study.set_metric_names(["accuracy", "params"])
    space = load_space("resnet", resolution=32)
    for seed in range(3):
        choices = space.sample(seed)
        distributions = {
            **{key: optuna.distributions.CategoricalDistribution(space.knobs[key].values) for key in choices},
            "lr": optuna.distributions.FloatDistribution(1e-4, 1),
        }
        params = {**choices, "lr": 0.1}
        values = [0.5 + seed / 10, float(space.cost(choices).params)]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, values=values))
    other = {"depth": optuna.distributions.IntDistribution(1, 9)}
    study.add_trial(optuna.trial.create_trial(params={"depth": 3}, distributions=other, values=[0.9, 1.0]))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    return study


@pytest.fixture
def journal(tmp_path) -> Path:
    path = tmp_path / "mine.journal"
    fill(JournalStorage(JournalFileBackend(str(path))))
    return path


@pytest.mark.parametrize("kind", ["journal", "optuna:journal", "sqlite file", "sqlite URL"])
def test_a_study_becomes_configs_and_a_table(kind, tmp_path):
    path = tmp_path / ("mine.db" if "sqlite" in kind else "mine.journal")
    url = f"sqlite:///{path}"
    fill(url if "sqlite" in kind else JournalStorage(JournalFileBackend(str(path))))
    before = path.read_bytes()
    source = {"optuna:journal": f"optuna:{path}#mine", "sqlite URL": f"optuna:{url}#mine"}.get(kind, str(path))
    result = nas_("import", source, "--space", "resnet", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "1 of 4 entries are left out" in result.stderr and "mine-trial3: choices:" in result.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "index.csv").open()))
    space = load_space("resnet", resolution=32)
    assert [row["digest"] for row in rows] == [space.architecture(space.sample(seed)).digest for seed in range(3)]
    assert [float(row["accuracy"]) for row in rows] == [0.5, 0.6, 0.7] and rows[0]["file"] == "mine-trial0.yaml"
    assert path.read_bytes() == before, "a study is read, not written"
    assert "lr: 0.1" in (tmp_path / "out" / "mine-trial0.yaml").read_text()


def test_a_network_of_a_study_is_a_baseline_of_a_search(journal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output("import", journal, "--space", "resnet", "--out", tmp_path / "warm")
    from nas.searching.preparation import _baseline

    class Data:
        classes, resolution, channels = tuple("0123456789"), 8, 1

    label, network = _baseline(str(tmp_path / "warm" / "mine-trial1.yaml"), Data)
    assert (label, network.resolution, network.channels) == ("mine-trial1", 8, 1)


def test_what_a_study_calls_as_we_do_stands_beside_our_exact_costs(tmp_path):
    """Its params may be in millions, and its file is not the config's."""
    space, path = load_space("resnet", resolution=32), tmp_path / "mine.journal"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))), study_name="mine", directions=["maximize"] * 4
    )
    study.set_metric_names(["=error", "params", "file", "name"])
    choices = space.sample(0)
    distributions = {key: optuna.distributions.CategoricalDistribution(space.knobs[key].values) for key in choices}
    study.add_trial(
        optuna.trial.create_trial(params=choices, distributions=distributions, values=[0.5, 0.27, 7.0, 8.0])
    )
    params = space.cost(choices).params
    output("import", path, "--space", "resnet", "--out", tmp_path / "out")
    (row,) = csv.DictReader((tmp_path / "out" / "index.csv").open())
    assert (row["file"], row["name"], row["params"]) == ("mine-trial0.yaml", "mine-trial0", str(params))
    assert [row[f"measured_{key}"] for key in ("params", "file", "name")] == ["0.27", "7.0", "8.0"]
    assert row["'=error"] == "0.5", "a spreadsheet would compute it"
    (entry,) = json.loads(output("import", path, "--space", "resnet", "--json"))["networks"]
    assert (entry["name"], entry["params"], entry["measured_params"]) == ("mine-trial0", params, 0.27)
    assert f"{params / 1e6:.3f} M" in output("import", path, "--space", "resnet")


def test_which_study_is_asked_for_where_there_are_several(journal):
    fill(JournalStorage(JournalFileBackend(str(journal))), "second")
    assert "which study? add its name as #STUDY; there are: mine, second" in refusal(
        "import", journal, "--space", "resnet"
    )
    assert "did you mean 'second'" in refusal("import", f"{journal}#secnd", "--space", "resnet")
    assert len(import_source(f"{journal}#second", options=Options(space="resnet")).networks) == 3


def test_what_is_wrong_with_a_study_is_one_line(journal, tmp_path):
    assert "--space says which space" in refusal("import", journal)
    said = refusal("import", journal, "--space", "mbconv")
    assert "none of its 4 complete trials is a choice of space 'mbconv'" in said
    assert said.endswith("Choices are taken for images of 32 pixels; --resolution says otherwise")
    assert "--resolution" not in refusal("import", journal, "--space", "mbconv", "--resolution", 32)
    (tmp_path / "empty.journal").write_bytes(b"")
    said = refusal("import", tmp_path / "empty.journal", "--from", "optuna", "--space", "resnext")
    assert said.endswith("empty.journal: holds no Optuna study")
    empty = tmp_path / "other.db"
    with sqlite3.connect(empty) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    before = empty.read_bytes()
    assert "holds no Optuna study" in refusal("import", empty, "--space", "resnet")
    assert empty.read_bytes() == before
    assert "unpickling" in refusal("import", "optuna:redis://localhost#x", "--space", "resnet")
    assert "there is no such database" in refusal("import", f"optuna:sqlite:///{tmp_path}/none.db", "--space", "resnet")
    assert not (tmp_path / "none.db").exists()
    broken = net(tmp_path / "broken.journal", '{"op_code": 0, "worker_id": "a"}\n{"op_code": 99, "study_id": []}\n')
    assert "broken.journal" in refusal(
        "import", broken, "--space", "resnet", code=nas_("import", broken, "--space", "resnet").exit_code
    )
