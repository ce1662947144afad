"""One trial on disk: what its folder holds at each moment, and that a process may die at any of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_search import training_data
from helpers_work import RECIPE, SPACE, bench, files, job, stopped, timeless
from helpers_work import trained as trained  # a fixture
from helpers_work import whole as whole  # a fixture

from nas.training.records import CHECKPOINT, EPOCHS, PREVIOUS, RESULT, Epoch
from nas.training.trainer import Training
from nas.utils.files import read_json, write_json

pytestmark = pytest.mark.usefixtures("one_thread")


# -- a trial that nothing happens to -----------------------------------------------------------------------------------


def test_a_trial_ends_with_its_result_and_nothing_else(tmp_path, whole):
    folder = tmp_path / "trials" / "7"  # made by the trial itself
    epochs = list(bench().run(job(folder)))
    assert files(folder) == [RESULT]
    result = read_json(folder / RESULT)
    assert timeless(epochs) == timeless(result["epochs"]) == whole
    assert [Epoch.from_dict(record) for record in result["epochs"]] == epochs
    assert (result["key"], result["digest"]) == ("7", job(folder).architecture.digest)
    assert (result["state"], result["reason"], result["accuracy"]) == ("complete", "", epochs[-1].accuracy)
    assert (result["device"], result["precision"]) == ("cpu", "fp32")
    assert result["seconds"] == pytest.approx(sum(epoch.seconds for epoch in epochs))


def test_between_epochs_the_folder_holds_what_the_next_one_needs(tmp_path):
    for number, epoch in enumerate(bench().run(job(tmp_path)), 1):
        assert epoch.number == number
        if number < RECIPE.epochs:
            assert files(tmp_path) == [*([PREVIOUS] if number > 1 else []), CHECKPOINT, EPOCHS]
            assert len(read_json(tmp_path / EPOCHS)) == number
            assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["done"] == number
    assert files(tmp_path) == [RESULT]


def test_trials_on_one_bench_do_not_touch_one_another(tmp_path, whole):
    place = bench()
    list(place.run(job(tmp_path / "other", choices=SPACE.sample(2))))
    list(place.run(job(tmp_path / "another", seed=5)))
    assert timeless(place.run(job(tmp_path / "same"))) == whole


def test_the_images_are_moved_once(tmp_path):
    place = bench()
    assert place.batches(0)[0] is place.batches(0)[0]
    assert place.batches(1)[0] is not place.batches(0)[0]


def test_a_bench_shows_training_images_for_training_and_the_others_for_validation():
    place, data = bench(), training_data()
    train, validation = place.batches(0)
    for batches, index in ((train, data.train_index), (validation, data.validation_index)):
        ((images, labels),) = batches._gathered(np.arange(len(index)), [slice(0, len(index))])
        assert np.array_equal(images, data.x[index]) and np.array_equal(labels, data.y[index])
    assert train.augment is not None and validation.augment is None
    assert sum(len(y) for _, y in validation.epoch(0)) == len(data.validation_index)


def test_what_is_on_disk_at_any_moment_is_whole(tmp_path, monkeypatch):
    """A reader beside the writer, looking whenever the writer is about to change something."""
    seen = []
    replace = Path.replace

    def looking(self, target):
        seen.append(read_json(tmp_path / RESULT))
        done = replace(self, target)
        seen.append(read_json(tmp_path / RESULT))
        return done

    monkeypatch.setattr(Path, "replace", looking)
    list(bench().run(job(tmp_path)))
    assert seen[-1] == read_json(tmp_path / RESULT) and seen[:-1] == [None] * (len(seen) - 1)


def test_a_trial_is_an_iterator_that_trains_as_it_is_asked(tmp_path, trained):
    epochs = bench().run(job(tmp_path))
    assert isinstance(epochs, Iterator) and trained == []
    next(epochs)
    assert trained == [1]


# -- a trial whose process dies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(RECIPE.epochs + 1))
def test_an_abandoned_trial_goes_on_behind_its_last_saved_epoch(tmp_path, whole, trained, after):
    stopped(tmp_path, after)
    assert not (tmp_path / RESULT).exists()
    later = list(bench().run(job(tmp_path)))
    # Of the last epoch nothing is saved before the result is: it is the one that may be trained twice.
    expected = min(after, RECIPE.epochs - 1)
    assert trained == [*range(1, after + 1), *range(expected + 1, RECIPE.epochs + 1)]
    assert timeless(later) == whole[expected:]
    assert timeless(read_json(tmp_path / RESULT)["epochs"]) == whole
    assert files(tmp_path) == [RESULT]


def test_an_interrupt_leaves_the_trial_open(tmp_path, monkeypatch, whole):
    epoch = Training.epoch

    def interrupted(self) -> Epoch:
        if self.done == 2:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(bench().run(job(tmp_path)))
    assert files(tmp_path) == [PREVIOUS, CHECKPOINT, EPOCHS]
    monkeypatch.setattr(Training, "epoch", epoch)
    assert timeless(bench().run(job(tmp_path))) == whole[2:]


class Evil:
    """What a pickle may do where it is allowed to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def other_network(folder: Path) -> None:
    """The checkpoint of a network with the same names of weights, but another shape of the last."""
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    name = list(state["network"])[-1]
    state["network"][name] = torch.zeros(99)
    torch.save(state, folder / CHECKPOINT)


