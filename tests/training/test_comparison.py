"""Comparisons: the same training for all, resumable, with diverged networks as results, and a page of what was found."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from helpers_comparison import DATA, DEEP, PLAIN, RECIPE, SMALL, comparison, finish
from helpers_comparison import done as done  # a fixture
from helpers_squares import SIDE, make_dataset

from nas.errors import UsageError
from nas.networks.build import build
from nas.report.comparison.page import page
from nas.training.comparison_records import Findings, Outcome, Point
from nas.training.full_training import FullTraining, held_out
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT, Epoch
from nas.training.trainer import Diverged, Training
from nas.training.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")


def timeless(findings: Findings) -> list:
    """What was found, without what a clock has measured."""
    found = []
    for network in findings.networks:
        for outcome in network.outcomes:
            points = [
                dataclasses.replace(point, epoch=dataclasses.replace(point.epoch, seconds=0.0, images_per_second=0.0))
                for point in outcome.points
            ]
            found.append((network.name, outcome.seed, outcome.state, points, outcome.moments))
    return found


# -- what is trained --------------------------------------------------------------------------------------------------


def test_every_network_is_trained_as_by_full_training(done, tmp_path):
    """The epochs are those of `nas train` with the same recipe and seed: nothing is done to the networks beside it."""
    for network in done[1].networks:
        (outcome,) = network.outcomes
        folder = tmp_path / network.name
        with FullTraining(folder, network.architecture, DATA, RECIPE, device="cpu", precision="fp32") as training:
            alone = list(training.epochs())
        own = [point.epoch for point in outcome.points]
        assert outcome.state == "complete"
        for one, other in zip(own, alone, strict=True):
            assert dataclasses.replace(one, seconds=other.seconds, images_per_second=other.images_per_second) == other


def test_training_error_is_that_of_the_unaugmented_images_trained_on(done):
    """Computed with numpy and the network alone, on weights trained anew."""
    data = held_out(DATA, 0)
    x, y = DATA.x_train[data.train_index], DATA.y_train[data.train_index]
    images = torch.from_numpy(((x / 255 - DATA.mean) / DATA.std).astype(np.float32)).permute(0, 3, 1, 2)
    job = Training(build(SMALL, seed=0), *Workspace(data, RECIPE, device="cpu", precision="fp32").batches(0), RECIPE)
    for point in done[1].networks[0].outcomes[0].points:
        job.epoch()
        with torch.inference_mode():
            wrong = (job.network.eval()(images).argmax(1).numpy() != y).mean()
        assert point.train_error == pytest.approx(wrong, abs=1e-6)
    assert done[1].dataset["measured_train_images"] == len(y) == 108


def test_the_training_error_of_large_data_is_measured_on_a_fixed_part(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.training.comparison.MEASURED", 30)
    findings = finish(tmp_path, [SMALL], recipe=Recipe.of(1, 16))
    assert findings.dataset["measured_train_images"] == 30
    assert "a fixed 30 of the 108 images" in page(findings)
    accuracy = findings.networks[0].outcomes[0].points[-1].train_accuracy
    assert accuracy * 30 == pytest.approx(round(accuracy * 30), abs=1e-4)


def test_watching_gradients_changes_no_result(done, tmp_path):
    unwatched = timeless(finish(tmp_path))
    assert [(*rest, ()) for *rest, moments in timeless(done[1]) if moments] == unwatched


def test_the_test_split_is_not_touched(done, tmp_path):
    other = make_dataset(test_seed=7)
    assert not np.array_equal(other.x_test, DATA.x_test)
    assert timeless(finish(tmp_path, dataset=other, gradient_steps=2)) == timeless(done[1])


def test_all_repeats_share_the_split_and_each_has_its_own_seed(tmp_path):
    findings = finish(tmp_path, [SMALL], repeats=3, seed=4)
    (network,) = findings.networks
    assert [outcome.seed for outcome in network.outcomes] == [4, 5, 6]
    assert len({outcome.points[0].epoch.train_loss for outcome in network.outcomes}) == 3
    data = held_out(DATA, 4)
    job = Training(build(SMALL, seed=6), *Workspace(data, RECIPE, device="cpu", precision="fp32").batches(6), RECIPE)
    assert job.epoch().train_loss == network.outcomes[2].points[0].epoch.train_loss


def test_a_network_of_another_resolution_sees_resized_images(tmp_path):
    large = dataclasses.replace(SMALL, resolution=2 * SIDE, name="large")
    small, other = finish(tmp_path, [SMALL, large], recipe=Recipe.of(1, 16)).networks
    assert other.cost.macs > 3 * small.cost.macs
    assert small.outcomes[0].points != other.outcomes[0].points


# -- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_a_comparison_that_died_goes_on_to_the_same_result(done, tmp_path, stop):
    """Stopped behind so many epochs over both networks, as by a kill: with what is on the disk then, and no more."""
    with comparison(tmp_path, gradient_steps=2) as job:
        seen = 0
        for _, news in job.train():
            seen += isinstance(news, Point)
            if seen == stop:
                break
    with comparison(tmp_path, gradient_steps=2) as job:
        news = [item for _, item in job.train() if isinstance(item, Point)]
        assert len(news) == 6 - stop + (stop == 3)
        assert timeless(job.findings()) == timeless(done[1])


def test_a_done_comparison_is_read_and_not_trained_again(done):
    folder, findings = done
    with comparison(folder, gradient_steps=2) as job:
        assert job.missing() == ()
        assert list(job.train()) == []
        assert job.findings() == findings
    assert sorted(path.name for path in (folder / "small/seed0").iterdir()) == ["config.yaml", RESULT]


def test_networks_and_repeats_join_a_comparison(tmp_path):
    first = finish(tmp_path, [SMALL])
    with comparison(tmp_path, [SMALL, DEEP], repeats=2) as job:
        assert [(entry.name, entry.seed) for entry in job.missing()] == [("deep", 0), ("small", 1), ("deep", 1)]
        for _ in job.train():
            pass
        assert job.findings().networks[0].outcomes[0] == first.networks[0].outcomes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": Recipe.of(3, 32)}, "batch_size is 16, not 32"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"dataset": make_dataset(seed=5)}, "fingerprint is"),
        ({"gradient_steps": 0}, "gradient_steps is 2, not 0"),
        ({"networks": [dataclasses.replace(PLAIN, name="small")]}, "holds another network"),
    ],
)
def test_a_folder_of_another_comparison_is_refused(done, options, message):
    with pytest.raises(UsageError, match=message) as refused, comparison(done[0], **{"gradient_steps": 2, **options}):
        pass
    assert "choose another folder with --out" in str(refused.value)


def test_a_folder_of_something_else_or_in_use_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / RESULT).write_text("{}")
    with pytest.raises(UsageError, match=f"holds a {RESULT} that is no comparison's"), comparison(tmp_path / "a"):
        pass
    with (
        comparison(tmp_path / "b"),
        pytest.raises(UsageError, match="another process trains here"),
        comparison(tmp_path / "b"),
    ):
        pass


def test_a_network_stands_once_and_names_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="small and twin are the same network"):
        comparison(tmp_path, [SMALL, dataclasses.replace(SMALL, name="twin")])
    two = comparison(tmp_path, [SMALL, dataclasses.replace(DEEP, name="Small")])
    assert list(two.networks) == [f"small {SMALL.digest[:6]}", f"Small {DEEP.digest[:6]}"]
    assert len({entry.folder.name.lower() + entry.folder.parent.name.lower() for entry in two.entries}) == 2
    assert all(entry.folder.parent.parent == tmp_path for entry in two.entries)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def failing(monkeypatch, error: Exception, behind: int = 1) -> None:
    """The network `deep` raises the error behind so many epochs."""
    epoch = Training.epoch

    def fails(self: Training) -> Epoch:
        if len(self.network.stages[0]) == 2 and self.done >= behind:
            raise error
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", fails)


def test_a_network_that_diverges_is_a_result(tmp_path, monkeypatch):
    failing(monkeypatch, Diverged("the training loss became nan in epoch 2"))
    findings = finish(tmp_path, [DEEP, SMALL])
    deep, small = findings.networks
    assert (deep.outcomes[0].state, len(deep.outcomes[0].points)) == ("diverged", 1)
    assert small.outcomes[0].state == "complete"
    assert deep.train_errors == ()
    assert finish(tmp_path, [DEEP, SMALL]) == findings, "it is known, and not tried again"
    html = page(findings)
    assert "the training loss became nan in epoch 2" in html
    assert "ends in a cross diverged there" in html


def test_a_loss_that_is_really_not_finite_is_told(tmp_path):
    (network,) = finish(tmp_path, [PLAIN], recipe=dataclasses.replace(RECIPE, learning_rate=100.0)).networks
    (outcome,) = network.outcomes
    assert outcome.state in ("diverged", "complete")
    assert all(np.isfinite(point.train_loss) for point in outcome.points)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("no more\ndetails"), "out of memory on cpu: no more"),
        (RuntimeError("shapes\ndon't fit"), "shapes"),
    ],
)
def test_what_failed_for_the_machines_sake_is_tried_again(tmp_path, monkeypatch, error, reason):
    with monkeypatch.context() as patched:
        failing(patched, error)
        (outcome,) = finish(tmp_path, [DEEP]).networks[0].outcomes
    assert (outcome.state, outcome.reason) == ("failed", reason)
    assert (tmp_path / "deep/seed0" / CHECKPOINT).exists()
    (again,) = finish(tmp_path, [DEEP]).networks[0].outcomes
    assert again.state == "complete"
    assert again.points[0] == outcome.points[0], "it goes on behind the epoch that was saved"


def test_json_of_the_findings_says_what_was_found(done):
    data = json.loads(json.dumps(done[1].to_dict(), allow_nan=False))
    small = data["networks"][0]
    assert (small["name"], small["digest"]) == ("small", SMALL.digest)
    assert small["train_error"] == 1 - small["trainings"][0]["points"][-1]["training_images"]["accuracy"]
    assert Outcome.from_dict(small["trainings"][0]) == done[1].networks[0].outcomes[0]
    assert data["recipe"]["epochs"] == 3
