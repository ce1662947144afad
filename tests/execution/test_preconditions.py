"""What a search or a training needs is found out before its folder is made, and what is refused leaves no trace."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers_cli import nas_, refusal
from helpers_search import write_space

from nas.errors import UsageError
from nas.execution.ray import preconditions
from nas.utils.files import UnderLock


def search(tmp_path: Path, *options: object) -> tuple[object, ...]:
    return ("search", "--space", write_space(tmp_path), "--trials", 1, "--quiet", "--out", tmp_path / "run", *options)


# -- Ray -----------------------------------------------------------------------------------------------------------------


def test_without_a_place_for_rays_sockets_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.execution.ray.authentication._places", lambda: ["/proc"])
    line = refusal(*search(tmp_path))
    assert "Ray needs a folder for its sockets" in line and "TMPDIR" in line and "--executor local" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="this system shares memory in another way")
def test_shared_memory_that_can_t_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(preconditions, "SHARED", tmp_path / "shm")
    with pytest.raises(UsageError, match=r"shm: not writable.*--shm-size=4g.*--executor local"):
        preconditions.check_machine()


def test_no_folder_for_temporary_files(monkeypatch):
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(UsageError, match=r"temporary files.*TMPDIR"):
        preconditions.check_machine()


def test_a_loopback_interface_that_is_down(monkeypatch):
    def down(*_: object) -> None:
        raise OSError(101, os.strerror(101))

    monkeypatch.setattr("socket.create_connection", down)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1: .*Network is unreachable.*--executor local"):
        preconditions.check_machine()


@pytest.mark.parametrize("error", [RuntimeError("The raylet died:\nout of processes"), SystemExit(1), ValueError("x")])
def test_a_ray_that_does_not_start_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch, error):
    def init(**options: object) -> None:
        raise error

    monkeypatch.setattr("ray.init", init)
    line = refusal(*search(tmp_path), code=1)
    assert line.startswith("error: Ray can't start on this machine: ") and "--executor local" in line
    assert "/ray/session_latest/logs" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("library", ["ray", "sklearn.datasets"])
def test_a_library_that_can_t_be_imported_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch, library):
    for name in [
        name for name in sys.modules if name in ("nas.execution.ray.cluster", "nas.execution.ray.tune_driver")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("nas.execution.executor._connected", lambda: False)
    monkeypatch.delattr("nas.execution.ray.cluster", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    line = refusal(*search(tmp_path), code=1)
    assert line.startswith(f"error: {library} can't be imported: ") and "`nas doctor`" in line
    assert not (tmp_path / "run").exists()


# -- other folders -------------------------------------------------------------------------------------------------------


def test_tensorboard_that_is_missing_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ("train", "resnet20", "--dataset", "digits", "--tensorboard", "--out", tmp_path / "trained")
    assert "uv pip install tensorboard" in refusal(*words)
    assert not (tmp_path / "trained").exists()


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_folder_of_something_else_is_left_as_it_was(tmp_path, command):
    (tmp_path / "result.json").write_text("{}")
    words = (command, "resnet20", "--dataset", "digits", "--epochs", 1, "--quiet", "--device", "cpu")
    assert "holds a result.json that is no" in nas_(*words, "--out", tmp_path).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


class Work(UnderLock):
    def __init__(self, folder: Path, error: BaseException | None) -> None:
        self.folder, self.error = folder, error

    def _enter(self) -> None:
        self._take(self.folder, "lock", "busy")
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [UsageError("no"), KeyboardInterrupt()])
def test_what_was_made_for_nothing_is_removed(tmp_path, error):
    with pytest.raises(type(error)), Work(tmp_path / "a" / "b", error):
        pass
    assert list(tmp_path.iterdir()) == []
    with Work(tmp_path / "a", None), pytest.raises(UsageError, match="busy"), Work(tmp_path / "a", None):
        pass
    assert (tmp_path / "a" / "lock").exists(), "what another holds stays"
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(type(error)), Work(tmp_path / "a", error):
        pass
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"lock", "kept"}
