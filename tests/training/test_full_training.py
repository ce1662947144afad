"""Full training in a folder: resumable, refusing what is not its own, testing once, and leaving weights that load."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_squares import CLASSES, NETWORK, SIDE, make_dataset
from safetensors import safe_open
from safetensors.torch import load_file

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.networks.weights import Weights, read
from nas.training import full_training, workspace
from nas.training.full_training import FullTraining, adapted, held_out
from nas.training.full_training_folder import CONFIG, PLAN, WEIGHTS
from nas.training.memory import training_memory
from nas.training.recipe import Recipe
from nas.training.records import CHECKPOINT, RESULT
from nas.training.trainer import Training

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe.of(4, 16)


DATA = make_dataset()


def training(folder, architecture=NETWORK, dataset=DATA, recipe=RECIPE, **options) -> FullTraining:
    return FullTraining(folder, architecture, dataset, recipe, **{"device": "cpu", "precision": "fp32", **options})


def finish(folder, **options) -> dict:
    with training(folder, **options) as job:
        for _ in job.epochs():
            pass
        return job.result()


def stop_after(folder, epochs: int, **options) -> None:
    """Train so many epochs and leave, as a process that is killed then."""
    with training(folder, **options) as job:
        for epoch in job.epochs():
            if epoch.number == epochs:
                return


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a training that ran through, and its result."""
    folder = tmp_path_factory.mktemp("done")
    torch.set_num_threads(1)
    return folder, finish(folder)


# -- what is left -----------------------------------------------------------------------------------------------------


def test_the_folder_holds_the_result_and_nothing_half_done(done):
    folder, result = done
    assert {path.name for path in folder.iterdir()} == {PLAN, CONFIG, WEIGHTS, RESULT, "train.lock"}
    assert json.loads((folder / RESULT).read_text()) == result
    assert [epoch["number"] for epoch in result["epochs"]] == [1, 2, 3, 4]
    assert result["recipe"] == RECIPE.to_dict()
    assert result["digest"] == NETWORK.digest
    assert result["cost"]["params"] == cost_of(NETWORK).params


def test_all_images_are_used_each_for_one_thing(done):
    _, result = done
    assert (result["train"]["images"], result["validation"]["images"]) == (108, 12)
    assert result["test"]["images"] == 60
    assert result["validation"]["accuracy"] == result["epochs"][-1]["accuracy"]


