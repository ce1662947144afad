"""Who may import whom: a room imports only the rooms above it, no modules import each other in a circle, and only one room knows Ray.

Every import statement counts, those inside functions and those for types included.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from layers import ROOMS

import nas

PACKAGE = Path(nas.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(("nas", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in FILES
}


class Import(NamedTuple):
    """`module` is the imported module by its full name, as `nas.networks.cost` or `ray.tune`."""

    module: str
    line: int


def imports(source: str) -> Iterator[Import]:
    """All imports of a file, wherever they stand: `from nas.networks import cost` is `nas.networks.cost`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Import(full if full in MODULES or node.module == "nas" else node.module or "", node.lineno)


def room(module: str) -> str:
    """The room that a module of nas lies in; empty for `nas` itself and its entry `__main__`."""
    name = module.partition(".")[2].partition(".")[0]
    return "" if name == "__main__" else name


def forbidden(importer: str, found: Import) -> bool:
    """Whether a module of nas must not import this: a room below its own, or `nas/__init__`."""
    if found.module != "nas" and not found.module.startswith("nas."):
        return found.module.partition(".")[0] == "ray" and not importer.startswith("nas.execution.ray")
    imported = room(found.module)
    if imported not in ROOMS:
        return True  # the public names of nas/__init__, which would hide where they come from
    return bool(room(importer)) and ROOMS.index(imported) > ROOMS.index(room(importer))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_its_own_room_and_those_above(module):
    assert room(module) in {"", *ROOMS}, f"{module} is in no room of layers.py"
    found = [item for item in imports(MODULES[module].read_text(encoding="utf-8")) if forbidden(module, item)]
    assert found == []


def test_the_root_holds_rooms_and_nothing_else():
    root = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert root == {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "py.typed",
        *(name for name in ROOMS if name != "errors"),
    }


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        module: {item.module for item in imports(path.read_text(encoding="utf-8")) if item.module in MODULES} - {module}
        for module, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules of a circle


@pytest.mark.parametrize("name", [name for name in ROOMS if name != "errors"])
def test_a_room_opens_with_what_comes_in_and_what_goes_out(name):
    opening = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))) or ""
    for word in ("In:", "Out:", "Used by:", "To add"):
        assert word in opening, f"nas/{name}/__init__.py says nothing of {word!r}"


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("nas.searching.study", "import ray"),
        ("nas.searching.study", "def f():\n    from ray import tune"),
        ("nas.execution.local", "from nas.searching.study import Study"),
        ("nas.networks.cost", "from nas.spaces.knobs import Knob"),
        ("nas.networks.cost", "from nas import spaces"),
        ("nas.networks.build", "from nas import Architecture"),
        ("nas.networks.build", "import nas"),
        ("nas.report.run.page", "if TYPE_CHECKING:\n    from nas.execution.job import Job"),
    ],
)
def test_what_breaks_the_rule_is_found(importer, source):
    assert any(forbidden(importer, found) for found in imports(source))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("nas.execution.ray.cluster", "import ray"),
        ("nas.cli.commands.search", "from nas.searching.search import search"),
        ("nas.networks.build", "from nas.networks import cost\nimport torch"),
        ("nas.__main__", "from nas.cli.main import main"),
    ],
)
def test_what_keeps_the_rule_is_let_through(importer, source):
    assert not any(forbidden(importer, found) for found in imports(source))
