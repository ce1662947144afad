"""Training speed: our engine compared with the usual alternatives, on the same networks, data and recipe, in one run.

uv run python benchmarks/train.py --dataset npz:cifar10.npz [--epochs 6] [--seeds 3] [--nets resnet20 mbconv] [--device cpu]
    [--out raw.json] [--pack 2]
uv run python benchmarks/train.py --merge raw.json more.json

- ours: `nas.training.trainer.Training`: images resident as uint8, augmented in batches, channels-last, with the precision and the forms of
  convolutions that `nas search` chooses.
- torchvision: a loop like torchvision's classification reference: PIL images, transforms of each image in two DataLoader
  workers, fp32, `torch.optim.SGD`.
- timm: its loader, optimizer, loss and scheduler, with the same transforms, fp32.

All methods build the same network with the same seed, and hold out the same tenth of the training images for the accuracy.
They alternate within a seed, so that other work on the machine affects all of them. Seconds are those of whole epochs, including
validation; images/s exclude the first epoch. For our method, a second table compares each network with the minimum time of a training
step on this device (`floor.py`), and has the trials of 10 epochs of CIFAR-10 in an hour. --pack k adds the speed of k processes of
our method together on the device. --out keeps every epoch; --merge makes the tables of several such files.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from floor import Rates, measured_rates
from tables import FLOOR, HEADER, Epoch, floor_row, merged, speed, table
from torch import nn
from torch.nn import functional as F

from nas.data import load, split
from nas.data.training_data import TrainingData
from nas.execution.trial_training import TrialTraining
from nas.networks import zoo
from nas.networks.architecture import Architecture
from nas.networks.build import build, cost_of
from nas.training.recipe import Recipe
from nas.training.trainer import Training, pick_device, pick_precision
from nas.training.workspace import measured

LOADER_WORKERS = 2

RESNEXT = """
name: resnext20_4x8d
resolution: 32
stem: {kind: cifar, width: 32}
stages:
- {depth: 2, width: 64, branch: {kind: bottleneck, cardinality: 4, group_width: 8}, shortcut: {kind: projection}}
- {depth: 2, width: 128, stride: 2, branch: {kind: bottleneck, cardinality: 4, group_width: 16}, shortcut: {kind: projection}}
- {depth: 2, width: 256, stride: 2, branch: {kind: bottleneck, cardinality: 4, group_width: 32}, shortcut: {kind: projection}}
head: {kind: linear, classes: 10}
"""
MBCONV = """
name: mbconv
resolution: 32
stem: {kind: cifar, width: 16}
stages:
- {depth: 2, width: 24, branch: {kind: mbconv, expansion: 3}, shortcut: {kind: matching}}
- {depth: 2, width: 40, stride: 2, branch: {kind: mbconv, expansion: 3}, shortcut: {kind: matching}}
- {depth: 2, width: 80, stride: 2, branch: {kind: mbconv, expansion: 3}, shortcut: {kind: matching}}
head: {kind: linear, classes: 10}
"""


def wide() -> Architecture:
    """WRN-16-4 of "Wide Residual Networks": the published WRN-16-8 at half its width."""
    data = zoo.get("wrn_16_8").to_dict()
    for stage in data["stages"]:
        stage["width"] //= 2
    return Architecture.from_dict({**data, "name": "wrn_16_4"})


NETS: dict[str, Callable[[], Architecture]] = {
    "resnet20": lambda: zoo.get("resnet20"),
    "resnet56": lambda: zoo.get("resnet56"),
    "wrn_16_4": wide,
    "resnext": lambda: Architecture.from_yaml(RESNEXT),
    "mbconv": lambda: Architecture.from_yaml(MBCONV),
}


def ours(architecture: Architecture, data: TrainingData, recipe: Recipe, seed: int, device: str) -> Iterator[Epoch]:
    engines = measured(device, "auto", architecture.resolution)
    bench = TrialTraining(data, recipe, device=device, engines=engines)
    batches = bench.batches(seed, architecture.resolution)
    network = build(architecture, seed=seed)
    training = Training(network, *batches, recipe, bench.precision(architecture), engine=bench.engine)
    images = len(data.train_index)
    while training.done < recipe.epochs:
        begun = time.perf_counter()
        record = training.epoch()
        yield Epoch(images / record.images_per_second, time.perf_counter() - begun, record.accuracy)


class Pictures(torch.utils.data.Dataset[Any]):
    """PIL images and labels, transformed one by one, like torchvision's data sets."""

    def __init__(self, data: TrainingData, index: Any, augment: bool) -> None:
        from torchvision.transforms import v2

        self.x, self.y, self.index = data.x, data.y, index
        random = [v2.RandomCrop(data.x.shape[1], padding=data.crop_padding)] if augment else []
        random += [v2.RandomHorizontalFlip()] if augment and data.flip else []
        last = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)]
        self.transform = v2.Compose([*random, *last])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        from PIL import Image

        at = self.index[place]
        return self.transform(Image.fromarray(self.x[at])), int(self.y[at])


