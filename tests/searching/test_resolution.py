"""The resolution as a knob: batches of one set of images at any size, from the space to the trained trial."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from helpers_cli import nas_, output, refusal
from helpers_search import SIZE, images, space_of, training_data, write_space
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas.data import Dataset
from nas.data.batches import Augment, Batches
from nas.execution.job import Job
from nas.execution.trial_training import TrialTraining
from nas.networks.architecture import Architecture
from nas.runs.run import load_run
from nas.searching.search import search
from nas.spaces.space import space_from_text
from nas.training.full_training import FullTraining, adapted
from nas.training.recipe import Recipe
from nas.training.trainer import Training

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = """\
space: sizes
stages: 1
values: {stem: cifar, stem_width: 4, block: basic, depth: 1, width: 4, resolution: [0.5, 0.75, 1.0, 12]}
"""
RECIPE = Recipe.of(2, 16)


def batches(x: np.ndarray, resolution: int | None = None, **options) -> Batches:
    channels = x.shape[3]
    fixed = {"mean": [0.4] * channels, "std": [0.25] * channels, "batch_size": 3, "device": "cpu"}
    return Batches(x, np.zeros(len(x), np.int64), resolution=resolution, **{**fixed, **options})


def all_of(found: Batches) -> torch.Tensor:
    return torch.cat([x for x, _ in found.epoch(0)])


def noise(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def resized(x: np.ndarray, side: int) -> np.ndarray:
    """Pillow's bilinear filter, which widens with the reduction, on single-precision pixels."""
    planes = [
        [
            np.asarray(Image.fromarray(plane.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
            for plane in image
        ]
        for image in x.transpose(0, 3, 1, 2)
    ]
    return np.stack([np.stack(image) for image in planes])


@given(st.integers(4, 24), st.integers(4, 40), st.sampled_from([1, 3]))
@settings(max_examples=40)
def test_batches_are_resized_as_pillow_does(side, resolution, channels):
    x = noise(5, side, channels)
    found = all_of(batches(x, resolution))
    assert found.shape == (5, channels, resolution, resolution) and found.dtype == torch.float32
    expected = (resized(x, resolution) / 255 - 0.4) / 0.25
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("augment", [None, Augment(2, flip=True)])
def test_the_images_own_size_changes_nothing(augment):
    x = noise(7, 8, 3)
    plain = all_of(batches(x, augment=augment))
    assert torch.equal(plain, all_of(batches(x, 8, augment=augment)))
    assert torch.equal(plain, all_of(batches(x, augment=augment).at(8)))
    assert torch.equal(plain, all_of(batches(x, 5, augment=augment).at(None)))


def test_crops_and_mirrors_come_first():
    x = noise(7, 8, 3)
    augment = Augment(2, flip=True)
    whole = batches(x, augment=augment, batch_size=7)
    (seen, _), (found, _) = next(whole.epoch(3)), next(whole.at(6).epoch(3))
    expected = torch.nn.functional.interpolate(seen, (6, 6), mode="bilinear", antialias=True)
    assert torch.allclose(found, expected, atol=1e-6)
    for channels in (1, 3):
        (x_, _) = next(batches(noise(4, 8, channels), 6).epoch(0))
        assert x_.is_contiguous(memory_format=torch.channels_last)


def test_other_resolutions_share_the_images():
    one = batches(noise(7, 8, 3))
    other = one.at(6)
    assert other._x.data_ptr() == one._x.data_ptr()
    assert (one.resolution, other.resolution, len(other)) == (None, 6, len(one))
    for wrong in (0, -3):
        with pytest.raises(ValueError, match="at least 1 pixel"):
            one.at(wrong)
        with pytest.raises(ValueError, match="at least 1 pixel"):
            batches(noise(7, 8, 3), wrong)


def test_a_bench_gives_each_trial_its_resolution(tmp_path, monkeypatch):
    seen = {}
    run = Training.epoch

    def watched(self):
        for part in (self.network,):
            part.register_forward_pre_hook(lambda module, inputs: sides.add(tuple(inputs[0].shape[2:])))
        return run(self)

    monkeypatch.setattr(Training, "epoch", watched)
    data = training_data()
    place = TrialTraining(data, RECIPE, device="cpu")
    space = space_of(SPACE, resolution=SIZE, classes=4)
    for number, share in enumerate(space.knob("resolution").values):
        sides: set = set()
        architecture = space.architecture({"resolution": share})
        list(place.run(Job(str(number), tmp_path / str(number), architecture, 0)))
        seen[share] = sides
    assert seen == {0.5: {(4, 4)}, 0.75: {(6, 6)}, 1.0: {(8, 8)}, 12: {(12, 12)}}
    pointers = {place.batches(0, side)[0]._x.data_ptr() for side in (None, 4, 6, 8, 12)}
    assert len(pointers) == 1
    assert place.batches(0, 6) is place.batches(0, 6) and place.batches(0) is place.batches(0, 8)


def test_full_training_at_the_networks_resolution(tmp_path):
    x, y = images(60)
    data = Dataset(
        "stripes", "Stripes.", x, y, x[:20], y[:20], classes=("a", "b", "c", "d"), flip=False, crop_padding=0
    )
    space = space_of(SPACE, resolution=SIZE, classes=4)
    for share, side in ((0.5, 4), (1.0, SIZE)):
        architecture: Architecture = space.architecture({"resolution": share})
        with FullTraining(tmp_path / str(side), architecture, data, RECIPE, device="cpu") as training:
            assert len(list(training.epochs())) == 2
            assert training.result()["digest"] == architecture.digest
    # A config is adapted to the data's own size unless it is trained as it stands.
    assert adapted(space.architecture({"resolution": 0.5}), data)[0].resolution == SIZE


# -- from the command line to the run ----------------------------------------------------------------------------------


def test_a_search_over_resolutions_and_settings(tmp_path):
    path = write_space(tmp_path, SPACE.replace("depth: 1, width: 4", "depth: 1, width: [4, 6]"))
    text = "space: mine\nextends: space.yaml\nvalues: {depth: [1, 2]}\n"
    child = write_space(tmp_path, text, "child.yaml")
    done = nas_(
        *(
            "search",
            "--space",
            child,
            "--trials",
            4,
            "--epochs",
            1,
            "--executor",
            "local",
            "--device",
            "cpu",
            "--quiet",
        ),
        *("--max-images", 100, "--sampler", "random", "--out", tmp_path / "run"),
        *("--set", "depth=1", "--set", "width=4", "--set", "resolution=0.5,0.75,1.0"),
    )
    assert done.exit_code == 0, done.output
    path.unlink()
    child.unlink()
    run = load_run(tmp_path / "run")
    space = space_from_text(run.config["space"]["text"], resolution=8, channels=1, classes=10)
    assert set(space.knobs) == {"resolution"} and space.size() == 3
    sides = {trial.architecture.resolution for trial in run.complete()}
    assert sides == {4, 6, 8}  # a random search over three networks trains them all, each once
    front = sorted(trial.cost.macs for trial in run.complete())
    assert front == sorted({space.cost({"resolution": share}).macs for share in (0.5, 0.75, 1.0)})
    assert "front of" in output("front", tmp_path / "run")
    resumed = nas_("resume", tmp_path / "run", "--quiet")  # needs neither the files nor the settings
    assert resumed.exit_code == 0, resumed.output
    assert len(load_run(tmp_path / "run").complete()) == len(run.complete())


def test_overrides_of_the_python_interface(tmp_path):
    space = write_space(tmp_path, SPACE)
    run = search(
        space=str(space),
        overrides={"resolution": [0.5, 1.0]},
        trials=2,
        epochs=1,
        max_images=100,
        sampler="random",
        executor="local",
        device="cpu",
        out=tmp_path / "run",
    )
    assert {trial.architecture.resolution for trial in run.complete()} == {4, 8}
    with pytest.raises(dataclasses.FrozenInstanceError):
        space_of(SPACE).design = "regnet"


@pytest.mark.parametrize("command", [["spaces", "resnext"], ["search", "--space", "resnext"]], ids=["spaces", "search"])
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("depth", "--set 'depth': write KEY=VALUE"),
        ("dpth=1", "--set dpth: unknown attribute 'dpth' (did you mean 'depth'?)"),
        ("block=bottelneck", "--set block: unknown block 'bottelneck' (did you mean 'bottleneck'?)"),
        ("stage9.depth=1", "resnext.yaml: stage9.depth: there are 3 stages"),
        ("shortcut=identity", "resnext.yaml: "),
    ],
)
def test_wrong_settings_end_the_command(command, setting, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = nas_(*command, "--set", setting)
    assert done.exit_code == 2 and says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_go_with_a_space():
    assert "--set and budgets need a space" in refusal("spaces", "--set", "depth=1")


def test_a_narrowed_space_is_described():
    text = output(
        "spaces",
        "resnext",
        "--resolution",
        8,
        "--set",
        "block=basic",
        "--set",
        "stage1.width={from: 8, to: 16, step: 8}",
    )
    assert ".cardinality" not in text
    assert re.search(r"^stage1\.width +8, 16 *$", text, flags=re.MULTILINE)
    assert "block basic" in text


def test_a_regnet_is_described(tmp_path):
    lines = "network_depth: [4, 6], w0: 8, wa: [4.0, 8.0], wm: 2.0, group_width: 4, block: regnet"
    path = write_space(tmp_path, f"space: r\ndesign: regnet\nstages: 3\nvalues: {{{lines}}}\n")
    text = output("spaces", path)
    assert "r: no description\n4 configurations" in text
    assert "Depths and widths of the stages follow from network_depth, w0, wa, wm and group_width: " in text
    assert '"design": "regnet"' in output("spaces", path, "--json")


def test_conditions_of_options_are_described(tmp_path):
    lines = (
        "block: [basic, bottleneck, convnext], merge: [add, highway], merge_bias: [-6.0, 0.0], se_ratio: [0.0, 0.25]"
    )
    text = f"space: c\nstages: 1\nvalues: {{depth: 1, width: 8, shortcut: projection, {lines}}}\n"
    described = output("spaces", write_space(tmp_path, text))
    assert "merge is highway" in described
    assert "block is basic or bottleneck" in described
