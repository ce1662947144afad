"""torchvision and timm build our networks from what is exported, with our weights; what they can't build is refused with the reason."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace

import pytest
import timm
import torch
from helpers_export import (
    assert_same_layers,
    far,
    few_classes,
    images_for,
    lively,
    logits_of,
    small_designs,
    subject_of,
    without_package,
)
from safetensors.torch import load_file

from nas.interop.export import EXPORTERS, NotExpressible, Subject
from nas.interop.export.twins import held
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of

pytestmark = pytest.mark.usefixtures("one_thread")

TORCHVISION = [
    *("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "efficientnet_b0", "efficientnet_b1"),
    *("mobilenet_v2", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "efficientnet_v2_s"),
]
TIMM = [
    "resnet18",
    "resnet50",
    "resnet18d",
    "seresnext50_32x4d",
    "res2net50_26w_4s",
    "efficientnet_b0",
    "convnext_tiny",
]
QUICK = {"resnet18", "efficientnet_b0", "resnet18d", "mobilenet_v2"}
names = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TORCHVISION]
timm_names = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TIMM]

# Designs that are nowhere published: a ResNeXt of odd depths, and one of other widths.
OWN = """
resolution: 64
stem: imagenet
stages:
- {depth: 1, width: 256, branch: {kind: bottleneck, cardinality: 8, group_width: 5}}
- {depth: 2, width: 512, stride: 2, branch: {kind: bottleneck, cardinality: 8, group_width: 10}}
- {depth: 1, width: 1024, stride: 2, branch: {kind: bottleneck, cardinality: 8, group_width: 20}}
- {depth: 1, width: 2048, stride: 2, branch: {kind: bottleneck, cardinality: 8, group_width: 40}}
head: {kind: linear, classes: 6}
"""
NARROW = """
channels: 1
resolution: 64
stem: {kind: deep, width: 16, act: silu}
stages:
- {depth: 1, width: 12, branch: {kind: basic, act: silu}, shortcut: avg_pool}
- {depth: 2, width: 20, stride: 2, branch: {kind: basic, act: silu}, shortcut: avg_pool}
- {depth: 1, width: 28, stride: 2, branch: {kind: basic, act: silu}, shortcut: avg_pool}
- {depth: 1, width: 36, stride: 2, branch: {kind: basic, act: silu}, shortcut: avg_pool}
head: {kind: linear, classes: 6}
"""


def by_torchvision(subject: Subject, folder) -> torch.nn.Module:
    path = folder / "x_torchvision.py"
    EXPORTERS["torchvision"].write(subject, path)
    return runpy.run_path(str(path))["load"]()


def by_timm(subject: Subject, folder) -> torch.nn.Module:
    EXPORTERS["timm"].write(subject, folder / "x")
    return timm.create_model(f"local-dir:{folder / 'x'}", pretrained=True).eval()


def check(subject: Subject, theirs: torch.nn.Module) -> None:
    images = images_for(subject.architecture, pixels=64)
    assert_same_layers(theirs, subject.architecture)
    with torch.inference_mode():
        assert far(theirs(images), logits_of(subject, images)) < 1e-5
        assert far(theirs.double()(images.double()), subject.network().double()(images.double())) < 1e-9
    assert sum(tensor.numel() for tensor in theirs.parameters()) == cost_of(subject.architecture).params


@pytest.mark.parametrize("name", names)
def test_torchvision_builds_published_networks_with_our_weights_and_classes(name, tmp_path):
    subject = subject_of(few_classes(zoo.get(name)))
    check(subject, by_torchvision(subject, tmp_path))


@pytest.mark.parametrize("name", timm_names)
def test_timm_builds_published_networks_with_our_weights_and_classes(name, tmp_path):
    subject = subject_of(few_classes(zoo.get(name)))
    check(subject, by_timm(subject, tmp_path))


@pytest.mark.slow
def test_numbers_that_no_name_says_are_arguments_or_said(tmp_path):
    """EfficientNet-B5's eps is 1e-3 in torchvision, which trains it with another momentum, and 1e-5 in timm."""
    design = replace(few_classes(zoo.get("efficientnet_b5")), resolution=64)
    subject = Subject(design, {}, build(design).state_dict())
    assert_same_layers(by_timm(subject, tmp_path), design)
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    numbers = {"drop_rate": 0.4, "drop_path_rate": 0.2, "bn_eps": 0.001}
    assert config["model_args"] == {"in_chans": 3, **numbers}
    assert config["nas"]["training"] == [
        "its stochastic depth goes from 0.005128 to 0.1949; in nas it goes from 0.01026 to 0.2"
    ]
    by_torchvision(subject, tmp_path)
    text = (tmp_path / "x_torchvision.py").read_text()
    assert "In training its batch norms have a momentum of 0.01; in nas it is 0.1." in text


