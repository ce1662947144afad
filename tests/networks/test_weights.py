"""Weights of torchvision and timm in our networks give their logits; what doesn't fit is refused by name and shape."""

from __future__ import annotations

import argparse
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from helpers_weights import OPTIMIZER, TINY, tiny
from helpers_weights import state as state  # a fixture
from safetensors.torch import save_file
from torch import nn

import nas
from nas.errors import NasError, UsageError
from nas.interop.importers import import_source
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.networks.weights import Weights, fit, read
from nas.networks.weights.names import FAMILIES, Unnamed, names

pytestmark = pytest.mark.usefixtures("one_thread")

# Networks of the zoo that timm has under another name, and families of names that are only timm's.
TIMM_TOO = {
    "timm:resnet50": "resnet50",
    "timm:efficientnet_b0": "efficientnet_b0",
    "timm:mobilenetv2_100": "mobilenet_v2",
    "timm:regnetx_008": "regnet_x_800mf",
    "timm:regnety_004": "regnet_y_400mf",
    "timm:convnext_tiny": "convnext_tiny",
}
QUICK = {
    *("torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:efficientnet_b0", "torchvision:regnet_y_400mf"),
    *("torchvision:convnext_tiny", "timm:resnet18d", "timm:seresnext50_32x4d", "timm:res2next50"),
    *("timm:efficientnet_cc_b0_4e", "timm:efficientnet_b0", "timm:mobilenetv2_100", "timm:regnety_004"),
}


def twins() -> dict[str, str]:
    """library:name -> our name, for all networks of the zoo that one of the two libraries has."""
    vision = set(torchvision.models.list_models(torchvision.models))
    found = {f"torchvision:{name}": name for name in zoo.names() if name in vision}
    found |= {f"timm:{name}": name for name in zoo.names() if name not in vision and timm.is_model(name)}
    return found | TIMM_TOO


TWINS = twins()
IMPORTED = ("torchvision:mnasnet0_5", "timm:gernet_s", "timm:spnasnet_100")  # of families that the zoo has nothing of


def theirs(source: str) -> nn.Module:
    """The library's network with random weights, of which none is at a neutral start: each must stand in its place."""
    library, name = source.split(":")
    torch.manual_seed(0)
    network = torchvision.models.get_model(name) if library == "torchvision" else timm.create_model(name)
    with torch.no_grad():
        for path, tensor in network.state_dict().items():
            owner, _, kind = path.rpartition(".")
            if kind in ("layer_scale", "gamma"):
                tensor.uniform_(0.2, 0.6)
            elif "Norm" in type(network.get_submodule(owner)).__name__:
                if kind in ("weight", "running_var"):
                    tensor.uniform_(0.5, 1.5)
                elif kind in ("bias", "running_mean"):
                    tensor.uniform_(-0.2, 0.2)
            elif tensor.ndim == 4:  # by fan-in, so that depthwise convolutions pass the signal on too
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
            elif kind == "bias":
                tensor.uniform_(-0.2, 0.2)
    return network.eval()


def far_from(ours: nn.Module, other: nn.Module, resolution: int) -> float:
    """The greatest difference of logits, in units of the greatest logit."""
    x = torch.randn(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = other(x), ours.eval()(x)
    assert (expected[0] - expected[1]).std() > 1e-3 * expected.std(), "the images must count, far above the tolerance"
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    "source", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TWINS]
)
def test_logits_are_the_librarys(source):
    name, other = TWINS[source], theirs(source)
    ours = build(zoo.get(name))
    fitted = fit(Weights.of(source, other.state_dict()), zoo.get(name))
    assert fitted.family.startswith(("torchvision's", source.partition(":")[0]))
    assert (fitted.fresh, fitted.notes) == ((), ())
    ours.load_state_dict(fitted.state)
    for resolution in (64, 96):
        assert far_from(ours, other, resolution) < 1e-5


def test_every_network_of_the_two_libraries_is_held_against_them():
    assert len(TWINS) - len(TIMM_TOO) >= 54
    assert set(TWINS) >= QUICK


