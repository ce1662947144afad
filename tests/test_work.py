"""One trial on disk: what its folder holds at each moment, and that a process may die at any of them."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_search import CLASSES, CONDITIONAL, space_of, training_data

from nas import work
from nas.errors import NasError
from nas.files import read_json, write_json, write_with
from nas.jobs import CHECKPOINT, EPOCHS, PREVIOUS, RESULT, Job
from nas.memory import training_memory
from nas.recipe import Recipe
from nas.records import Epoch
from nas.train import Training
from nas.work import Bench

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.05, warmup_epochs=0.5)
SPACE = space_of(CONDITIONAL, classes=CLASSES)
CHOICES = SPACE.sample(1)


def bench(**options) -> Bench:
    return Bench(training_data(), options.pop("recipe", RECIPE), **{"device": "cpu", "precision": "fp32", **options})


def job(folder: Path, seed: int = 0, choices=CHOICES) -> Job:
    return Job("7", folder, SPACE.architecture(choices), seed)


def timeless(epochs) -> list[tuple]:
    """Records without what the clock says."""
    records = [epoch if isinstance(epoch, dict) else epoch.to_dict() for epoch in epochs]
    return [tuple(value for key, value in record.items() if "second" not in key) for record in records]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_thread) -> list[tuple]:
    """The records of the trial when nothing happens to it."""
    return timeless(bench().run(job(tmp_path_factory.mktemp("whole"))))


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """Numbers of the epochs that were trained, in order, whether or not they were saved."""
    numbers = []
    epoch = Training.epoch

    def counted(self) -> Epoch:
        numbers.append(self.done + 1)
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", counted)
    return numbers


def stopped(folder: Path, after: int) -> None:
    """A trial whose process went away behind so many epochs."""
    epochs = bench().run(job(folder))
    for _ in range(after):
        next(epochs)
    epochs.close()


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
    said = "checkpoint.pt could not be used; went on behind epoch 1"
    assert result.get("torn") == (said if repeated and damage != "no checkpoint" else None)
    assert files(tmp_path) == [RESULT]
    counts = {"lost": 0, "trained_twice": 0, "epochs_twice": len(trained) - len(whole)}
    if repeated:
        how = "a trial's last checkpoint cut short, emptied, of noise, of another network, gone: 9 ways"
        faults.record(
            "truncated checkpoint",
            made=how,
            **counts,
            then="goes on from the checkpoint of the epoch before, and says so",
        )
    else:
        how = "`epochs.json` cut short, emptied, of something else, gone: 7 ways"
        faults.record("torn record of epochs", made=how, **counts, then="goes on: the checkpoint holds the records too")


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


# -- a trial that fails ------------------------------------------------------------------------------------------------


def fail_in_epoch(monkeypatch, number: int, error: BaseException) -> None:
    """Let a block's forward pass raise in the middle of an epoch."""
    from nas.blocks.modules import Residual

    forward, epoch, done = Residual.forward, Training.epoch, []

    def counted(self) -> Epoch:
        done.append(self.done + 1)
        return epoch(self)

    def raising(self, x):
        if done[-1] == number:
            raise error
        return forward(self, x)

    monkeypatch.setattr(Training, "epoch", counted)
    monkeypatch.setattr(Residual, "forward", raising)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("a strange shape"), "ValueError: a strange shape"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
            "out of memory on cpu with a single image: CUDA out of memory. Tried",
        ),
        (MemoryError(), "MemoryError"),
        (RuntimeError("two\nlines " + "and more " * 200), "RuntimeError: two lines and more"),
        (torch.OutOfMemoryError(), "out of memory on cpu"),
        (NasError("said in words"), "said in words"),
    ],
)
def test_a_failure_leaves_its_reason(tmp_path, monkeypatch, error, reason, whole):
    fail_in_epoch(monkeypatch, 3, error)
    epochs = list(bench().run(job(tmp_path)))
    assert timeless(epochs) == whole[:2]
    assert files(tmp_path) == [RESULT]
    result = read_json(tmp_path / RESULT)
    assert result["state"] == "failed" and result["accuracy"] is None
    assert result["reason"].startswith(reason) and "\n" not in result["reason"] and len(result["reason"]) <= 400
    assert timeless(result["epochs"]) == whole[:2]


