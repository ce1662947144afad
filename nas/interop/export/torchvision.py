"""The format `torchvision`: a file with the torchvision call that builds the network, and its weights under torchvision's names.

Expressible are torchvision's ResNets (ResNet, ResNeXt, wide ResNet of any depths, cardinality and base width) and, with any number
of classes, its published networks that the zoo has too (EfficientNet, MobileNetV2, RegNet, ConvNeXt).
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nas.interop.export.formats import EXPORTERS, Exporter, NotExpressible, Subject, plain
from nas.interop.export.python import save_weights
from nas.interop.export.source import docstring, lines
from nas.interop.export.twins import ResNetArguments, held, published_twin, renamed, resnet_arguments
from nas.networks.architecture import Architecture
from nas.networks.blocks.source import call
from nas.networks.build import cost_of, skeleton

if TYPE_CHECKING:
    from torch import nn

NAME = "torchvision"
BLOCKS = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}


def write(subject: Subject, path: Path) -> None:
    """Write the file, and a file of weights if the subject has any; NotExpressible if torchvision has no such network."""
    architecture = subject.architecture
    if architecture.channels != 3:
        raise NotExpressible(NAME, f"its images have {architecture.channels} channels, not 3")
    source, theirs = _twin(architecture)
    renamed(architecture, skeleton(architecture), theirs, NAME)
    training = held(architecture, theirs, NAME)
    weights = ""
    if subject.weights is not None:
        weights = path.with_suffix(".safetensors").name
        save_weights(renamed(architecture, subject.network(), theirs, NAME), path.with_name(weights))
    path.write_text(_text(subject, source, weights, training), encoding="utf-8")


def _twin(architecture: Architecture) -> tuple[list[str], nn.Module]:
    """The lines that build the network, and torchvision's network on the meta device."""
    import torch
    from torchvision import models

    known = set(models.list_models(models))
    name = published_twin(architecture, known.__contains__)
    classes = architecture.head.classes
    if name is not None:  # torchvision's RegNet computes widths with tensors, which have no values on the meta device
        with torch.device("cpu" if name.startswith("regnet") else "meta"):
            made: nn.Module = models.get_model(name, num_classes=classes)
        return lines(call(f"models.{name}", num_classes=str(classes)), 4, "return "), made.to("meta")
    with torch.device("meta"):
        resnet = resnet_arguments(architecture, NAME, _limits)
        options: dict[str, object] = {"num_classes": classes}
        if resnet.cardinality != 1:
            options["groups"] = resnet.cardinality
        if resnet.base_width != 64:
            options["width_per_group"] = resnet.base_width
        block = BLOCKS[resnet.kind]
        made = models.ResNet(getattr(models.resnet, block), list(resnet.layers), **options)
    keywords = {name: str(value) for name, value in options.items()}
    written = call("models.ResNet", f"models.resnet.{block}", str(list(resnet.layers)), **keywords)
    return lines(written, 4, "return "), made


def _limits(resnet: ResNetArguments) -> str:
    """What torchvision's ResNet can't express; empty if nothing."""
    if resnet.kind not in BLOCKS:
        return f"its ResNet has no {resnet.kind} block"
    if resnet.planes != (64, 128, 256, 512):
        return f"its ResNet's stages have 64, 128, 256, 512 channels before expansion, not {', '.join(map(str, resnet.planes))}"
    if resnet.stem != 64:
        return f"its stem has {resnet.stem} channels, not 64"
    for what, there in (
        ("three convolutions in the stem", resnet.deep),
        ("average pooling in a shortcut", resnet.pooled),
        ("squeeze-excitation", resnet.excited),
        (f"{resnet.act} activations", resnet.act != "relu"),
    ):
        if there:
            return f"its ResNet has no {what}"
    return ""


def _text(subject: Subject, source: list[str], weights: str, training: Sequence[str]) -> str:
    architecture, cost = subject.architecture, cost_of(subject.architecture)
    costs = f"{cost.params:,} parameters; {cost.macs:,} multiply-adds at {architecture.resolution} pixels"
    paragraphs: list[str | list[str]] = [
        f"{architecture}, built by torchvision.",
        f"{costs}; digest {architecture.digest}.",
        *(f"In training {remark}." for remark in training),
    ]
    if subject.provenance:
        text = yaml.safe_dump({"Provenance": plain(subject.provenance)}, sort_keys=False, width=80)
        paragraphs.append(text.rstrip().split("\n"))
    head = docstring(paragraphs, 0)
    load = [
        "",
        "",
        "def load() -> nn.Module:",
        f'    """The network with the weights of {weights}, in evaluation."""',
        "    made = network()",
        f"    made.load_state_dict(load_file(Path(__file__).with_name({json.dumps(weights)})))",
        "    return made.eval()",
    ]
    imports = ["from safetensors.torch import load_file"] if weights else []
    path = ["from pathlib import Path", ""] if weights else []
    body = ["def network() -> nn.Module:", '    """The network, as it starts."""', *source]
    return "\n".join(
        [
            *head,
            "",
            *path,
            *imports,
            "from torch import nn",
            "from torchvision import models",
            "",
            "",
            *body,
            *(load if weights else []),
            "",
        ]
    )


def load(path: Path, threads: int) -> Any:
    """The network of the file, without its weights, which don't change its latency."""
    return runpy.run_path(str(path))["network"]().eval()


EXPORTERS.register(NAME)(
    Exporter("_torchvision.py", write, "call of torchvision's constructor, weights by its names", load=load)
)
