"""The Ray Tune executor with real worker processes: placement, reuse, deaths, stops."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from helpers_workers import Declining, KilledOnce
from make_run import changed
from ray.util.placement_group import placement_group

from nas.data.training_data import TrainingData
from nas.errors import UsageError
from nas.execution import executor as execution
from nas.execution import local
from nas.execution.job import Job
from nas.execution.ray import cluster
from nas.execution.ray import tune_driver as workers
from nas.execution.ray.cluster import Resources
from nas.execution.ray.tune_driver import Worker
from nas.profiling.gpu_packing import Packing, Question
from nas.runs.run import Run, load_run
from nas.runs.settings import Settings
from nas.searching import preparation
from nas.searching.progress import Tally
from nas.searching.request import Request
from nas.searching.search import resume, search
from nas.searching.study import Study
from nas.spaces.space import load_space
from nas.training.conv_kernels import MERGED
from nas.training.records import Epoch

pytestmark = pytest.mark.usefixtures("connected")

SPACE = """\
space: pocket
stages: 1
values:
  stem_width: 4
  block: basic
  depth: [1, 2]
  width: [4, 8, 12, 16]
"""


class Watched(Tally):
    """Remembers each epoch that a worker reported, and asks for a stop behind the first `limit` of them."""

    def __init__(self, study: Study, limit: int = 10_000) -> None:
        super().__init__(study)
        self.epochs: list[tuple[str, int]] = []
        self.limit = limit

    def epoch(self, job: Job, epoch: Epoch) -> None:
        super().epoch(job, epoch)
        self.epochs.append((job.key, epoch.number))

    def stop(self) -> bool:
        return len(self.epochs) >= self.limit


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "pocket.yaml"
    path.write_text(SPACE)
    return path


WHERE = """
from nas.execution.ray import cluster
cluster.start(None)
import ray
print(ray.get_runtime_context().runtime_env)
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_workers_run_in_the_driver_s_own_environment():
    """And not in a copy of the current folder, for which Ray makes one under `uv run`, as users start it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = ["uv", "run", "--no-project", sys.executable, "-c", WHERE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "{}"), done.stderr


def drive(
    space: Path,
    folder: Path,
    trials: int,
    epochs: int = 3,
    limit: int = 10_000,
    worker: type[Worker] | None = Worker,
    stopping: str = "none",
    sampler: str = "known-cost",
    slots: int = 0,
) -> Watched:
    """Plan a run, or go on with the one in `folder`, and let Ray train it, or this process where there is no worker."""
    request = Request(
        space=str(space),
        trials=trials,
        epochs=epochs,
        out=folder,
        max_images=200,
        sampler=sampler,
        device="cpu",
        precision="fp32",
        stopping=stopping,
    )
    if (folder / "run.yaml").exists():
        settings = Settings.load(folder)
        _, _, data = preparation.plan(dataclasses.replace(request, out=folder.with_name("unused")), print)
    else:
        _, settings, data = preparation.plan(request, print)
        folder.mkdir()
        settings.save(folder)
    with Study(folder, settings) as study:
        watched = Watched(study, limit)
        if worker is None:
            local.run(study, data, watched, watched.stop)
        else:
            workers.run(study, data, watched, watched.stop, Resources.resolve(slots, 1.0, None), worker=worker)
    return watched


def check(run: Run, trials: int, epochs: int = 3) -> None:
    assert run.count("complete") == trials
    assert run.count("running") == 0
    assert len({trial.digest for trial in run.complete()}) == trials
    for trial in run.complete():
        assert [epoch.number for epoch in trial.epochs] == list(range(1, epochs + 1))


@pytest.mark.slow
def test_each_epoch_runs_once_and_its_numbers_are_those_of_the_other_executor(
    space: Path, tmp_path: Path, one_thread: None
) -> None:
    folder = tmp_path / "run"
    watched = drive(space, folder, trials=3, sampler="random")
    run = load_run(folder)
    check(run, 3)
    assert sorted(watched.epochs) == sorted((str(trial.number), n) for trial in run.complete() for n in (1, 2, 3))
    assert {path.name for path in folder.iterdir()} == {"run.yaml", "run.lock", "study.journal", "trials"}
    for result in folder.glob("trials/*/*"):  # and Tune leaves nothing
        assert result.name == "result.json"
        assert json.loads(result.read_text())["state"] == "complete"
    drive(space, tmp_path / "here", trials=3, worker=None, sampler="random")
    for trial in run.complete():
        trained_here = load_run(tmp_path / "here").trial(trial.number)
        assert trial.digest == trained_here.digest
        for first, second in zip(trial.epochs, trained_here.epochs, strict=True):
            for name in ("train_loss", "val_loss", "accuracy", "learning_rate"):
                assert getattr(first, name) == getattr(second, name), name


@pytest.mark.slow
def test_a_killed_worker_costs_the_epoch_in_flight_at_most(space: Path, tmp_path: Path) -> None:
    watched = drive(space, tmp_path / "run", trials=2, worker=KilledOnce)
    assert (tmp_path / "run" / "trials" / "killed").exists()
    run = load_run(tmp_path / "run")
    check(run, 2)
    # Its second epoch was saved before the kill but not reported, so that the next worker begins with the third.
    assert [number for key, number in watched.epochs if key == "0"] == [1, 3]


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(space: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = drive(space, folder, trials=4, limit=3)
    assert load_run(folder).status == "unfinished"
    second = drive(space, folder, trials=4)
    check(load_run(folder), 4)
    assert len(set(first.epochs)) == len(first.epochs)
    assert not set(first.epochs) & set(second.epochs), "no epoch may run twice"


@pytest.mark.slow
def test_trials_without_a_chance_stop_behind_their_epoch(space: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trials": 7, "epochs": 4, "worker": Declining, "slots": 2}
    watched = drive(space, tmp_path / "run", **options, stopping="asha:eta=3", limit=6)
    assert load_run(tmp_path / "run").status == "unfinished"
    again = drive(space, tmp_path / "run", **options)  # by the policy that the run began with
    run = load_run(tmp_path / "run")
    assert run.status == "done" and run.count("running") == run.count("failed") == 0
    assert run.count("stopped") + run.count("complete") == 7
    # Whatever the order in which two workers report, at least k - 1 of the k better trials are before trial k, and place k of 7
    # does not continue from the third on. Trial 2 may, if it is the last to report; trial 0 always does.
    assert {3, 4, 5, 6} <= {trial.number for trial in run.trials if trial.state == "stopped"} <= {1, 2, 3, 4, 5, 6}
    for trial in run.trials:
        numbers = [epoch.number for epoch in trial.epochs]
        assert numbers == list(range(1, 5 if trial.state == "complete" else 1 + trial.decisions[-1].epoch))
        assert trial.decisions[-1].stop == (trial.state == "stopped")
    trained = sorted((str(trial.number), epoch.number) for trial in run.trials for epoch in trial.epochs)
    assert sorted(watched.epochs + again.epochs) == trained, "no epoch runs twice, or behind a stop"
    assert not list((tmp_path / "run").rglob("checkpoint.pt"))


@pytest.mark.slow
def test_decisions_go_by_our_own_epochs(space: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"worker": KilledOnce, "stopping": "pareto:least=1000,eta=1.5"}
    drive(space, tmp_path / "run", trials=3, epochs=4, **options)
    run = load_run(tmp_path / "run")
    check(run, 3, epochs=4)
    # The second epoch was saved but never reported; Tune calls the third one the first of a new trial.
    assert [own.epoch for own in run.trial(0).decisions] == [1, 3]
    assert [own.epoch for own in run.trial(1).decisions] == [1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "words"), [((0, None, 64.0), "GPUs"), ((0, 4096.0, None), "cores"), ((5000, 1.0, None), "only")]
)
def test_more_than_the_cluster_has_is_refused(asked: tuple[int, Any, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Resources.resolve(*asked)


def test_shares_of_a_gpu_pack_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0, "GPU": 2.0})
    assert Resources.resolve(0, None, None).slots() == 2
    assert Resources.resolve(0, 1.0, 0.25).slots() == 8
    assert Resources.resolve(0, 1.0, 0.3).slots() == 6
    assert Resources.resolve(0, 16.0, 0.25).slots() == 4
    assert Resources.resolve(3, None, 0.25).slots() == 3


def test_an_address_where_nobody_listens_is_said_before_ray_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray waits two minutes there"))
    with pytest.raises(UsageError, match="nobody listens there"):
        cluster.start("127.0.0.1:1")


def test_without_an_address_no_cluster_of_somebody_else_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    assert cluster.start(None)
    assert asked[0]["address"] == "local"


@pytest.mark.slow
def test_the_engine_is_measured_where_a_trial_would_run_and_recorded(space: Path, tmp_path: Path) -> None:
    request = Request(
        space=str(space), trials=1, epochs=1, out=tmp_path / "run", max_images=40, resolution=32, precision="bf16"
    )
    run = search(request, cpus_per_trial=1)
    (device, engine), *others = run.config["engine"].items()
    assert device == "cpu" and not others
    assert all(engine[name] in MERGED for name in ("grouped", "depthwise"))
    assert not engine["graphs"] and not engine["benchmark"]  # which are of GPUs
    (tmp_path / "run" / "run.yaml").write_text(
        (tmp_path / "run" / "run.yaml").read_text().replace(f"grouped: {engine['grouped']}", "grouped: 64")
    )
    # What a run began with stays, whatever another measurement would say.
    again = resume(tmp_path / "run", trials=2)
    assert again.config["engine"]["cpu"]["grouped"] == 64


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that says it has one GPU and 8 cores; tasks that ask for the GPU run all the same."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    remote = ray.remote
    monkeypatch.setattr(ray, "remote", lambda **options: remote(**{**options, "num_gpus": 0}))
    monkeypatch.setattr(cluster, "placement_group", lambda bundles: placement_group([{"CPU": bundles[0]["CPU"]}]))


def planned(space: Path, folder: Path, **options: Any) -> tuple[Study, TrainingData]:
    request = Request(space=str(space), out=folder, max_images=40, precision="fp32", **options)
    _, settings, data = preparation.plan(request, print)
    folder.mkdir()
    settings.save(folder)
    return Study(folder, settings), data


def never() -> bool:
    return False


def answers(monkeypatch: pytest.MonkeyPatch, trials: int) -> list[Question]:
    """Workers' answers from now on, in place of a measurement; the questions."""
    asked: list[Question] = []

    def packed(question: Question, *_: Any) -> Packing:
        asked.append(question)
        return Packing(trials, trials, reason="so it was measured")

    monkeypatch.setattr(cluster, "packed", packed)
    return asked


