"""Ray's private parts: one module alone uses them, and each may be missing."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import nas
from nas.errors import UsageError
from nas.execution.ray import capacity_notice, tune_internals

PACKAGE = Path(nas.__file__).parent
OTHERS = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "tune_internals.py"]
# Parts of Ray that start with an underscore, or that its documentation does not have.
PRIVATE = re.compile(
    r"\bray(\.\w+)*\._[a-z]|from ray(\.\w+)* import _|\bray\.core\b|\bray\.tune\.(execution|experiment|result|impl)\b|\btune\.result\b"
    r"|_node_ip_address|_temp_dir\b|print_to_stdstream|GcsClient|canonicalize_bootstrap|init_grpc_channel"
)
# Undocumented attributes of Tune's trials and controller.
OF_TUNE = {
    *("temporary_state", "ray_actor", "error_file", "placement_group_factory"),
    *("get_live_trials", "stop_trial", "is_finished"),
}
RAY_ROOM = PACKAGE / "execution" / "ray"


def private(source: str, of_ray: bool = True) -> list[str]:
    """The private parts of Ray that a module uses. of_ray: the module uses Ray, so no private attribute of any object is allowed."""
    uses = [match.group() for match in PRIVATE.finditer(source)]
    for node in ast.walk(ast.parse(source)) if of_ray else ():
        if isinstance(node, ast.Attribute) and (
            node.attr in OF_TUNE or (re.match(r"_[a-z]", node.attr) and ast.unparse(node.value) != "self")
        ):
            uses.append(ast.unparse(node))
        if isinstance(node, ast.keyword) and (node.arg or "").startswith("_"):
            uses.append(str(node.arg))
    return uses


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_uses_private_parts_of_ray(path: Path) -> None:
    assert private(path.read_text(encoding="utf-8"), path.is_relative_to(RAY_ROOM)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import ray._raylet",
        "from ray._private.services import canonicalize_bootstrap_address",
        "from ray.tune.experiment import Trial",
        "controller._actor_cache.flush()",
        "ray.init(_temp_dir='/tmp')",
        "actor = trial.temporary_state.ray_actor",
    ],
)
def test_private_parts_are_recognized(source: str) -> None:
    assert private(source)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        module, _, attribute = name.rpartition(".")
        monkeypatch.delattr(importlib.import_module(module), attribute)


def test_a_notice_without_free_resources_names_what_each_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ray._private.state.available_resources_per_node")
    node = {"NodeID": "a", "Alive": True, "NodeManagerAddress": "a", "Resources": {"CPU": 4.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    assert tune_internals.free_by_node() is None
    assert "(a: 4 cores and 0 GPUs)" in capacity_notice.notice(1.0, 1.0)


def test_lines_of_ray_appear_if_they_can_not_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ray._private.worker.print_to_stdstream")
    monkeypatch.setattr(tune_internals, "_print_lines", None)
    tune_internals.hide_ray_lines()
    tune_internals.show_ray_lines()
    assert not hasattr(ray._private.worker, "print_to_stdstream")


def test_an_address_is_used_as_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ray._private.services.canonicalize_bootstrap_address")
    assert tune_internals.head_address("10.0.0.1:6379") == "10.0.0.1:6379"
    with pytest.raises(UsageError, match=rf"can't find the cluster of --address with Ray {ray.__version__} .*local$"):
        tune_internals.head_address("auto")


def test_a_cluster_whose_token_can_not_be_checked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ray._raylet.GcsClient")
    with pytest.raises(UsageError, match="can't check the token of a cluster with Ray") as caught:
        tune_internals.admits("127.0.0.1:1", 1.0)
    assert "\n" not in str(caught.value)


def test_a_client_server_whose_token_can_not_be_checked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    without(monkeypatch, "ray._private.grpc_utils.init_grpc_channel")
    with pytest.raises(UsageError, match="can't check the token of a client server with Ray"):
        tune_internals.client_admits("127.0.0.1", 1, 1.0)


@pytest.mark.parametrize(
    "missing", ["Config", "AuthenticationTokenLoader", "get_authentication_mode", "AuthenticationMode"]
)
def test_a_ray_without_authentication_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in ("Config", "AuthenticationTokenLoader"):  # the configuration of this process stays
        monkeypatch.setattr(ray._raylet, name, _Anything())
    without(monkeypatch, f"ray._raylet.{missing}")
    with pytest.raises(UsageError, match="can't use token authentication with Ray"):
        tune_internals.reload_authentication()


class _Anything:
    def __call__(self, *arguments: Any) -> Any:
        return self

    initialize = instance = reset_cache = __call__


def test_a_time_limit_needs_the_workers_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    tune_internals.check_actors()
    monkeypatch.setattr("ray.tune.experiment.trial._TemporaryTrialState", SimpleNamespace)
    with pytest.raises(UsageError, match=r"--trial-timeout.*ray_actor"):
        tune_internals.check_actors()
    without(monkeypatch, "ray.tune.experiment.trial._TemporaryTrialState")
    with pytest.raises(UsageError, match=r"--trial-timeout.*_TemporaryTrialState"):
        tune_internals.check_actors()


class Trial(SimpleNamespace):
    __hash__ = object.__hash__


def test_a_trial_and_a_controller_without_private_parts() -> None:
    trial, controller = Trial(trial_id="1"), SimpleNamespace()
    assert tune_internals.actor_of(trial) is None and tune_internals.error_text(trial) == ""
    assert tune_internals.waiting_trials(controller) is None and not tune_internals.waits(controller)
    memory = tune_internals.Memory()
    for _ in range(3):
        memory.ended(controller, trial)
    tune_internals.drop_waiting(controller)


@pytest.mark.parametrize(
    "missing", ["_actor_cache", "_actor_manager", "_trial_to_actor", "_callbacks", "_trials", "stop_trial"]
)
def test_a_controller_that_lacks_one_part(missing: str) -> None:
    ended: list[Trial] = []
    waiting, done = (
        Trial(trial_id="1", status="PENDING"),
        Trial(trial_id="2", status="TERMINATED", is_finished=lambda: True),
    )
    parts: dict[str, Any] = {
        "_actor_cache": SimpleNamespace(_max_num_objects={None: 1}),
        "_actor_manager": SimpleNamespace(num_pending_actors=1, num_live_actors=0),
        "_trial_to_actor": {},
        "_callbacks": SimpleNamespace(_callbacks=[SimpleNamespace(_completed_trials=set())]),
        "_trials": [done, waiting],
        "stop_trial": ended.append,
    }
    controller = SimpleNamespace(**parts, get_live_trials=lambda: [done, waiting])
    delattr(controller, missing)
    memory = tune_internals.Memory()
    memory.ended(controller, done)
    memory.ended(controller, waiting)
    kept = [] if missing == "_trials" else [waiting] if missing != "_trial_to_actor" else [done, waiting]
    assert getattr(controller, "_trials", []) == kept
    assert tune_internals.waits(controller) == (missing != "_actor_manager")
    assert tune_internals.waiting_trials(controller) == [waiting]
    tune_internals.drop_waiting(controller)
    assert ended == ([] if missing == "stop_trial" else [waiting])
