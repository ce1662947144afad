"""Ray's token and its place, without Ray: who may read them; and what the product must never call, anywhere in its source."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest

import nas
from nas.errors import NasError, UsageError
from nas.execution import machine_check as machine
from nas.execution.ray import authentication as security
from nas.execution.ray import open_ports as ports
from nas.execution.ray import token as tokens

PACKAGE = Path(nas.__file__).parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, and an environment that says nothing of Ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (tokens.MODE, tokens.TOKEN, tokens.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- the token -----------------------------------------------------------------------------------------------------------


def written(home: Path, text: str = "a" * 64, permissions: int = 0o600) -> Path:
    """The token's file."""
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(permissions)
    return path


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setattr(security, "set_mode", lambda mode: monkeypatch.setenv(tokens.MODE, mode))


@pytest.mark.usefixtures("without_ray")
def test_a_ray_that_is_started_here_has_a_new_token_that_no_file_keeps(home):
    home.chmod(0o500)
    given = []
    for _ in range(2):
        assert security.require_authentication() == []
        given.append(os.environ[tokens.TOKEN])
        security.restore_environment()
        assert tokens.TOKEN not in os.environ, "another cluster has another one"
    assert len(set(given)) == 2 and all(len(token) == 64 for token in given)
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("without_ray")
def test_a_token_that_the_user_names_is_taken_and_stays(home, monkeypatch):
    monkeypatch.setenv(tokens.TOKEN, "b" * 64)
    assert security.require_authentication() == []
    security.restore_environment()
    assert os.environ[tokens.TOKEN] == "b" * 64
    monkeypatch.delenv(tokens.TOKEN)
    monkeypatch.setenv(tokens.TOKEN_PATH, str(written(home)))
    assert security.require_authentication() == [] and tokens.TOKEN not in os.environ


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o660, 0o604, 0o666])
def test_a_token_that_others_can_read_is_taken_from_them_and_that_is_said(home, loose):
    path = written(home, permissions=loose)
    (before,) = machine._token(path)
    assert before.level == "warning" and f"mode {loose:o}" in before.what
    (note,) = tokens.check_token()
    assert f"mode {loose:o}" in note and str(path) in note and "replace it" in note
    assert mode(path) == 0o600
    assert path.read_text() == "a" * 64
    assert [finding.level for finding in machine._token(path)] == ["fine"]


@pytest.mark.parametrize(("text", "said"), [("\n", "is empty"), (None, "no such file")])
def test_a_token_that_is_not_there_is_a_line(home, text, said):
    if text is not None:
        written(home, text)
    with pytest.raises(UsageError, match=rf"auth_token.*{said}"):
        tokens.check_token()


def test_the_environments_token_needs_no_file(home, monkeypatch):
    monkeypatch.setenv(tokens.TOKEN, "b" * 64)
    assert tokens.token_file() is None
    assert tokens.check_token() == []
    assert not (home / ".ray").exists()


def test_a_token_elsewhere_must_be_there(home, monkeypatch):
    monkeypatch.setenv(tokens.TOKEN_PATH, str(home / "token"))
    with pytest.raises(UsageError, match=r"token: the token of Ray can\'t be used: no such file.*RAY_AUTH_TOKEN_PATH"):
        tokens.check_token()
    (home / "token").write_text("c" * 64)
    (home / "token").chmod(0o644)
    assert len(tokens.check_token()) == 1
    assert mode(home / "token") == 0o600


def test_ports_that_are_open_to_all_are_found(monkeypatch, home):
    written(home)
    monkeypatch.setattr(ports, "PROCESSES", (Path("/proc/self/comm").read_text().strip(),))
    with socket.socket() as everywhere, socket.socket() as loopback:
        everywhere.bind(("", 0))
        everywhere.listen()
        loopback.bind(("127.0.0.1", 0))
        loopback.listen()
        (mine,) = (found for _, pid, found in ports.listening(Path("/proc")) if pid == os.getpid())
        assert everywhere.getsockname()[1] in mine
        assert loopback.getsockname()[1] not in mine
    for mode, token, level in (
        ("token", True, "note"),
        ("Token", True, "note"),
        ("disabled", True, "warning"),
        ("token", False, "warning"),
    ):
        monkeypatch.setenv(tokens.MODE, mode)
        if token:
            assert (home / ".ray" / "auth_token").exists()
        else:
            (home / ".ray" / "auth_token").unlink()
        with socket.socket() as everywhere:
            everywhere.bind(("", 0))
            everywhere.listen()
            (own,) = (finding for finding in machine._ports(Path("/proc")) if f"process {os.getpid()})" in finding.what)
        assert own.level == level, (mode, token)


# -- the place of Ray's sockets ------------------------------------------------------------------------------------------


def test_the_folder_of_rays_sockets_is_its_owners_alone():
    folder = security.private_folder()
    assert mode(folder.parent) == 0o700
    assert folder.parent.stat().st_uid == os.getuid()
    assert len(f"{folder}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store") < 107
    folder.parent.chmod(0o755)
    security.private_folder()
    assert mode(folder.parent) == 0o700


