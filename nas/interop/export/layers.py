"""Layers of several blocks as source code of one class, with expressions or parameters for what differs.

A class of a stand-alone file is instantiated for several blocks (its uses), whose layers have equal types in equal order. Each
number of a layer has one value per use; it becomes the first expression that gives all of them: a name (`width`), a product of
the branch's options (`6 * width_in`), a literal, or a parameter of the class. So the text is exact for the network at hand,
whatever registered blocks it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.interop.export.source import Argument, Call, Expression, call
from nas.networks.blocks.activations import LAYER_NORM_EPS
from nas.networks.blocks.block import Block
from nas.networks.blocks.conditional import ConditionalConv, Routed
from nas.networks.blocks.primitives import (
    AvgPool,
    BlurPool,
    Conv,
    LayerNorm,
    Linear,
    MaxPool,
    NormAct,
    Patch,
    SqueezeExcitation,
    ZeroPad,
)
from nas.networks.blocks.res2net import Hierarchy
from nas.networks.blocks.residual_stem import Around

ACTS = {
    "relu": "nn.ReLU",
    "relu6": "nn.ReLU6",
    "leaky_relu": "nn.LeakyReLU",
    "silu": "nn.SiLU",
    "gelu": "nn.GELU",
    "hardswish": "nn.Hardswish",
    "elu": "nn.ELU",
}
RESHAPES = "stride != 1 or width_in != width"


class Mismatch(Exception):
    """Some blocks can't be written as one class, or a layer can't be written at all; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Term:
    """An expression and its value in every use."""

    text: str
    values: tuple[Any, ...]

    @property
    def atomic(self) -> bool:
        return self.text.isidentifier() or self.text.isdigit()