def test_weights_give_the_tested_accuracy_again(done):
    """Independently of `Batches` and `evaluate`: normalised with numpy, from the files alone."""
    folder, result = done
    network = build(Architecture.from_yaml(folder / CONFIG))
    network.load_state_dict(load_file(folder / WEIGHTS))
    mean, std = (np.array(result["dataset"][name]) for name in ("mean", "std"))
    images = torch.from_numpy(((DATA.x_test / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        predicted = network.eval()(images).argmax(1).numpy()
    accuracy = float((predicted == DATA.y_test).mean())
    assert accuracy > 1.5 / CLASSES, "a network that learned nothing could not show a mistake here"
    assert result["test"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert result["test"]["standard_error"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 60), abs=1e-6)


def test_weights_say_what_they_are(done):
    folder, result = done
    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    assert Architecture.from_dict(json.loads(metadata["architecture"])) == NETWORK
    assert metadata["digest"] == NETWORK.digest
    assert metadata["dataset_fingerprint"] == DATA.fingerprint
    assert float(metadata["test_accuracy"]) == result["test"]["accuracy"]
    assert json.loads(metadata["classes"]) == ["a", "b", "c"]


# -- the test split ---------------------------------------------------------------------------------------------------


def test_the_test_split_is_looked_at_once(tmp_path, monkeypatch):
    seen = []
    real = full_training.Predictions.of
    monkeypatch.setattr(full_training.Predictions, "of", lambda *args: seen.append(args) or real(*args))
    with training(tmp_path) as job:
        for _ in job.epochs():
            assert seen == []
        assert job.result() == job.result()
    with training(tmp_path) as job:
        assert list(job.epochs()) == []
        job.result()
    assert len(seen) == 1


def test_weights_don_t_depend_on_the_test_split(done, tmp_path):
    folder, _ = done
    finish(tmp_path, dataset=make_dataset(test_seed=7))
    mine, theirs = load_file(folder / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_no_test_before_the_last_epoch(tmp_path):
    with training(tmp_path) as job:
        next(job.epochs())
        with pytest.raises(NasError, match="1 of 4 epochs"):
            job.result()
    assert not (tmp_path / RESULT).exists()


def test_validation_is_held_out_and_moves_with_the_seed():
    data, other = held_out(DATA, 0), held_out(DATA, 1)
    assert sorted([*data.train_index, *data.validation_index]) == list(range(120))
    assert list(data.validation_index) != list(other.validation_index)


# -- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 3, 4])
def test_going_on_gives_the_weights_of_a_run_through(done, tmp_path, at):
    folder, result = done
    stop_after(tmp_path, at)
    with training(tmp_path) as job:
        assert [record.number for record in job.records] == list(range(1, at + 1))
        assert [epoch.number for epoch in job.epochs()] == list(range(at + 1, 5))
        again = job.result()
    mine, theirs = load_file(folder / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert again["test"] == result["test"]
    assert [epoch["train_loss"] for epoch in again["epochs"]] == [epoch["train_loss"] for epoch in result["epochs"]]


def test_a_process_that_died_before_its_first_epoch_is_replaced(tmp_path):
    with training(tmp_path):
        pass
    (tmp_path / CONFIG).unlink()
    assert finish(tmp_path)["digest"] == NETWORK.digest
    assert Architecture.from_yaml(tmp_path / CONFIG) == NETWORK


def test_a_finished_training_is_read_and_not_repeated(done):
    folder, result = done
    before = (folder / WEIGHTS).stat().st_mtime_ns
    with training(folder) as job:
        assert job.finished
        assert list(job.epochs()) == []
        assert job.result() == result
    assert (folder / WEIGHTS).stat().st_mtime_ns == before


def test_precision_stays_what_the_folder_began_with(tmp_path):
    other = "bf16"  # auto is fp32 for images this small
    stop_after(tmp_path, 1, precision=other)
    with training(tmp_path, precision="auto") as job:
        assert job.precision == other


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_named_and_kept(tmp_path, content):
    stop_after(tmp_path, 1)
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(NasError, match=rf"{CHECKPOINT}: can't be read .*remove it to start over"), training(tmp_path):
        pass
    assert (tmp_path / CHECKPOINT).read_bytes() == content


@pytest.mark.parametrize(
    ("file", "entry", "value", "message"),
    [
        (PLAN, "weights", 7, "weights must be a mapping of words, or nothing, not 7"),
        (PLAN, "policy", "full", "policy must be a mapping of words, or nothing, not 'full'"),
        (PLAN, "recipe", [], "recipe must be a mapping of words, not a list of 0"),
        (PLAN, "digest", None, "digest must be a text, not None"),
        (RESULT, "dataset", 3, "dataset must be a mapping of words, not 3"),
        (RESULT, "versions", "1", "versions must be a mapping of words, not '1'"),
    ],
)
def test_a_damaged_record_is_named_with_what_is_wrong(done, tmp_path, file, entry, value, message):
    for name in (PLAN, CONFIG, RESULT):
        (tmp_path / name).write_text((done[0] / name).read_text())
    record = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**record, entry: value}))
    with pytest.raises(UsageError, match=f"{file}: {message}"), training(tmp_path):
        pass


# -- refusing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": NETWORK.adapted(classes=CLASSES, resolution=SIDE, channels=1)}, ""),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"recipe": Recipe.of(5, 16)}, "epochs is 4, not 5"),
        ({"recipe": Recipe.of(4, 8)}, "batch_size is 16, not 8"),
        ({"recipe": Recipe.of(4, 16, 0.3)}, "learning_rate is 0.0125, not 0.3"),
        ({"dataset": make_dataset(seed=5)}, "the data are others"),
        ({"dataset": make_dataset(test_seed=5)}, "the data are others"),
        ({"dataset": make_dataset(name="renamed")}, ""),
        ({"precision": "bf16"}, "precision is fp32, not bf16"),
    ],
)
def test_a_folder_goes_on_with_its_own_training_only(done, change, message):
    folder, result = done
    if not message:
        assert finish(folder, **change) == result
        return
    with pytest.raises(UsageError, match=message) as error, training(folder, **change):
        pass
    assert "--out" in str(error.value)


def test_another_network_is_refused(done):
    folder, _ = done
    wider = Architecture.from_yaml(NETWORK.to_yaml().replace("depth: 1", "depth: 2"))
    with (
        pytest.raises(UsageError, match=rf"the network is {NETWORK.digest}, not"),
        training(folder, architecture=wider),
    ):
        pass


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, RESULT, CHECKPOINT])
def test_a_folder_with_files_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"holds a {name}"), training(tmp_path):
        pass
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", '{"version": 99}'])
def test_a_plan_of_another_version_is_refused(tmp_path, content):
    (tmp_path / PLAN).write_text(content)
    with pytest.raises(UsageError, match="not a plan of this version"), training(tmp_path):
        pass


def test_two_processes_don_t_share_a_folder(tmp_path):
    with training(tmp_path), pytest.raises(UsageError, match="another process trains here"), training(tmp_path):
        pass
    with training(tmp_path):
        pass  # the first has left


# -- fitting the data -------------------------------------------------------------------------------------------------


def test_a_network_that_fits_is_not_changed():
    assert adapted(NETWORK, DATA) == (NETWORK, [])


