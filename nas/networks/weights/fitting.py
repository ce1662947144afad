"""Fits weights to networks: finds the library whose names they have, then checks the name and the shape of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import build, skeleton
from nas.networks.weights.names import FAMILIES, Unnamed, names, places
from nas.networks.weights.sources import Weights, read

COUNTER = "num_batches_tracked"  # of a batch norm; no arithmetic depends on it, and old files lack it
SHOWN = 3  # names in an error


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights under the names of this package.

    state: every tensor of the network, except those of `fresh`, the head's if its classes differ. family: the library whose names
    the weights had. notes: what was chosen from a checkpoint, and which tensors were changed to fit.
    """

    state: Mapping[str, Tensor]
    family: str
    fresh: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fit(weights: Weights, architecture: Architecture, *, fresh_head: bool = False) -> Fitted:
    """`weights` as a state_dict of `build(architecture)`, float32.

    The names may be this package's, torchvision's or timm's (`nas.networks.weights.names`). A tensor is reshaped between a 1x1
    convolution and a linear layer, and between scales of shape (c,) and (c, 1, 1). A head for other classes is left out; with
    fresh_head any head is. If the network has one input channel and the weights have three, the first convolution's weights are
    summed over the channels, which gives the result of three equal channels.

    UsageError, with the tensors' names and shapes, if the weights are another network's.
    """
    network = skeleton(architecture)
    wanted = network.state_dict()
    family, mapping = _family(weights, network, architecture)
    head, first = _ends(network)
    tensors = weights.tensors
    notes = list(weights.notes)
    state, fresh = {}, []
    missing = [theirs for ours, theirs in mapping.items() if theirs not in tensors and not ours.endswith(COUNTER)]
    headless = bool(missing) and set(missing) == {mapping[name] for name in head}
    extra = sorted(tensors.keys() - mapping.values())
    if extra or (missing and not headless):
        raise UsageError(_strangers(weights, family, missing, extra))
    for ours, theirs in mapping.items():
        shape = wanted[ours].shape
        if ours in head and (fresh_head or headless or tensors[theirs].shape[:1] not in ((), shape[:1])):
            fresh.append(ours)
            continue
        if theirs not in tensors:
            state[ours] = torch.zeros(shape, dtype=wanted[ours].dtype)
            continue
        tensor = tensors[theirs]
        if ours == first and tensor.ndim == 4 and (tensor.shape[1], shape[1]) == (3, 1):
            tensor = tensor.sum(1, keepdim=True)
            notes.append("the first convolution's three colours are summed to one channel")
        if _plain(tensor.shape) != _plain(shape) and not _flat(tensor, shape):
            raise UsageError(
                f"weights {weights.source}: {theirs} is {tuple(tensor.shape)}, but this network's {ours} is {tuple(shape)}"
            )
        state[ours] = tensor.reshape(shape).to(wanted[ours].dtype)
    if fresh:
        had = 0 if headless else next(iter(tensors[mapping[fresh[0]]].shape), 0)
        notes.append(f"the classifier starts fresh ({had or 'no'} → {architecture.head.classes} classes)")
    if (trained := weights.architecture) is not None and not _same_design(trained, architecture):
        notes.append(
            f"the weights were trained in another design, {trained.name or trained.digest}, of the same shapes"
        )
    return Fitted(state, family, tuple(fresh), tuple(notes))


def load_weights(architecture: Architecture, source: str, *, seed: int | None = None) -> nn.Module:
    """The network with the weights of `source` (see `nas.weights.read`); a head for other classes is initialized as by `build`.

    >>> network = nas.load_weights(nas.zoo.get("resnet50"), "torchvision:resnet50").eval()
    """
    network = build(architecture, seed)
    network.load_state_dict(fit(read(source), architecture).state, strict=False)
    return network


def _family(weights: Weights, network: nn.Module, architecture: Architecture) -> tuple[str, Mapping[str, str]]:
    """The family that names most of the weights, and its names. UsageError if no family names any."""
    ours = {name: name for name in network.state_dict()}
    candidates: dict[str, Mapping[str, str]] = {"our": ours}
    for family in FAMILIES:
        try:
            candidates[family] = names(network, architecture, family)
        except Unnamed:
            continue
    named = {family: len(weights.tensors.keys() & mapping.values()) for family, mapping in candidates.items()}
    best = max(named, key=lambda family: named[family])
    if not named[best]:
        there = ", ".join(sorted(weights.tensors)[:SHOWN])
        raise UsageError(
            f"weights {weights.source}: not of this network: none of its tensors is there under our names, torchvision's or "
            f"timm's, only {there}, ..."
        )
    return best, candidates[best]


def _ends(network: nn.Module) -> tuple[set[str], str]:
    """Names of the classifier's tensors, and of the first convolution's weights."""
    order = list(places(network))
    last = order[-1].path
    return {name for name in network.state_dict() if name.startswith(f"{last}.")}, f"{order[0].path}.weight"


def _strangers(weights: Weights, family: str, missing: list[str], extra: list[str]) -> str:
    """The message for weights whose names are not the network's."""

    def some(tensors: list[str]) -> str:
        return ", ".join(tensors[:SHOWN]) + (f" and {len(tensors) - SHOWN} more" if len(tensors) > SHOWN else "")

    lacks = [f"lacks {some(missing)}"] if missing else []
    has = [f"has {some(extra)} too many"] if extra else []
    return f"weights {weights.source}: another network's, by {family} names: {'; '.join([*lacks, *has])}"


def _plain(shape: torch.Size) -> tuple[int, ...]:
    """A shape without ones at its end, which distinguish a 1x1 convolution from a linear layer."""
    sizes = list(shape)
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _flat(tensor: Tensor, shape: torch.Size) -> bool:
    """Whether `shape` is the tensor's with all axes but the first flattened, as for CondConv's experts."""
    return len(shape) == 2 and tensor.shape[:1] == shape[:1] and tensor.numel() == shape.numel()


def _same_design(one: Architecture, other: Architecture) -> bool:
    adapted = one.adapted(classes=other.head.classes, resolution=other.resolution, channels=other.channels)
    return adapted.digest == other.digest
