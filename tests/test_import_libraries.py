"""Networks of torchvision and timm by name: read from their modules they are the zoo's, and with their weights their logits."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from helpers_cli import output, refusal
from timm.models._efficientnet_blocks import EdgeResidual
from torch import nn

from nas import zoo
from nas.errors import UsageError
from nas.importing import Inexpressible, import_source
from nas.importing.libraries import differences, measured_cost, read_library, read_modules
from nas.network import build, cost_of
from nas.weights import Weights, fit

pytestmark = pytest.mark.usefixtures("one_thread")

READ = {
    "torchvision:resnet18": "resnet18",
    "torchvision:resnext50_32x4d": "resnext50_32x4d",
    "torchvision:mobilenet_v2": "mobilenet_v2",
    "torchvision:regnet_y_400mf": "regnet_y_400mf",
    "timm:resnet50d": "resnet50d",
    "timm:seresnet50": "seresnet50",
    "timm:regnetx_008": "regnet_x_800mf",
}


@pytest.fixture
def by_modules(monkeypatch):
    """No network is known by its name: each is read from its modules."""

    def nothing(name: str) -> None:
        raise UsageError(name)

    monkeypatch.setattr("nas.importing.libraries.zoo.get", nothing)


@pytest.mark.parametrize("source", READ)
def test_what_the_modules_say_is_the_network_of_the_zoo(source, by_modules):
    found = import_source(source).networks[0].architecture
    known = zoo._find(READ[source]).architecture()
    assert found.adapted(classes=1000, resolution=224, channels=3).digest == known.digest


@pytest.mark.parametrize("source", ["timm:efficientnet_b0", "torchvision:efficientnet_b0"])
def test_efficientnets_are_those_of_the_zoo_but_for_stochastic_depth(source, by_modules):
    found, known = import_source(source).networks[0].architecture, zoo._find("efficientnet_b0").architecture()
    assert [(s.branch, s.depth, s.width, s.stride) for s in found.stages] == [
        (s.branch, s.depth, s.width, s.stride) for s in known.stages
    ]
    assert cost_of(found) == cost_of(known)


def test_the_zoo_wins_where_it_knows_the_name():
    assert import_source("timm:res2net50_26w_4s").networks[0].architecture.digest == zoo.get("res2net50_26w_4s").digest


# Not in the zoo: held against the library's own logits.
@pytest.mark.parametrize(
    "name",
    [
        *("resnet26d", "resnet34d", "regnetx_002", "mobilenetv2_140", "mnasnet_small", "semnasnet_075", "gernet_s"),
        pytest.param("resnet50s", marks=pytest.mark.slow),
    ],
)
def test_logits_are_timms(name):
    torch.manual_seed(0)
    other = timm.create_model(name).eval()
    with torch.no_grad():
        for path, tensor in other.state_dict().items():
            if path.endswith(("running_mean", "bias")):
                tensor.uniform_(-0.2, 0.2)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    found = import_source(f"timm:{name}").networks[0].architecture
    ours = build(found).eval()
    ours.load_state_dict(fit(Weights.of(name, other.state_dict()), found).state)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, got = other(x), ours(x)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ("torchvision:vgg11", ["VGG is no family that is read here"]),
        ("timm:ecaresnet26t", ["a stem of 3x3 to 24, 3x3 to 32, 3x3 to 64", "EcaModule", "Conv1d"]),
        ("timm:resnetblur50", ["doesn't end with a 3x3 maximum", "BlurPool2d"]),
        ("timm:resnest26d", ["ResNestBottleneck blocks", "RadixSoftmax"]),
        ("timm:fbnetc_100", ["a 1x1 without expansion before the depthwise"]),
        ("timm:tf_efficientnet_b0", ["blocks.1.0 and 3 more: Conv2dSame"]),
        ("timm:efficientnet_b0_gn", ["GroupNormAct in place of a batch norm"]),
        ("timm:mixnet_s", ["MixedConv2d in place of a convolution"]),
        ("timm:resnext26ts", ["a stem of 3x3 to 24, 3x3 to 32, 3x3 to 64 and MaxPool2d"]),
        ("timm:seresnext26ts", ["squeeze-excitation with ReLU in a block with silu"]),
        ("timm:regnetz_b16", ["no activation behind the sum"]),
        ("timm:regnetv_040", ["a stem without a norm", "PreBottleneck blocks"]),
        ("timm:test_byobnet", ["EdgeBlock blocks", "a basic block that is narrower inside, or grouped"]),
        ("timm:resnet50_clip", ["a head of AttentionPool2d"]),
    ],
)
def test_what_our_blocks_cant_express_is_listed(source, reasons):
    with pytest.raises(Inexpressible) as error:
        import_source(source)
    assert all(any(reason in said for said in error.value.reasons) for reason in reasons)


def test_one_convolution_without_expansion_is_ours():
    """The first stage of this EfficientNetV2, which is not in the zoo; its parameters as timm counts them."""
    found = import_source("timm:efficientnetv2_rw_t").networks[0].architecture
    with torch.device("meta"):
        theirs = timm.create_model("efficientnetv2_rw_t")
    assert found.stages[0].branch.to_dict()["expansion"] == 1
    assert cost_of(found).params == sum(tensor.numel() for tensor in theirs.parameters())


def test_two_convolutions_without_expansion_are_not_ours():
    """Of our fused blocks the one without expansion has a single convolution; no network of timm's has such a block of two."""
    with torch.device("meta"):
        network = timm.create_model("efficientnetv2_rw_t")
        (width,) = {block.conv.out_channels for block in network.blocks[0]}
        network.blocks[0][1] = EdgeResidual(width, width, exp_ratio=1.0, act_layer=nn.SiLU)
    with pytest.raises(Inexpressible) as error:
        read_modules(network, "other", 224)
    assert error.value.reasons == ("blocks.0.1: two convolutions without expansion; in ours it is one",)


