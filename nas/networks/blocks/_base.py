"""Base classes of a network's parts: a part is a frozen set of options from which its layers, cost and module follow.

A part is data: torch is imported only when a module is created. A part either lists its `layers`, from which cost, module,
memory and source code follow, or defines these itself.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast

from nas.errors import UsageError
from nas.networks.blocks.activations import ACTIVATIONS
from nas.networks.blocks.layer import Layer, cost_of_layers, module_of_layers
from nas.networks.blocks.primitives import NormAct, SqueezeExcitation, squeezed
from nas.networks.blocks.source import Column, Expression, Mismatch, Term, Writer
from nas.networks.cost import Cost, Shape
from nas.utils import limits
from nas.utils.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from torch import nn


def option(
    default: Value, *, minimum: float | None = None, maximum: float | None = None, among: tuple[Value, ...] = ()
) -> Any:
    """A field of a part: its default, its range (ends included), or the values that it may have."""
    metadata = {"minimum": minimum, "maximum": maximum, "among": among}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Part(ABC):
    """Base of branches, shortcuts, merges, stems and heads: frozen dataclasses of typed options."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        for field in _fields(type(self)):
            self._check(field, getattr(self, field.name))

    def _check(self, field: dataclasses.Field[Any], value: object) -> None:
        place = f"{self.kind}: {field.name}"
        among, minimum, maximum = (field.metadata[key] for key in ("among", "minimum", "maximum"))
        if isinstance(field.default, int):
            if isinstance(value, bool) or not isinstance(value, int):
                raise UsageError(f"{place} must be a whole number, not {value!r}")
            maximum = MAX_OPTION if maximum is None else maximum
        elif isinstance(field.default, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
                raise UsageError(f"{place} must be a finite number, not {value!r}")
            if minimum is None and abs(value) > MAX_OPTION:
                raise UsageError(f"{place} must be from {-MAX_OPTION:,} to {MAX_OPTION:,}, not {value!r:.80}")
        if among:
            if value not in among:
                raise UsageError(f"{place} must be one of {', '.join(map(str, among))}, not {value!r}")
        elif minimum is not None and not minimum <= value <= maximum:
            raise UsageError(f"{place} must be from {minimum} to {maximum:,}, not {value!r:.80}")
        if isinstance(field.default, float) and (isinstance(value, int) or value == 0):
            # 1 and 1.0, 0.0 and -0.0 are one value each, with one digest.
            object.__setattr__(self, field.name, float(value) + 0.0)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of the options of this kind."""
        return tuple(field.name for field in _fields(cls))

    def to_dict(self) -> dict[str, Value]:
        """`{"kind": ..., option: value, ...}` with every option."""
        return {"kind": self.kind, **{name: getattr(self, name) for name in self.options()}}

    def changed_options(self) -> dict[str, Value]:
        """`to_dict` without the options that have their default values."""
        defaults = {field.name: field.default for field in _fields(type(self))}
        return {name: value for name, value in self.to_dict().items() if name == "kind" or value != defaults[name]}

    @classmethod
    def make(cls, options: Mapping[str, object]) -> Self:
        """The part with these options; UsageError for an option that it does not have."""
        for name in options:
            if name not in cls.options():
                known = ", ".join(cls.options()) or "none"
                raise UsageError(
                    f"{cls.kind} has no option {name!r}{did_you_mean(name, list(cls.options()))}; it has: {known}"
                )
        return cls(**options)


def _fields(kind: type[Part]) -> tuple[dataclasses.Field[Any], ...]:
    return _listed(cast(Hashable, kind))  # a class is hashable, whether or not its instances are


@cache  # one entry per kind; `dataclasses.fields` creates the tuple at each call
def _listed(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


MAX_OPTION = limits.WIDTH  # far above any real width or count; a hostile file must not request a petabyte


class Branch(Part):
    """H(x): the function that a block adds to its shortcut."""

    __slots__ = ()
    enters_reshaped: ClassVar[bool] = False  # whether the entry already has the block's width and stride (ConvNeXt)

    @property
    def raw(self) -> bool:
        """Whether the trunk before and after the branch has no norm and activation; the branch then starts with its own."""
        return False

    @property
    def activation(self) -> str:
        """The activation after the merge; '' for none."""
        return ""

    def entry(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        """Layers before the branch and, where the block changes the shape, before the shortcut too."""
        return ()

    @abstractmethod
    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        """The branch's layers, from the block's input of `width_in` channels to `width_out` channels at this stride."""

    def canonical(self, stride: int) -> Branch:
        """The representative of all branches that build the same layers at this stride."""
        return self

    def scaled(self, scale: Callable[[int], int]) -> Branch:
        """The branch of a network whose widths w become scale(w); inner widths that are options in channels are scaled alike."""
        return self

    def cost(self, shape: Shape, width_out: int, stride: int) -> tuple[Cost, Shape]:
        return cost_of_layers(self.layers(shape.channels, width_out, stride), shape)

    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module:
        return module_of_layers(self.layers(width_in, width_out, stride), width_in)


@dataclass(frozen=True, slots=True)
class Convolutional(Branch):
    """Base of the branches of a classic residual net: an activation after the sum, and optional squeeze-excitation.

    se_ratio: squeeze-excitation at the branch's end with se_ratio x width channels in between (0: none; SENet: 1/16).
    """

    _: KW_ONLY  # so that a branch's own options come first
    act: str = option("relu", among=ACTIVATIONS)
    se_ratio: float = option(0.0, minimum=0, maximum=1)

    @property
    def activation(self) -> str:
        return "" if self.raw else self.act

    def entry(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        return (NormAct(self.act),) if self.raw else ()

    def excitation(self, width: int) -> tuple[Layer, ...]:
        """The squeeze-excitation on `width` channels; no layers if se_ratio is 0."""
        return (SqueezeExcitation(squeezed(width, self.se_ratio), self.act),) if self.se_ratio else ()


class Shortcut(Part):
    """The path around a branch. `norm` is False in a raw trunk, whose projections have no norm."""

    __slots__ = ()

    @abstractmethod
    def layers(self, width_in: int, width_out: int, stride: int, norm: bool) -> tuple[Layer, ...] | None:
        """The path's layers: () for the identity, None if there is no path between these shapes."""

    def canonical(self, width_in: int, width_out: int, stride: int) -> Shortcut:
        """The representative of all shortcuts that build the same path between these shapes."""
        return self


@dataclass(frozen=True, slots=True)
class MergeSource:
    """A merge in a stand-alone file.

    output: the merge's output as an expression of {shortcut}, {branch} and {around}, the input of the shortcut.
    modules: attributes of the block that the expression calls, by name.
    """

    output: str
    modules: tuple[tuple[str, Expression], ...] = ()


class Merge(Part):
    """How r, shortcut(r) and branch(a) become the block's output; r is what the shortcut reads."""

    __slots__ = ()
    uses_shortcut: ClassVar[bool] = True
    kept_tensors: ClassVar[int] = 2  # of the output's size, for the backward pass: the output, and those that it reads
    equation: ClassVar[str] = ""  # of shortcut(x) and H(x), for a reader

    def cost(self, shape: Shape, width_out: int, stride: int) -> Cost:
        """Cost beyond the branch's and the shortcut's, with r of `shape`."""
        return Cost()

    @abstractmethod
    def module(self, width_in: int, width_out: int, stride: int) -> nn.Module | None:
        """A module called as `merge(r, shortcut(r), branch(a))`; None if the block's output is the branch's alone."""

    @classmethod
    def source(cls, uses: Column, before: Term, write: Writer) -> MergeSource:
        """The merge in a stand-alone file, for several blocks. before: the width of {around}.

        Mismatch if it can't be written, which is the default.
        """
        raise Mismatch(f"its merge {cls.kind} is not known to the format")


@dataclass(frozen=True, slots=True)
class Stem(Part):
    """From the image to the first stage, with `width` output channels."""

    width: int = option(64, minimum=1)

    @abstractmethod
    def layers(self, raw: bool) -> tuple[Layer, ...]:
        """`raw`: the first branch starts with its own norm and activation."""

    def canonical(self, raw: bool) -> Stem:
        """The representative of all stems that build the same layers."""
        return self


@dataclass(frozen=True, slots=True)
class Head(Part):
    """From the last stage to the logits of `classes` classes."""

    classes: int = option(1000, minimum=1)

    def scaled(self, scale: Callable[[int], int]) -> Head:
        """The head of a network whose widths w become scale(w); the classes stay."""
        return self

    @abstractmethod
    def layers(self, width_in: int, raw: bool) -> tuple[Layer, ...]:
        """`raw`: the trunk ends without norm and activation."""

    def canonical(self, raw: bool) -> Head:
        """The representative of all heads that build the same layers."""
        return self


BRANCHES: Registry[type[Branch]] = Registry("block")
SHORTCUTS: Registry[type[Shortcut]] = Registry("shortcut")
MERGES: Registry[type[Merge]] = Registry("merge")
STEMS: Registry[type[Stem]] = Registry("stem")
HEADS: Registry[type[Head]] = Registry("head")

Value: TypeAlias = int | float | str
