"""Networks of torchvision and timm by name: read from their modules they are the zoo's, and with their weights their logits."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from helpers_cli import output, refusal
from timm.models._efficientnet_blocks import EdgeResidual
from torch import nn

from nas.errors import UsageError
from nas.interop.importers import Inexpressible, import_source
from nas.interop.importers.function import traced
from nas.interop.importers.libraries import LIBRARIES, read_library, read_modules, unequal_sizes
from nas.networks import zoo
from nas.networks.build import build, cost_of
from nas.networks.weights import Weights, fit

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

    monkeypatch.setattr("nas.interop.importers.libraries.zoo.get", nothing)


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


# Every import holds the logits itself; here they are held by other weights than there.
@pytest.mark.parametrize("name", ["resnet26d", "mnasnet_small", "test_efficientnet"])
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
        ("timm:regnetz_b16", ["no activation after the sum"]),
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
    """Parameters as torchvision counts them; their logits are in tests/networks/test_weights.py."""
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

    def differences(name: str) -> list[str]:
        return unequal_sizes(zoo.get(name), network, traced(network, 224).cost)

    assert differences("resnet18") == []
    (found, *_) = differences("resnet34")
    assert found == "params 11,689,512, of what ours would be 21,797,672"
    network.layer2[0].conv1.stride, network.layer2[0].conv2.stride = (1, 1), (2, 2)
    assert [fault.split()[0] for fault in differences("resnet18")] == ["macs", "activations"]


@pytest.mark.parametrize("name", ["seresnet50", "efficientnet_cc_b0_4e"])
def test_traced_cost_is_what_ours_states(name):
    with torch.device("meta"):
        network = build(zoo.get(name))
    assert traced(network, 224).cost == cost_of(zoo.get(name))


# -- what costs can't see ---------------------------------------------------------------------------------------------


def changed(monkeypatch, change, name: str = "resnet18", resolution: int = 64, **options):
    """What is imported where timm's network of this name is another: `change` is called with it."""

    def make(*_):
        with torch.device("meta"):
            network = timm.create_model(name, **options)
        change(network)
        return network, resolution

    monkeypatch.setitem(LIBRARIES, "timm", make)
    return import_source(f"timm:{name}").networks[0]


def each(kind: type[nn.Module], **values: object):
    """Sets fields of all modules of a kind."""

    def change(network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, kind):
                for key, value in values.items():
                    setattr(module, key, value)

    return change


def activations(make):
    """Puts another activation in the place of each."""

    def change(network: nn.Module) -> None:
        for module in list(network.modules()):
            for key, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, key, make())

    return change


def mirrored(network: nn.Module) -> None:
    network.layer1[0].conv1 = nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect", bias=False, device="meta")


def one_eps(network: nn.Module) -> None:
    network.layer1[0].bn1.eps = 1e-3


class SumsLate(timm.models.resnet.BasicBlock):
    """The same calls in another order: the activation stands before the sum."""

    def forward(self, x):
        return self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))) + x


def sums_late(network: nn.Module) -> None:
    network.layer1[0].__class__ = type("BasicBlock", (SumsLate,), {})


def gates_hard(network: nn.Module) -> None:
    network.layer1[0].se.gate = nn.Hardsigmoid()


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("resnet18", one_eps, r"batch_norm of eps 0.001 \(1\), where ours would be of eps 1e-05 \(20\)"),
        ("resnet18", activations(lambda: nn.LeakyReLU(0.2)), r"leaky_relu of negative_slope 0.2 \(17\), where ours"),
        ("resnet18", activations(lambda: nn.GELU("tanh")), "gelu of approximate tanh"),
        ("resnet18", activations(lambda: nn.ELU(0.5)), "elu of alpha 0.5"),
        ("resnet18", each(nn.MaxPool2d, ceil_mode=True), "max_pool2d of .*ceil_mode True"),
        ("resnet18", mirrored, "pad of pad 1x1x1x1, mode reflect"),
        ("resnet18d", each(nn.AvgPool2d, ceil_mode=False), "avg_pool2d of .*ceil_mode False"),
        ("seresnet18", gates_hard, "no squeeze-excitation of ours"),
        ("resnet18", sums_late, "other logits with the same weights: at 64 pixels"),
    ],
)
def test_what_costs_cant_see_is_refused(name, change, reason, monkeypatch):
    # At 65 pixels the maximum has as many windows with as without ceil_mode; the means have at 64.
    with pytest.raises(Inexpressible, match=reason):
        changed(monkeypatch, change, name, resolution=65 if "max_pool" in reason else 64)


