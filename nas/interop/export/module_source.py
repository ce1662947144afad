"""Source code of PyTorch modules that registered parts bring along, with the definitions that it uses, for stand-alone files."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import sys
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FunctionType

from nas.networks.blocks.source import Mismatch

PLAIN = Path(inspect.getfile(Mismatch)).with_name("plain_modules.py")


def imported_names() -> dict[str, object]:
    """What a stand-alone file can import, by the name that it has there."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    names: dict[str, object] = {"math": math, "torch": torch, "nn": nn, "F": functional, "Tensor": Tensor}
    return names | {"Callable": Callable, "partial": partial, "Path": Path}


def definitions(path: Path) -> dict[str, str]:
    """Source of each class, function and constant of a file, by name, in order."""
    text = path.read_text(encoding="utf-8")
    sources = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            sources[node.name] = ast.get_source_segment(text, node) or ""
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            sources[node.targets[0].id] = ast.get_source_segment(text, node) or ""
    return sources


def names_in(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def module_sources(kinds: Iterable[type], known: Iterable[str]) -> dict[str, str]:
    """Source of classes and of the definitions that they use, each after those that it uses. known: names that the file has.

    Mismatch if a source can't be read, or uses something that neither its own module nor a stand-alone file has.
    """
    copied = _Copied(frozenset(known))
    for kind in kinds:
        copied.add(kind.__name__, kind)
    return copied.sources


class _Copied:
    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.imported = imported_names()
        self.sources: dict[str, str] = {}
        self._values: dict[str, object] = {}

    def add(self, name: str, value: type | FunctionType) -> None:
        if name in self._values:
            if self._values[name] is not value:
                raise Mismatch(f"two definitions that it uses are called {name}")
            return
        if name in self.known:
            raise Mismatch(f"its module {name} has the name of a part of the format")
        if value.__name__ != name:
            raise Mismatch(f"it uses {value.__name__} under the name {name}")
        self._values[name] = value
        try:
            source = textwrap.dedent(inspect.getsource(value)).rstrip()
        except (OSError, TypeError):
            raise Mismatch(f"the source code of {name} can't be read") from None
        scope = vars(sys.modules[value.__module__])
        for used in sorted(names_in(source) & scope.keys()):
            self._use(name, used, scope[used])
        self.sources[name] = source

    def _use(self, user: str, name: str, value: object) -> None:
        """Copy a global name that a source uses, if the file doesn't have it already."""
        if self.imported.get(name) is value or hasattr(builtins, name):
            return
        if isinstance(value, (int, float, str)):
            if name not in self.known:
                self.sources[name] = f"{name} = {value!r}"
        elif isinstance(value, (type, FunctionType)) and value.__module__.partition(".")[0] != "torch":
            self.add(name, value)
        else:
            raise Mismatch(f"{user} uses {name}, which a stand-alone file does not have")
