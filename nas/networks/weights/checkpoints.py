"""Finds a network's weights in the checkpoints of training programs: their entries, prefixes of names and Python objects.

No code of a file is run: `load` uses PyTorch's restricted reader, which creates tensors and plain values only. Harmless objects
that checkpoints commonly contain (arguments, NumPy's numbers, paths) are replaced by an empty `Absent`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import NasError, UsageError, reason_of

# Entries of a checkpoint, in the order of the search. `model_ema` is torchvision's name, `state_dict_ema` timm's.
EMA_ENTRIES = (
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "params_ema",
    "ema_model",
    "ema",
)
ENTRIES = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "params", "module", "checkpoint")
# First words of names: the attribute of a module that holds the network. None of them is a part of a network of this package.
EMA_PREFIXES = ("model_ema", "ema_model", "net_ema", "ema_net", "ema")
PREFIXES = ("module", "model", "net", "network", "backbone", "encoder", "online_model", "base_model")
# Prefixes that torch.compile, FSDP and activation checkpointing add to the names of wrapped modules, at any depth.
_WRAPPED = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_COUNT = "n_averaged"  # an entry of torch.optim.swa_utils.AveragedModel, next to those in `module.`
_DEPTH = 3  # entries within entries
SHOWN = 5  # names in a message
# Renamed modules are listed with both names, for files of other versions of Python and NumPy.
_HARMLESS = (
    "argparse.Namespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray"),
    *(
        f"{module}.{kind}Path"
        for module in ("pathlib", "pathlib._local")
        for kind in ("", "Posix", "Windows", "PurePosix", "PureWindows")
    ),
)
# Lightning's hyper-parameters.
_DICTS = (
    *("lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict"),
    *("pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict"),
)
_GLOBAL = re.compile(r"GLOBAL ([\w.<>]+)")


class Absent:
    """In place of an object that isn't loaded: accepts any arguments and holds nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Absent:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


class PlainDict:
    """In place of a subclass of dict: creates a dict, which the reader fills."""

    def __new__(cls, *_: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


def load(path: Path) -> Any:
    """The contents of a file of `torch.save`, without running code. NasError, with the reason in one line, if it can't be read."""
    stands_for: list[Any] = [(Absent, name) for name in _HARMLESS]
    stands_for += [(PlainDict, name) for name in _DICTS]
    try:
        with torch.serialization.safe_globals(stands_for):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly every type on a file of another kind
        why = reason_of(error)
        if refused := _GLOBAL.search(why):
            why = f"it holds a Python object, {refused[1][:100]}, and loading such could run any program; "
            why += "save the tensors alone: torch.save(network.state_dict(), FILE)"
        raise NasError(f"{path}: can't be read as weights: {why}") from error


def state_of(loaded: Any, source: str) -> tuple[dict[Any, Any], list[str]]:
    """The state_dict in a checkpoint, and notes on the choice. Weights averaged during training (EMA) come before plain ones.

    UsageError if there is no state_dict.
    """
    notes: list[str] = []
    for _ in range(_DEPTH):
        if not isinstance(loaded, Mapping):
            raise UsageError(f"{source}: holds a {_kind(loaded)}, not a state_dict")
        if not loaded or any(isinstance(value, Tensor) for value in loaded.values()):
            break
        inner = {name: value for name, value in loaded.items() if isinstance(value, Mapping) and value}
        # The weights are in one of these entries, or one level deeper.
        plain = next((name for name in ENTRIES if name in inner), None)
        averaged = next((name for name in EMA_ENTRIES if name in inner), None)
        if averaged is not None and (plain is None or _covers(inner[averaged], inner[plain])):
            notes.append(f"the averaged (EMA) weights under {averaged!r} are taken")
            loaded = inner[averaged]
            continue
        if averaged is not None:
            notes.append(f"{averaged!r} lacks tensors of {plain!r}, which is taken")
        if plain is None:
            tensors = [
                name for name, value in inner.items() if all(isinstance(entry, Tensor) for entry in value.values())
            ]
            if len(tensors) != 1:
                break
            (plain,) = tensors
            notes.append(f"the weights are those under {plain!r:.100}")
        loaded = inner[plain]
    if loaded and not any(isinstance(value, Tensor) for value in loaded.values()):
        raise UsageError(
            f"{source}: holds {_some(loaded)}, and no state_dict among them; save it alone: "
            "torch.save(network.state_dict(), FILE)"
        )
    return dict(loaded), notes


def unwrapped(tensors: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """The tensors by the network's own names, and notes on what was chosen or left out.

    Removes the prefixes of compiled, parallel and averaged networks and of modules that contain a network, in any order and number.
    """
    state, notes = dict(tensors), list[str]()
    if not all(isinstance(name, str) for name in state):
        return state, notes
    short = {_WRAPPED.sub("", name): value for name, value in state.items()}
    state = short if len(short) == len(state) else state
    while True:
        first: dict[str, dict[str, Any]] = {}
        for name, value in state.items():
            word, dot, rest = name.partition(".")
            if dot and rest:
                first.setdefault(word, {})[rest] = value
        plain = max((word for word in PREFIXES if word in first), key=lambda word: len(first[word]), default=None)
        averaged = next((word for word in EMA_PREFIXES if word in first), None)
        if averaged is not None and (plain is None or _covers(first[averaged], first[plain])):
            notes.append(f"the averaged (EMA) weights under '{averaged}.' are taken")
            chosen, prefixes = averaged, [averaged, *([plain] if plain else [])]
        elif plain is not None:
            chosen, prefixes = plain, [plain, *([averaged] if averaged else [])]
        else:
            return state, notes
        outside = [name for name in state if name != _COUNT and name.partition(".")[0] not in prefixes]
        if outside:
            notes.append(f"what lies outside of '{chosen}.' is left out: {_some(outside)}")
        state = first[chosen]


def _covers(averaged: Mapping[Any, Any], plain: Mapping[Any, Any]) -> bool:
    """Whether averaged weights have every tensor of the plain ones, ignoring prefixes."""
    if not all(isinstance(value, Tensor) for value in (*averaged.values(), *plain.values())):
        return any(
            isinstance(value, Mapping) and value for value in averaged.values()
        )  # the tensors are at a deeper level
    return unwrapped(plain)[0].keys() <= unwrapped(averaged)[0].keys()


def _kind(value: Any) -> str:
    return "Python object" if isinstance(value, Absent) else type(value).__name__


def _some(names: Iterable[Any]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN:,} more" if len(every) > SHOWN else ""
    return ", ".join(reason_of(str(name), 100) for name in every[:SHOWN]) + more
