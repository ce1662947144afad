"""Trainings by several processes, started by torchrun as users do (Gloo, on cores), held against trainings by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers_cli import SIGNALLED, SMALL, process
from helpers_data import photos
from helpers_faults import state_of
from helpers_search import images
from safetensors.torch import load_file

from nas.data.batches import Batches
from nas.errors import UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import build
from nas.training.distributed import ALONE, Group, joined, started_together
from nas.training.recipe import Recipe
from nas.training.trainer import Training

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
TRAINING = ["--dataset", "digits", "--device", "cpu", "--precision", "fp32", "--batch-size", "32"]


def together(*arguments: object, processes: int = 2, program: tuple[str, ...] = ("-m", "nas")) -> list[str]:
    """The command that runs `nas ARGUMENTS`, or another program, in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    return [*launcher, *meeting, *program, *map(str, arguments)]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a network, in which two processes have trained it for three epochs: "pair"."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "small.yaml").write_text(SMALL)
    done = run(together("train", "small.yaml", *TRAINING, "--epochs", 3, "--out", "pair", "--json"), folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


@pytest.mark.slow
def test_two_processes_train_as_one_with_micro_batches_of_their_size(place):
    options = [*TRAINING, "--epochs", 3, "--micro-batch", 16, "--out", "alone"]
    done = process("train", "small.yaml", *options, cwd=place, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    alone, pair = weights(place / "alone"), weights(place / "pair")
    assert alone.keys() == pair.keys()
    for name, tensor in alone.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(
                pair[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
            )
    losses = [
        [epoch["train_loss"] for epoch in json.loads((place / name / "result.json").read_text())["epochs"]]
        for name in ("alone", "pair")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_one_of_the_processes_speaks_and_writes(place):
    result = json.loads((place / "stdout").read_text())
    assert result["processes"] == 2
    assert result == json.loads((place / "pair" / "result.json").read_text())
    said = (place / "stderr").read_text()
    assert said.count("2 processes with a part of each step's images") == 1
    assert said.count("epoch 3/3") == 1
    assert {path.name for path in (place / "pair").iterdir()} >= {"config.yaml", "log.csv", "report.html", "plan.json"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_processes_go_on_to_equal_weights(place):
    """The first one stops itself behind its first checkpoint, and the second one waits for it, until both are killed."""
    training = ["train", "small.yaml", *TRAINING, "--epochs", 3, "--out", "killed"]
    stopping = (SIGNALLED, str(int(signal.SIGSTOP)), "killed/checkpoint.pt")
    with subprocess.Popen(together(*training, program=stopping), cwd=place, env=ENVIRONMENT) as started:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        workers: list[int] = []
        try:
            deadline = time.monotonic() + 250
            while "T" not in map(state_of, workers):
                assert started.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
                workers = [int(word) for word in children.read_text().split()]
        finally:
            started.kill()
            for worker in workers:  # they have sessions of their own, and would go on with the training
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
    while any(state_of(worker) not in ("", "Z") for worker in workers):
        time.sleep(0.05)
    done = run(together(*training), place)
    assert done.returncode == 0, done.stderr
    assert "continues after epoch 1\n" in done.stderr and "epoch 1/3" not in done.stderr
    whole, again = weights(place / "pair"), weights(place / "killed")
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


@pytest.mark.slow
def test_a_front_s_network_is_fine_tuned_by_several(place):
    done = run(
        together("finetune", "pair", "--dataset", "digits", "--device", "cpu", "--epochs", 1, "--out", "tuned"), place
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert json.loads((place / "tuned" / "result.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_each_process_decodes_its_part_of_the_images(place):
    photos(place / "photos", count=30)
    network = Architecture.from_yaml(SMALL).adapted(classes=2, resolution=8, channels=3)
    (place / "colours.yaml").write_text(network.to_yaml())
    options = ["--dataset", "imagefolder:photos", "--stream", "--workers", 1, "--resolution", 8, "--data-root", "home"]
    training = ["train", "colours.yaml", *options, "--device", "cpu", "--precision", "fp32", "--batch-size", 8]
    training += ["--epochs", 3]
    done = run(together(*training, "--out", "streamed"), place)
    assert done.returncode == 0, done.stderr
    alone = process(*training, "--micro-batch", 4, "--out", "streamed-alone", cwd=place, env=ENVIRONMENT)
    assert alone.returncode == 0, alone.stderr
    losses = [
        [epoch["train_loss"] for epoch in json.loads((place / name / "result.json").read_text())["epochs"]]
        for name in ("streamed-alone", "streamed")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_what_is_wrong_is_said_once_and_nobody_waits(place):
    for arguments, message in (
        (["train", "small.yaml", "--dataset", "digit"], "did you mean 'digits'?"),
        (["train", "small.yaml", *TRAINING, "--out", "pair", "--epochs", 2], "holds another training"),
        (
            ["train", "small.yaml", "--dataset", "digits", "--device", "cuda:0"],
            "--device cuda:0 names one GPU for 2 processes",
        ),
    ):
        done = run(together(*arguments), place)
        assert done.returncode != 0
        assert done.stderr.count(message) == 1, done.stderr
        assert "nas/commands" not in done.stderr  # the traceback that there is is torchrun's own


def test_a_process_on_its_own_has_no_group():
    assert not started_together({})
    assert not started_together({"WORLD_SIZE": "1", "RANK": "0"})
    assert started_together({"WORLD_SIZE": "2", "RANK": "1"})
    with joined("cpu") as (group, device):
        assert (group, device) == (ALONE, "cpu")
    network = torch.nn.Linear(2, 2)
    assert ALONE.wrap(network) is network
    with ALONE.in_turn():
        ALONE.sum(torch.ones(1))


def test_a_batch_smaller_than_the_group_is_refused():
    x, y = images(12)
    batches = Batches(x, y, mean=(0.4,), std=(0.25,), batch_size=4, device="cpu")
    network, recipe = build(Architecture.from_yaml(SMALL)), Recipe.of(1, 4)
    with pytest.raises(UsageError, match="a batch of 4 images is too small for 5 processes"):
        Training(network, batches, batches, recipe, group=Group(0, 5))
