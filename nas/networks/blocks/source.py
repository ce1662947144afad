"""Source code of layers: an expression that creates a layer in several blocks of one class, with names for what differs.

A class of a stand-alone file is instantiated for several blocks (its uses), whose layers have equal types in equal order. Each
number of a layer has one value per use; it becomes the first expression that gives all of them: a name (`width`), a product of
the branch's options (`6 * width_in`), a literal, or a parameter of the class. So the text is exact for the network at hand,
whatever registered blocks it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nas.networks.blocks.activations import CLASSES, WITHOUT_IN_PLACE

RESHAPES = "stride != 1 or width_in != width"


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`; an argument is an expression, another call, or a pair of a keyword and one of these."""

    name: str
    arguments: tuple[Argument, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_flat, self.arguments))})"


Expression: TypeAlias = str | Call
Argument: TypeAlias = Expression | tuple[str, Expression]


def call(name: str, *arguments: Argument, **keywords: Expression) -> Call:
    return Call(name, (*arguments, *keywords.items()))


def activation_call(name: str) -> Call:
    """The constructor call of an activation, in place if PyTorch supports that."""
    return call(activation_class(name), **({} if name in WITHOUT_IN_PLACE else {"inplace": "True"}))


def activation_class(name: str) -> str:
    return f"nn.{CLASSES[name]}"


def _flat(argument: Argument) -> str:
    return f"{argument[0]}={argument[1]}" if isinstance(argument, tuple) else str(argument)


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


