"""Blocks as classes of a stand-alone file: one class for each kind of block, with parameters for what differs between stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nas.interop.export.source import docstring, lines
from nas.networks.architecture import Architecture
from nas.networks.blocks import Block, Layer
from nas.networks.blocks.source import RESHAPES, Call, Column, Expression, Mismatch, Term, Writer, activation_call, call

Row = tuple[Layer, ...] | None  # layers of a path; None without one


@dataclass(frozen=True, slots=True)
class BlockClass:
    """One class: its name, its text, the module classes that it needs, and the constructor of each of its stages' blocks."""

    name: str
    text: list[str]
    modules: dict[str, type]
    stages: dict[int, Expression]  # by number of the stage, from 0


def block_classes(architecture: Architecture, taken: frozenset[str]) -> list[BlockClass]:
    """The classes of all stages' blocks, in order of first use. Mismatch, naming the stage, for a block that can't be written."""
    groups: list[_Group] = []
    width = architecture.stem.width
    for number, stage in enumerate(architecture.stages):
        uses = [block for block, _ in stage.blocks(width)]
        width = stage.width
        fits = (group for group in groups if group.takes(number, uses))
        if next(fits, None) is None:
            group = _Group(type(stage.branch).__name__)
            try:
                group.add(number, uses)
            except Mismatch as reason:
                raise Mismatch(f"stage {number + 1}, a {stage.branch.kind} block: {reason}") from None
            groups.append(group)
    names = taken.union(*(group.writer().modules for group in groups))
    classes: list[BlockClass] = []
    for group in groups:
        classes.append(group.written(names | {each.name for each in classes}))
    return classes


def _free(name: str, taken: frozenset[str]) -> str:
    free, k = name, 2
    while free in taken:
        free, k = f"{name}{k}", k + 1
    return free


@dataclass(slots=True)
class _Group:
    """Stages whose blocks share a class. name: the class's, unless it is taken."""

    name: str
    uses: list[Block] = field(default_factory=list)
    stages: dict[int, list[int]] = field(default_factory=dict)  # number of the stage -> numbers of its uses

    def takes(self, number: int, uses: Sequence[Block]) -> bool:
        """Add a stage's blocks if the class can express them; whether it can."""
        if any(type(use.branch) is not type(self.uses[0].branch) for use in uses):
            return False
        if len({type(use.merge) for use in (*self.uses, *uses) if use.merge.uses_shortcut}) > 1:
            return False
        try:
            self.add(number, uses)
        except Mismatch:
            return False
        return True

    def add(self, number: int, uses: Sequence[Block]) -> None:
        before = list(self.uses), dict(self.stages)
        self.stages[number] = list(range(len(self.uses), len(self.uses) + len(uses)))
        self.uses += uses
        try:
            self.writer()
        except Mismatch:
            self.uses, self.stages = before
            raise

    def writer(self) -> Writer:
        """The writer after it has written the class."""
        writer = _writer(self.uses)
        _write(self.name, self.uses, writer)
        return writer

    def written(self, taken: frozenset[str]) -> BlockClass:
        writer = _writer(self.uses)
        name = _free(self.name, taken)
        text = _write(name, self.uses, writer)
        stages: dict[int, Expression] = {}
        for number, uses in self.stages.items():
            options: dict[str, Expression] = {}
            for option, values in writer.parameters.items():
                known = [values[k] for k in uses if k in values] or [getattr(self.uses[uses[0]].branch, option, None)]
                options[option] = repr(
                    next((value for value in known if value is not None), next(iter(values.values())))
                )
            stages[number] = call("partial", name, **options) if options else name
        return BlockClass(name, text, writer.modules, stages)


def _writer(uses: Sequence[Block]) -> Writer:
    shapes = {
        "width": [use.width_out for use in uses],
        "width_in": [use.width_in for use in uses],
        "stride": [use.stride for use in uses],
    }
    options = {name: tuple(getattr(use.branch, name) for use in uses) for name in uses[0].branch.options()}
    return Writer.of(shapes, options)


