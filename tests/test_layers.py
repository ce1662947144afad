"""Who may import whom: data flows one way, from architectures to reports, and only the executor knows Ray.

Every import statement counts, those inside of functions too. A file that the table does not name fails: a new module
comes with the line that says where it stands.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from layers import FOR_ALL, FOR_TYPES, LIBRARIES, TABLE

import nas

PACKAGE = Path(nas.__file__).parent


class Import(NamedTuple):
    """`name` is a module of nas, as the table names it, or a library; `ours` tells which."""

    name: str
    ours: bool
    for_types: bool
    line: int


def imports(source: str, ours: frozenset[str]) -> Iterator[Import]:
    """All imports of a file, wherever they stand. `ours` are the modules of nas: `from nas import cost` is `cost`."""
    tree = ast.parse(source)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names = [f"nas.{alias.name}" for alias in node.names] if node.module == "nas" else [node.module or ""]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            module = rest.partition(".")[0]
            if top != "nas":
                yield Import(top, False, id(node) in guarded, node.lineno)
            elif module in ours:
                yield Import(module, True, id(node) in guarded, node.lineno)
            elif module != "__version__":  # a public name, which would hide the module that it comes from
                yield Import(name, True, id(node) in guarded, node.lineno)


def place(path: Path) -> str:
    """The table's name of a file: its module, or the subpackage that it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))
OURS = frozenset(place(path) for path in FILES)


def forbidden(name: str, found: Import) -> bool:
    if not found.ours:
        return name not in LIBRARIES.get(found.name, {name})
    allowed = TABLE[name] | FOR_ALL | {name} | (FOR_TYPES.get(name, set()) if found.for_types else set())
    return found.name not in allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_imports_what_the_table_allows(path):
    name = place(path)
    assert name in TABLE, f"nas/{path.relative_to(PACKAGE)} is not in the table of layers.py"
    wrong = [found for found in imports(path.read_text(encoding="utf-8"), OURS) if forbidden(name, found)]
    assert wrong == []


def test_table_flows_one_way():
    order = list(graphlib.TopologicalSorter(TABLE).static_order())
    assert set(order) == set(TABLE)


def test_table_names_no_strangers():
    assert set(FOR_TYPES) <= set(TABLE)
    assert set().union(*FOR_TYPES.values(), *LIBRARIES.values()) <= set(TABLE)


@pytest.mark.parametrize("name", ["study", "local", "report", "export", "space", "zoo", "doctor"])
def test_ray_is_out_of_reach_of(name):
    reached, new = set(), {name}
    while new:
        reached |= new
        new = set().union(*(TABLE[module] for module in new)) - reached
    assert not reached & LIBRARIES["ray"]


def test_every_way_to_import_is_seen():
    source = """
import nas.searching.study
import numpy as np, ray.tune
from nas import cost as closed_form, __version__
from nas.blocks.basic import Basic
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nas.space import SearchSpace
def late():
    from ray import tune
    from nas import Architecture
    class Inner:
        from nas.workers import run
"""
    found = {(item.name, item.ours, item.for_types) for item in imports(source, frozenset(TABLE))}
    assert found == {
        ("study", True, False),
        ("numpy", False, False),
        ("ray", False, False),
        ("cost", True, False),
        ("blocks", True, False),
        ("typing", False, False),
        ("space", True, True),
        ("nas.Architecture", True, False),
        ("workers", True, False),
    }


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("study", "import ray"),
        ("study", "def f():\n    from nas.execution.ray.tune_driver import run"),
        ("local", "from ray import tune"),
        ("cost", "from nas.spaces.knobs import Knob"),
        ("blocks", "from nas import architecture"),
        ("network", "from nas import Architecture"),
        ("report", "from nas.searching.study import Study"),
        ("budget", "from nas.spaces.space import SearchSpace"),
    ],
)
def test_what_breaks_the_table_is_found(name, source):
    assert any(forbidden(name, found) for found in imports(source, frozenset(TABLE)))