@dataclass(slots=True)
class Writer:
    """Writes the layers of some uses. parameters: of the class, name -> use -> value; shared by the writers of its parts."""

    uses: tuple[Block, ...]
    numbers: tuple[int, ...] = ()  # of these uses among all uses of the class
    parameters: dict[str, dict[int, Any]] = field(default_factory=dict)
    varying: frozenset[str] = frozenset()  # options that differ between uses of the class
    locals: dict[str, Term] = field(default_factory=dict)
    classes: int | None = None  # of the network, if `classes` is a name in the text

    @classmethod
    def of(cls, uses: Sequence[Block]) -> Writer:
        options = uses[0].branch.options()
        varying = frozenset(name for name in options if len({getattr(use.branch, name) for use in uses}) > 1)
        return cls(tuple(uses), tuple(range(len(uses))), varying=varying)

    @classmethod
    def alone(cls, classes: int | None = None) -> Writer:
        """A writer for layers that occur once in a network, with known widths: stem, head."""
        return cls((), (0,), classes=classes)

    def only(self, chosen: Sequence[int]) -> Writer:
        """A writer of the same class for these uses only."""
        uses = tuple(self.uses[k] for k in chosen)
        return Writer(uses, tuple(self.numbers[k] for k in chosen), self.parameters, self.varying)

    # -- numbers ------------------------------------------------------------------------------------------------------

    def same(self, values: Sequence[Any], what: str) -> Any:
        """The value that all uses have; Mismatch if they differ."""
        if len(set(values)) != 1:
            raise Mismatch(f"{what} differs")
        return values[0]

    def terms(self) -> dict[str, Term]:
        if not self.uses:
            return {}
        names = {
            "width": [use.width_out for use in self.uses],
            "width_in": [use.width_in for use in self.uses],
            "stride": [use.stride for use in self.uses],
        }
        return {name: Term(name, tuple(values)) for name, values in names.items()}

    def options(self) -> Iterator[Term]:
        """The branch's numeric options: by name if they differ between uses, else as literals."""
        if not self.uses:
            return
        for name in self.uses[0].branch.options():
            values = tuple(getattr(use.branch, name) for use in self.uses)
            if not isinstance(values[0], (int, float)):
                continue
            yield Term(name, values) if name in self.varying else Term(repr(values[0]), values)

    def _rules(self) -> Iterator[Term]:
        """Products of options, and of options and widths, the simplest first."""
        whole = [term for term in self.options() if isinstance(term.values[0], int) and term.text not in ("0", "1")]
        terms = self.terms()
        yield from whole
        for count in (1, 2, 3):
            for some in itertools.combinations(whole, count):
                if count > 1:
                    yield _product(*some)
                for width in ("width_in", "width"):
                    yield _product(*some, terms[width])

    def _pick(self, values: Sequence[Any], candidates: Iterator[Term] | Sequence[Term]) -> Term | None:
        for term in candidates:
            if term.values == tuple(values):
                for name in self.varying:
                    if name in term.text.replace("(", " ").replace(")", " ").replace(",", " ").split():
                        kept = self.parameters.setdefault(name, {})
                        kept.update(
                            {k: getattr(use.branch, name) for k, use in zip(self.numbers, self.uses, strict=True)}
                        )
                return term
        return None

    def parameter(self, name: str, values: Sequence[Any]) -> Term:
        """A literal if all uses agree, else a parameter of the class."""
        if len(set(values)) == 1:
            return Term(repr(values[0]), tuple(values))
        k, free = 2, name
        while free in self.parameters and any(
            self.parameters[free].get(n, v) != v for n, v in zip(self.numbers, values, strict=True)
        ):
            free, k = f"{name}{k}", k + 1
        self.parameters.setdefault(free, {}).update(zip(self.numbers, values, strict=True))
        return Term(free, tuple(values))

    def width(self, values: Sequence[int], before: Term) -> Term:
        """An output width: the block's, that of a layer before, a product, or a literal."""
        terms = self.terms()
        candidates = itertools.chain(
            [terms["width"]] if terms else [],
            [before] if before.text in self.locals else [],
            self.locals.values(),
            self._rules() if terms else [],
            [terms["width_in"]] if terms else [],
        )
        term = self._pick(values, candidates) or self.parameter("inner", values)
        if term.atomic:
            return term
        k, name = 2, "inner"
        while name in self.locals or name in self.parameters:
            name, k = f"inner{k}", k + 1
        self.locals[name] = term
        return Term(name, term.values)

    def stride(self, values: Sequence[int]) -> str:
        if set(values) == {1}:
            return "1"
        terms = self.terms()
        return (self._pick(values, [terms["stride"]] if terms else []) or self.parameter("step", values)).text

    def kernel(self, values: Sequence[int]) -> str:
        if len(set(values)) == 1:
            return str(values[0])
        return (self._pick(values, self.options()) or self.parameter("kernel", values)).text

    def groups(self, values: Sequence[int], before: Term) -> str:
        if set(values) == {1}:
            return "1"
        if tuple(values) == before.values:
            return before.text
        return (self._pick(values, self.options()) or self.parameter("groups", values)).text

    def squeeze(self, values: Sequence[int], before: Term) -> str:
        bases = [*self.terms().values(), before]
        ratios = [term for term in self.options() if isinstance(term.values[0], float)]
        candidates = []
        for base, ratio in itertools.product(bases, ratios):
            products = [b * r for b, r in zip(base.values, ratio.values, strict=True)]
            for how, rounded in (("round", [round(p) for p in products]), ("int", [int(p) for p in products])):
                text = f"{how}({base.text} * {ratio.text})"
                candidates += [Term(text, tuple(rounded)), Term(f"max(1, {text})", tuple(max(1, r) for r in rounded))]
        return (self._pick(values, candidates) or self.parameter("squeeze", values)).text

    # -- layers -------------------------------------------------------------------------------------------------------

    def sequence(self, rows: Sequence[tuple[Any, ...]], before: Term) -> tuple[Expression, Term]:
        """The layers of each use in sequence, as `module_of_layers` makes them, and the width after them."""
        if len({tuple(type(layer) for layer in row) for row in rows}) != 1:
            raise Mismatch("the layers differ")
        expressions = []
        for column in zip(*rows, strict=True):
            written, before = self.layer(column, before)
            expressions.append(written)
        if not expressions:
            return call("nn.Identity"), before
        return (expressions[0] if len(expressions) == 1 else call("nn.Sequential", *expressions)), before

    def layer(self, column: Sequence[Any], before: Term) -> tuple[Expression, Term]:
        """A layer, given as it is in each use, on an input of width `before`: its expression, and its output width."""
        column = [each._conv if isinstance(each, Hierarchy) and each.scale == 1 else each for each in column]
        kinds = {type(layer) for layer in column}
        if len(kinds) != 1:
            raise Mismatch("the layers differ")
        kind = kinds.pop()
        method = _METHODS.get(kind)
        if method is None:
            raise Mismatch(f"its layer {kind.__name__} is not known to the format")
        written, after = method(self, _Column(column), before)
        return written, after

    def _conv(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        norm, bias = self.same(column.norm, "the norm"), self.same(column.bias, "the bias")
        name = self.same(column.act, "the activation")
        out, sizes = self._sizes(column, before)
        if norm and not bias:
            return call("conv_norm", *sizes, **({"act": act(name)} if name else {})), out
        kernel = self.kernel(column.kernel)
        padding = str(int(kernel) // 2) if kernel.isdigit() else f"{kernel} // 2"
        more = {"padding": padding} if padding != "0" else {}
        conv = call("nn.Conv2d", *sizes, **more, **({} if bias else {"bias": "False"}))
        chain: list[Argument] = [conv]
        if norm:
            chain.append(call("nn.BatchNorm2d", out.text, eps="NORM_EPS"))
        if name:
            chain.append(act(name))
        return (conv if len(chain) == 1 else call("nn.Sequential", *chain)), out

    def _conditional(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        name = self.same(column.act, "the activation")
        out, sizes = self._sizes(column, before)
        experts = (self._pick(column.experts, self.options()) or self.parameter("experts", column.experts)).text
        more = {"act": act(name)} if name else {}
        return call("ConditionalUnit", *sizes, **more, experts=experts), out

    def _sizes(self, column: _Column, before: Term) -> tuple[Term, list[Argument]]:
        out = self.width(column.out, before)
        stride, groups = self.stride(column.stride), self.groups(column.groups, before)
        sizes: list[Argument] = [before.text, out.text, self.kernel(column.kernel)]
        sizes += [("stride", stride)] if stride != "1" else []
        sizes += [("groups", groups)] if groups != "1" else []
        return out, sizes

    def _routed(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        experts = (self._pick(column.experts, self.options()) or self.parameter("experts", column.experts)).text
        start, expressions = before, []
        if len({len(layers) for layers in column.layers}) != 1:
            raise Mismatch("the layers differ")
        for inner in zip(*column.layers, strict=True):
            written, before = self.layer(inner, before)
            expressions.append(written)
        return call("Routed", start.text, experts, *expressions), before

    def _around(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        inside, after = self.layer(column.conv, before)
        return call("Around", inside), after

    def _patch(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        out = self.width(column.out, before)
        return call("PatchConv", before.text, out.text, self.stride(column.stride)), out

    def _norm_act(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        return call("norm_act", before.text, act(self.same(column.act, "the activation"))), before

    def _layer_norm(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        return call("LayerNorm2d", before.text, eps=repr(LAYER_NORM_EPS)), before

    def _excitation(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        name = self.same(column.act, "the activation")
        return call("SqueezeExcite", before.text, self.squeeze(column.squeeze, before), act(name)), before

    def _max_pool(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        return call("nn.MaxPool2d", "3", stride="2", padding="1"), before

    def _avg_pool(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        stride = self.stride(column.stride)
        return call("nn.AvgPool2d", stride, ceil_mode="True", count_include_pad="False"), before

    def _blur(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        return call("Blur", before.text, self.stride(column.stride)), before

    def _zero_pad(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        out = self.width(column.out, before)
        extra = f"{out.text} - {before.text}" if out.text != before.text else "0"
        return call("ZeroPad", extra, self.stride(column.stride)), out

    def _hierarchy(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        name = self.same(column.act, "the activation")
        scale = self._pick(column.scale, self.options()) or self.parameter("scale", column.scale)
        group = self.width(column.group, before)
        more: dict[str, Expression] = {}
        if (stride := self.stride(column.stride)) != "1":
            more["stride"] = stride
        if (cardinality := self.groups(column.cardinality, Term("", ()))) != "1":
            more["cardinality"] = cardinality
        if any(column.first):
            more["first"] = self._reshaping(column.first)
        return call("Cascade", scale.text, group.text, ACTS[name], **more), before

    def _reshaping(self, values: Sequence[bool]) -> str:
        if all(values):
            return "True"
        changed = [use.stride != 1 or use.width_in != use.width_out for use in self.uses]
        if list(values) != changed:
            raise Mismatch("what its first block is differs")
        return RESHAPES

    def _linear(self, column: _Column, before: Term) -> tuple[Expression, Term]:
        chain: list[Argument] = [call("nn.AdaptiveAvgPool2d", "1"), call("nn.Flatten")]
        if self.same(column.norm, "the norm"):
            chain.append(call("nn.LayerNorm", before.text, eps=repr(LAYER_NORM_EPS)))
        if dropout := self.same(column.dropout, "dropout"):
            chain.append(call("nn.Dropout", repr(dropout)))
        out = self.parameter("out", column.out)
        if self.classes is not None and set(column.out) == {self.classes}:
            out = Term("classes", out.values)
        return call("nn.Sequential", *chain, call("nn.Linear", before.text, out.text)), out


class _Column:
    """The same layer in each use: attributes are lists with one value per use."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = layers

    def __getattr__(self, name: str) -> list[Any]:
        return [getattr(layer, name) for layer in self._layers]


_METHODS = {
    Conv: Writer._conv,
    ConditionalConv: Writer._conditional,
    Routed: Writer._routed,
    Around: Writer._around,
    Patch: Writer._patch,
    NormAct: Writer._norm_act,
    LayerNorm: Writer._layer_norm,
    SqueezeExcitation: Writer._excitation,
    MaxPool: Writer._max_pool,
    AvgPool: Writer._avg_pool,
    BlurPool: Writer._blur,
    ZeroPad: Writer._zero_pad,
    Hierarchy: Writer._hierarchy,
    Linear: Writer._linear,
}


def act(name: str) -> Call:
    """The constructor call of an activation, in place if PyTorch's supports that."""
    return call(ACTS[name]) if name == "gelu" else call(ACTS[name], inplace="True")


def _product(*terms: Term) -> Term:
    """The product of terms, with the literals multiplied and in front."""
    literal, names = 1, []
    for term in terms:
        if term.text.isdigit():
            literal *= int(term.text)
        else:
            names.append(term.text)
    text = " * ".join(([str(literal)] if literal != 1 or not names else []) + names)
    values = []
    for row in zip(*(term.values for term in terms), strict=True):
        product = 1
        for value in row:
            product *= value
        values.append(product)
    return Term(text, tuple(values))
