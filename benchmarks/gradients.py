"""Cost of recording gradient norms: seconds of a trial with and without, alternating, and whether both end with the same accuracies.

On a CPU the seconds are processor time, which other work on the machine affects less.

uv run python benchmarks/gradients.py [--network resnet20] [--dataset digits] [--epochs 10] [--times 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from nas.data import load, split
from nas.data.training_data import TrainingData
from nas.execution.job import Job
from nas.execution.trial_training import TrialTraining
from nas.networks import zoo
from nas.training import gradient_flow as flow
from nas.training.recipe import Recipe, default_batch_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    dataset = load(asked.dataset, max_images=asked.max_images)
    data = TrainingData.of(dataset, *split(dataset.y_train, 0.2, 0))
    recipe = Recipe.of(asked.epochs, default_batch_size(len(data.train_index)))
    size = {"classes": len(dataset.classes), "resolution": dataset.resolution, "channels": dataset.channels}
    network = zoo.get(asked.network).adapted(**size).canonical()
    benches = {
        steps: TrialTraining(data, recipe, device=asked.device, threads=asked.threads, gradient_steps=steps)
        for steps in (0, flow.STEPS)
    }
    seconds: dict[int, list[float]] = {steps: [] for steps in benches}
    clock = time.process_time if benches[0].device.type == "cpu" else time.perf_counter
    ends: set[tuple[tuple[float, float], ...]] = set()
    file = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.times + 1):  # the first is a warm-up
            for steps, bench in benches.items():
                place = Path(folder) / f"{number}-{steps}"
                begun = clock()
                epochs = list(bench.run(Job("0", place, network, 0)))
                if number:
                    seconds[steps].append(clock() - begun)
                ends.add(tuple((epoch.train_loss, epoch.accuracy) for epoch in epochs))
                if steps:
                    file = (place / flow.FILE).stat().st_size
    ratios = [watched / plain for plain, watched in zip(*seconds.values(), strict=True)]
    steps = recipe.epochs * (len(data.train_index) // recipe.batch_size)
    print(f"{asked.network} on {asked.dataset}, {recipe.epochs} epochs, {steps} steps, torch {torch.__version__}")
    for own, taken in seconds.items():
        name = f"moments of {own} steps" if own else "nothing recorded"
        print(f"{name}: {statistics.mean(taken):.2f} ± {statistics.stdev(taken):.2f} s, n = {len(taken)}")
    print(f"with / without, pairwise: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"{file:,} bytes; losses and accuracies {'equal' if len(ends) == 1 else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
