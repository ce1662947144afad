"""Whether a library's network computes the same function as ours: by the options of its layers, and by its logits.

`traced` runs a network on one image on PyTorch's meta device and records costs and the arguments of every computing call (eps,
slopes, padding, ...). `unequal_logits` runs both networks with the same random weights. The calls show settings that logits
don't (dropout, momentum); the logits show the order of the calls.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.blocks.activations import NORM_MOMENTUM
from nas.networks.blocks.modules import Dropped
from nas.networks.build import build, skeleton
from nas.networks.cost import Cost
from nas.networks.weights import Weights, fit

MAX_PARAMS = 512 << 20  # of networks that are run: 2 GiB
TOLERANCE = 1e-4  # for logits, relative to the largest one: single precision on any processor
SHARE = 0.01  # for logits, relative to their variation between images
STEPS = 32  # the product of a network's strides; sizes with the same remainder have the same borders
SMALLEST, ODD = 64, 75  # pixels

# Arguments of the functions that have options, in order; and the options that are compared, with their defaults.
ARGUMENTS = {
    "conv2d": "input weight bias stride padding dilation groups",
    "batch_norm": "input running_mean running_var weight bias training momentum eps",
    "layer_norm": "input normalized_shape weight bias eps",
    "max_pool2d": "input kernel_size stride padding dilation ceil_mode return_indices",
    "avg_pool2d": "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "adaptive_avg_pool2d": "input output_size",
    "leaky_relu": "input negative_slope inplace",
    "elu": "input alpha inplace",
    "gelu": "input approximate",
    "pad": "input pad mode value",
    "dropout": "input p training inplace",
    "mean": "input dim keepdim",
}
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "conv2d": {"stride": 1, "padding": 0, "dilation": 1},
    "batch_norm": {"eps": 1e-5},
    "layer_norm": {"eps": 1e-5},
    "max_pool2d": {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False},
    "avg_pool2d": {
        "kernel_size": None,
        "stride": None,
        "padding": 0,
        "ceil_mode": False,
        "count_include_pad": True,
        "divisor_override": None,
    },
    "adaptive_avg_pool2d": {"output_size": None},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": "none"},
    "pad": {"pad": None, "mode": "constant", "value": None},
}
DROPPING = ("Dropped", "StochasticDepth", "DropPath")  # classes of stochastic depth
RATES = ("rate", "p", "drop_prob")  # attributes with their rate
SAME = {"add_": "add", "iadd": "add", "mul_": "mul", "relu_": "relu", "sigmoid_": "sigmoid"}
# Calls that compute nothing new, or whose results are counted by later calls.
STILL = {
    *("__get__", "_assert", "dim", "size", "empty", "flatten", "view", "reshape", "permute", "transpose", "contiguous"),
    *("split", "chunk", "cat", "expand", "squeeze", "unsqueeze", "to", "type", "float", "matmul", "bmm"),
}


@dataclass(frozen=True, slots=True)
class Traced:
    """Costs and calls of one forward pass. calls: (function, options) -> count. Of training only: dropout, momenta, and `drops`,
    the rates of stochastic depth in the order of the blocks that have it."""

    cost: Cost
    calls: Mapping[tuple[str, str], int]
    dropout: tuple[float, ...]
    momenta: frozenset[float]
    drops: tuple[float, ...]

    @property
    def norm_eps(self) -> frozenset[float]:
        """The eps of the batch norms."""
        return frozenset(float(options.removeprefix("eps ")) for name, options in self.calls if name == "batch_norm")


class _Calls(TorchFunctionMode):
    """Counts the calls, their options, and the elements in the outputs of convolutions and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.activations = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        self.dropout: list[float] = []
        self.momenta: set[float] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = (resolve_name(func) or getattr(func, "__name__", "")).rpartition(".")[2]
        name = SAME.get(name, name)
        if name in ("conv2d", "linear"):
            self.activations += result.numel()
        given = {**dict(zip(ARGUMENTS.get(name, "").split(), args, strict=False)), **kwargs}
        if name == "dropout":
            if (p := float(given.get("p", 0.5))) > 0:
                self.dropout.append(p)
        elif name not in STILL and not (name == "pad" and not any(given["pad"])):
            if name == "batch_norm":
                self.momenta.add(float(given.get("momentum", 0.1)))
            self.calls[_described(name, given)] += 1
        return result