@pytest.mark.slow
def test_every_family_names_a_network():
    sources = [f"torchvision:{name}" for name in ("resnet18", "efficientnet_b0", "mobilenet_v2")]
    sources += [f"torchvision:{name}" for name in ("regnet_x_400mf", "convnext_tiny")]
    sources += [f"timm:{name}" for name in ("efficientnet_b0", "regnety_004", "convnext_tiny")]
    found = [fit(Weights.of(source, theirs(source).state_dict()), zoo.get(TWINS[source])).family for source in sources]
    found += [fit(Weights.of(own, theirs(own).state_dict()), imported(own)).family for own in IMPORTED]
    assert sorted(found) == sorted(FAMILIES)


def imported(source: str) -> Architecture:
    return import_source(source).networks[0].architecture


@pytest.mark.parametrize("source", IMPORTED)
def test_logits_are_the_librarys_where_the_zoo_has_no_such_network(source):
    other, architecture = theirs(source), imported(source)
    ours = build(architecture)
    ours.load_state_dict(fit(Weights.of(source, other.state_dict()), architecture).state)
    assert far_from(ours, other, 64) < 1e-5


def test_a_tensor_in_anothers_place_shows_in_the_logits():
    other = theirs("torchvision:resnet18")
    state = dict(other.state_dict())
    one, two = "layer3.1.bn1.running_mean", "layer3.1.bn2.running_mean"
    state[one], state[two] = state[two], state[one]
    ours = build(zoo.get("resnet18"))
    ours.load_state_dict(fit(Weights.of("swapped", state), zoo.get("resnet18")).state)
    assert far_from(ours, other, 64) > 1e-4


@pytest.mark.parametrize("name", ["highway110", "skipnet38", "preact_resnet164"])
def test_families_don_t_name_what_they_lack(name):
    with torch.device("meta"):
        network = build(zoo.get(name))
    for family in FAMILIES:
        with pytest.raises(Unnamed):
            names(network, zoo.get(name), family)


# -- one small network, whose weights are torchvision's by their names -------------------------------------------------


def test_names_are_there_and_back(state):
    assert "layer2.0.downsample.1.running_var" in state
    fitted = tiny(state)
    for name, tensor in build(TINY, seed=3).state_dict().items():
        assert torch.equal(fitted.state[name], tensor)


def test_our_own_names_fit_as_they_are():
    own = build(TINY, seed=1).state_dict()
    fitted = tiny(own)
    assert fitted.family == "our"
    assert all(torch.equal(fitted.state[name], tensor) for name, tensor in own.items())


def test_other_classes_start_a_fresh_head(state):
    from dataclasses import replace

    architecture = replace(TINY, head=replace(TINY.head, classes=7))
    fitted = tiny(state, architecture)
    assert fitted.fresh == ("head.2.weight", "head.2.bias")
    assert fitted.notes == ("the classifier starts fresh (5 → 7 classes)",)
    network, fresh = build(architecture, 0), build(architecture, 0).state_dict()
    missing, unexpected = network.load_state_dict(fitted.state, strict=False)
    assert (set(missing), unexpected) == (set(fitted.fresh), [])
    assert torch.equal(network.state_dict()["head.2.weight"], fresh["head.2.weight"])


def test_weights_without_a_head_start_a_fresh_one(state):
    fitted = tiny({name: tensor for name, tensor in state.items() if not name.startswith("fc.")})
    assert fitted.notes == ("the classifier starts fresh (no → 5 classes)",)


def test_a_head_that_is_a_single_number_does_not_fit(state):
    with pytest.raises(UsageError, match=r"fc.weight is \(\), but this network's head.2.weight is \(5, "):
        tiny({**state, "fc.weight": torch.tensor(1.0)})


