"""A data set of noise and squares, and a small network for it."""

from __future__ import annotations

import numpy as np

from nas.data import Dataset
from nas.networks.architecture import Architecture

CLASSES, SIDE = 3, 8


NETWORK = Architecture.from_yaml(
    f"""
name: small
resolution: {SIDE}
channels: 1
stem: {{kind: cifar, width: 4}}
stages: [{{depth: 1, width: 4, branch: basic}}, {{depth: 1, width: 8, stride: 2, branch: basic}}]
head: {{kind: linear, classes: {CLASSES}}}
"""
)


def make_dataset(seed: int = 0, test_seed: int = 1, name: str = "squares") -> Dataset:
    """Noise in which a bright square stands at a place that depends on the class."""
    parts = []
    for part_seed, images in ((seed, 120), (test_seed, 60)):
        random = np.random.default_rng(part_seed)
        y = np.arange(images) % CLASSES
        x = random.integers(0, 120, (images, SIDE, SIDE, 1)).astype(np.uint8)
        for image, label in zip(x, y, strict=True):
            image[2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 100
        parts += [x, y]
    return Dataset(name, "Bright squares.", *parts, classes=("a", "b", "c"), flip=False, crop_padding=0)
