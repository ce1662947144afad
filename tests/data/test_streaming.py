"""Images decoded while a network trains: ImageNet's crops, the same whatever decodes them, and files that break."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import nas_
from helpers_data import photos
from PIL import Image
from torchvision.transforms import v2

import nas.data.streamed
import nas.data.streaming
from nas.data import load, stream
from nas.data.batches import Batches
from nas.data.streamed import Names, Streamed
from nas.data.streaming import Shown, Stream
from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.training.full_training import FullTraining
from nas.training.full_training_folder import PLAN
from nas.training.recipe import Recipe
from nas.training.records import RESULT

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 8
NETWORK = Architecture.from_yaml(
    f"""
name: small
resolution: {SIDE}
stem: {{kind: cifar, width: 4}}
stages: [{{depth: 1, width: 4, branch: basic}}]
head: {{kind: linear, classes: 2}}
"""
)
RECIPE = Recipe.of(8, 4, 0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def data(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Streamed:
    return stream(f"imagefolder:{folder}", root=tmp_path_factory.mktemp("home"), resolution=SIDE)


def make(data: Streamed, **changes) -> Stream:
    options = {"batch_size": 6, "device": "cpu", "resolution": SIDE, "shown": Shown(flip=True), "seed": 5}
    return Stream(data.train, data.y_train, mean=data.mean, std=data.std, **{**options, **changes})


def shown(batches: Stream, epoch: int, part: tuple[int, int] = (0, 1)) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches.epoch(epoch, part), strict=True)
    return torch.cat(images), torch.cat(labels)


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_evaluation_shows_torchvisions_resize_and_centre_crop_in_order(data: Streamed) -> None:
    images, labels = shown(make(data, shown=None), 0)
    law = v2.Compose([v2.Resize(round(SIDE * 256 / 224)), v2.CenterCrop(SIDE)])
    expected = np.stack([np.asarray(law(Image.open(file))) for file in data.train])
    expected = (expected / 255 - np.array(data.mean)) / np.array(data.std)
    torch.testing.assert_close(
        images, torch.from_numpy(expected.astype(np.float32)).permute(0, 3, 1, 2), atol=2e-6, rtol=2e-6
    )
    assert labels.tolist() == data.y_train.tolist()
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_training_shows_torchvisions_boxes(data: Streamed) -> None:
    batches = make(data)
    images, labels = shown(batches, 3)
    order = batches.order(3)
    assert labels.tolist() == data.y_train[order].tolist()
    law = v2.Compose([v2.RandomResizedCrop(SIDE, scale=(0.08, 1.0)), v2.RandomHorizontalFlip()])
    for place in (0, 7, 39):
        entropy = np.random.SeedSequence([5, 3, int(order[place])]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(entropy[0]))
            pixels = np.asarray(law(Image.open(data.train[int(order[place])])))
        expected = (pixels / 255 - np.array(data.mean)) / np.array(data.std)
        torch.testing.assert_close(
            images[place].permute(1, 2, 0), torch.from_numpy(expected.astype(np.float32)), atol=2e-6, rtol=2e-6
        )


def test_epochs_differ_and_follow_from_seed_and_number(data: Streamed) -> None:
    first, _ = shown(make(data), 0)
    assert torch.equal(first, shown(make(data), 0)[0])
    assert not torch.equal(first, shown(make(data), 1)[0])
    assert not torch.equal(first, shown(make(data, seed=6), 0)[0])


@pytest.mark.parametrize("parts", [1, 3])
def test_neither_workers_nor_processes_change_what_is_shown(data: Streamed, parts: int) -> None:
    options = {"shown": Shown(flip=True, cutout=3, randaugment=9), "drop_last": True}
    whole, labels = shown(make(data, **options), 2)
    batches = make(data, workers=2, **options)
    pieces = [list(batches.epoch(2, (number, parts))) for number in range(parts)]
    together = [torch.cat([piece[step][0] for piece in pieces]) for step in range(len(batches))]
    assert torch.equal(torch.cat(together), whole)
    assert torch.equal(torch.cat([piece[step][1] for step in range(len(batches)) for piece in pieces]), labels)


def test_the_global_generator_is_not_touched(data: Streamed) -> None:
    before = torch.random.get_rng_state()
    shown(make(data), 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_counts_are_those_of_batches_in_memory(data: Streamed) -> None:
    for drop_last in (False, True):
        ours = make(data, drop_last=drop_last)
        theirs = Batches(
            np.zeros((40, 8, 8, 3), np.uint8), data.y_train, mean=data.mean, std=data.std, batch_size=6, device="cpu", drop_last=drop_last
        )  # fmt: skip
        assert (len(ours), ours.images) == (len(theirs), theirs.images)
        assert [ours.size(step) for step in range(len(ours))] == [theirs.size(step) for step in range(len(theirs))]
        assert [len(labels) for _, labels in ours.epoch(0)] == [ours.size(step) for step in range(len(ours))]


def test_a_strip_is_not_resized_to_a_banner(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1), "red").save(tmp_path / "strip.png")
    names = Names.of([tmp_path / "strip.png"])
    batches = Stream(names, np.zeros(1, np.int64), mean=[0] * 3, std=[1] * 3, batch_size=1, device="cpu", resolution=64)
    image, _ = shown(batches, 0)
    assert torch.equal(image[0, :, 0, 0], torch.tensor([1.0, 0, 0]))
    assert nas.data.streaming._bounded(Image.new("RGB", (3000, 2))).size == (32, 2)


def test_every_kind_of_file_is_decoded_as_elsewhere(tmp_path: Path) -> None:
    """Gray, CMYK, 16 bits, transparent, turned: squares of the size that is shown are the same as in a decoded folder."""
    turned = Image.Exif()
    turned[274] = 6
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for copy in range(4):
            stem = tmp_path / "set" / name / str(copy)
            pixels = random.integers(0, 256, (9, 9, 4), dtype=np.uint8)
            Image.fromarray(pixels[..., 0]).save(f"{stem}-gray.png")
            Image.fromarray(pixels).save(f"{stem}-rgba.png")
            Image.fromarray(pixels, "CMYK").save(f"{stem}-cmyk.jpg")
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(f"{stem}-sixteen.png")
            Image.fromarray(pixels[..., :3]).save(f"{stem}-turned.jpg", exif=turned)
    name = f"imagefolder:{tmp_path / 'set'}"
    files = stream(name, root=tmp_path / "home", resolution=8)
    decoded = load(name, root=tmp_path / "home", resolution=9)
    batches = make(files, shown=None)
    centres = decoded.x_train[:, :8, :8]  # resized to 9, which they are, then the centre of 8
    corner = torch.from_numpy(((centres / 255 - np.array(files.mean)) / np.array(files.std)).astype(np.float32))
    torch.testing.assert_close(shown(batches, 0)[0].permute(0, 2, 3, 1), corner, atol=2e-5, rtol=2e-5)


# -- the data ---------------------------------------------------------------------------------------------------------


def test_names_are_the_paths(tmp_path: Path) -> None:
    paths = [Path("/a/b.png"), Path("/c"), Path(os.fsdecode(b"/d/\xff.jpg"))]
    names = Names.of(paths)
    assert list(names) == paths
    assert names[-1] == paths[-1]
    assert names[1:] == paths[1:]
    with pytest.raises(IndexError):
        names[3]
    assert len(Names.of([])) == 0


def test_moments_are_those_of_the_decoded_images(folder: Path, data: Streamed, tmp_path: Path) -> None:
    decoded = load(f"imagefolder:{folder}", root=tmp_path, resolution=SIDE)
    assert data.mean == pytest.approx(decoded.mean, abs=1e-9)
    assert data.std == pytest.approx(decoded.std, abs=1e-9)
    assert (data.classes, data.y_train.tolist(), data.y_test.tolist()) == (
        decoded.classes,
        decoded.y_train.tolist(),
        decoded.y_test.tolist(),
    )


def test_files_are_examined_once_until_one_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = nas.data.streamed.square_rgb
    monkeypatch.setattr(nas.data.streamed, "square_rgb", lambda *args: (looked.append(1), real(*args))[1])
    root = photos(tmp_path / "set", 6)
    first = stream(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE)
    assert len(looked) == 22
    said: list[str] = []
    again = stream(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE, progress=said.append)
    assert len(looked) == 22
    assert "examined before: 22 images" in said
    assert (again.fingerprint, again.mean, again.std) == (first.fingerprint, first.mean, first.std)
    Image.new("RGB", (9, 9), "blue").save(root / "train" / "red" / "000.jpg")
    other = stream(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE)
    assert other.fingerprint != first.fingerprint
    assert len(looked) == 44


def test_broken_files_are_found_before_training(tmp_path: Path) -> None:
    root = photos(tmp_path / "set", 6)
    for name in ("train/red/002.jpg", "test/green/001.jpg"):
        (root / name).write_bytes((root / name).read_bytes()[:300])
    name = f"imagefolder:{root}"
    for _ in range(2):  # the second time from what was kept
        with pytest.raises(
            UsageError, match=r"2 of 22 images .*train/red/002\.jpg.*test/green/001\.jpg.*--skip-corrupt"
        ):
            stream(name, root=tmp_path / "home", resolution=SIDE)
        data = stream(name, root=tmp_path / "home", resolution=SIDE, skip_corrupt=True)
        assert data.skipped == 2
        assert "without 2 that can't be decoded" in data.source
        assert (len(data.train), len(data.test)) == (len(data.y_train), len(data.y_test)) == (11, 9)
        assert root / "train/red/002.jpg" not in list(data.train)


def test_arrays_are_not_streamed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only the images of imagefolder:PATH"):
        stream("digits", root=tmp_path)


# -- training ---------------------------------------------------------------------------------------------------------


def training(folder: Path, data: Streamed, **options) -> FullTraining:
    return FullTraining(
        folder, NETWORK, data, RECIPE, **{"device": "cpu", "precision": "fp32", "workers": 0, **options}
    )


def finish(folder: Path, data: Streamed, **options) -> dict:
    with training(folder, data, **options) as job:
        for _ in job.epochs():
            pass
        return job.result()


def test_a_training_learns_and_goes_on_to_the_same_weights_with_other_workers(data: Streamed, tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole", data)
    assert whole["test"]["accuracy"] >= 0.9
    assert whole["crops"] == "resized-crop"
    with training(tmp_path / "parts", data, workers=2) as job:
        next(job.epochs())
    finish(tmp_path / "parts", data)
    name = "weights.safetensors"
    from safetensors.torch import load_file

    ours, theirs = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_other_law_is_refused(folder: Path, data: Streamed, tmp_path: Path) -> None:
    with training(tmp_path / "run", data) as job:
        next(job.epochs())
    decoded = load(f"imagefolder:{folder}", root=tmp_path / "home", resolution=SIDE)
    said = r"cropped by resizing boxes of them \(--stream\), not by padding them \(without --stream\); choose"
    with pytest.raises(UsageError, match=said), FullTraining(tmp_path / "run", NETWORK, decoded, RECIPE, device="cpu"):
        pass
    plan = json.loads((tmp_path / "run" / PLAN).read_text())
    assert plan["crops"] == "resized-crop"
    del plan["crops"]  # as of an earlier version, whose trainings were all of decoded images
    (tmp_path / "run" / PLAN).write_text(json.dumps(plan))
    with pytest.raises(UsageError, match="cropped by padding them"), training(tmp_path / "run", data):
        pass


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named_and_the_checkpoint_stands(tmp_path: Path, workers: int) -> None:
    root = photos(tmp_path / "set", 20)
    data = stream(f"imagefolder:{root}", root=tmp_path / "home", resolution=SIDE)
    file = root / "train" / "green" / "007.jpg"
    content = file.read_bytes()
    with training(tmp_path / "run", data, workers=workers) as job:
        epochs = job.epochs()
        next(epochs)
        file.write_bytes(content[:100])
        with pytest.raises(NasError, match=r"green/007\.jpg can't be decoded any more: .*resumes after its last epoch"):
            next(epochs)
    file.write_bytes(content)
    assert finish(tmp_path / "run", data)["epochs"][0]["number"] == 1
    assert finish(tmp_path / "whole", data)["test"] == finish(tmp_path / "run", data)["test"]


class _Deadly(np.ndarray):
    """Labels that take the process down in which they are read."""

    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_an_error_of_one_line(data: Streamed) -> None:
    batches = Stream(
        data.train, data.y_train.view(_Deadly), mean=data.mean, std=data.std, batch_size=6, device="cpu", resolution=SIDE, workers=1
    )  # fmt: skip
    with pytest.raises(NasError, match=r"a process that decodes images died: .*--workers"):
        next(batches.epoch(0))


# -- from the command line --------------------------------------------------------------------------------------------


def test_train_streams_and_finetune_goes_on_from_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(NETWORK.to_yaml())
    name = f"imagefolder:{folder}"
    common = [
        "--dataset",
        name,
        "--stream",
        "--workers",
        1,
        "--resolution",
        SIDE,
        "--device",
        "cpu",
        "--data-root",
        "home",
    ]
    done = nas_("train", "small.yaml", *common, "--epochs", 2, "--out", "trained")
    assert done.exit_code == 0, done.output
    assert "decoded again in each epoch, as RGB squares of 8 px" in done.stderr
    assert "center crops for evaluation; decoding processes: 1" in done.stderr
    assert json.loads(Path("trained", RESULT).read_text())["crops"] == "resized-crop"
    tuned = nas_("finetune", "trained", *common, "--epochs", 1, "--out", "tuned")
    assert tuned.exit_code == 0, tuned.output
    assert "examined before" in tuned.stderr
    assert json.loads(Path("tuned", RESULT).read_text())["crops"] == "resized-crop"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digits", "--stream"], "digits comes as arrays"),
        (["--dataset", "digits", "--workers", "2"], "--workers: the number of processes that decode with --stream"),
    ],
)
def test_what_can_t_be_streamed_is_refused(arguments, message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = nas_("train", "resnet20", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