def test_a_link_in_its_place_is_not_followed(tmp_path, monkeypatch):
    nobody = 900_000_000 + os.getpid()  # a name that nobody has taken
    monkeypatch.setattr(security.os, "getuid", lambda: nobody)
    place = Path(f"/tmp/nas-ray-{nobody}")
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(NasError, match="belongs to another user"):
            security.private_folder()
    finally:
        place.unlink()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Sets where the folder may lie, in place of /tmp and the others."""
    return lambda *paths: monkeypatch.setattr(security, "_places", lambda: [str(path) for path in paths])


def test_the_folder_lies_in_the_first_place_that_is_writable_and_short(tmp_path, places):
    short = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    try:
        places(tmp_path / "nowhere", "/proc", tmp_path / ("long" * 20), short)
        assert security.private_folder() == short / f"nas-ray-{os.getuid()}" / "ray"
        assert list((short / f"nas-ray-{os.getuid()}").iterdir()) == []
    finally:
        shutil.rmtree(short)


def test_without_a_place_the_reasons_and_the_remedies_are_said(tmp_path, places):
    places("/proc", tmp_path / ("long" * 20))
    with pytest.raises(UsageError, match=r"/proc: .*; .*too long for sockets\).*TMPDIR.*--executor local") as caught:
        security.private_folder()
    assert "\n" not in str(caught.value)


# -- what the source may not call ----------------------------------------------------------------------------------------

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "telnetlib", "xmlrpc"}
CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "os.tempnam", "tempfile.mktemp", "os.chmod", "os.chown"}
LOADERS = {"yaml.load": "Loader", "yaml.unsafe_load": "", "yaml.full_load": "", "yaml.load_all": "Loader"}
WORDS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}
ANYWHERE = {"0.0.0.0", "::"}
SAFE_LOADERS = {"_Loader", "yaml.SafeLoader"}  # nas.utils.yaml_text._Loader is a SafeLoader that reads less
CHANGES_MODES = {"authentication.py", "token.py"}  # of the token and the folder of Ray's sockets, nothing else
SERVERS = {"http.server", "socketserver", "flask", "aiohttp"}


def offences(source: str, name: str = "any.py") -> list[str]:
    """What a file of the product calls or imports and must not, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        said = ""
        if isinstance(node, ast.Import):
            said = ", ".join(alias.name for alias in node.names if alias.name.split(".")[0] in MODULES | SERVERS)
            said = said or ", ".join(alias.name for alias in node.names if alias.name in SERVERS)
        elif isinstance(node, ast.ImportFrom):
            whole = {node.module or "", (node.module or "").split(".")[0]}
            said = node.module if whole & (MODULES | SERVERS) else ""
        elif isinstance(node, ast.Constant):
            said = node.value if isinstance(node.value, str) and node.value in ANYWHERE else ""
        elif isinstance(node, ast.Call):
            said = _call(node, name)
        if said:
            found.append(f"line {node.lineno}: {said}")
    return found


def _call(node: ast.Call, name: str) -> str:
    called = ast.unparse(node.func)
    words = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if called in CALLS or (called.endswith((".chmod", ".lchmod")) and name not in CHANGES_MODES):
        return called
    if called in LOADERS and words.get("Loader") not in SAFE_LOADERS:
        return f"{called} with {words.get('Loader', 'no loader')}"
    if called == "torch.load" and words.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if called in ("np.load", "numpy.load") and words.get("allow_pickle") != "False":
        return "np.load without allow_pickle=False"
    return ", ".join(f"{word}={value}" for word, value in WORDS.items() if words.get(word) == str(value))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_source_calls_nothing_that_runs_what_it_reads(path):
    found = [offence.partition(": ")[2] for offence in offences(path.read_text(encoding="utf-8"), path.name)]
    serves = (
        path == PACKAGE / "report" / "run" / "live_server.py"
    )  # `nas watch`, on loopback alone: tests/report/test_report_live.py
    assert found == (["http.server"] if serves else [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os, dill",
        "def f():\n    import cloudpickle",
        "import http.server",
        "from http.server import HTTPServer",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "yaml.full_load(text)",
        "eval('1')",
        "exec(code)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "load_dataset(name, trust_remote_code=True)",
        "os.system('ls')",
        "tempfile.mktemp()",
        "socket.bind(('0.0.0.0', 80))",
        "path.chmod(0o777)",
    ],
)
def test_every_such_call_is_found(source):
    assert offences(source)


@pytest.mark.parametrize(
    "source",
    [
        "yaml.load(text, Loader=_Loader)",
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "network.eval()",
        "server.bind(('127.0.0.1', 0))",
        "subprocess.run(['ls'])",
    ],
)
def test_what_is_safe_passes(source):
    assert offences(source) == []