def _write(name: str, uses: Sequence[Block], writer: Writer) -> list[str]:
    """The text of the class for its uses."""
    reshaping = [use.stride != 1 or use.width_in != use.width_out for use in uses]
    terms = writer.terms
    inside = writer.same([use.branch.enters_reshaped for use in uses], "where its entry stands")
    start = terms["width"] if inside else terms["width_in"]
    body: list[str] = []  # of __init__
    forward: list[str] = []

    # In the order of the tensors in our block.
    entries = [use.entry() for use in uses]
    x = around = "x"
    if any(entries):
        body += _choice(uses, writer, "pre", list(entries), terms["width_in"])
        if all(entries):
            x = "a"
            around = (
                "a if self.reshapes else x"
                if any(reshaping) and not all(reshaping)
                else ("a" if all(reshaping) else "x")
            )
            forward.append("a = self.pre(x)")
            if "if" in around:
                body.append(f"self.reshapes = {RESHAPES}")
                forward.append(f"around = {around}")
                around = "around"
        else:
            forward.append("x = self.pre(x)")
    rows = [use.branch.layers(*use.inner) for use in uses]
    branch, _ = writer.sequence(rows, start)
    inner = [f"{local} = {term.text}" for local, term in writer.locals.items()]
    body += lines(branch, 8, "self.branch = ")
    paths: list[Row] = [use.path() for use in uses]
    y = _merged(uses, writer, body, forward, paths, reshaping, start, x, around)
    name_of_act = writer.activation([use.branch.activation for use in uses])
    if name_of_act:
        body += [f"self.act = {activation_call(name_of_act)}"]
    if y is not None:
        forward += [f"y: Tensor = self.act({y})" if name_of_act else f"y: Tensor = {y}"]
    elif name_of_act:
        forward += ["y = self.act(y)"]
    forward += ["return y"]
    signature = ["self", "width_in: int", "width: int", "stride: int"]
    kinds = {k: type(next(iter(values.values()))).__name__ for k, values in writer.parameters.items()}
    if kinds:
        signature += ["*", *(f"{option}: {kind}" for option, kind in kinds.items())]
    margin = " " * 8
    return [
        f"class {name}(nn.Module):",
        *docstring(_about(next((use for use in uses if use.path() is not None), uses[0])), 4),
        "",
        *lines(Call("__init__", tuple(signature)), 4, "def ", " -> None:"),
        f"{margin}super().__init__()",
        *(f"{margin}{line}" for line in inner),
        *(line if line.startswith(" ") else margin + line for line in body),
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *(f"{margin}{line}" for line in forward),
    ]


def _choice(uses: Sequence[Block], writer: Writer, name: str, rows: list[Row], start: Term) -> list[str]:
    """`self.<name> = ...`, with conditions if uses differ in their layers."""
    kinds = [None if row is None else tuple(type(layer) for layer in row) for row in rows]
    everything = list(range(len(rows)))

    def assigned(chosen: Sequence[int], indent: int, annotation: str = "") -> list[str]:
        row = rows[chosen[0]]
        if row is None:
            return [f"{' ' * indent}self.{name}{annotation} = None"]
        part = writer.only(chosen)
        begin = Term(start.text, tuple(start.values[k] for k in chosen))
        made, _ = part.sequence([rows[k] or () for k in chosen], begin)
        part.locals = {local: term for local, term in part.locals.items() if term.text not in ("width", "width_in")}
        if part.locals:
            raise Mismatch("the widths around its branch follow no rule")
        return lines(made, indent, f"self.{name}{annotation} = ")

    if len(set(kinds)) == 1:
        return assigned(everything, 8)
    annotation = ": nn.Module | None" if None in kinds else ": nn.Module"
    for conditions in _CONDITIONS:
        cells: list[tuple[str, list[int]]] = []
        left = everything
        for text, holds in conditions:
            cell = [k for k in left if holds(uses[k])]
            left = [k for k in left if k not in cell]
            if cell:
                cells.append((text, cell))
        if left and all(len({kinds[k] for k in cell}) == 1 for cell in (left, *(cell for _, cell in cells))):
            statements = assigned(left, 8, annotation)
            for k, (text, cell) in enumerate(cells):
                statements += [f"        {'elif' if k else 'if'} {text}:", *assigned(cell, 12)]
            return statements
    raise Mismatch("the ways around its branch follow no rule")


