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

import nas

PACKAGE = Path(nas.__file__).parent

FOR_ALL = {"errors", "limits", "registry"}

# Module or subpackage of nas -> those that it may import, beside `FOR_ALL`. In the order of the data flow.
TABLE: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "plain_yaml": set(),
    "registry": set(),
    "cost": set(),
    "knobs": set(),
    "tokens": set(),
    "security": {"addresses", "tokens"},
    "plausible": set(),
    "pareto": set(),
    "text": set(),
    "files": {"text"},
    "locks": {"files"},
    "claims": {"files"},
    "migration": set(),
    "data": {"files", "text"},
    "augmentation": set(),
    "batches": {"augmentation"},
    "distributed": set(),
    "recipe": set(),
    "stopping": {"pareto"},
    "blocks": {"cost", "knobs"},
    "architecture": {"blocks", "cost", "knobs", "plain_yaml"},
    "network": {"architecture", "blocks", "cost"},
    "regnet": set(),
    "zoo": {"architecture", "plain_yaml", "regnet"},
    "weights": {"architecture", "blocks", "network", "plausible", "zoo"},
    "scaling": {"architecture", "cost", "network"},
    "memory": {"architecture", "blocks", "cost", "network"},
    "records": {"architecture", "cost", "knobs", "latency", "plausible"},
    "budget": {"cost", "knobs"},
    "attributes": {"architecture", "blocks", "knobs", "regnet"},
    "space_file": {"attributes", "budget", "knobs", "plain_yaml"},
    "space": {"architecture", "attributes", "budget", "cost", "knobs", "network", "plain_yaml", "regnet", "space_file"},
    "latency": {"architecture", "blocks", "cost", "files", "network", "plausible", "space", "text", "zoo"},
    "samplers": {"knobs", "network", "pareto", "space"},
    "proxy": {"architecture", "data", "scaling"},
    "salvage": {"files"},
    "journal": {"files", "salvage"},
    "storage": {"journal"},
    "settings": {
        "plain_yaml",
        *("budget", "files", "latency", "migration", "pareto", "plausible", "proxy", "recipe", "space"),
        "stopping",
    },
    "preflight": {"architecture", "budget", "files", "network", "settings", "text"},
    "jobs": {"architecture", "data"},
    "retries": {"text"},
    "fencing": {"files", "jobs", "retries"},
    "dynamic": {"architecture", "batches", "blocks", "cost", "network", "records"},
    "optimiser": {"recipe"},
    "predictions": {"batches", "train"},
    "engine": {"blocks"},
    "graphs": {"blocks", "optimiser"},
    "transfer": {"recipe"},
    "train": {
        "architecture",
        "batches",
        "distributed",
        "dynamic",
        "engine",
        "graphs",
        "network",
        "optimiser",
        "recipe",
        "records",
        "text",
    },
    "probes": {"batches", "engine", "graphs", "network", "recipe", "train", "zoo"},
    "findings": {"architecture", "cost", "network", "plausible", "recipe", "records"},
    "gradients": {"blocks", "findings"},
    "flow": {"files", "findings", "plausible"},
    "recording": {"flow", "gradients", "records", "train"},
    "work": {
        "architecture",
        "batches",
        "data",
        "engine",
        "fencing",
        "files",
        "flow",
        "jobs",
        "memory",
        "network",
        "probes",
        "proxy",
        "recipe",
        "recording",
        "records",
        "retries",
        "train",
    },
    "streaming": {"augmentation", "batches", "data", "jobs", "recipe", "work"},
    "throughput": {"architecture", "batches", "network", "recipe", "train"},
    "packing": {"architecture", "budget", "jobs", "memory", "proxy", "recipe", "space", "throughput", "train", "work"},
    "hours": {"jobs", "planning", "proxy", "recipe", "space", "stopping", "text", "train"},
    "planning": {"architecture", "memory", "network", "proxy", "recipe", "space", "stopping", "text", "throughput"},
    "layout": {"storage"},
    "opening": {"files", "layout", "salvage", "settings", "storage"},
    "trials": {
        *("architecture", "cost", "files", "latency", "layout", "network", "opening", "pareto", "plausible", "records"),
        *("settings", "stopping", "storage"),
    },
    "ranking": {"pareto", "records"},
    "repeats": {"layout", "records", "trials"},
    "run": {"layout", "locks", "pareto", "ranking", "records", "repeats", "settings", "trials"},
    "run_folder": {"files", "layout", "settings", "text"},
    "judge": {
        *("architecture", "files", "jobs", "layout", "network", "planning", "records", "settings", "stopping"),
        "trials",
    },
    "outcomes": {"files", "jobs", "layout", "network", "pareto", "retries", "trials"},
    "desk": {"fencing", "files", "jobs", "layout", "locks", "outcomes", "pareto", "planning", "retries", "settings"},
    "study": {
        *(
            "architecture",
            "claims",
            "desk",
            "fencing",
            "files",
            "jobs",
            "knobs",
            "latency",
            "layout",
            "locks",
            "network",
        ),
        *("opening", "outcomes", "planning", "plausible", "records", "samplers", "settings", "space"),
        *("storage", "text", "trials"),
    },
    "doctor": {
        "plain_yaml",
        *(
            "architecture",
            "claims",
            "files",
            "jobs",
            "journal",
            "knobs",
            "layout",
            "locks",
            "migration",
            "network",
            "opening",
            "plausible",
            "repeats",
            "run",
            "salvage",
            "samplers",
            "settings",
            "space",
            "storage",
            "text",
            "tokens",
            "trials",
        ),
    },
    "progress": {"jobs", "layout", "network", "pareto", "records", "text", "trials"},
    "timeouts": {"fencing", "jobs", "retries", "text"},
    "local": {"desk", "jobs", "judge", "progress", "records", "timeouts", "work"},
    "watching": {"fencing", "retries", "timeouts"},
    "addresses": set(),
    "controller": set(),
    "waiting": {"text"},
    "cluster": {"addresses", "packing", "security", "text", "waiting", "work"},
    "workers": {
        *(
            "cluster",
            "files",
            "controller",
            "desk",
            "jobs",
            "judge",
            "progress",
            "records",
            "retries",
            "waiting",
            "watching",
            "work",
        )
    },
    "analysis": {"attributes", "knobs", "records", "run", "settings", "space", "text"},
    "report": {
        *(
            "analysis",
            "architecture",
            "files",
            "findings",
            "flow",
            "layout",
            "network",
            "opening",
            "pareto",
            "plausible",
            "ranking",
            "records",
            "retries",
            "run",
            "settings",
            "stopping",
            "storage",
            "text",
        )
    },
    "importing": {
        "architecture",
        "blocks",
        "cost",
        "journal",
        "network",
        "plain_yaml",
        "regnet",
        "space",
        "storage",
        "zoo",
    },
    "export": {
        "plain_yaml",
        *("architecture", "blocks", "cost", "files", "importing", "latency", "network", "records", "run", "text"),
        *("weights", "zoo"),
    },
    "training_folder": {"architecture", "files", "jobs", "plausible", "recipe", "streaming"},
    "full_training": {
        *(
            "architecture",
            "batches",
            "data",
            "distributed",
            "files",
            "jobs",
            "network",
            "optimiser",
            "plausible",
            "predictions",
            "recipe",
            "records",
            "settings",
            "streaming",
            "train",
            "training_folder",
            "weights",
            "work",
        ),
    },
}
TABLE["comparison"] = {
    *TABLE["full_training"],
    *("findings", "full_training", "gradients", "plausible"),
}
TABLE["bench"] = {"files", "pareto", "plausible", "report", "samplers", "text"}
TABLE["execution"] = set(TABLE) - {"bench", "doctor", "zoo", "report", "export"}
TABLE["request"] = {
    *(
        "budget",
        "execution",
        "latency",
        "pareto",
        "planning",
        "proxy",
        "recipe",
        "records",
        "run_folder",
        "samplers",
        "space",
    ),
    *("cluster", "stopping", "train"),
}
TABLE["searching"] = set(TABLE) - {"bench", "doctor"}
TABLE["confirmation"] = {
    *(
        "desk",
        "execution",
        "fencing",
        "jobs",
        "layout",
        "locks",
        "opening",
        "outcomes",
        "preflight",
        "progress",
        "ranking",
    ),
    *("records", "repeats", "request", "retries", "run", "searching", "settings", "storage", "text"),
}
TABLE["confirming"] = {"confirmation", "jobs", "progress", "records", "text"}
TABLE["commands"] = set(TABLE)
TABLE["cli"] = set(TABLE)
TABLE["__main__"] = {"cli"}
TABLE["__init__"] = set()