def torchvision(
    architecture: Architecture, data: TrainingData, recipe: Recipe, seed: int, device: str
) -> Iterator[Epoch]:
    loader = torch.utils.data.DataLoader
    options: dict[str, Any] = {"num_workers": LOADER_WORKERS, "persistent_workers": True, "pin_memory": device != "cpu"}
    train = loader(Pictures(data, data.train_index, True), recipe.batch_size, shuffle=True, drop_last=False, **options)
    validation = loader(Pictures(data, data.validation_index, False), 4 * recipe.batch_size, **options)
    network = build(architecture, seed=seed).to(device)
    optimiser = torch.optim.SGD(network.parameters(), recipe.learning_rate, 0.9, weight_decay=recipe.weight_decay)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def rate(step: int) -> None:
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate_at(step, len(train))

    yield from loop(network, train, validation, optimiser, criterion, rate, recipe, device)


def timm(architecture: Architecture, data: TrainingData, recipe: Recipe, seed: int, device: str) -> Iterator[Epoch]:
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    side = data.x.shape[1]
    loaders = []
    for index, training in ((data.train_index, True), (data.validation_index, False)):
        pictures = Pictures(data, index, training)
        transform = pictures.transform
        made = create_loader(
            pictures,
            (3, side, side),
            recipe.batch_size if training else 4 * recipe.batch_size,
            is_training=training,
            use_prefetcher=False,
            num_workers=LOADER_WORKERS,
            persistent_workers=True,
            device=torch.device(device),
        )
        pictures.transform = transform  # replaces ImageNet's statistics, which create_loader has set
        loaders.append(made)
    train, validation = loaders
    network = build(architecture, seed=seed).to(device)
    optimiser = create_optimizer_v2(
        network, "momentum", recipe.learning_rate, recipe.weight_decay, 0.9, filter_bias_and_bn=False
    )
    steps = len(train)
    scheduler = CosineLRScheduler(
        optimiser,
        recipe.epochs * steps,
        warmup_t=round(recipe.warmup_epochs * steps),
        warmup_lr_init=recipe.learning_rate / max(1, round(recipe.warmup_epochs * steps)),
        t_in_epochs=False,
    )
    criterion = LabelSmoothingCrossEntropy(recipe.label_smoothing)
    yield from loop(network, train, validation, optimiser, criterion, scheduler.step_update, recipe, device)