def _described(name: str, given: Mapping[str, Any]) -> tuple[str, str]:
    """A call's name and its options in words; equivalent calls get the same name."""
    options = {key: given.get(key, default) for key, default in OPTIONS.get(name, {}).items()}
    if name == "adaptive_avg_pool2d" and set(_pair(options["output_size"])) == {1}:
        return "mean", "of the image"
    if name == "mean" and [axis % given["input"].ndim for axis in _pair(given.get("dim"))] == [2, 3]:
        return "mean", "of the image"
    if name == "linear":
        return "conv2d", "kernel 1x1, stride 1x1, padding 0x0, dilation 1x1"  # the same on each pixel
    if name == "conv2d":
        options = {"kernel": tuple(given["weight"].shape[2:]), **options}
    if name == "avg_pool2d" and set(_pair(options["padding"])) == {0}:
        del options["count_include_pad"]  # without padding it has no effect
    return name, ", ".join(f"{key} {_shown(value)}" for key, value in options.items() if value is not None)


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _shown(value: Any) -> str:
    """An option in words; one number for both sides of a window is shown as two."""
    sides = isinstance(value, (int, tuple, list)) and not isinstance(value, bool)
    return "x".join(map(str, _pair(value))) if sides else str(value)


def traced(network: nn.Module, resolution: int, channels: int = 3) -> Traced:
    """Trace a network in evaluation mode on one image, best on the meta device. UsageError if it can't take this size."""
    device = next(network.parameters()).device
    drops: list[float] = []

    def dropping(module: Any, *_: object) -> None:
        drops.append(next(float(getattr(module, key)) for key in RATES if hasattr(module, key)))

    hooks = [part.register_forward_hook(dropping) for part in network.modules() if type(part).__name__ in DROPPING]
    calls = _Calls()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), calls:
            network.eval()(torch.empty(1, channels, resolution, resolution, device=device))
    except RuntimeError as error:
        raise UsageError(f"it takes no images of {resolution} pixels ({str(error).splitlines()[0]:.200})") from None
    finally:
        for hook in hooks:
            hook.remove()
    params = sum(parameter.numel() for parameter in network.parameters())
    cost = Cost(params, counter.get_total_flops() // 2, calls.activations)
    return Traced(cost, calls.calls, tuple(calls.dropout), frozenset(calls.momenta), tuple(drops))


def unequal_calls(architecture: Architecture, theirs: Traced) -> list[str]:
    """Differences between the calls of our network and of `theirs`, in words; empty if there are none."""
    ours = traced(skeleton(architecture), architecture.resolution, architecture.channels)
    names = sorted({name for name, _ in ours.calls.keys() ^ theirs.calls.keys()})
    names += sorted({name for name, _ in ours.calls if name not in names})
    faults = []
    for name in names:
        here, there = ({options: n for (key, options), n in one.calls.items() if key == name} for one in (ours, theirs))
        if here != there:
            faults.append(f"{name} of {_listed(there, here)}, where ours would be of {_listed(here, there)}")
    if sorted(ours.dropout) != sorted(theirs.dropout):
        faults.append(f"dropout of {list(theirs.dropout)}, where ours would be of {list(ours.dropout)}")
    if not near(ours.drops, theirs.drops, architecture):
        faults.append(f"stochastic depth of {list(theirs.drops)}, where ours would be of {list(ours.drops)}")
    return faults


def _listed(one: Mapping[str, int], other: Mapping[str, int]) -> str:
    """Options that `one` has more often than `other`, with their counts."""
    more = {options: n for options, n in one.items() if n > other.get(options, 0)}
    return "; ".join(f"{options or 'this kind'} ({n})" for options, n in more.items()) or "none"


def near(ours: Sequence[float], theirs: Sequence[float], architecture: Architecture) -> bool:
    """Whether rates of stochastic depth are the same linear rule up to its start: at most one block's step apart."""
    if not any(ours) or not any(theirs):
        return any(ours) == any(theirs)
    last = max(float(stage.merge.to_dict().get("drop", 0.0)) for stage in architecture.stages)
    step = last / sum(stage.depth for stage in architecture.stages) + 1e-9
    pairs = zip(ours, _aligned(theirs, len(ours)), strict=False)
    return len(theirs) <= len(ours) and all(abs(a - b) <= step for a, b in pairs)


def _aligned(rates: Sequence[float], blocks: int) -> tuple[float, ...]:
    """One rate for each block; the first blocks may have none, because timm's rule starts at 0."""
    return (0.0,) * (blocks - len(rates)) + tuple(rates)


def drops_of(architecture: Architecture) -> tuple[float, ...]:
    """Rates of stochastic depth of the blocks that have it, in order."""
    return tuple(module.rate for module in skeleton(architecture).modules() if isinstance(module, Dropped))


def remarks(architecture: Architecture, theirs: Traced) -> tuple[str, ...]:
    """Training settings of the library's network that a config of ours can't express, in words."""
    notes = []
    if others := sorted(theirs.momenta - {NORM_MOMENTUM}):
        notes.append(
            f"its batch norms have a momentum of {', '.join(f'{m:.4g}' for m in others)}; in nas it is {NORM_MOMENTUM}"
        )
    ours = drops_of(architecture)
    drops = _aligned(theirs.drops, len(ours))
    if any(abs(a - b) > 1e-9 for a, b in zip(ours, drops, strict=False)):
        ends = [f"from {min(rates):.4g} to {max(rates):.4g}" for rates in (drops, ours)]
        notes.append(f"its stochastic depth goes {ends[0]}; in nas it goes {ends[1]}")
    return tuple(notes)


def unequal_logits(architecture: Architecture, network: nn.Module) -> list[str]:
    """Differences between our logits and the network's, with the same random weights, at two image sizes; empty if equal.

    The given network is left unchanged, without weights. One size has the same borders as the architecture's resolution; the
    other is odd, except for networks of patches, which crop incomplete patches where ours pad them.
    """
    source = copy.deepcopy(network).to_empty(device="cpu")
    source.requires_grad_(False)
    _fill(source)
    with torch.device("meta"):
        ours = build(architecture)
    try:
        state = fit(Weights(architecture.name, source.state_dict(), ""), architecture).state
    except UsageError as error:
        return [str(error)]
    ours.load_state_dict(state, assign=True)
    rest = architecture.resolution % STEPS
    sizes = (SMALLEST + rest, 3 * STEPS + rest if architecture.stem.kind == "patch" else ODD)
    faults = []
    for size in sizes:
        images = torch.randn(2, architecture.channels, size, size, generator=torch.Generator().manual_seed(size))
        images += 2 * torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)  # so that the two images differ much
        with torch.inference_mode():
            expected, got = source.eval()(images), ours.eval()(images)
        greatest, apart = expected.abs().max(), (got - expected).abs().max()
        of_images = (expected - expected.mean(0)).abs().max()
        if not apart <= min(TOLERANCE * greatest, SHARE * of_images):
            faults.append(
                f"other logits with the same weights: at {size} pixels {float(apart / greatest):.1e} of the greatest apart"
            )
    return faults


