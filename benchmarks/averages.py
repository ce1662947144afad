"""Validation accuracy of networks of a space on digits, with and without averaged weights, and by the number of steps.

    uv run python benchmarks/averages.py

Figures: docs/recipe.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

import nas
from nas.data import load
from nas.execution.trial_training import TrialTraining
from nas.networks.build import build
from nas.searching.preparation import training_data
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.training.trainer import Training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="resnext")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--ema", type=float, default=0.999)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    digits = load("digits")
    data = training_data(digits, 0, Proxy())
    space = nas.load_space(asked.space, resolution=digits.resolution, channels=digits.channels, classes=10)
    networks = [space.architecture(space.sample(seed=seed)) for seed in range(asked.networks)]
    plain = Recipe.for_images(len(data.train_index), asked.epochs)
    recipes = {
        "none": plain,
        f"{asked.ema:g}, no warm-up": replace(plain, ema=asked.ema, ema_warmup=False),
        f"{asked.ema:g}": replace(plain, ema=asked.ema),
        **{f"batch {size}": Recipe.for_images(len(data.train_index), asked.epochs, size) for size in (128, 256)},
    }
    for name, recipe in recipes.items():
        bench = TrialTraining(data, recipe, device="cpu", precision="fp32")
        accuracies = []
        for network in networks:
            training = Training(build(network, seed=0), *bench.batches(0), recipe)
            accuracies.append([training.epoch() for _ in range(recipe.epochs)][-1].accuracy)
        steps = recipe.epochs * (len(data.train_index) // recipe.batch_size)
        print(f"{name}, {steps} steps:", *(f"{100 * accuracy:.1f}" for accuracy in accuracies), flush=True)


if __name__ == "__main__":
    main()