def without_optimizer(folder: Path) -> None:
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    state["optimizer"] = {}
    torch.save(state, folder / CHECKPOINT)


DAMAGE = {
    "checkpoint cut short": lambda folder: os.truncate(folder / CHECKPOINT, (folder / CHECKPOINT).stat().st_size // 2),
    "checkpoint without its last byte": lambda folder: os.truncate(
        folder / CHECKPOINT, (folder / CHECKPOINT).stat().st_size - 1
    ),
    "empty checkpoint": lambda folder: (folder / CHECKPOINT).write_bytes(b""),
    "checkpoint of noise": lambda folder: (folder / CHECKPOINT).write_bytes(bytes(range(256)) * 10),
    "checkpoint of another network": other_network,
    "checkpoint without its optimiser": without_optimizer,
    "checkpoint that is a list": lambda folder: torch.save([1, 2], folder / CHECKPOINT),
    "checkpoint that runs code": lambda folder: (folder / CHECKPOINT).write_bytes(
        pickle.dumps(Evil(folder / "evil"), protocol=2)
    ),
    "no checkpoint": lambda folder: (folder / CHECKPOINT).unlink(),
    "records cut short": lambda folder: os.truncate(folder / EPOCHS, (folder / EPOCHS).stat().st_size // 2),
    "empty records": lambda folder: (folder / EPOCHS).write_bytes(b""),
    "records that are a mapping": lambda folder: (folder / EPOCHS).write_text('{"a": 1}'),
    "records of something else": lambda folder: (folder / EPOCHS).write_text("[1, 2]"),
    "records without a field": lambda folder: (folder / EPOCHS).write_text('[{"number": 1}, {"number": 2}]'),
    "too few records": lambda folder: write_json(folder / EPOCHS, read_json(folder / EPOCHS)[:1]),
    "no records": lambda folder: (folder / EPOCHS).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_trial_whose_files_are_damaged_repeats_one_epoch_at_most(tmp_path, whole, trained, damage, faults):
    """The checkpoint of the epoch before stands in for one that is torn; the records are in the checkpoints too."""
    stopped(tmp_path, 2)
    DAMAGE[damage](tmp_path)
    repeated = "checkpoint" in damage
    assert timeless(bench().run(job(tmp_path))) == whole[1 if repeated else 2 :]
    assert trained == ([1, 2, 2, 3, 4] if repeated else [1, 2, 3, 4])
    result = read_json(tmp_path / RESULT)
    assert timeless(result["epochs"]) == whole
    said = "checkpoint.pt could not be used; resumed after epoch 1"
    assert result.get("torn") == (said if repeated and damage != "no checkpoint" else None)
    assert files(tmp_path) == [RESULT]
    counts = {"lost": 0, "trained_twice": 0, "epochs_twice": len(trained) - len(whole)}
    if repeated:
        how = "a trial's last checkpoint truncated, empty, of random bytes, of another network, missing: 9 ways"
        faults.record(
            "truncated checkpoint",
            made=how,
            **counts,
            then="continues from the checkpoint of the epoch before, and says so",
        )
    else:
        how = "`epochs.json` truncated, empty, with other content, missing: 7 ways"
        faults.record(
            "torn record of epochs", made=how, **counts, then="continues: the checkpoint also has the records"
        )


def test_a_trial_with_no_checkpoint_left_starts_over(tmp_path, whole, trained):
    stopped(tmp_path, 2)
    for name in (CHECKPOINT, PREVIOUS):
        os.truncate(tmp_path / name, 100)
    assert timeless(bench().run(job(tmp_path))) == whole
    assert trained == [1, 2, 1, 2, 3, 4]
    assert read_json(tmp_path / RESULT)["torn"] == "checkpoint.pt could not be used; started over"
    assert files(tmp_path) == [RESULT]


def test_a_checkpoint_of_an_earlier_version_goes_on_with_the_records_beside_it(tmp_path, whole):
    stopped(tmp_path, 2)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["epochs"]
    torch.save(state, tmp_path / CHECKPOINT)
    assert timeless(bench().run(job(tmp_path))) == whole[2:]


def test_what_a_write_left_that_was_killed_is_removed(tmp_path):
    stopped(tmp_path, 1)
    (tmp_path / f".{CHECKPOINT}.123-0a1b2c3d").write_bytes(b"half")
    (tmp_path / ".mine").write_text("not ours")
    list(bench().run(job(tmp_path)))
    assert files(tmp_path) == [".mine", RESULT]


def test_death_between_the_records_and_the_checkpoint(tmp_path, whole, monkeypatch):
    """The records know an epoch that the checkpoint does not: it is trained again, and counts once."""
    stopped(tmp_path, 1)
    before = (tmp_path / CHECKPOINT).read_bytes()
    stopped(tmp_path, 1)
    assert len(read_json(tmp_path / EPOCHS)) == 2
    (tmp_path / CHECKPOINT).write_bytes(before)
    assert timeless(bench().run(job(tmp_path))) == whole[1:]
    assert timeless(read_json(tmp_path / RESULT)["epochs"]) == whole