def test_what_a_config_can_say_is_taken_from_the_network(monkeypatch):
    found = changed(monkeypatch, each(nn.BatchNorm2d, eps=1e-3), drop_rate=0.3, drop_path_rate=0.1)
    assert found.architecture.norm_eps == 1e-3
    assert found.architecture.head.dropout == 0.3
    assert {stage.merge.drop for stage in found.architecture.stages} == {0.1}
    assert found.notes == ("its stochastic depth goes from 0 to 0.1; in nas it goes from 0.0125 to 0.1",)


def test_what_of_training_no_config_says_is_noted(monkeypatch):
    found = changed(monkeypatch, each(nn.BatchNorm2d, momentum=0.01))
    assert found.architecture.digest == zoo.get("resnet18").adapted(classes=1000, resolution=64, channels=3).digest
    assert found.notes == ("its batch norms have a momentum of 0.01; in nas it is 0.1",)


def test_two_libraries_networks_of_one_name_have_each_its_own_eps(monkeypatch):
    """EfficientNet-B5 is 1e-3 in torchvision and the zoo, 1e-5 in timm, which also builds it without dropout."""
    ours = import_source("timm:efficientnet_b5").networks[0].architecture
    assert (ours.norm_eps, ours.head.dropout, ours.stages[0].merge.drop) == (1e-5, 0.0, 0.0)
    assert zoo.get("efficientnet_b5").norm_eps == 1e-3


def test_what_is_too_large_to_be_run_is_held_by_its_layers(monkeypatch):
    monkeypatch.setattr("nas.interop.importers.function.MAX_PARAMS", 1000)
    monkeypatch.setattr("nas.interop.importers.function.unequal_logits", lambda *_: pytest.fail("run"))
    assert changed(monkeypatch, lambda _: None).notes == (
        "it is too large to be run: layers and costs are held, not logits",
    )
    with pytest.raises(Inexpressible, match=r"batch_norm of eps 0\.001"):
        changed(monkeypatch, one_eps)


def test_networks_of_patches_have_other_sizes_where_patches_dont_fill_the_image():
    assert import_source("timm:convnext_tiny").networks[0].architecture.stages[0].merge.drop == 0.0
    with pytest.raises(Inexpressible, match=r"macs .*, of what ours would be"):
        read_library("timm", "convnext_tiny", "timm:convnext_tiny", resolution=100)
    with pytest.raises(UsageError, match="timm:convnext_tiny: it takes no images of 2 pixels"):
        read_library("timm", "convnext_tiny", "timm:convnext_tiny", resolution=2)


@pytest.mark.parametrize(("name", "experts"), [("b0_4e", [1, 1, 1, 1, 4, 4, 4]), ("b0_8e", [1, 1, 1, 1, 8, 8, 8])])
def test_condconv_networks_import(name, experts):
    found = import_source(f"timm:efficientnet_cc_{name}").networks[0].architecture
    assert [stage.branch.experts for stage in found.stages] == experts
    assert cost_of(found) == cost_of(zoo.get(f"efficientnet_cc_{name}"))


def test_names_that_a_library_lacks_are_refused_and_nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    assert "timm has no model 'resnet50x'" in refusal("import", "timm:resnet50x")
    assert "timm has no model 'hf-hub:someone/net'" in refusal("import", "timm:hf-hub:someone/net")
    assert "torchvision has no model 'resnet5'" in refusal("import", "torchvision:resnet5")
    assert "at most 200 are read" in refusal("import", f"timm:{'x' * 1000}")


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("nas.interop.importers.libraries.importlib.import_module", missing)
    with pytest.raises(UsageError, match="pip install timm"):
        read_library("timm", "resnet18", "timm:resnet18")


def test_other_classes_and_sizes_can_be_asked_for():
    text = output("import", "torchvision:resnet18", "--classes", "10", "--resolution", "64", "--channels", "1")
    assert "classes: 10" in text and "resolution: 64" in text and "channels: 1" in text and "from: torchvision" in text