class Column:
    """The same part in each use: an attribute is the list of its values."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> list[Any]:
        return [getattr(part, name) for part in self._parts]


@dataclass(slots=True)
class Writer:
    """Finds expressions for the numbers of some uses of a class; the writers of its parts share `parameters` and `modules`."""

    numbers: tuple[int, ...]  # of these uses among all uses of the class
    terms: Mapping[str, Term]  # the block's width, width_in and stride; none for stem and head
    values: Mapping[str, tuple[Any, ...]]  # of the branch's options
    varying: frozenset[str] = frozenset()  # options that differ between uses of the class
    parameters: dict[str, dict[int, Any]] = field(default_factory=dict)  # of the class: name -> use -> value
    modules: dict[str, type] = field(default_factory=dict)  # classes that the text needs, by name
    locals: dict[str, Term] = field(default_factory=dict)
    classes: int | None = None  # of the network, if `classes` is a name in the text

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], values: Mapping[str, tuple[Any, ...]]) -> Writer:
        """A writer for blocks, from the values of width, width_in and stride and of the branch's options in each use."""
        varying = frozenset(name for name, each in values.items() if len(set(each)) > 1)
        terms = {name: Term(name, tuple(sizes)) for name, sizes in shapes.items()}
        return cls(tuple(range(len(shapes["width"]))), terms, values, varying)

    @classmethod
    def alone(cls, classes: int | None = None) -> Writer:
        """A writer for layers that occur once in a network, with known widths: stem, head."""
        return cls((0,), {}, {}, classes=classes)

    def only(self, chosen: Sequence[int]) -> Writer:
        """A writer of the same class for these uses only."""
        terms = {name: Term(name, tuple(term.values[k] for k in chosen)) for name, term in self.terms.items()}
        values = {name: tuple(each[k] for k in chosen) for name, each in self.values.items()}
        numbers = tuple(self.numbers[k] for k in chosen)
        return Writer(numbers, terms, values, self.varying, self.parameters, self.modules)

    def module(self, kind: type) -> str:
        """The name of a class of modules, whose source code the file will have."""
        if self.modules.setdefault(kind.__name__, kind) is not kind:
            raise Mismatch(f"two of its modules are called {kind.__name__}")
        return kind.__name__

    def same(self, values: Sequence[Any], what: str) -> Any:
        """The value that all uses have; Mismatch if they differ."""
        if len(set(values)) != 1:
            raise Mismatch(f"{what} differs")
        return values[0]

    def _options(self) -> Iterator[Term]:
        """The branch's numeric options: by name if they differ between uses, else as literals."""
        for name, values in self.values.items():
            if isinstance(values[0], (int, float)):
                yield Term(name, values) if name in self.varying else Term(repr(values[0]), values)

    def _rules(self) -> Iterator[Term]:
        """Products of options, and of options and widths, the simplest first."""
        whole = [term for term in self._options() if isinstance(term.values[0], int) and term.text not in ("0", "1")]
        yield from whole
        for count in (1, 2, 3):
            for some in itertools.combinations(whole, count):
                if count > 1:
                    yield _product(*some)
                for width in ("width_in", "width"):
                    yield _product(*some, self.terms[width])

    def _pick(self, values: Sequence[Any], candidates: Iterator[Term] | Sequence[Term]) -> Term | None:
        for term in candidates:
            if term.values == tuple(values):
                for name in self.varying:
                    if name in term.text.replace("(", " ").replace(")", " ").replace(",", " ").split():
                        known = self.parameters.setdefault(name, {})
                        known.update(zip(self.numbers, self.values[name], strict=True))
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

    def option(self, name: str, values: Sequence[Any]) -> str:
        """An option of the branch with these values; a literal or a parameter `name` if there is none."""
        return (self._pick(values, self._options()) or self.parameter(name, values)).text

    def width(self, values: Sequence[int], before: Term) -> Term:
        """An output width: the block's, that of a layer before, a product, or a literal."""
        terms = self.terms
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
        strides = [self.terms["stride"]] if self.terms else []
        return (self._pick(values, strides) or self.parameter("step", values)).text

    def kernel(self, values: Sequence[int]) -> str:
        if len(set(values)) == 1:
            return str(values[0])
        return self.option("kernel", values)

    def groups(self, values: Sequence[int], before: Term) -> str:
        if set(values) == {1}:
            return "1"
        if tuple(values) == before.values:
            return before.text
        return self.option("groups", values)

    def squeeze(self, values: Sequence[int], before: Term) -> str:
        bases = [*self.terms.values(), before]
        ratios = [term for term in self._options() if isinstance(term.values[0], float)]
        candidates = []
        for base, ratio in itertools.product(bases, ratios):
            products = [b * r for b, r in zip(base.values, ratio.values, strict=True)]
            for how, rounded in (("round", [round(p) for p in products]), ("int", [int(p) for p in products])):
                text = f"{how}({base.text} * {ratio.text})"
                candidates += [Term(text, tuple(rounded)), Term(f"max(1, {text})", tuple(max(1, r) for r in rounded))]
        return (self._pick(values, candidates) or self.parameter("squeeze", values)).text

    def changes_shape(self, values: Sequence[bool]) -> str:
        """A condition that holds where a block changes width or resolution; Mismatch if `values` hold elsewhere."""
        if all(values):
            return "True"
        widths, before, strides = (self.terms[name].values for name in ("width", "width_in", "stride"))
        changed = [step != 1 or a != b for step, a, b in zip(strides, before, widths, strict=True)]
        if list(values) != changed:
            raise Mismatch("what its first block is differs")
        return RESHAPES

    def activation(self, names: Sequence[str]) -> str:
        """The activation's name, which all uses must share."""
        name: str = self.same(names, "the activation")
        return name

    def layer(self, layers: Sequence[Any], before: Term) -> tuple[Expression, Term]:
        """A layer, given as it is in each use, on an input of width `before`: its expression and its output width."""
        kinds = {type(layer) for layer in layers}
        if len(kinds) != 1:
            raise Mismatch("the layers differ")
        made: tuple[Expression, Term] = kinds.pop().source(Column(layers), before, self)
        return made

    def layers(self, rows: Sequence[Sequence[Any]], before: Term) -> tuple[list[Argument], Term]:
        """Consecutive layers of each use: their expressions, and the width of the last output."""
        if len({tuple(type(layer) for layer in row) for row in rows}) != 1:
            raise Mismatch("the layers differ")
        expressions: list[Argument] = []
        for column in zip(*rows, strict=True):
            written, before = self.layer(column, before)
            expressions.append(written)
        return expressions, before

    def sequence(self, rows: Sequence[Sequence[Any]], before: Term) -> tuple[Expression, Term]:
        """The same as one module."""
        expressions, after = self.layers(rows, before)
        if not expressions:
            return call("nn.Identity"), after
        if len(expressions) == 1 and not isinstance(expressions[0], tuple):
            return expressions[0], after
        return call("nn.Sequential", *expressions), after


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