# What else may be imported under `if TYPE_CHECKING`, for annotations only.
FOR_TYPES: dict[str, set[str]] = {
    "hours": {"request"},
    "cluster": {"settings"},
    "text": {"architecture", "blocks", "knobs", "records"},
    "batches": {"data"},
    "budget": {"space"},
    "progress": {"desk"},
    "records": {"stopping"},
    "samplers": {"architecture", "cost"},
    "__init__": set(TABLE),
}

# Libraries that only these may import.
LIBRARIES: dict[str, set[str]] = {
    "ray": {"cluster", "security", "waiting", "watching", "workers"},
    "optuna": {
        "analysis",
        "bench",
        "claims",
        "doctor",
        "importing",
        "journal",
        "opening",
        "outcomes",
        "samplers",
        "storage",
        "study",
        "trials",
    },
    "plotly": {"bench", "report"},
}


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
    assert name in TABLE, f"nas/{path.relative_to(PACKAGE)} is not in the table of {Path(__file__).name}"
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
import nas.study
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
        ("study", "def f():\n    from nas.workers import run"),
        ("local", "from ray import tune"),
        ("cost", "from nas.knobs import Knob"),
        ("blocks", "from nas import architecture"),
        ("network", "from nas import Architecture"),
        ("report", "from nas.study import Study"),
        ("budget", "from nas.space import SearchSpace"),
    ],
)
def test_what_breaks_the_table_is_found(name, source):
    assert any(forbidden(name, found) for found in imports(source, frozenset(TABLE)))