def test_what_a_file_of_ours_says_of_its_training(tmp_path):
    tensors = {"a": torch.zeros(1)}
    said = {"dataset": "shapes", "classes": '["a", "b"]', "mean": "[0.5]", "std": "[0.25]", "test_accuracy": "0.75"}
    save_file(tensors, tmp_path / "ours.safetensors", said)
    data = {"name": "shapes", "classes": ["a", "b"], "mean": [0.5], "std": [0.25]}
    assert read(str(tmp_path / "ours.safetensors")).training == {
        "accuracy": 0.75,
        "accuracy_on": "test",
        "dataset": data,
    }
    others = {"classes": "[1, 2", "mean": '"grey"', "std": "[NaN]", "test_accuracy": "93.1"}
    save_file(tensors, tmp_path / "others.safetensors", others)
    assert read(str(tmp_path / "others.safetensors")).training == {}


def test_colours_are_summed_for_grey_images(state):
    from dataclasses import replace

    grey = replace(TINY, channels=1)
    fitted = tiny(state, grey)
    assert fitted.notes == ("the first convolution's three colours are summed to one channel",)
    coloured, ours = build(TINY), build(grey)
    coloured.load_state_dict(tiny(state).state)
    ours.load_state_dict(fitted.state)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), coloured.eval()(x.expand(-1, 3, -1, -1)))


def test_counters_may_be_missing_and_numbers_be_half(state):
    old = {name: tensor.half() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    fitted = tiny(old)
    assert {tensor.dtype for name, tensor in fitted.state.items() if not name.endswith("tracked")} == {torch.float32}
    assert fitted.state["stem.0.1.num_batches_tracked"] == 0
    build(TINY).load_state_dict(fitted.state)


def test_another_design_of_the_same_shapes_is_said(state):
    from dataclasses import replace

    stages = tuple(replace(stage, branch=replace(stage.branch, act="silu")) for stage in TINY.stages)
    fitted = fit(replace(Weights.of("x", state), architecture=TINY), replace(TINY, stages=stages))
    assert fitted.notes == ("the weights were trained in another design, tiny, of the same shapes",)
    same = replace(TINY, name="else", resolution=32, head=replace(TINY.head, classes=3))
    assert fit(replace(Weights.of("x", state), architecture=TINY), same).notes == (
        "the classifier starts fresh (5 → 3 classes)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.0.conv1.weight": None}, "by torchvision's or timm's ResNet names: lacks layer1.0.conv1.weight$"),
        ({"layer3.0.conv1.weight": torch.zeros(1)}, "has layer3.0.conv1.weight too many$"),
        (
            {f"layer3.{k}.conv1.weight": torch.zeros(1) for k in range(5)},
            r"has layer3.0.conv1.weight, layer3.1.conv1.weight, layer3.2.conv1.weight and 2 more too many$",
        ),
        (
            {"layer2.0.conv2.weight": torch.zeros(16, 8, 3, 3)},
            r"layer2.0.conv2.weight is \(16, 8, 3, 3\), but this network's stages.1.0.branch.1.0.weight is \(16, 16, 3, 3\)",
        ),
        ({"layer2.0.conv2.weight": torch.zeros(16, 3, 3, 16)}, r"is \(16, 3, 3, 16\), but"),
        ({"fc.bias": torch.full((5,), torch.nan)}, "fc.bias holds NaN or infinite values"),
        ({"bn1.running_var": torch.full((8,), torch.inf)}, "bn1.running_var holds NaN or infinite values"),
        ({"optimizer": 3}, "'optimizer' is no tensor"),
        ({0: torch.zeros(1)}, "a tensor's name is 0"),
        ({"stem": torch.zeros(1), 0: torch.zeros(1)}, "a tensor's name is 0"),
    ],
)
def test_what_does_not_fit_is_named(state, change, message):
    changed = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
    with pytest.raises(UsageError, match=message):
        tiny(changed)


def test_weights_of_something_else_are_refused():
    with pytest.raises(
        UsageError, match=r"none of its tensors is there under our names, torchvision's or timm's, only a\.b"
    ):
        tiny({"a.b": torch.zeros(3)})
    with pytest.raises(UsageError, match="holds no weights"):
        tiny({})


