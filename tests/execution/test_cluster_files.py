"""The files in docs/cluster/: each is checked by what will read it, or, where that can't run here, by its documented form."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Command
from ports import free_port

from nas.cli.commands import search as commands

FOLDER = Path(__file__).parents[2] / "docs" / "cluster"
PAGE = FOLDER.parent / "cluster.md"
# Options of sbatch that the script may use, from its manual, and what their values look like.
SBATCH = {
    "job-name": r"\w+",
    "nodes": r"\d+",
    "ntasks-per-node": "1",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
    "signal": r"B:TERM@\d+",
    "requeue": "",
    "open-mode": "append|truncate",
    "output": r"[\w%.-]+",
}


def options(command: Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def used(text: str) -> list[tuple[str, set[str]]]:
    """`nas search` and `nas resume` as a text calls them: the command, and its options up to the end of the call."""
    calls = re.findall(r"\bnas (search|resume)\b([^;)#\n`]*(?:\\\n[^;)#\n`]*)*)", text)
    return [(name, set(re.findall(r"(?<!\S)--[a-z-]+", rest))) for name, rest in calls]


def test_the_slurm_script_is_bash_and_its_directives_are_sbatchs() -> None:
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    # sbatch stops reading directives at the first command.
    first = next(k for k, line in enumerate(lines) if line and not line.startswith("#"))
    assert directives and all(line in lines[:first] for line in directives)
    for line in directives:
        name, _, value = line.removeprefix("#SBATCH --").partition("=")
        assert name in SBATCH and re.fullmatch(SBATCH[name], value), line


def test_the_slurm_script_starts_ray_and_the_search_once_and_resumes(tmp_path: Path) -> None:
    """With commands of Slurm, Ray and nas that only write down how they were called."""
    shims, log = tmp_path / "bin", tmp_path / "log"
    shims.mkdir()
    for name, body in {
        "scontrol": '[[ $1 == show ]] && printf "one\\ntwo\\nthree\\n" || true',
        "hostname": "echo 127.0.0.1",
        "srun": 'while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift; shift; done; exec "$@"',
        "ray": 'if [[ " $* " == *" --head "* ]]; then exec python3 -m http.server --bind 127.0.0.1 "${@: -1:1}"; fi',
        "nas": "true",
    }.items():
        text = f'#!/usr/bin/env bash\n[[ {name} == hostname ]] || echo "{name} $*" >> {log}\n{body}\n'
        if name == "ray":  # a listener in place of Ray's head, on the port that it was given
            text = text.replace('"${@: -1:1}"', '"$(grep -o -- "--port=[0-9]*" <<< "$*" | cut -d= -f2)"')
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    environment = {
        "PATH": f"{shims}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SLURM_JOB_NODELIST": "x",
        "SLURM_CPUS_PER_TASK": "4",
    }
    bash = shutil.which("bash")
    assert bash is not None
    run = tmp_path / "run"
    for begins, ends in ((f"nas search --out {run}", " --trials 9"), (f"nas resume {run}", "")):
        log.unlink(missing_ok=True)
        port = free_port()
        job = str(port - 20_000)  # as the script has its port from the job
        done = subprocess.Popen(
            [bash, FOLDER / "slurm.sh", run, "--trials", "9"],
            env={**environment, "SLURM_JOB_ID": job},
            start_new_session=True,
        )
        try:
            assert done.wait(120) == 0
            called = log.read_text().splitlines()
            assert f"{begins} --address 127.0.0.1:{port}{ends}" in called
            assert sum(line.startswith("ray start") and "--head" in line for line in called) == 1
            assert not (tmp_path / ".ray" / f"token-{job}").exists()  # it goes with the job
        finally:
            os.killpg(done.pid, signal.SIGKILL)  # the listener is left
        run.mkdir(exist_ok=True)
        (run / "run.yaml").touch()


def test_the_ray_up_file_passes_rays_own_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((FOLDER / "ray-up.yaml").read_text())
    validate_config(prepare_config(config))
    assert config["head_node_type"] in config["available_node_types"]
    for place in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert any("RAY_AUTH_MODE=token" in line for line in config[place])
    wrong = {**config, "head_node_typo": "head"}
    with pytest.raises(Exception, match="head_node_typo"):
        validate_config(prepare_config(wrong))


def kubernetes() -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())}


def test_the_kuberay_file_has_the_form_of_a_rayjob() -> None:
    """The fields that KubeRay's reference (v1) requires, and no other than it knows, down to the pods."""
    job = kubernetes()["RayJob"]
    assert job["apiVersion"] == "ray.io/v1" and re.fullmatch(r"[a-z0-9-]{1,47}", job["metadata"]["name"])
    known = {
        "entrypoint",
        "submissionMode",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    assert set(job["spec"]) <= known and job["spec"]["submissionMode"] in {"K8sJobMode", "HTTPMode", "SidecarMode"}
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "authOptions", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # the CRD takes strings alone
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["name"] and container["image"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            for amounts in container["resources"].values():
                assert all(re.fullmatch(r"\d+(Gi|Mi)?", str(amount)) for amount in amounts.values())
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] and group["groupName"]
    policy = kubernetes()["NetworkPolicy"]
    assert policy["apiVersion"] == "networking.k8s.io/v1" and policy["spec"]["policyTypes"] == ["Ingress"]


def test_the_kuberay_entrypoint_is_a_shell_command() -> None:
    entrypoint = kubernetes()["RayJob"]["spec"]["entrypoint"]
    subprocess.run(["bash", "-n"], input=entrypoint, text=True, check=True)
    inner = re.fullmatch(r"sh -c '(.*)'\s*", entrypoint, re.DOTALL)
    assert inner is not None
    subprocess.run(["sh", "-n"], input=inner.group(1), text=True, check=True)


@pytest.mark.parametrize("path", [*sorted(FOLDER.iterdir()), PAGE], ids=lambda path: path.name)
def test_what_the_files_call_exists(path: Path) -> None:
    calls = used(path.read_text())
    for name, given in calls:
        assert given <= options(getattr(commands, name)), (name, given)
    if path.name != "ray-up.yaml":
        assert calls


def test_the_page_names_every_file() -> None:
    text = PAGE.read_text()
    for path in FOLDER.iterdir():
        assert f"cluster/{path.name}" in text


def test_ray_knows_the_options_that_the_files_give_it() -> None:
    from ray.scripts.scripts import start

    for path in FOLDER.iterdir():
        for line in re.findall(r"ray start ([^)\n]*)", path.read_text()):
            assert set(re.findall(r"--[a-z-]+", line)) <= options(start), line