@pytest.mark.parametrize("alpha", ["0_5", "0_75", "1_0", "1_3"])
def test_mnasnets_of_torchvision_are_read(alpha):
    """Parameters as torchvision counts them; their logits are in tests/test_weights.py."""
    found = import_source(f"torchvision:mnasnet{alpha}").networks[0].architecture
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"mnasnet{alpha}")
    assert [(stage.depth, stage.branch.to_dict()["expansion"]) for stage in found.stages] == [
        *((1, 1), (3, 3), (3, 3), (3, 6), (2, 6), (4, 6), (1, 6))
    ]
    assert cost_of(found).params == sum(tensor.numel() for tensor in theirs.parameters())


def test_what_was_read_wrongly_is_found_by_its_costs():
    with torch.device("meta"):
        network = torchvision.models.resnet18()
    assert differences(zoo.get("resnet18"), network) == []
    (found, *_) = differences(zoo.get("resnet34"), network)
    assert found == "params 11,689,512, of what ours would be 21,797,672"
    network.layer2[0].conv1.stride, network.layer2[0].conv2.stride = (1, 1), (2, 2)
    assert [fault.split()[0] for fault in differences(zoo.get("resnet18"), network)] == ["macs", "activations"]


def test_measured_cost_counts_what_ours_states():
    with torch.device("meta"):
        network = build(zoo.get("seresnet50"))
    assert isinstance(network, nn.Module) and measured_cost(network, 224) == cost_of(zoo.get("seresnet50"))


def test_names_that_a_library_lacks_are_refused_and_nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    assert "timm has no model 'resnet50x'" in refusal("import", "timm:resnet50x")
    assert "timm has no model 'hf-hub:someone/net'" in refusal("import", "timm:hf-hub:someone/net")
    assert "torchvision has no model 'resnet5'" in refusal("import", "torchvision:resnet5")
    assert "at most 200 are read" in refusal("import", f"timm:{'x' * 1000}")


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("nas.importing.libraries.importlib.import_module", missing)
    with pytest.raises(UsageError, match="pip install timm"):
        read_library("timm", "resnet18", "timm:resnet18")


def test_other_classes_and_sizes_can_be_asked_for():
    text = output("import", "torchvision:resnet18", "--classes", "10", "--resolution", "64", "--channels", "1")
    assert "classes: 10" in text and "resolution: 64" in text and "channels: 1" in text and "from: torchvision" in text
