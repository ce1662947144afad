"""Networks of torchvision and timm by name: the zoo's network of that name, or one read from the modules; then compared.

The library's network is built without memory (PyTorch's meta device) and run once. Ours is accepted only if parameters,
multiply-adds, activations, the sizes of all tensors, the options of all layers, and the logits with the same weights are equal.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError, reason_of
from nas.interop.importers._base import IMPORTERS, Found, Imported, Importer, Inexpressible, Options, Source, made
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of, skeleton
from nas.networks.cost import Cost
from nas.utils import limits
from nas.utils.registry import did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from nas.interop.importers.function import Traced

RESOLUTION = 224  # pixels, if the library states none


def read_library(library: str, name: str, where: str, resolution: int | None = None) -> Imported:
    """The network that `library` builds under `name`; Inexpressible with the reasons if our blocks can't.

    resolution: of the images, in pixels; None for the library's.
    """
    from nas.interop.importers.function import MAX_PARAMS, remarks, unequal_calls, unequal_logits

    network, usual = LIBRARIES[library](name, where)
    resolution = resolution or usual
    label = name.partition(".")[0]
    theirs: Traced | None = None
    faults: list[str] = []
    try:
        for candidate in _candidates(network, label, resolution):
            theirs = theirs or _traced(network, resolution, where)
            architecture = _as_built(replace(candidate, resolution=resolution, name=label), theirs)
            faults = unequal_sizes(architecture, network, theirs.cost) or unequal_calls(architecture, theirs)
            small = theirs.cost.params <= MAX_PARAMS
            if not faults and small:
                faults = unequal_logits(architecture, network)
            if not faults:
                unrun = () if small else ("it is too large to be run: layers and costs are held, not logits",)
                return Imported(
                    architecture,
                    {"imported": {"from": library, "name": name}},
                    (*remarks(architecture, theirs), *unrun),
                )
    except Inexpressible as error:
        faults = [*error.reasons, *faults]  # with the differences from the zoo's network
    raise Inexpressible(where, faults)


def _traced(network: nn.Module, resolution: int, where: str) -> Traced:
    from nas.interop.importers.function import traced

    try:
        return traced(network, resolution)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _candidates(network: nn.Module, name: str, resolution: int) -> Iterator[Architecture]:
    """The zoo's network of that name, then the one read from the modules."""
    with contextlib.suppress(UsageError):
        yield zoo.get(name)
    yield read_modules(network, name, resolution)


def read_modules(network: nn.Module, name: str, resolution: int) -> Architecture:
    """The architecture read from the modules of a torchvision or timm network; Inexpressible with the reasons."""
    from nas.interop.importers.modules import READERS, Read, strangers

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
    if read.faults:
        raise Inexpressible(name, read.faults)
    return made(name, [], stem=stem, stages=read.stages(), head=head, resolution=resolution)


def _as_built(candidate: Architecture, theirs: Traced) -> Architecture:
    """The candidate with the library's values of numbers that don't change costs: eps, dropout, stochastic depth."""
    from nas.interop.importers.function import drops_of, near

    head, stages, eps = candidate.head, candidate.stages, theirs.norm_eps
    if len(theirs.dropout) <= 1:
        head = _with(head, dropout=float(sum(theirs.dropout)))
    if not near(drops_of(candidate), theirs.drops, candidate):
        drop = max(theirs.drops, default=0.0)
        stages = tuple(replace(stage, merge=_with(stage.merge, drop=drop)) for stage in stages)
    return replace(candidate, head=head, stages=stages, norm_eps=min(eps) if len(eps) == 1 else candidate.norm_eps)


def _with(part: Any, **options: float) -> Any:
    """The part with these options, as far as it has them."""
    return replace(part, **{name: value for name, value in options.items() if name in part.options()})


def unequal_sizes(architecture: Architecture, network: nn.Module, theirs: Cost) -> list[str]:
    """Differences in costs and tensor sizes between our network and the library's, in words; empty if there are none."""
    ours = cost_of(architecture)
    faults = [
        f"{key} {getattr(theirs, key):,}, of what ours would be {getattr(ours, key):,}"
        for key in ("params", "macs", "activations")
        if getattr(ours, key) != getattr(theirs, key)
    ]
    if faults:
        return faults
    sizes = (Counter(p.numel() for p in one.parameters()) for one in (skeleton(architecture), network))
    return [] if next(sizes) == next(sizes) else ["tensors of other sizes than ours"]


def _weightless(make: Callable[[], nn.Module]) -> nn.Module:
    """The module that `make` builds, on the meta device. Weights take no memory; other tensors have values while it builds."""
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
    if not timm.is_model(name):  # also refuses names that timm would download
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
        return Found((read_library(library, name, f"{library}:{name}", options.resolution),))

    return Importer(f"{library}:NAME, a model of {library}", claims, read)


for _library in LIBRARIES:
    IMPORTERS.register(_library)(_importer(_library))
