"""Users' modules that register blocks, data sets, samplers and others: import them, record them with a run, pass them to processes.

For each such module that it uses, a run records the name, the file and what it registers. Only the name is used to import the module
again, so that a run folder from somebody else can't choose which code runs. `recall` imports a recorded module without being asked
if all of this holds; otherwise `--import` must name it:

- Python finds the name on its path or in the current folder (not there under PYTHONSAFEPATH);
- the file lies outside of the run's folder;
- the file's source registers what the run needs of it: no other module is imported because a run says so.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.utils.registry import ABSENT, Registry

Record = Mapping[str, Any]  # module, file, parts: as ["block pyramid"]
PASSED_ON = "NAS_IMPORTS"  # environment variable: names and folders, for processes that this one starts
# Parts that building a network needs; only the driver needs the rest.
OF_NETWORKS = ("block", "shortcut", "merge", "stem", "head")


def load(names: Iterable[str]) -> None:
    """Import modules that the user names: `my_blocks`, `package.module`, or the path of a .py file. UsageError if one can't be."""
    for name in names:
        if name.endswith(".py") or os.sep in name:
            module, folder = _of_file(Path(name).expanduser().absolute(), name)
        else:
            module, folder = name, str(Path.cwd())
        _import(module, folder, f"--import {name}")
        file = _file_of(module)
        if name != module and file and not Path(file).samefile(Path(name).expanduser()):
            raise UsageError(f"--import {name}: another module called {module} comes first, {file}; rename the file")


def used(parts: Iterable[tuple[Registry[Any], str]]) -> list[Record]:
    """The records of the modules outside of nas that registered these entries, given as pairs of registry and name."""
    records: dict[str, dict[str, Any]] = {}
    for registry, name in parts:
        if module := registry.module_of(name):
            record = records.setdefault(module, {"module": module, "file": _file_of(module), "parts": []})
            if (part := f"{registry.noun} {name}") not in record["parts"]:
                record["parts"].append(part)
    return list(records.values())


def lasting(records: Iterable[Record], elsewhere: str) -> str:
    """A note on what no other process can import, such as a block of a script or a notebook; "" if everything can be imported.

    `elsewhere` describes where networks are built outside of this process ("" if nowhere): UsageError if a network needs the part there.
    """
    for record in records:
        if _importable(record):
            continue
        where = "this script or notebook" if record["module"] == "__main__" else f"the module {record['module']}"
        what = f"{_quoted(record['parts'])}: registered in {where}, which no other process can import"
        remedy = "put the code into a separate file, say my_blocks.py, and import that"
        if elsewhere and _of_networks(record):
            raise UsageError(f"{what}, and {elsewhere} must; {remedy}, or name it with --import")
        return f"note: {what}: `nas resume`, `nas front` and others will not know it; {remedy}"
    return ""


def pass_on(records: Iterable[Record]) -> list[list[str]]:
    """Names and folders of the modules that networks need, for `take` in another process.

    They are also put into the environment, for the processes that this one starts.
    """
    modules = [
        [record["module"], _folder_of(record)] for record in records if _of_networks(record) and _importable(record)
    ]
    os.environ[PASSED_ON] = json.dumps(modules)
    return modules


def take(modules: Sequence[Sequence[str]] | None = None) -> None:
    """Import the modules that another process has passed on (None: the parent process). UsageError if one is not here."""
    if modules is None:
        modules = json.loads(os.environ.get(PASSED_ON, "[]"))
    os.environ[PASSED_ON] = json.dumps(modules)
    for module, folder in modules:
        _import(module, folder, f"the module {module}, which this run's blocks are of")


def recall(records: Iterable[Record], run: Path) -> None:
    """Import the modules that a run records, by the rule above; the reason why one was not is reported where it is needed."""
    for record in records:
        if all(_registry(part) for part in record["parts"]):
            continue
        why = _not_recalled(record, run)
        ABSENT.update(dict.fromkeys(record["parts"], why) if why else {})


def required(records: Iterable[Record], where: str) -> list[Record]:
    """The records of the same entries as they are registered now. UsageError if one is not registered."""
    parts = []
    for part in (part for record in records for part in record["parts"]):
        noun, _, name = part.partition(" ")
        if (registry := _registry(part)) is None:
            why = ABSENT.get(part, "its module no longer registers it")
            kinds = next((f"known: {', '.join(each)}; " for each in Registry.every if each.noun == noun), "")
            raise UsageError(f"{where}: unknown {noun} {name!r}; {kinds}{why}")
        parts.append((registry, name))
    return used(parts)


