"""Training: our engine beside what a user would do instead, on the same networks, data and recipe, in one run.

uv run python benchmarks/train.py --dataset npz:cifar10.npz [--epochs 6] [--seeds 3] [--nets resnet20 mbconv] [--device cpu]

- ours: `nas.train.Training`: images resident as uint8, augmented in batches, channels-last, the precision and the forms of
  convolutions that `nas search` would choose.
- torchvision: a loop as in torchvision's classification reference: PIL images, transforms of each image in two DataLoader
  workers, fp32, `torch.optim.SGD`.
- timm: its loader, optimiser, loss and scheduler, with the same transforms, fp32.

All build the same network with the same seed, and hold out the same tenth of the training images, whose accuracy is shown.
The methods alternate within a seed, so that what else the machine does hits all of them. Seconds are of whole epochs, with
validation, the first epoch left out of images/s. The floor on a GPU is not computed yet.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from nas import zoo
from nas.architecture import Architecture
from nas.data import load, split
from nas.jobs import TrainingData
from nas.network import build, cost_of
from nas.recipe import Recipe
from nas.train import Training
from nas.work import Bench, measured

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


@dataclass(frozen=True)
class Epoch:
    train_seconds: float
    seconds: float  # with validation
    accuracy: float


def ours(architecture: Architecture, data: TrainingData, recipe: Recipe, seed: int, device: str) -> Iterator[Epoch]:
    engines = measured(device, "auto", architecture.resolution)
    bench = Bench(data, recipe, device=device, engines=engines)
    batches = bench.batches(seed, architecture.resolution)
    network = build(architecture, seed=seed)
    training = Training(network, *batches, recipe, bench.precision(architecture), engine=bench.engine)
    images = len(data.train_index)
    while training.done < recipe.epochs:
        begun = time.perf_counter()
        record = training.epoch()
        yield Epoch(images / record.images_per_second, time.perf_counter() - begun, record.accuracy)


class Pictures(torch.utils.data.Dataset[Any]):
    """PIL images and labels, transformed one by one, as torchvision's data sets give them."""

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
        pictures.transform = transform  # ours in place of ImageNet's, which create_loader has put there
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
            loss.item()  # the reference logs it
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


def table(name: str, runs: dict[str, list[list[Epoch]]], images: int) -> str:
    """Means and standard deviations over the seeds; ratios of our images/s and of our time to a common accuracy."""

    def spread(values: list[float], digits: int = 1) -> str:
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.mean(values):,.{digits}f} ± {deviation:.{digits}f}"

    def speed(run: list[Epoch]) -> float:
        return images * len(run[1:]) / sum(epoch.train_seconds for epoch in run[1:])

    def until(run: list[Epoch], accuracy: float) -> float:
        seconds = 0.0
        for epoch in run:
            seconds += epoch.seconds
            if epoch.accuracy >= accuracy:
                return seconds
        return float("nan")

    rows = []
    for method, all_runs in runs.items():
        common = [min(max(e.accuracy for e in runs[m][s]) for m in runs) for s in range(len(all_runs))]
        total = [sum(e.seconds for e in run) for run in all_runs]
        to = [until(run, goal) for run, goal in zip(all_runs, common, strict=True)]
        pairs = list(zip(all_runs, runs["ours"], strict=True))
        ratios = [
            [speed(o) / speed(r) for r, o in pairs],
            [sum(e.seconds for e in r) / sum(e.seconds for e in o) for r, o in pairs],
            [until(r, goal) / until(o, goal) for (r, o), goal in zip(pairs, common, strict=True)],
        ]
        cells = [name, method, spread([speed(run) for run in all_runs], 0), spread(total), spread(to)]
        cells += [spread([100 * run[-1].accuracy for run in all_runs]), *(spread(ratio, 2) for ratio in ratios)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


HEADER = (
    "| network | method | images/s | seconds | seconds to the common accuracy | accuracy, % | ours/it: images/s | end to end | "
    "to accuracy |\n|---|---|---:|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    dataset = load(args.dataset)
    data = TrainingData.of(dataset, *split(dataset.y_train, 0.1, 0))
    recipe = Recipe.of(args.epochs, args.batch_size)
    images = len(data.train_index)
    cores, threads = os.cpu_count(), torch.get_num_threads()
    print(f"{platform.machine()}, {cores} cores, {threads} threads; torch {torch.__version__}; {' '.join(sys.argv)}")
    print(
        f"{dataset.name}: {images:,} images to train on, {len(data.validation_index):,} for validation\n\n{HEADER}",
        flush=True,
    )
    for name in args.nets:
        architecture = NETS[name]().adapted(
            classes=len(dataset.classes), resolution=dataset.resolution, channels=dataset.channels
        )
        runs: dict[str, list[list[Epoch]]] = {method: [] for method in args.methods}
        for seed in range(args.seeds):
            for method in args.methods:
                torch.manual_seed(seed)
                done = []
                for epoch in METHODS[method](architecture, data, recipe, seed, args.device):
                    done.append(epoch)
                    text = f"{name} seed {seed} {method} epoch {len(done)}: {epoch.seconds:.1f} s, {epoch.accuracy:.3f}"
                    print(text, file=sys.stderr, flush=True)
                runs[method].append(done)
        cost = cost_of(architecture)
        print(table(f"{name} ({cost.macs / 1e6:.1f} M MACs)", runs, images), flush=True)


if __name__ == "__main__":
    main()