_Condition = tuple[str, Callable[[Block], bool]]
_STRIDED: _Condition = ("stride != 1", lambda use: use.stride != 1)
_WIDENED: _Condition = ("width_in != width", lambda use: use.width_in != use.width_out)
_RESHAPED: _Condition = (RESHAPES, lambda use: use.stride != 1 or use.width_in != use.width_out)
_CONDITIONS: tuple[tuple[_Condition, ...], ...] = ((_RESHAPED,), (_STRIDED, _WIDENED), (_STRIDED,), (_WIDENED,))


def _merged(
    uses: Sequence[Block],
    writer: Writer,
    body: list[str],
    forward: list[str],
    paths: list[Row],
    reshaping: list[bool],
    start: Term,
    x: str,
    around: str,
) -> str | None:
    """The input of the last activation as an expression; None if `forward` already has it as y."""
    branch = f"self.branch({x})"
    some = [k for k, path in enumerate(paths) if path is not None]
    if not some:
        return branch
    conditional = len(some) < len(paths)
    shortcut = around
    if any(paths):
        body += _choice(uses, writer, "shortcut", paths, start)
        shortcut = f"self.shortcut({around})"
    elif conditional:
        if [k for k, changed in enumerate(reshaping) if not changed] != some:
            raise Mismatch("where its shortcuts stand follows no rule")
        body.append("self.residual = stride == 1 and width_in == width")
    made, merged = _merge(uses, writer, start, some, around)
    if not conditional:
        body += made
        if "{shortcut}" not in merged.partition("{shortcut}")[2]:  # it is used once
            whole = merged.format(shortcut=shortcut, branch=branch)
            if len(whole) <= 50:
                return whole
        kept = "kept" if shortcut != around else around
        forward.append(f"y: Tensor = {branch}")
        if kept != around:
            forward.append(f"kept = {shortcut}")
        forward.append(f"y = {merged.format(shortcut=kept, branch='y')}")
        return None
    test = "self.residual" if not any(paths) else "self.shortcut is not None"
    if made:
        body += [
            f"{' ' * 8}if {test}:",
            *(f"    {line}" if line.startswith(" ") else f"{' ' * 12}{line}" for line in made),
        ]
    forward += [f"y: Tensor = {branch}", f"if {test}:", f"    y = {merged.format(shortcut=shortcut, branch='y')}"]
    return None


def _merge(uses: Sequence[Block], writer: Writer, start: Term, some: list[int], around: str) -> tuple[list[str], str]:
    """The lines that a merge adds to `__init__`, and its output as an expression of {shortcut} and {branch}."""
    merges = [uses[k].merge for k in some]
    part = writer.only(some) if len(some) < len(uses) else writer
    source = type(merges[0]).source(Column(merges), start, part)
    made = [line for name, module in source.modules for line in lines(module, 8, f"self.{name} = ")]
    return made, source.output.replace("{around}", around)


def _about(use: Block) -> list[str]:
    """Equations of the block: the merge's and the branch's."""
    first = (inspect.getdoc(type(use.branch)) or f"H(x): {use.branch.kind}.").split("\n\n")[0]
    merged = use.merge.equation or use.merge.kind
    if use.branch.activation:
        equation, comma, rest = merged.partition(", ")
        merged = f"act({equation}){comma}{rest}"
    return [f"y = {merged}.", " ".join(first.split())]
