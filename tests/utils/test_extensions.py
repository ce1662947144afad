"""Modules of users that register blocks and others: imported, recorded, found again by a safe rule, taken to other processes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_search import settings_of

import nas
from nas.cli.main import cli
from nas.data import DATASETS
from nas.errors import NasError, UsageError
from nas.networks.blocks import BRANCHES
from nas.runs.attempts import frequent
from nas.runs.settings import Settings
from nas.searching.candidate_gate import UNMEASURED
from nas.searching.request import Request, check
from nas.searching.search import _exhausted
from nas.utils import extensions
from nas.utils.registry import ABSENT, Registry

BLOCK = """
from dataclasses import dataclass
from nas.networks.blocks import BRANCHES, Convolutional, Layer, option
from nas.networks.blocks.primitives import Conv

@BRANCHES.register("{name}")
@dataclass(frozen=True, slots=True)
class Block(Convolutional):
    kind = "{name}"
    taps: int = option(3, among=(1, 3))

    def layers(self, width_in: int, width_out: int, stride: int) -> tuple[Layer, ...]:
        return (Conv(width_out, self.taps, stride, act=""),)
"""
SPACE = """\
space: own
stages: 2
values: {block: mine, taps: [1, 3], stage*.depth: [1, 2], stage*.width: [4, 8], stem_width: 4, stage2.stride: 2}
"""
DIGITS = {"max_images": 100, "epochs": 1, "precision": "fp32", "quiet": True}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The current folder is the test's, and what it imports and registers is gone after it."""
    before = [(registry, dict(registry._entries), dict(registry._modules)) for registry in Registry.every]
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    monkeypatch.setenv(extensions.PASSED_ON, "[]")
    monkeypatch.chdir(tmp_path)
    yield
    for registry, entries, origins in before:
        registry._entries, registry._modules = entries, origins
    for name in ("own_blocks", "own", "own.blocks", "bad_blocks", "parent"):
        sys.modules.pop(name, None)
    ABSENT.clear()


def write(path: Path, name: str = "mine", more: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BLOCK.format(name=name) + more, encoding="utf-8")
    return path


def record(
    module: str = "own_blocks", file: str = "/gone/own_blocks.py", part: str = "block mine"
) -> dict[str, object]:
    return {"module": module, "file": file, "parts": [part]}


@pytest.mark.parametrize(
    ("file", "named", "module"),
    [
        ("own_blocks.py", "own_blocks", "own_blocks"),
        ("sub/own_blocks.py", "sub/own_blocks.py", "own_blocks"),
        ("pack/own/blocks.py", "pack/own/blocks.py", "own.blocks"),
        ("own/blocks.py", "own.blocks", "own.blocks"),
    ],
)
def test_a_module_is_imported_by_name_or_by_file_and_recorded(tmp_path, file, named, module):
    path = write(tmp_path / file)
    if "own/" in file:
        (path.parent / "__init__.py").touch()
    extensions.load([named])
    found = extensions.used([(BRANCHES, "mine"), (BRANCHES, "basic"), (BRANCHES, "mine"), (DATASETS, "digits")])
    assert found == [{"module": module, "file": str(path), "parts": ["block mine"]}]
    assert extensions.required(found, "run") == found
    assert extensions.lasting(found, "Ray's workers") == ""
    (passed,) = extensions.pass_on(found)
    assert passed == [module, str(path.parents[module.count(".")])]


@pytest.mark.parametrize(
    ("named", "text", "said"),
    [
        ("own_blocks", None, "--import own_blocks: no module 'own_blocks' on Python's path or in "),
        ("own_blocks.py", None, "--import own_blocks.py: no such .py file"),
        ("own-blocks.py", "", "--import own-blocks.py: a module's name has letters"),
        ("own_blocks.py", "import nowhere", "ModuleNotFoundError: No module named 'nowhere' (.*own_blocks.py, line 1)"),
        ("own_blocks.py", "\nraise SystemExit(3)", "can't be imported: SystemExit: 3 (.*own_blocks.py, line 2)"),
        ("own_blocks.py", BLOCK.format(name="basic"), "ValueError: block 'basic' is registered already"),
        ("json.py", "", "another module called json comes first, .*; rename the file"),
        ("..", None, "--import ..: no module '..'"),
    ],
)
def test_what_can_not_be_imported_is_said_in_a_line(tmp_path, named, text, said):
    if text is not None:
        (tmp_path / named).write_text(text)
    with pytest.raises(UsageError) as caught:
        extensions.load([named])
    before, _, after = said.partition(".*")
    assert before in str(caught.value) and after in str(caught.value) and "\n" not in str(caught.value)