def loop(
    network: nn.Module,
    train: Any,
    validation: Any,
    optimiser: torch.optim.Optimizer,
    criterion: nn.Module,
    rate: Callable[[int], Any],
    recipe: Recipe,
    device: str,
) -> Iterator[Epoch]:
    for epoch in range(recipe.epochs):
        begun = time.perf_counter()
        network.train()
        for step, (images, labels) in enumerate(train):
            rate(epoch * len(train) + step)
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            loss = criterion(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()  # the reference logs it, too
        trained = time.perf_counter()
        network.eval()
        right = seen = 0
        with torch.inference_mode():
            for images, labels in validation:
                logits = network(images.to(device))
                F.cross_entropy(logits, labels.to(device)).item()
                right += int((logits.argmax(1).cpu() == labels).sum())
                seen += len(labels)
        yield Epoch(trained - begun, time.perf_counter() - begun, right / seen)


METHODS = {"ours": ours, "torchvision": torchvision, "timm": timm}


def packed(arguments: list[str], count: int, images: int) -> float:
    """Total images/s of `--pack` processes of our method, each with these arguments and its share of the cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.json" for number in range(count)]
        command = [sys.executable, __file__, *arguments, "--methods", "ours", "--seeds", "1", "--out"]
        processes = [
            subprocess.Popen([*command, str(file)], stdout=subprocess.DEVNULL, env=environment) for file in files
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit("a packed process failed")
        found = [json.loads(file.read_text(encoding="utf-8"))["runs"] for file in files]
    return sum(speed([Epoch(**epoch) for epoch in run["epochs"]], images) for runs in found for run in runs)


def machine(device: torch.device) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{where}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pack", type=int, default=0, help="processes of our method at once")
    parser.add_argument("--out", type=Path, help="file for every epoch, as JSON")
    parser.add_argument("--merge", nargs="+", type=Path, help="make the table of such files, and train nothing")
    args = parser.parse_args()
    if args.merge:
        print(merged(args.merge))
        return
    if not args.dataset:
        parser.error("--dataset or --merge")
    dataset = load(args.dataset)
    data = TrainingData.of(dataset, *split(dataset.y_train, 0.1, 0))
    recipe = Recipe.of(args.epochs, args.batch_size)
    images, validation = len(data.train_index), len(data.validation_index)
    device = pick_device(args.device)
    command = " ".join(Path(word).name if number == 0 else word for number, word in enumerate(sys.argv))
    print(f"{machine(device)}; {command}")
    print(f"{dataset.name}: {images:,} training and {validation:,} validation images\n\n{HEADER}", flush=True)
    kept: dict[str, Any] = {
        "machine": machine(device), "command": command, "dataset": dataset.name, "images": images,
        "validation": validation, "batch_size": args.batch_size, "runs": [],
    }  # fmt: skip
    floors, notes, rates = [], [], dict[str, Rates]()
    for name in args.nets:
        architecture = NETS[name]().adapted(
            classes=len(dataset.classes), resolution=dataset.resolution, channels=dataset.channels
        )
        cost = cost_of(architecture)
        title = f"{name} ({cost.macs / 1e6:.1f} M MACs)"
        runs: dict[str, dict[int, list[Epoch]]] = {method: {} for method in args.methods}
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for method in args.methods:
                torch.manual_seed(seed)
                done = []
                for epoch in METHODS[method](architecture, data, recipe, seed, args.device):
                    done.append(epoch)
                    text = f"{name} seed {seed} {method} epoch {len(done)}: {epoch.seconds:.1f} s, {epoch.accuracy:.3f}"
                    print(text, file=sys.stderr, flush=True)
                runs[method][seed] = done
                epochs = [dataclasses.asdict(epoch) for epoch in done]
                kept["runs"].append({"net": title, "method": method, "seed": seed, "epochs": epochs})
        print(table(title, runs, images), flush=True)
        if "ours" in runs:
            precision = pick_precision("auto", device, architecture)
            if precision not in rates:
                rates[precision] = measured_rates(device, torch.bfloat16 if precision == "bf16" else torch.float32)
            ours = list(runs["ours"].values())
            floors.append(
                floor_row(title, cost, args.batch_size, precision, rates[precision], ours, (images, validation))
            )
        if args.pack > 1:
            common = ["--dataset", args.dataset, "--epochs", str(args.epochs), "--batch-size", str(args.batch_size)]
            together = packed([*common, "--nets", name, "--device", args.device], args.pack, images)
            kept.setdefault("packed", {})[title] = {"processes": args.pack, "images_per_second": together}
            notes.append(f"{title}: {args.pack} processes at once, {together:,.0f} images/s together")
    for precision, found in rates.items():
        notes.append(f"{precision}: {found.operations / 1e12:.3f} Tflop/s, {found.bytes / 1e9:.1f} GB/s")
    if floors:
        print("\n".join(["", FLOOR, *floors, "", *notes]))
    kept["rates"] = {precision: dataclasses.asdict(found) for precision, found in rates.items()}
    if args.out:
        args.out.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