def test_fingerprints_are_of_names_and_numbers(state):
    one = Weights.of("a", state).fingerprint
    assert one == Weights.of("b", dict(reversed(state.items()))).fingerprint
    assert one != Weights.of("a", state | {"fc.bias": state["fc.bias"] + 1}).fingerprint
    renamed = {("fc.bia" if name == "fc.bias" else name): tensor for name, tensor in state.items()}
    assert one != Weights.of("a", renamed).fingerprint


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_of_safetensors_is_read(state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    weights = read(str(tmp_path / "w.safetensors"))
    assert weights.source == str(tmp_path / "w.safetensors")
    assert weights.fingerprint == Weights.of("", state).fingerprint


def test_load_weights_builds_the_network(state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    network = nas.load_weights(TINY, str(tmp_path / "w.safetensors"))
    assert all(torch.equal(network.state_dict()[name], t) for name, t in build(TINY, seed=3).state_dict().items())


class Hostile:
    def __reduce__(self):
        return print, ("run by the file",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"nothing of the kind", "can't be read as safetensors"),
        ("w.safetensors", b"", "can't be read as safetensors"),
        ("w.pth", b"nothing of the kind", "can't be read as weights"),
        ("w.pth", [1, 2], "holds a list, not a state_dict"),
        (
            "w.pth",
            {"weights": Hostile()},
            "it holds a Python object, print, and loading such could run any program; save",
        ),
        ("w.pth", {"model": nn.Linear(1, 1)}, r"a Python object, torch\.nn\.modules\.linear\.Linear, and"),
        ("w.pth", {"args": argparse.Namespace(hook=Hostile())}, "a Python object, print, and"),
        ("w.pth", argparse.Namespace(), "holds a Python object, not a state_dict"),
        (
            "w.pth",
            {"epoch": 3, "optimizer": OPTIMIZER},
            "holds epoch, optimizer, and no state_dict among them; save it alone",
        ),
        ("w.pth", {"a": {"x": torch.ones(1)}, "b": {"x": torch.ones(1)}}, "holds a, b, and no state_dict"),
        ("w.pth", {}, "holds no weights"),
        ("w.h5", b"", "unknown kind of file; known: .safetensors"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(NasError, match=message) as raised:
        read(str(path))
    assert str(path) in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500 + len(str(path))
    assert "run by the file" not in capsys.readouterr().out


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UsageError, match=r"no such file; a .safetensors or .pth file, or torchvision:NAME"):
        read(str(tmp_path / "w.pth"))
    with pytest.raises(UsageError, match="a folder, not a file"):
        read(str(tmp_path))


def test_torchvisions_weights_come_from_its_cache(tmp_path, monkeypatch):
    """torchvision's own code, with a file where its download would have put it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    other = theirs("torchvision:resnet18")
    entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(other.state_dict(), cache / entry.url.rpartition("/")[2])
    for source in ("torchvision:resnet18", "torchvision:ResNet18_Weights.IMAGENET1K_V1"):
        weights = read(source)
        assert weights.source == "torchvision:ResNet18_Weights.IMAGENET1K_V1"
        ours = build(zoo.get("resnet18"))
        fitted = fit(weights, zoo.get("resnet18"))
        assert fitted.notes == ()
        ours.load_state_dict(fitted.state)
        assert far_from(ours, other, 64) < 1e-5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:resnet5", "has no such weights of a network that we have .did you mean 'resnet50'"),
        ("torchvision:vgg16", "has no such weights of a network that we have"),
        ("torchvision:ResNet18_Weights.IMAGENET1K_V9", "has no such weights"),
        ("torchvision:VGG16_Weights.DEFAULT", "has no such weights"),
        ("torchvision:", "has no such weights"),
    ],
)
def test_weights_that_torchvision_has_not(source, message):
    with pytest.raises(UsageError, match=message):
        read(source)


def test_no_connection_is_an_error_of_the_work(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(NasError, match=r"can't be downloaded from https://.*resnet18.*no route to host"):
        read("torchvision:resnet18")
