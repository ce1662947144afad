"""Gradient norms of a trial's layers at the start, in the middle and at the end of its training, as a file in its folder.

Plain data, without torch: `nas.training.gradient_recorder` measures them, reports read them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.utils.files import read_json, write_json
from nas.utils.validation import Check, list_of, mapping, number, optional, require, text, whole

FILE = "gradients.json"  # in a trial's folder
STEPS = 10  # over which a moment is averaged
DIGITS = 4  # significant ones of a norm in the file


@dataclass(frozen=True, slots=True)
class Flow:
    """Layers in the order of the forward pass, and their moments: epoch 0 (the first steps), the middle epoch, the last one."""

    layers: tuple[Layer, ...]
    moments: tuple[Moment, ...]

    def until(self, epochs: int) -> tuple[Moment, ...]:
        """The moments of a training's first `epochs` epochs."""
        return tuple(moment for moment in self.moments if max(moment.epoch, 1) <= epochs)


def ends_of(epochs: int) -> frozenset[int]:
    """Of a training of so many epochs, those whose last steps are a moment: the middle one and the last."""
    return frozenset({(epochs + 1) // 2, epochs})


def write(place: Path, digest: str, flow: Flow) -> None:
    """Write the moments so far, of the network with this digest, to a trial's folder. WriteError if that fails."""
    layers = [[layer.name, layer.about, layer.depth, int(layer.on_path)] for layer in flow.layers]
    moments = [
        {**moment.to_dict(), **{name: _rounded(getattr(moment, name)) for name in ("outputs", "weights")}}
        for moment in flow.moments
    ]
    write_json(place / FILE, {"digest": digest, "layers": layers, "gradients": moments})


def read(place: Path, digest: str) -> Flow | None:
    """The gradient flow in a trial's folder; None if there is none of the network with this digest. UsageError if malformed."""
    path = place / FILE
    record = read_json(path)
    if not isinstance(record, dict) or record.get("digest") != digest:
        return None
    require(record, {"layers": list_of(_layer), "gradients": list_of(mapping)}, str(path))
    layers = tuple(Layer(name, about, depth, bool(on_path)) for name, about, depth, on_path in record["layers"])
    moments = tuple(Moment.from_dict(moment) for moment in record["gradients"])
    if any(len(norms) != len(layers) for moment in moments for norms in (moment.outputs, moment.weights)):
        raise UsageError(f"{path}: a norm for each layer is expected")
    return Flow(layers, moments)


def _rounded(norms: tuple[float | None, ...]) -> list[float | None]:
    return [None if norm is None else float(f"{norm:.{DIGITS}g}") for norm in norms]


def _layer(value: object) -> str:
    checks: tuple[Check, ...] = (text, text, whole(), whole(0, 1))
    fits = (
        isinstance(value, list)
        and len(value) == len(checks)
        and not any(c(v) for c, v in zip(checks, value, strict=True))
    )
    return "" if fits else "a layer's four facts"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights. `depth` counts along the network's main path, from 1.

    A layer off that path (in a shortcut, a gate, a squeeze-excitation) has `on_path` False and the depth of the last layer on
    the path before it, in the order of the modules.
    """

    name: str  # of the module: "stages.0.1.branch.0.0"
    about: str  # "Conv2d 16 → 32, 3 × 3"
    depth: int
    on_path: bool

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


_LAYER = tuple(field.name for field in dataclasses.fields(Layer))


@dataclass(frozen=True, slots=True)
class Moment:
    """Norms of every layer, averaged over `steps` steps: the first of a training (`epoch` 0), or the last of an epoch.

    None stands for a layer that no gradient reached, and for a mean that is not finite.
    """

    epoch: int
    steps: int
    outputs: tuple[float | None, ...]  # ||dL/dy||
    weights: tuple[float | None, ...]  # ||dL/dW||

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Moment:
        """UsageError for a malformed record."""
        norms = list_of(optional(number))
        require(data, {"epoch": whole(), "steps": whole(), "outputs": norms, "weights": norms}, "gradients")
        return cls(data["epoch"], data["steps"], tuple(data["outputs"]), tuple(data["weights"]))
