"""Decoding during training: images a second of `nas.data.streaming` and of a plain torchvision loop with as many workers.

uv run python benchmarks/streaming.py [--images 600] [--workers 2] [--rounds 5]

The images are synthetic: JPEGs of 500 x 375 pixels, quality 90, smooth colors with noise, about 60 KB each. Both read the same
files and return crops of 8 to 100 % of their area at 224 px, mirrored half of the time, in batches of 64 on the CPU; nothing is trained.

- ours: `nas.data.streaming.Stream`: uint8 from the workers, normalized by batches.
- torchvision: `ImageFolder` with v2's RandomResizedCrop, RandomHorizontalFlip, ToImage, ToDtype and Normalize in the workers,
  and PyTorch's `DataLoader`, as in its reference training.

The two alternate, so that other work on the machine affects both. The first round, which fills the file cache, is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from nas.data.streamed import Names
from nas.data.streaming import Shown, Stream

BATCH, SIDE = 64, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make(folder: Path, images: int) -> None:
    random = np.random.default_rng(0)
    for number in range(images):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        colours = Image.fromarray(random.integers(0, 256, (20, 27, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int64)
        noisy = (smooth + random.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{number:05}.jpg", quality=90)


def plain(folder: Path, workers: int) -> DataLoader[Any]:
    law = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    images = ImageFolder(str(folder), v2.Compose([*law, v2.Normalize(MEAN, STD)]))
    return DataLoader(images, BATCH, shuffle=True, num_workers=workers)


def ours(folder: Path, workers: int) -> Stream:
    files = sorted(folder.rglob("*.jpg"))
    labels = np.array([file.parent.name == "b" for file in files], np.int64)
    options: dict[str, Any] = {"mean": MEAN, "std": STD, "batch_size": BATCH, "device": "cpu", "resolution": SIDE}
    return Stream(Names.of(files), labels, shown=Shown(flip=True), workers=workers, **options)


def rate(batches: Iterable[Any], images: int) -> float:
    begun = time.perf_counter()
    seen = sum(len(labels) for _, labels in batches)
    assert seen == images
    return images / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {"ours": [], "torchvision": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder, options.images)
        loader, stream = plain(folder, options.workers), ours(folder, options.workers)
        for number in range(options.rounds + 1):
            found = rate(stream.epoch(number), options.images), rate(loader, options.images)
            for name, value in zip(rates, found, strict=True):
                rates[name] += [value] if number else []
    print(f"{options.images} images, {options.workers} workers, torch {torch.__version__}, n = {options.rounds}")
    print("| | images/s, median | least | most |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")


if __name__ == "__main__":
    main()
