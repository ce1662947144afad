"""What every part of a network is: a frozen set of options that states its layers, and so its cost and its module.

A part is data. It costs no import of torch to hold one, to check it or to count it: torch is imported when a module is
made. A part either lists its `layers`, from which cost and module both follow, or states `cost` and `module` itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from nas.cost import Cost, Shape
from nas.errors import UsageError
from nas.knobs import Value
from nas.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from torch import nn


class Layer(Protocol):
    """One primitive: `cost` of applying it to a shape with the shape that comes out, and the `module` that does so."""

    def cost(self, shape: Shape) -> tuple[Cost, Shape]: ...

    def module(self, width_in: int) -> nn.Module: ...

    def width(self, width_in: int) -> int: ...


def cost_of_layers(layers: Sequence[Layer], shape: Shape) -> tuple[Cost, Shape]:
    """Sum of the layers' costs, each applied to what the one before gives."""
    total = Cost()
    for layer in layers:
        cost, shape = layer.cost(shape)
        total += cost
    return total, shape


def module_of_layers(layers: Sequence[Layer], width_in: int) -> nn.Module:
    """The layers one after another; an identity if there are none."""
    from torch import nn

    modules = []
    for layer in layers:
        modules.append(layer.module(width_in))
        width_in = layer.width(width_in)
    if not modules:
        return nn.Identity()
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def option(default: Value, *, minimum: int | None = None, among: tuple[str, ...] = ()) -> Any:
    """A field of a part: its default and what it may be."""
    return dataclasses.field(default=default, metadata={"minimum": minimum, "among": among})


@dataclass(frozen=True, slots=True)
class Part:
    """Base of branches, shortcuts, merges, stems and heads: typed options that say themselves as a flat mapping."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check(field, getattr(self, field.name))

    def _check(self, field: dataclasses.Field[Any], value: object) -> None:
        place = f"{self.kind}: {field.name}"
        if isinstance(field.default, int):
            if isinstance(value, bool) or not isinstance(value, int):
                raise UsageError(f"{place} must be a whole number, not {value!r}")
            minimum = field.metadata["minimum"]
            if minimum is not None and not minimum <= value <= MAX_OPTION:
                raise UsageError(f"{place} must be from {minimum} to {MAX_OPTION:,}, not {value!r}")
        elif isinstance(field.default, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UsageError(f"{place} must be a finite number, not {value!r}")
            object.__setattr__(self, field.name, float(value))  # 1 and 1.0 are one value, with one digest
        elif value not in field.metadata["among"]:
            raise UsageError(f"{place} must be one of {', '.join(field.metadata['among'])}, not {value!r}")

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of the options of this kind."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def to_dict(self) -> dict[str, Value]:
        """`{"kind": ..., option: value, ...}`, every option said."""
        return {"kind": self.kind, **{name: getattr(self, name) for name in self.options()}}

    def said(self) -> dict[str, Value]:
        """`to_dict` without the options that are at their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in self.to_dict().items() if name == "kind" or value != defaults[name]}

    @classmethod
    def make(cls, options: Mapping[str, object]) -> Self:
        """This part with these options; UsageError for one that it does not have."""
        for name in options:
            if name not in cls.options():
                known = ", ".join(cls.options()) or "none"
                raise UsageError(
                    f"{cls.kind} has no option {name!r}{did_you_mean(name, list(cls.options()))}; it has: {known}"
                )
        return cls(**options)


MAX_OPTION = 1 << 20  # no real width or count comes near; a hostile file must not ask for a petabyte


class Branch(Part):
    """H(x): what a block computes beside its shortcut."""

    __slots__ = ()

    @property
    def preactivated(self) -> bool:
        """Whether norm and activation stand before the convolutions, so that the trunk itself stays raw."""
        return False

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        raise NotImplementedError

    def canonical(self, stride: int) -> Branch:
        """The one of all options that build the same branch at this stride."""
        return self

    def cost(self, shape: Shape, width_out: int, stride: int) -> tuple[Cost, Shape]:
        return cost_of_layers(self.layers(shape.channels, width_out, stride), shape)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        return module_of_layers(self.layers(width_in, width_out, stride), width_in)


class Shortcut(Part):
    """The path around a branch. `norm` is False beside pre-activated branches, whose projections carry no norm."""

    __slots__ = ()

    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...]:
        raise NotImplementedError

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        """The one of all kinds that build the same path between these shapes."""
        return self


class Merge(Part):
    """How x, shortcut(x) and branch(x) become the block's output."""

    __slots__ = ()
    uses_shortcut: ClassVar[bool] = True

    def cost(self, shape: Shape) -> Cost:
        """Cost beyond the branch's and the shortcut's, on an output of `shape`."""
        return Cost()

    def module(self, width: int) -> nn.Module:
        """A module called as `merge(x, shortcut(x), branch(x))`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Stem(Part):
    """From the image to the first stage, with `width` output channels."""

    width: int = option(64, minimum=1)

    def layers(self, raw: bool) -> tuple[Layer, ...]:
        """`raw`: the first branch brings its own norm and activation."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Head(Part):
    """From the last stage to the logits of `classes` classes."""

    classes: int = option(1000, minimum=1)

    def layers(self, width_in: int, raw: bool) -> tuple[Layer, ...]:
        """`raw`: the trunk ends without norm and activation."""
        raise NotImplementedError


BRANCHES: Registry[type[Branch]] = Registry("block")
SHORTCUTS: Registry[type[Shortcut]] = Registry("shortcut")
MERGES: Registry[type[Merge]] = Registry("merge")
STEMS: Registry[type[Stem]] = Registry("stem")
HEADS: Registry[type[Head]] = Registry("head")