def test_a_twin_of_a_name_whose_layers_compute_otherwise_is_refused():
    theirs = timm.create_model("efficientnet_b0").to("meta")
    with pytest.raises(NotExpressible, match=r"the library's network has dropout of .*, where ours would be of"):
        held(zoo.get("efficientnet_b0"), theirs, "timm")


def test_designs_that_nobody_published(tmp_path):
    own, narrow = (subject_of(Architecture.from_yaml(text), trial=3) for text in (OWN, NARROW))
    check(own, by_torchvision(own, tmp_path))
    check(own, by_timm(own, tmp_path / "own"))
    check(narrow, by_timm(narrow, tmp_path / "narrow"))
    text = (tmp_path / "x_torchvision.py").read_text()
    assert "models.resnet.Bottleneck" in text
    assert "groups=8" in text and "width_per_group=5" in text
    assert "trial: 3" in text


# Five stages, strides and widths of one's own, depthwise and grouped bottlenecks wider than their ends: no ResNet of timm's.
FREE = """
channels: 1
resolution: 64
stem: {kind: strided, width: 16, act: silu}
stages:
- {depth: 1, width: 24, branch: {kind: basic, act: silu}}
- {depth: 2, width: 40, stride: 2, branch: {kind: bottleneck, cardinality: 4, group_width: 6, act: silu}}
- {depth: 3, width: 32, stride: 2, branch: {kind: bottleneck, cardinality: 96, group_width: 1, act: silu}}
- {depth: 1, width: 48, branch: {kind: bottleneck, cardinality: 1, group_width: 16, act: silu}}
- {depth: 1, width: 48, stride: 2, branch: {kind: basic, act: silu}}
head: {kind: expanded, classes: 6, width: 80, act: silu}
"""
AVERAGED = [(f"depth: {depth}", f"shortcut: avg_pool, depth: {depth}") for depth in (1, 2, 3)]


@pytest.mark.parametrize("changes", [(), (("strided, width: 16", "imagenet, width: 20"),), AVERAGED])
def test_timms_byobnet_builds_what_its_resnet_cannot(changes, tmp_path):
    subject = subject_of(changed(FREE, *changes, ("width: 80", "dropout: 0.3, width: 80")))
    check(subject, by_timm(subject, tmp_path))
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"config.json", "model.safetensors", "timm_byobnet.py"}


@pytest.mark.slow
def test_a_folder_of_a_byobnet_is_loaded_where_this_package_is_not(tmp_path):
    subject = subject_of(changed(FREE))
    EXPORTERS["timm"].write(subject, tmp_path / "x")
    images = images_for(subject.architecture, pixels=64)
    script = """
import timm
from safetensors.torch import load_file, save_file
sys.path.insert(0, "x")
import timm_byobnet
network = timm.create_model("local-dir:x", pretrained=True).eval()
with torch.inference_mode():
    save_file({"logits": network(load_file("tensors.safetensors")["images"])}, "logits.safetensors")
"""
    without_package(script, tmp_path, images=images)
    assert far(load_file(tmp_path / "logits.safetensors")["logits"], logits_of(subject, images)) < 1e-5


def test_without_weights_the_call_alone_is_written(tmp_path):
    EXPORTERS["torchvision"].write(Subject(zoo.get("resnet18")), tmp_path / "x.py")
    assert [path.name for path in tmp_path.iterdir()] == ["x.py"]
    names = runpy.run_path(str(tmp_path / "x.py"))
    assert "load" not in names
    with torch.device("meta"):
        assert sum(tensor.numel() for tensor in names["network"]().parameters()) == 11_689_512


