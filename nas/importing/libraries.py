"""Networks of torchvision and timm by name: ours of the same name, or what their modules say; held against the network.

Theirs is built without memory (PyTorch's meta device) and run once. Ours is given only if parameters, multiply-adds,
activations and the sizes of all tensors are equal.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas import limits, zoo
from nas.architecture import Architecture
from nas.cost import Cost
from nas.errors import UsageError, reason_of
from nas.importing._base import IMPORTERS, Found, Imported, Importer, Inexpressible, Options, Source, made
from nas.network import build, cost_of
from nas.registry import did_you_mean

if TYPE_CHECKING:
    from torch import nn

RESOLUTION = 224  # pixels, where the library says none


def read_library(library: str, name: str, where: str) -> Imported:
    """The network that `library` builds under `name`; Inexpressible with the reasons if our blocks can't."""
    network, resolution = LIBRARIES[library](name, where)
    label = name.partition(".")[0]
    faults: list[str] = []
    for candidate in _candidates(network, label, resolution):
        found = replace(candidate, resolution=resolution, name=label)
        faults = differences(found, network)
        if not faults:
            return Imported(found, {"imported": {"from": library, "name": name}})
    raise Inexpressible(where, faults)


def _candidates(network: nn.Module, name: str, resolution: int) -> Iterator[Architecture]:
    """Ours of that name, then what the modules say."""
    with contextlib.suppress(UsageError):
        yield zoo.get(name)
    yield read_modules(network, name, resolution)


def read_modules(network: nn.Module, name: str, resolution: int) -> Architecture:
    """The architecture that the modules of a network of torchvision or timm say; Inexpressible with the reasons."""
    from nas.importing.modules import READERS, Read, norm_eps, strangers

    reader, read = READERS.get(type(network).__name__), Read()
    if reader is None:
        raise Inexpressible(name, [f"{type(network).__name__} is no family that is read here ({', '.join(READERS)})"])
    try:
        stem, head = reader(network, read)
    except (AttributeError, IndexError, TypeError, StopIteration) as error:
        read.refuse(
            f"its modules are not those of the {type(network).__name__} that is known here ({reason_of(error)})"
        )
    for reason in strangers(network):
        read.refuse(reason)
    eps = norm_eps(network, read)
    if read.faults:
        raise Inexpressible(name, read.faults)
    return made(name, [], stem=stem, stages=read.stages(), head=head, resolution=resolution, norm_eps=eps)


def differences(architecture: Architecture, network: nn.Module) -> list[str]:
    """What tells our network's costs from the network's own; empty if nothing does."""
    import torch

    ours, theirs = cost_of(architecture), measured_cost(network, architecture.resolution)
    faults = [
        f"{key} {getattr(theirs, key):,}, of what ours would be {getattr(ours, key):,}"
        for key in ("params", "macs", "activations")
        if getattr(ours, key) != getattr(theirs, key)
    ]
    if faults:
        return faults
    with torch.device("meta"):
        twin = build(architecture)
    sizes = (Counter(p.numel() for p in one.parameters()) for one in (twin, network))
    return [] if next(sizes) == next(sizes) else ["tensors of other sizes than ours"]


def measured_cost(network: nn.Module, resolution: int) -> Cost:
    """Parameters, multiply-adds and activations of a network on the meta device, counted while it runs on one image."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    activations = 0

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    hooks = [
        part.register_forward_hook(count) for part in network.modules() if isinstance(part, (nn.Conv2d, nn.Linear))
    ]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(torch.empty(1, 3, resolution, resolution, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(params, counter.get_total_flops() // 2, activations)


def _weightless(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` builds, on the meta device. Weights take no memory; what is computed on the way has its numbers."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Weightless(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = {**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})}
            return func(*args, **kwargs)

    with Weightless(), warnings.catch_warnings(action="ignore"):  # of names that a library has renamed
        return make().to("meta")


def _torchvision(name: str, where: str) -> tuple[nn.Module, int]:
    import torchvision

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        raise UsageError(f"{where}: torchvision has no model {name!r:.80}{did_you_mean(name, known)}")
    weights = torchvision.models.get_model_weights(name)
    crops = [entry.transforms.keywords.get("crop_size", RESOLUTION) for entry in weights]
    network = _weightless(lambda: torchvision.models.get_model(name, weights=None))
    return network, int(min(crops, default=RESOLUTION))


def _timm(name: str, where: str) -> tuple[nn.Module, int]:
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError:
        raise UsageError(f"{where}: the package timm is missing: pip install timm") from None
    if not timm.is_model(name):  # nor a name that would be downloaded
        raise UsageError(f"{where}: timm has no model {name!r:.80}{did_you_mean(name, timm.list_models())}")
    network = _weightless(lambda: timm.create_model(name, pretrained=False))
    size = (getattr(network, "pretrained_cfg", None) or {}).get("input_size") or (3, RESOLUTION, RESOLUTION)
    return network, int(size[-1])


LIBRARIES: dict[str, Callable[[str, str], tuple[nn.Module, int]]] = {"torchvision": _torchvision, "timm": _timm}


def _importer(library: str) -> Importer:
    def claims(source: Source) -> bool:
        return source.prefix == library

    def read(source: Source, options: Options) -> Found:
        name = source.rest.strip()
        if len(name) > limits.NAME:
            raise UsageError(f"{library}: a name of {len(name):,} characters; at most {limits.NAME} are read")
        return Found((read_library(library, name, f"{library}:{name}"),))

    return Importer(f"{library}:NAME, a model of {library}", claims, read)


for _library in LIBRARIES:
    IMPORTERS.register(_library)(_importer(_library))