def test_trials_share_a_gpu_as_was_measured_once(
    one_gpu: None, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, said = answers(monkeypatch, 4), []
    study, data = planned(space, tmp_path / "run", trials=20)
    with study:
        resources = execution.resources(study, data, said.append, never)
        assert (resources.gpus, resources.cpus, resources.slots()) == (0.25, 2.0, 4)
        assert len(asked) == 1 and asked[0].most == 8 and asked[0].trial_bytes["fp32"] > data.x.nbytes
        assert said[-1] == "4 trials on each GPU: so it was measured"
    kept = Settings.load(tmp_path / "run")
    assert kept.packing.trials_per_gpu == 4
    with Study(tmp_path / "run", kept) as study:  # a resume does not measure again
        assert execution.resources(study, data, said.append, never).gpus == 0.25
    other = changed(kept, executor={"gpus_per_trial": 1.0})
    with Study(tmp_path / "run", other) as study:  # nor does a number that is given
        assert execution.resources(study, data, said.append, never).gpus == 1.0
    assert len(asked) == 1


@pytest.mark.parametrize(
    "options", [{"trials": 1}, {"device": "cpu", "trials": 20}, {"gpus_per_trial": 0.5, "trials": 20}], ids=str
)
def test_a_search_that_could_not_use_the_answer_is_spared_the_probe(
    one_gpu: None, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    asked = answers(monkeypatch, 4)
    study, data = planned(space, tmp_path / "run", **options)
    with study:
        assert execution.resources(study, data, print, never).gpus == options.get("gpus_per_trial", 1.0)
        assert not asked and not study.settings.packing
    study, data = planned(space, tmp_path / "other", **{**options, "gpus_per_trial": "auto"})
    with study:
        assert execution.resources(study, data, print, never).gpus == 0.25
        assert len(asked) == 1


def test_no_gpu_is_no_question(space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    asked = answers(monkeypatch, 4)
    study, data = planned(space, tmp_path / "run", trials=20, gpus_per_trial="auto")
    with study:
        assert execution.resources(study, data, print, never) == Resources(1.0, 0.0, 0)
    assert not asked


def test_a_worker_without_a_visible_gpu_keeps_one_trial_on_each(one_gpu: None, space: Path, tmp_path: Path) -> None:
    study, data = planned(space, tmp_path / "run", trials=20)
    with study:
        resources = execution.resources(study, data, print, never)
        if torch.cuda.is_available():
            assert study.settings.packing.images_per_second[1] > 0
        else:
            assert resources.gpus == 1.0 and "sees none" in study.settings.packing.reason


@pytest.mark.slow
def test_a_worker_measures_with_processes_of_its_own(one_gpu: None) -> None:
    small = load_space("resnet", resolution=8, channels=1, classes=10)
    network = small.architecture(small.sample(0)).to_dict()
    answer = cluster.packed(Question(network, {"fp32": 1 << 20}, 8, "cpu", "fp32", most=2, threads=2), print, never)
    assert answer.fits == 2 and set(answer.images_per_second) == {1, 2} and answer.images_per_second[1] > 0


def test_a_probe_that_raises_or_hangs_leaves_one_trial_on_a_gpu(one_gpu: None) -> None:
    answer = cluster.packed(Question({}, {"fp32": 0}, 8), print, never)
    assert answer.trials_per_gpu == 1 and answer.reason.startswith("the probe failed")


def test_trials_on_a_gpu_are_bounded_by_cores_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0, "GPU": 4.0})
    assert cluster.most_per_gpu(0, None) == 16
    assert cluster.most_per_gpu(0, 4.0) == 4
    assert cluster.most_per_gpu(6, None) == 2
    assert cluster.most_per_gpu(0, 64.0) == 1
