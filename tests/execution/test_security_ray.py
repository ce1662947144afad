"""A Ray that nas starts lets nobody in without its token; of one that lets everybody in, nas warns who joins it. Under real Ray."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nas.errors import UsageError
from nas.execution import machine_check as machine
from nas.execution.ray import authentication as security
from nas.execution.ray import token as tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What a stranger would try first: read the cluster's nodes, then write where its functions are kept.
STRANGER = """
import json, sys
from ray._raylet import GcsClient
try:
    client = GcsClient(address=sys.argv[1])
    nodes = len(client.get_all_node_info(timeout=60))
    client.internal_kv_put(b"stranger", b"was here", True, None, 60)
    print(json.dumps({"nodes": nodes}))
except Exception as error:
    print(json.dumps({"refused": type(error).__name__, "said": str(error)}))
"""

# A cluster that asks nobody for anything, until its standard input ends.
OPEN = """
import sys, ray
ray.init(address="local", include_dashboard=False, num_cpus=1, _node_ip_address="127.0.0.1", object_store_memory=1 << 28,
         logging_level="ERROR", log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""

JOIN = """
import json, sys
from nas.execution.ray import cluster
from nas.errors import NasError
said = []
try:
    cluster.start(sys.argv[1], said.append)
    import ray
    print(json.dumps({"joined": ray.cluster_resources().get("CPU"), "said": said}))
except NasError as error:
    print(json.dumps({"error": str(error), "said": said}))
"""


# A Ray of ours that ends, then a cluster that is none of ours: as one process of a user's, or of the tests, may have them.
IN_TURN = """
import json, os
from nas.execution.ray import cluster
def told(): return {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
before = told()
cluster.start(None)
cluster.shutdown()
after = told()
from ray.cluster_utils import Cluster
others = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 1 << 27, "include_dashboard": False})
said = []
cluster.start(others.address, said.append)
cluster.shutdown()
others.shutdown()
print(json.dumps({"before": before, "after": after, "said": said}))
"""


def asked(code: str, *arguments: str, **environment: str) -> dict:
    """The JSON that a process prints which has this environment and no other settings of Ray."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**clean, "RAY_USAGE_STATS_ENABLED": "0", **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def started(home):
    """Ray as nas starts it, in an environment that would have it open and a home that can't be written; its address and what was said."""
    import ray

    from nas.execution.ray import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv(tokens.MODE, "disabled")
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        patch.delenv(tokens.TOKEN, raising=False)
        patch.delenv(tokens.TOKEN_PATH, raising=False)
        said: list[str] = []
        before = os.umask(0o027)
        try:
            assert cluster.start(None, said.append)
        finally:
            os.umask(before)
        yield ray.get_runtime_context().gcs_address, said
        cluster.shutdown()


def test_what_the_environment_says_against_tokens_is_not_heeded(started):
    _, said = started
    assert [line for line in said if "RAY_AUTH_MODE=disabled is ignored" in line]


def test_who_has_no_token_is_refused_on_the_gcs_port(started):
    address, _ = started
    found = asked(STRANGER, address, HOME="/nonexistent", RAY_AUTH_MODE="disabled")
    assert found["refused"] == "AuthenticationError", found


def test_who_has_another_token_is_refused_on_the_gcs_port(started):
    address, _ = started
    found = asked(STRANGER, address, HOME="/nonexistent", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert found["refused"] == "AuthenticationError", found


def test_who_has_the_token_is_let_in(started, tmp_path):
    address, _ = started
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(os.environ[tokens.TOKEN])
    (tmp_path / ".ray" / "auth_token").chmod(0o600)
    assert asked(STRANGER, address, HOME=str(tmp_path), RAY_AUTH_MODE="token") == {"nodes": 1}
    joined = asked(JOIN, address, HOME=str(tmp_path))
    assert joined["joined"] >= 1
    assert joined["said"] == []


def test_joining_without_the_token_or_with_another_is_an_error_of_one_line(started, tmp_path):
    address, _ = started
    found = asked(JOIN, address, HOME=str(tmp_path))
    assert "the cluster asks for its token, but" in found["error"], found
    assert not (tmp_path / ".ray").exists()
    found = asked(JOIN, address, HOME=str(tmp_path), RAY_AUTH_TOKEN="0" * 64)
    assert "refuses the token of RAY_AUTH_TOKEN" in found["error"], found
    assert "\n" not in found["error"]


def test_no_file_has_the_token_and_the_sockets_are_their_owners_alone(started, home):
    import ray

    assert not list(home.iterdir())
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    assert session.is_relative_to(security.private_folder())
    assert stat.S_IMODE(security.private_folder().parent.stat().st_mode) == 0o700


def test_there_is_no_dashboard(started):
    import ray

    assert not ray._private.worker.global_worker.node.address_info["webui_url"]


def test_workers_have_the_umask_of_who_started_them(started):
    import ray

    @ray.remote
    def mask() -> int:
        own = os.umask(0)
        os.umask(own)
        return own

    assert ray.get(mask.remote()) == 0o027


def test_open_ports_are_warned_of(started):
    address, _ = started
    port = address.rpartition(":")[2]
    found = [finding.what for finding in machine._ports(Path("/proc")) if finding.what.startswith("gcs_server")]
    assert any(re.search(rf"listens on all interfaces: ports? .*\b{port}\b", what) for what in found), found


def test_lines_of_rays_processes_stay_off_the_output(started, capfd):
    import ray

    @ray.remote(max_retries=0)
    def dies() -> None:
        os._exit(1)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(dies.remote())
    ray._private.worker.print_to_stdstream(
        {"lines": ["A worker died"], "pid": "raylet", "is_err": False}, ignore_prefix=False
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", [{}, {"RAY_AUTH_MODE": "disabled"}], ids=["unset", "disabled"])
def test_a_ray_that_has_ended_leaves_no_settings_to_the_cluster_that_comes_next(tmp_path, mode):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("e" * 64)
    found = asked(IN_TURN, HOME=str(tmp_path), **mode)
    assert found["before"] == found["after"] == mode
    assert any("runs without authentication" in line for line in found["said"]), found


def test_a_cluster_without_authentication_is_joined_with_a_warning_and_not_told_the_token(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("d" * 64)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = subprocess.Popen(
        [sys.executable, "-c", OPEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**clean, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        address = own.stdout.readline().strip()
        assert asked(STRANGER, address, HOME="/nonexistent", RAY_AUTH_MODE="disabled") == {"nodes": 1}
        found = asked(JOIN, address, HOME=str(tmp_path))
        assert found["joined"] == 1
        (warning,) = found["said"]
        assert "runs without authentication" in warning and address in warning
    finally:
        own.stdin.close()
        own.wait(timeout=120)


def test_where_nobody_answers_is_an_error():
    found = asked(JOIN, "127.0.0.1:1")
    assert "nobody listens there" in found["error"], found


def test_a_place_that_somebody_else_has_taken_is_refused(monkeypatch):
    from nas.execution.ray import cluster

    monkeypatch.setattr(security, "private_folder", lambda: (_ for _ in ()).throw(UsageError("taken")))
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(UsageError, match="taken"):
        cluster.start(None)