def test_a_network_is_adapted_to_the_data():
    foreign = NETWORK.adapted(classes=1000, resolution=224, channels=3)
    network, changes = adapted(foreign, DATA)
    assert network.digest == NETWORK.digest
    assert changes == ["classes 1000 → 3", "pixels 224 → 8", "channels 3 → 1"]


# -- started from weights ---------------------------------------------------------------------------------------------


def test_training_starts_from_the_given_weights(done, tmp_path):
    """With a learning rate of 0 the weights of the end are those of the start."""
    source, _ = done
    weights = read(str(source / WEIGHTS))
    still = replace(RECIPE, epochs=1, learning_rate=0.0)
    result = finish(tmp_path / "still", recipe=still, weights=weights)
    begun, ended = load_file(source / WEIGHTS), load_file(tmp_path / "still" / WEIGHTS)
    learnt = [name for name in begun if name.endswith((".weight", ".bias"))]
    assert learnt
    assert all(torch.equal(begun[name], ended[name]) for name in learnt)
    assert result["weights"] == {"source": str(source / WEIGHTS), "fingerprint": weights.fingerprint}


def test_a_folder_goes_on_with_its_own_first_weights_only(done, tmp_path):
    source, _ = done
    weights = read(str(source / WEIGHTS))
    stop_after(tmp_path, 1, weights=weights)
    others = Weights.of("others.pth", {k: v + 1 if v.is_floating_point() else v for k, v in weights.tensors.items()})
    for given, name in ((None, "random weights"), (others, "others.pth")):
        with (
            pytest.raises(UsageError, match=f"it started from .*{WEIGHTS}, not {name}; choose another"),
            training(tmp_path, weights=given),
        ):
            pass
    moved = Weights.of("elsewhere.safetensors", weights.tensors)
    with training(tmp_path, weights=moved) as job:
        assert len(job.records) == 1


def test_weights_of_another_network_are_refused_before_the_folder_is_made(tmp_path):
    weights = Weights.of("others.pth", {"stem.0.weight": torch.zeros(4, 1, 3, 3)})
    with pytest.raises(UsageError, match=r"others\.pth"):
        training(tmp_path / "new", weights=weights)
    assert not (tmp_path / "new").exists()


# -- memory, averages, rates by piece ----------------------------------------------------------------------------------


def test_memory_that_is_short_halves_what_is_computed_at_once(tmp_path, monkeypatch):
    with training(tmp_path / "whole", micro_batch=4) as job:
        list(job.epochs())
        whole = job.result()
    epoch = Training.epoch

    def short(self):
        if (self.micro_batch or RECIPE.batch_size) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", short)
    with training(tmp_path / "short") as job:
        for number, _ in enumerate(job.epochs(), 1):
            assert job.micro_batch == 4
            if number == 1:
                break
    with training(tmp_path / "short") as job:  # a new process knows
        assert job.micro_batch == 4
        list(job.epochs())
        result = job.result()
    assert result["micro_batch"] == 4
    assert result["test"] == whole["test"] and len(result["epochs"]) == RECIPE.epochs


def test_the_first_micro_batch_is_what_is_predicted_to_fit(tmp_path, monkeypatch):
    quarter = training_memory(adapted(NETWORK, DATA)[0], RECIPE.batch_size, micro_batch=RECIPE.batch_size // 4).total
    monkeypatch.setattr(workspace, "free_bytes", lambda device: quarter)
    with training(tmp_path) as job:
        list(job.epochs())
        assert job.result()["micro_batch"] == RECIPE.batch_size // 4


def test_the_average_of_the_weights_is_kept_where_the_recipe_has_one(tmp_path):
    averaged = replace(RECIPE, ema=0.9)
    with training(tmp_path / "plain") as job:
        list(job.epochs())
        job.result()
    with training(tmp_path / "average", recipe=averaged) as job:
        list(job.epochs())
        job.result()
    plain, average = (load_file(tmp_path / name / WEIGHTS) for name in ("plain", "average"))
    assert plain.keys() == average.keys()
    assert any(not torch.equal(plain[name], average[name]) for name in plain)


def test_pieces_without_a_rate_stay_as_they_were(tmp_path):
    policy = {"kind": "head"}
    with training(tmp_path, rates=lambda piece, epoch: float(piece == "head"), policy=policy) as job:
        begun = {name: tensor.clone() for name, tensor in build(job.architecture, seed=job.seed).state_dict().items()}
        list(job.epochs())
        assert job.result()["policy"] == policy
    trained = load_file(tmp_path / WEIGHTS)
    changed = {name for name in begun if not torch.equal(begun[name], trained[name])}
    assert changed and all(name.startswith("head.") for name in changed)
    with pytest.raises(UsageError, match="learn as"), training(tmp_path):
        pass