@pytest.mark.parametrize("fits", [7, 3, 1])
def test_memory_that_is_short_halves_what_is_computed_at_once(tmp_path, monkeypatch, fits):
    from nas.blocks.modules import Residual

    forward = Residual.forward

    def short(self, x):
        if self.training and len(x) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, x)

    monkeypatch.setattr(Residual, "forward", short)
    epochs = list(bench().run(job(tmp_path)))
    result = read_json(tmp_path / RESULT)
    assert len(epochs) == RECIPE.epochs and result["state"] == "complete"
    assert result["micro_batch"] == max(b for b in (RECIPE.batch_size // 2**k for k in range(9)) if 0 < b <= fits)


def test_the_first_micro_batch_is_what_is_predicted_to_fit(tmp_path, monkeypatch):
    architecture = job(tmp_path).architecture
    quarter = training_memory(architecture, RECIPE.batch_size, micro_batch=RECIPE.batch_size // 4).total
    monkeypatch.setattr(work, "free_bytes", lambda device: quarter)
    sizes = []
    begin = Training.__init__

    def watched(self, *args, **options):
        sizes.append(options["micro_batch"])
        begin(self, *args, **options)

    monkeypatch.setattr(Training, "__init__", watched)
    epochs = list(bench().run(job(tmp_path)))
    assert len(epochs) == RECIPE.epochs and sizes == [RECIPE.batch_size // 4]
    result = read_json(tmp_path / RESULT)
    assert result["state"] == "complete" and result["micro_batch"] == RECIPE.batch_size // 4
    assert bench().first_micro_batch(architecture) == RECIPE.batch_size // 4
    monkeypatch.setattr(work, "free_bytes", lambda device: 1 << 40)
    assert bench().first_micro_batch(architecture) is None


def test_memory_that_becomes_short_goes_on_from_the_last_epoch(tmp_path, monkeypatch, whole):
    epoch, failed = Training.epoch, []

    def short(self) -> Epoch:
        if self.done == 2 and not failed:
            failed.append(self.micro_batch)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", short)
    epochs = list(bench().run(job(tmp_path)))
    assert timeless(epochs)[:2] == whole[:2] and [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert failed == [None] and read_json(tmp_path / RESULT)["micro_batch"] == RECIPE.batch_size // 2


def test_a_network_that_diverges_leaves_its_reason(tmp_path):
    recipe = Recipe(epochs=6, batch_size=16, learning_rate=100.0, weight_decay=1.0, warmup_epochs=0.0)
    list(bench(recipe=recipe).run(job(tmp_path)))
    result = read_json(tmp_path / RESULT)
    assert result["state"] == "failed" and "loss became" in result["reason"]
    assert json.dumps(result, allow_nan=False)


def test_a_failure_before_the_first_epoch_leaves_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "build", lambda *_, **__: 1 / 0)
    assert list(bench().run(job(tmp_path))) == []
    result = read_json(tmp_path / RESULT)
    assert (result["state"], result["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert result["epochs"] == [] and result["seconds"] == 0


def test_the_next_trial_runs_where_one_failed(tmp_path, monkeypatch, whole):
    place = bench()
    with monkeypatch.context() as patch:
        fail_in_epoch(patch, 1, torch.OutOfMemoryError("too large"))
        list(place.run(job(tmp_path / "failed")))
    assert timeless(place.run(job(tmp_path / "next"))) == whole


def test_a_broken_gpu_is_not_the_networks_fault(tmp_path, monkeypatch):
    fail_in_epoch(monkeypatch, 2, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="CUDA error"):
        list(bench().run(job(tmp_path)))
    assert files(tmp_path) == [CHECKPOINT, EPOCHS]


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a" / "file.json"
    write_json(path, {"a": 1})

    def dies(file) -> None:
        file.write(b"half of a")
        file.flush()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_with(path, dies)
    assert read_json(path) == {"a": 1} and files(path.parent) == ["file.json"]


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


def test_a_disk_that_takes_nothing_is_an_error_with_the_path(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NasError, match=r"result\.json: can't be written: No space left on device"):
        write_json(tmp_path / RESULT, {})
    assert files(tmp_path) == []
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(NasError, match="can't be written"):
        write_json(blocked / "inside.json", {})


def test_json_that_is_torn_or_missing_reads_as_nothing(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) is None and read_json(tmp_path) is None
    for content in (b"", b'{"a"', b"\xff\xfe", b"\0" * 20):
        path.write_bytes(content)
        assert read_json(path) is None


def test_a_trial_is_an_iterator_that_trains_as_it_is_asked(tmp_path, trained):
    epochs = bench().run(job(tmp_path))
    assert isinstance(epochs, Iterator) and trained == []
    next(epochs)
    assert trained == [1]