def _not_recalled(record: Record, run: Path) -> str:
    """Import a recorded module; where that is not done, the reason and what to do ("" if it was imported)."""
    module, was = record["module"], record["file"]
    if module == "__main__":
        return f"the run has it of a script or notebook ({was or 'unknown'}); put it into a module and name that: --import MODULE"
    here = [] if sys.flags.safe_path else [str(Path.cwd())]
    files = _located(module, [*sys.path, *here])
    if not files:
        return (
            f"the run has it of the module {module}, which is not found here (it was {was}): --import MODULE or FILE.py"
        )
    file = files[-1]
    unasked = f"which nas does not import unasked; if you trust it: --import {file}"
    if any(each.resolve().is_relative_to(run.resolve()) for each in files):
        return f"the run has it of the module {module}, and one lies in the run's own folder, {unasked}"
    if not _registers(file, [part.partition(" ")[2] for part in record["parts"]]):
        return f"the run has it of the module {module}, and {file} is not seen to register it, {unasked}"
    try:
        _import(module, str(Path.cwd()) if here else "", f"the module {module} of this run")
    except UsageError as error:
        return str(error)
    return ""


def _import(module: str, folder: str, what: str) -> None:
    """Import a module by name, with `folder` last on Python's path. UsageError, beginning with `what`, if that fails."""
    if folder and folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
    nowhere = f"{what}: no module {module!r} on Python's path or in {folder or 'the current folder'}"
    if not all(name.isidentifier() for name in module.split(".")):
        raise UsageError(nowhere)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        for registry in Registry.every:
            registry.forget(module)
        if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
            raise UsageError(nowhere) from None
        line = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{line.filename}, line {line.lineno}"
        words = " ".join(str(error).split())
        raise UsageError(f"{what}: can't be imported: {type(error).__name__}: {words} ({place})") from error


def _of_file(file: Path, given: str) -> tuple[str, str]:
    """The module's name, within its package if the file is in one, and the folder that it is imported from. `given`: by the user."""
    if not file.is_file() or file.suffix != ".py":
        raise UsageError(f"--import {given}: no such .py file; give a module's name, or the path of its file")
    names, folder = [] if file.name == "__init__.py" else [file.stem], file.parent
    while (folder / "__init__.py").is_file():
        names, folder = [folder.name, *names], folder.parent
    if not all(name.isidentifier() for name in names):
        raise UsageError(f"--import {given}: a module's name has letters, digits and underscores only; rename the file")
    return ".".join(names), str(folder)


def _file_of(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(Path(file).absolute()) if file else ""


def _folder_of(record: Record) -> str:
    """The folder that a module is imported from."""
    file = Path(record["file"])
    depth = record["module"].count(".") + (file.name == "__init__.py")
    return str(file.parents[depth]) if record["file"] and depth < len(file.parents) else ""


def _importable(record: Record) -> bool:
    """Whether another process can import the module by its name."""
    module = record["module"]
    if module == "__main__":
        return False
    files = _located(module, [*sys.path, _folder_of(record)])
    if files and record["file"]:
        return bool(str(files[-1].absolute()) == record["file"])
    return getattr(sys.modules.get(module), "__spec__", None) is not None  # of another importer


def _located(module: str, folders: Sequence[str] | None) -> list[Path]:
    """The files of the packages that a module is in and of the module, without importing any; [] if it does not exist."""
    files, name = [], ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, folders) if part and folders is not None else None
        if spec is None:
            return []
        folders = spec.submodule_search_locations
        if spec.has_location and spec.origin:
            files.append(Path(spec.origin))
    return files


def _registers(file: Path, names: Sequence[str]) -> bool:
    """Whether a module's source registers all of these names, each as `.register("name")`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    registered = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "register"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    return registered.issuperset(names)


def _registry(part: str) -> Registry[Any] | None:
    """The registry that has this entry ("block pyramid") now."""
    noun, _, name = part.partition(" ")
    return next((registry for registry in Registry.every if registry.noun == noun and name in registry), None)


def _of_networks(record: Record) -> bool:
    return any(part.partition(" ")[0] in OF_NETWORKS for part in record["parts"])


def _quoted(parts: Sequence[str]) -> str:
    return " and ".join(f"{noun} {name!r}" for noun, _, name in (part.partition(" ") for part in parts))
