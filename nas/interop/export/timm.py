"""The format `timm`: a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

`config.json` names a timm model and the arguments with which it is this network; `model.safetensors` has the weights under timm's
names. Expressible are timm's ResNets (ResNet, -D, ResNeXt, SE, Res2Net of any depths and widths in four stages), the published
networks of the zoo that timm has under the same name, and what a ByobNet can express (`nas.interop.export.byobnet`). The folder of
a ByobNet also has `timm_byobnet.py`, which must be imported first. Needs timm.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.interop.export.byobnet import byobnet_twin
from nas.interop.export.formats import EXPORTERS, Exporter, MissingPackage, NotExpressible, Subject, plain
from nas.interop.export.python import save_weights
from nas.interop.export.twins import BASE, ResNetArguments, held, published_twin, renamed, resnet_arguments
from nas.networks.architecture import Architecture
from nas.networks.blocks.activations import NORM_EPS
from nas.networks.build import cost_of, skeleton

if TYPE_CHECKING:
    from torch import nn

Arguments: TypeAlias = dict[str, Any]  # of timm's models, and the entries of their config.json

NAME = "timm"
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, if the training data are not known
OWN, SOURCE = "nas_byobnet", Path(__file__).with_name("timm_byobnet.py")  # the model that we register, and its source
MODELS = {"basic": "resnet18", "bottleneck": "resnet50", "res2net": "res2net50_26w_4s"}  # by kind of block


def write(subject: Subject, path: Path) -> None:
    """Write the folder; NotExpressible if timm has no such network, MissingPackage without timm."""
    if importlib.util.find_spec("timm") is None:
        raise MissingPackage(NAME, "timm")
    import torch

    architecture = subject.architecture
    with torch.device("meta"):
        name, arguments, theirs = _twin(architecture)
    renamed(architecture, skeleton(architecture), theirs, NAME)
    training = held(architecture, theirs, NAME)
    weights = renamed(architecture, subject.network(), theirs, NAME)
    path.mkdir(parents=True)
    if name == OWN:
        (path / SOURCE.name).write_bytes(SOURCE.read_bytes())
    config = _config(subject, name, arguments, theirs)
    if training:
        config["nas"]["training"] = list(training)
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_weights(weights, path / "model.safetensors")


def _twin(architecture: Architecture) -> tuple[str, Arguments, nn.Module]:
    """timm's name of the model, its other arguments, and the network."""
    import timm

    name = published_twin(architecture, timm.is_model)
    arguments: Arguments = _numbers(architecture)
    if name is None:
        try:
            resnet = resnet_arguments(architecture, NAME, _limits)
        except NotExpressible as reason:
            try:
                return OWN, *byobnet_twin(architecture)
            except NotExpressible as other:
                raise NotExpressible(NAME, f"{reason.reason}; as a ByobNet: {other.reason}") from None
        name, arguments = MODELS[resnet.kind], _arguments(resnet)
    sizes = {"num_classes": architecture.head.classes, "in_chans": architecture.channels}
    create: Any = timm.create_model
    return name, arguments, create(name, pretrained=False, **sizes, **arguments)


def _numbers(architecture: Architecture) -> Arguments:
    """Arguments of timm's published networks for dropout, stochastic depth and eps, where they differ from timm's defaults."""
    numbers = {
        "drop_rate": architecture.head.to_dict().get("dropout", 0.0),
        "drop_path_rate": max(stage.merge.to_dict().get("drop", 0.0) for stage in architecture.stages),
        "bn_eps": architecture.norm_eps if architecture.norm_eps != NORM_EPS else 0.0,
    }
    return {name: value for name, value in numbers.items() if value}


def _arguments(resnet: ResNetArguments) -> Arguments:
    arguments: Arguments = {"layers": list(resnet.layers), "channels": list(resnet.planes)}
    if resnet.kind != "basic":
        arguments |= {"cardinality": resnet.cardinality, "base_width": resnet.base_width}
    if resnet.kind == "res2net":
        arguments["block_args"] = {"scale": resnet.scale}
    if resnet.deep:
        arguments |= {"stem_type": "deep", "stem_width": resnet.stem // 2}
    if resnet.pooled:
        arguments["avg_down"] = True
    if resnet.excited:
        arguments["block_args"] = {**arguments.get("block_args", {}), "attn_layer": "se"}
    if resnet.act != "relu":
        arguments["act_layer"] = resnet.act
    return arguments


def _limits(resnet: ResNetArguments) -> str:
    """What timm's ResNet can't express; empty if nothing."""
    if not resnet.deep and resnet.stem != BASE:
        return f"its stem of one convolution has {resnet.stem} channels, not {BASE}"
    if resnet.deep and resnet.stem % 2:
        return "its deep stem has an odd number of channels"
    return ""


def _config(subject: Subject, name: str, arguments: Arguments, theirs: nn.Module) -> Arguments:
    architecture, data = subject.architecture, subject.data
    size = [architecture.channels, architecture.resolution, architecture.resolution]
    cost = cost_of(architecture)
    colors, half = architecture.channels == 3, [0.5] * architecture.channels
    return {
        "architecture": name,
        "num_classes": architecture.head.classes,
        "num_features": theirs.num_features,
        "model_args": {"in_chans": architecture.channels, **arguments},
        "pretrained_cfg": {
            "input_size": size,
            "num_classes": architecture.head.classes,
            "mean": data.get("mean", MEAN if colors else half),
            "std": data.get("std", DEVIATION if colors else half),
            "custom_load": False,
            **({"label_names": [str(one) for one in data["classes"]]} if "classes" in data else {}),
        },
        "nas": {
            "digest": architecture.digest,
            "params": cost.params,
            "macs": cost.macs,
            "architecture": architecture.to_dict(),
            "provenance": plain(subject.provenance),
        },
    }


def load(path: Path, threads: int) -> Any:
    import timm

    from nas.interop.export import timm_byobnet  # noqa: F401 - registers the model that a folder may need

    create: Any = timm.create_model
    return create(f"local-dir:{path.absolute()}", pretrained=True).eval()


EXPORTERS.register(NAME)(Exporter("-timm", write, "folder for timm.create_model", folder=True, load=load))