def _fill(network: nn.Module) -> None:
    """Fill weights and statistics with random numbers, in place. None is neutral (0 or 1), so that a mix-up shows."""
    uniform = _Uniform()
    for module in network.modules():
        norm = hasattr(module, "running_var") or isinstance(module, nn.LayerNorm)
        tensors = itertools.chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, tensor in tensors:
            shape = getattr(module, "weight_shape", tensor.shape)  # timm's CondConv2d flattens its experts
            if not tensor.is_floating_point():
                tensor.zero_()
            elif norm and name in ("weight", "running_var"):
                uniform.fill(tensor, 0.5, 1.5)
            elif tensor.ndim >= 2 and name == "weight":
                bound = (6 / math.prod(shape[1:])) ** 0.5  # by fan-in, so that depthwise convolutions keep the signal
                uniform.fill(tensor, -bound, bound)
            elif name in ("bias", "running_mean"):
                uniform.fill(tensor, -0.2, 0.2)
            else:  # a scale of a branch
                uniform.fill(tensor, 0.2, 0.6)


class _Uniform:
    """Numbers for hundreds of millions of weights, from a table: drawing each would take most of an import's time."""

    SIZE = 1_000_003  # a prime number: rows of weights don't repeat

    def __init__(self) -> None:
        self._table = torch.rand(self.SIZE, generator=torch.Generator().manual_seed(0))
        self._start = 0  # each tensor begins elsewhere in the table

    def fill(self, tensor: Tensor, low: float, high: float) -> None:
        flat = tensor.view(-1)
        for part in torch.split(flat, self.SIZE):
            head = min(len(part), self.SIZE - self._start)
            part[:head] = self._table[self._start : self._start + head]
            part[head:] = self._table[: len(part) - head]
            self._start = (self._start + len(part)) % self.SIZE
        flat.mul_(high - low).add_(low)