def test_a_recorded_module_in_the_current_folder_is_imported(tmp_path):
    write(tmp_path / "own_blocks.py")
    extensions.recall([record()], tmp_path / "results/run")
    assert "mine" in BRANCHES


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("elsewhere/own_blocks.py", BLOCK.format(name="mine"), "is not found here (it was /gone/own_blocks.py)"),
        ("run/own_blocks.py", BLOCK.format(name="mine"), "own folder, which nas does not import unasked"),
        ("own_blocks.py", "raise AssertionError", "is not seen to register it, which nas does not import unasked"),
        ("own_blocks.py", BLOCK.format(name="mine") + "import nowhere", "No module named 'nowhere'"),
    ],
)
def test_what_is_not_imported_unasked_is_told_where_it_is_missed(tmp_path, monkeypatch, place, text, said):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(text)
    if place.startswith("run/"):
        monkeypatch.chdir(tmp_path / "run")
    extensions.recall([record()], tmp_path / "run")
    for call in (lambda: BRANCHES.find("mine"), lambda: extensions.required([record()], "run")):
        with pytest.raises(UsageError, match=r"unknown block 'mine'.*known: basic, ") as caught:
            call()
        assert said in str(caught.value) and ("--import" in str(caught.value) or "nowhere" in said)


def test_a_run_can_not_have_other_modules_imported(tmp_path):
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent/__init__.py").write_text("raise AssertionError")
    for module in ("antigravity", "parent.child", "__main__", "", ".", "..x", "os.path"):
        extensions.recall([record(module)], tmp_path / "run")
    assert not {"antigravity", "parent"} & set(sys.modules)


def test_settings_record_imports_and_refuse_others(tmp_path):
    settings = dataclasses.replace(settings_of(), imports=(record(),))
    settings.save(tmp_path)
    assert Settings.load(tmp_path).imports == (record(),)
    for wrong in ("x", [["x"]], [{"module": "x"}], [{**record(), "parts": [3]}]):
        with pytest.raises(UsageError, match="imports"):
            dataclasses.replace(settings, imports=wrong).save(tmp_path)


@pytest.mark.parametrize("executor", ["ray", "local"])
def test_a_block_of_a_script_is_refused_where_other_processes_need_it(tmp_path, executor):
    exec(BLOCK.format(name="mine"), {"__name__": "__main__"})
    (tmp_path / "space.yaml").write_text(SPACE)
    request = Request(space="space.yaml", executor=executor)
    if executor == "ray":
        with pytest.raises(
            UsageError, match=r"block 'mine'.*script or notebook.*Ray's workers must; put the code into"
        ):
            check(request)
    else:
        check(request)
        note = extensions.lasting(extensions.used([(BRANCHES, "mine")]), "")
        assert note.startswith("note: block 'mine': registered in this script or notebook")
        with pytest.raises(UsageError, match="the process that measures latencies must"):
            check(Request(space="space.yaml", executor=executor, max_latency_ms=5.0))


def test_other_processes_take_what_is_passed_on(tmp_path, python):
    extensions.load([str(write(tmp_path / "sub/own_blocks.py"))])
    extensions.pass_on(extensions.used([(BRANCHES, "mine")]))
    code = "from nas.utils import extensions; extensions.take(); from nas.networks.blocks import BRANCHES; print('mine' in BRANCHES)"
    assert python(code) == "True\n"
    with pytest.raises(UsageError, match="the module gone, which this run's blocks are of: no module 'gone'"):
        extensions.take([["gone", str(tmp_path)]])


def test_installed_packages_register_by_entry_points(tmp_path, python):
    write(tmp_path / "site/their_blocks.py")
    for package, module in (("theirs", "their_blocks"), ("broken", "nowhere")):
        folder = tmp_path / f"site/{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[nas.blocks]\nx = {module}\n")
    code = f"""
import sys
sys.path.append({str(tmp_path / "site")!r})
import nas
from nas.networks.blocks import BRANCHES
assert "their_blocks" not in sys.modules
space = nas.load_space("resnet", overrides={{"stage*.block": "mine", "taps": 3}})
print(space.architecture(space.sample(0)).stages[0].branch.kind)
try:
    BRANCHES.find("other")
except nas.UsageError as error:
    print(error)
"""
    kind, said = python(code).splitlines()
    assert kind == "mine"
    assert said.startswith("unknown block 'other'; known: basic, ") and ", mine; " in said
    assert said.endswith(
        "the installed package broken can't be imported: ModuleNotFoundError: No module named 'nowhere'"
    )


