"""Private parts of Optuna are used in one module of nas, which also works in releases that lack them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

import nas
from nas.errors import UsageError
from nas.runs.journal import Journal
from nas.samplers import KnownCostSampler
from nas.samplers import optuna_internals as internals

PACKAGE = Path(nas.__file__).parent
MODULE = PACKAGE / "samplers" / "optuna_internals.py"
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
OURS = {"_queue", "_enter", "_hand_out"}  # attributes that modules of nas use of each other's objects


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(source: str) -> set[str]:
    """Private names that a file defines as functions, classes, variables or attributes."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not hasattr(Journal, node.attr):
            names.add(node.attr)
    return {name for name in names if private(name)}


DEFINED = OURS.union(*(defined(source) for source in SOURCES.values()))


def private_parts(source: str) -> Iterator[str]:
    """Accesses to private attributes or modules of Optuna in a file that imports it or handles its studies."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and private(node.attr):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if node.attr not in DEFINED if of_itself else node.attr not in OURS and ast.unparse(node) != "os._exit":
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "optuna":
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(map(private, names)):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "path",
    [path for path, source in SOURCES.items() if path != MODULE and "optuna" in source],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_private_parts_of_optuna_are_used_in_one_module(path: Path) -> None:
    assert list(private_parts(SOURCES[path])) == []


@pytest.mark.parametrize(
    "source",
    [
        "study._storage",
        "self.study._study_id",
        "self._sync_with_backend()",
        "from optuna.study._frozen import FrozenStudy",
    ],
)
def test_a_private_part_is_found(source: str) -> None:
    assert list(private_parts(source))


def test_identifiers_are_looked_up_by_name_and_number() -> None:
    study = optuna.create_study()
    study.ask()
    study.ask()
    trial = study.get_trials()[1]
    expected = study._study_id, trial._trial_id
    del study._study_id, trial.__dict__["_trial_id"]
    assert (internals.study_id(study), internals.trial_id(study, trial.number)) == expected
    internals.set_system_attribute(study, trial, "a", 1)
    internals.set_user_attribute(study, trial.number, "b", 2)
    study._study_id = expected[0]
    assert study.get_trials()[1].system_attrs == {"a": 1} and study.get_trials()[1].user_attrs == {"b": 2}


def test_a_study_without_its_storage_is_refused_in_one_line() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(lambda params: [1.0]))
    study.tell(study.ask(), [1.0, 1.0])
    del study._storage
    with pytest.raises(UsageError, match=rf"Optuna {optuna.__version__}; install optuna==5\.0"):
        internals.storage_of(study)


@pytest.mark.parametrize("missing", [*internals.JOURNAL, *internals.REPLAY])
def test_a_journal_without_its_private_parts_is_written_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def lacking(instance: object, name: str, *default: object) -> object:
        return default[0] if name == missing and default else getattr(instance, name, *default)

    def has(instance: object, name: str) -> bool:
        return name not in (missing, "_log_number_offset") and hasattr(instance, name)

    monkeypatch.setattr(internals, "getattr", lacking, raising=False)
    monkeypatch.setattr(internals, "hasattr", has, raising=False)
    storage = Journal(tmp_path / "study.journal")
    with internals.synchronized(storage) as replayed:
        assert replayed is None
    study = optuna.create_study(storage=storage, study_name="a")
    study.enqueue_trial({"x": 7})
    for number in range(3):
        with storage.together():
            trial = study.ask()
            x = trial.suggest_int("x", 0, 9)
            assert f'"param_value_internal":{x}' in (tmp_path / "study.journal").read_text().splitlines()[-1]
        study.tell(trial, float(number))
    assert study.trials[0].params == {"x": 7}
    plain = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal")))
    assert [trial.values for trial in optuna.load_study(study_name="a", storage=plain).trials] == [[0.0], [1.0], [2.0]]