def changed(text: str, *changes: tuple[str, str]) -> Architecture:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Architecture.from_yaml(text)


@pytest.mark.parametrize(
    ("name", "architecture", "reason"),
    [
        ("torchvision", zoo.get("resnet20"), "it has 3 stages, not 4"),
        ("torchvision", changed(OWN, ("resolution", "channels: 1\nresolution")), "its images have 1 channels, not 3"),
        ("torchvision", changed(OWN, ("imagenet", "{kind: cifar, width: 64}")), "its stem kind is cifar, not imagenet"),
        ("torchvision", changed(OWN, ("width: 40", "width: 41")), "its stage 4's block: group_width is 41, not 40"),
        ("torchvision", changed(NARROW, ("channels: 1\n", "")), "channels before expansion, not 12, 20, 28, 36"),
        ("torchvision", few_classes(zoo.get("resnet18d")), "its ResNet has no three convolutions in the stem"),
        ("torchvision", few_classes(zoo.get("res2net50_26w_4s")), "its ResNet has no res2net block"),
        (
            "timm",
            changed(OWN, ("imagenet", "cifar")),
            "; as a ByobNet: its stem kind is cifar, not strided or imagenet",
        ),
        ("timm", changed(FREE, ("cardinality: 96", "cardinality: 90")), "cardinality is 90, not 88"),
        (
            "timm",
            changed(FREE, ("head: {kind: expanded", "norm_eps: 0.001\nhead: {kind: expanded")),
            "norm_eps is 0.001",
        ),
        (
            "timm",
            changed(FREE, ("width: 24, branch", "width: 24, merge: highway, branch")),
            "merge is highway, not add",
        ),
        ("timm", changed(OWN, ("group_width: 5}", "group_width: 5, stride_on: 1x1}")), None),
    ],
)
def test_what_can_not_be_built_is_refused_with_its_reason(name, architecture, reason, tmp_path):
    if reason is None:  # without a stride, where it is carried makes no difference
        EXPORTERS[name].write(Subject(architecture), tmp_path / "x")
        return
    with pytest.raises(NotExpressible) as raised:
        EXPORTERS[name].write(Subject(architecture), tmp_path / "x")
    assert str(raised.value).startswith(f"not expressible as {name} because ")
    assert reason in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_timm_is_told_the_features_of_its_own_network(tmp_path):
    """Of a head with a convolution these are not the last stage's."""
    design = zoo.get("efficientnet_b0").adapted(classes=3, resolution=32, channels=3)
    EXPORTERS["timm"].write(Subject(design), tmp_path / "x")
    assert json.loads((tmp_path / "x" / "config.json").read_text())["num_features"] == 1280


def test_a_design_of_one_stage_is_refused_in_words(tmp_path):
    """timm's ByobNet fails of an assertion there."""
    design = Architecture.from_yaml(
        "resolution: 16\nstem: {kind: strided, width: 8}\nstages: [{depth: 1, width: 16, branch: basic}]\n"
        "head: {kind: linear, classes: 3}\n"
    )
    with pytest.raises(NotExpressible, match="as a ByobNet: it has one stage, not two or more"):
        EXPORTERS["timm"].write(Subject(design), tmp_path / "x")


def test_what_is_written_is_equal_for_every_small_design_or_refused(tmp_path):
    """No design slips through whose numbers differ."""
    for k, architecture in enumerate(small_designs().values()):
        for name in ("torchvision", "timm"):
            with pytest.raises(NotExpressible):
                EXPORTERS[name].write(Subject(architecture), tmp_path / f"{name}{k}")


def test_weights_go_under_the_librarys_names():
    from nas.interop.export.twins import renamed

    architecture = replace(zoo.get("resnet18"), resolution=32)
    ours = build(architecture, seed=0)
    ours.load_state_dict(lively(ours))
    theirs = timm.create_model("resnet18")
    state = renamed(architecture, ours, theirs, "timm")
    assert torch.equal(state["layer1.0.conv1.weight"], ours.state_dict()["stages.0.0.branch.0.0.weight"])