def test_a_block_that_is_not_registered_is_missed_before_its_options(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    with pytest.raises(
        UsageError, match=r"block: unknown block 'mine'; known: basic, .*needs that module: --import MODULE"
    ):
        nas.load_space("space.yaml")


def test_every_command_takes_import():
    context = cli.make_context("nas", ["front", "x"])
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert sum("--import" in option.opts for option in command.params) == 1, name


@pytest.mark.parametrize(
    ("counts", "failures", "rejection", "said"),
    [
        ({"trained": 3}, [], "", "the space holds no further network: 3 trials trained all of them"),
        (
            {"trained": 1, "failed": 2},
            ["x", "x"],
            "",
            "the space holds no further network: 1 trial trained all of them, and 2 trials failed",
        ),
        ({"failed": 3}, ["x", "y", "x"], "", "no network was trained: all 3 proposed networks failed, most often (2 times) because: x"),
        ({"rejected": 9}, [], "too large", "no network was found within the budgets: 9 were rejected, the last because too large"),
        ({"rejected": 9}, [], f"{UNMEASURED}: gone", f"no network was trained: 9 were rejected, the last because {UNMEASURED}: gone"),
        ({}, [], "", "no network was trained: the space holds only the baselines"),
    ],
)  # fmt: skip
def test_budgets_are_blamed_only_where_they_are_why(counts, failures, rejection, said):
    study = SimpleNamespace(
        counts=SimpleNamespace(**{"trained": 0, "failed": 0, "rejected": 0, **counts}),
        outcomes=SimpleNamespace(failures=failures, last_rejection=rejection),
        space=SimpleNamespace(budget=SimpleNamespace(bounds={})),
        most_ms=None,
    )
    assert _exhausted(study) == said


def test_the_most_frequent_reason():
    assert frequent(["a", "b", "b"]) == "most often (2 times) because: b"
    assert frequent(["a", "b"]) == "the last because: b"
    assert frequent(["", ""]) == "for reasons that were not recorded"


RAISED = """Failure # 1 (occurred at 2026-01-01_00-00-00)
\x1b[36mray::Worker.train()\x1b[39m (pid=23405, ip=192.0.2.2, actor_id=2c)
  File "nas/execution/ray/tune_driver.py", line 64, in starting
    raise StartError("x") from error
nas.errors.StartError: a worker on vm can't begin: unknown block 'mine'
"""


def test_what_a_worker_raised_is_read_in_rays_text():
    from nas.execution.ray.worker_watch import raised

    assert raised(RAISED) == ("StartError", "a worker on vm can't begin: unknown block 'mine'")
    several = RAISED.replace(
        "nas.errors.StartError: a worker", "RuntimeError: CUDA error: gone\nCompile with\n\na worker"
    )
    assert raised(several) == (
        "RuntimeError",
        "CUDA error: gone Compile with a worker on vm can't begin: unknown block 'mine'",
    )
    assert raised("The actor died unexpectedly before finishing this task.\n\tclass_name: Worker") == ("", "")
    assert raised(f"{RAISED} Task was killed due to the node running low on memory") == ("", "")
    assert raised("") == ("", "")


@pytest.mark.slow
@pytest.mark.timeout(900)  # of which a busy machine takes half
def test_under_ray(tmp_path, monkeypatch, request):
    """A search, its front, its resumption; and a worker whose import fails, which ends the search with the reason, at once."""
    write(tmp_path / "own_blocks.py")
    (tmp_path / "space.yaml").write_text(SPACE)
    request.getfixturevalue("connected")
    options = {"space": "space.yaml", "executor": "ray", "workers": 1, **DIGITS}
    run = nas.search(trials=1, imports=["own_blocks"], out="run", **options)
    assert run.status == "done" and run.config["imports"][0]["parts"] == ["block mine"]
    assert nas.resume("run", trials=2, quiet=True).count("complete") == 2

    def front(folder: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nas", "front", str(tmp_path / "run"), "--csv"]
        environment = {**os.environ, extensions.PASSED_ON: "[]", "PYTHONPATH": ""}
        return subprocess.run(
            command, cwd=tmp_path / folder, env=environment, capture_output=True, text=True, check=False
        )

    assert front(".").returncode == 0
    (tmp_path / "elsewhere").mkdir()
    missing = front("elsewhere")
    assert missing.returncode == 2 and len(missing.stderr.splitlines()) == 1
    assert "unknown block 'mine'; known: basic" in missing.stderr and "--import MODULE" in missing.stderr

    write(
        tmp_path / "bad_blocks.py",
        "bad",
        "\nimport sys\nif 'pytest' not in sys.modules:\n    raise ImportError('libfoo is missing')\n",
    )
    with pytest.raises(NasError, match=r"can't begin: .*libfoo is missing.*continue with: nas resume") as caught:
        nas.search(trials=3, imports=["bad_blocks"], out="bad", overrides={"block": "bad"}, **options)
    assert "\n" not in str(caught.value)
    run = nas.load_run("bad")
    assert Counter(trial.state for trial in run.trials) == {"running": len(run.trials)}
    assert not list((tmp_path / "bad").glob("trials/*/result.json"))
