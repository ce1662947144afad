"""What may be loaded: knowing costs, and help, must not wait seconds for the libraries that training needs."""

from __future__ import annotations

import pytest

HEAVY = ("torch", "ray", "optuna", "pandas", "plotly")


def loaded(python, code: str, libraries: tuple[str, ...]) -> list[str]:
    """Those of the libraries that a fresh interpreter has loaded after `code`."""
    report = f"import sys; print('loaded:', *[name for name in {libraries!r} if name in sys.modules])"
    last = python(f"{code}\n{report}").splitlines()[-1]
    assert last.startswith("loaded:")
    return last.split()[1:]


def run_command(*arguments: str) -> str:
    """Code that runs the command line in the interpreter itself, and fails unless it exits with 0."""
    return f"""
from nas.cli.main import main
import sys
sys.argv = {["nas", *arguments]!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_import_of_the_package_loads_no_library(python):
    assert loaded(python, "import nas", (*HEAVY, "numpy", "yaml", "click")) == []


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import nas; assert nas.cost_of(nas.zoo.get('resnet50')).params == 25_557_032", id="cost"),
        pytest.param(
            "import nas; assert nas.Architecture.from_yaml(nas.zoo.get('resnet18').to_yaml()).digest", id="yaml"
        ),
    ],
)
def test_costs_and_configs_need_no_heavy_library(python, code):
    assert loaded(python, code, (*HEAVY, "numpy")) == []


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("search", "--help"), ("profile", "resnet50")])
def test_command_line_that_only_says_something_loads_no_heavy_library(python, arguments):
    assert loaded(python, run_command(*arguments), HEAVY) == []


def test_a_library_that_is_loaded_would_be_seen(python):
    assert loaded(python, "import nas.pareto", ("numpy", "torch")) == ["numpy"]
