"""The report: one page from a run alone, whatever state the run is in and whatever its texts hold."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures

from nas import zoo
from nas.architecture import Architecture, Stage
from nas.blocks import BRANCHES, HEADS, SHORTCUTS, STEMS
from nas.errors import NasError, UsageError
from nas.network import cost_of
from nas.pareto import objectives
from nas.records import Epoch, State, Trial
from nas.report import figures, write
from nas.report.page import page
from nas.run import Run
from nas.text import describe, format_count, format_percent, format_seconds, points

EPOCHS = 10
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&%{y}"


def network(rng: random.Random) -> Architecture:
    """A small ResNeXt-like net for 32 x 32 colour images and 10 classes."""
    stem = STEMS["cifar"].make({"width": 16})
    width = rng.choice([16, 24, 32, 48, 64, 96])
    cardinality, group = rng.choice([1, 2, 4, 8]), rng.choice([4, 8, 16])
    shortcut = SHORTCUTS[rng.choice(["projection", "zero_pad", "avg_pool"])]()
    stages = []
    for number in range(3):
        if cardinality == 1:
            branch = BRANCHES["basic"]()
        else:
            branch = BRANCHES["bottleneck"].make({"cardinality": cardinality, "group_width": group * 2**number})
        stages.append(Stage(branch, rng.randint(1, 6), width * 2**number, 2 if number else 1, shortcut))
    return Architecture(stem, tuple(stages), HEADS["linear"].make({"classes": 10}), 32).canonical()


def epochs_to(accuracy: float, number: int) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(k, 2.0 / k, 2.1 / k, 0.1 + (accuracy - 0.1) * (1 - math.exp(-3 * k / number)) / (1 - math.exp(-3)), 0.1, 4.0, 9000.0)
        for k in range(1, number + 1)
    )


def make_trial(number: int, state: State, architecture: Architecture, accuracy: float, *, label: str = "", reason: str = "") -> Trial:
    cost = cost_of(architecture)
    reached = {"complete": EPOCHS, "stopped": 1 + number % 5, "running": 2}.get(state, 0)
    epochs = epochs_to(accuracy, EPOCHS)[:reached]
    final = epochs[-1].accuracy if state == "complete" else None
    values = None if final is None else (final, float(cost.params), float(cost.macs))
    choices = {"stage1.depth": architecture.stages[0].depth}
    return Trial(
        number=number,
        state=state,
        label=label,
        choices=choices,
        architecture=architecture,
        digest=architecture.digest,
        cost=cost,
        accuracy=final,
        values=values,
        epochs=epochs,
        reason=reason,
        started=1.8e9 + 40 * number,
        seconds=sum(epoch.seconds for epoch in epochs),
    )


def make_run(trials: list[Trial], *, active: bool = False, wanted: int = 60, name: str = "resnext-cifar10", **config: object) -> Run:
    settings = {
        "version": 1,
        "name": name,
        "command": f"nas search --space resnext --dataset cifar10 --trials {wanted}",
        "created": "2027-01-15T08:00:00+00:00",
        "space": {"name": "resnext", "variant": "small", "text": "name: resnext\n"},
        "dataset": {
            "name": "cifar10",
            "source": "a folder",
            "root": None,
            "resolution": 32,
            "channels": 3,
            "classes": [f"class {k}" for k in range(10)],
            "train_images": 45_000,
            "validation_images": 5_000,
            "test_images": 10_000,
            "fingerprint": "0123456789abcdef" * 4,
        },
        "recipe": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 1e-4},
        "objectives": ["accuracy", "params", "macs"],
        "budgets": {"params": [None, 5_000_000.0]},
        "reference": [0.1, 2e7, 3e9],
        "sampler": "tpe",
        "trials": wanted,
        "seed": 0,
        "baselines": [],
        "executor": {"kind": "ray", "workers": 4, "cpus_per_trial": 1.0, "gpus_per_trial": 0.25, "address": None},
        "device": "cuda",
        "precision": "bfloat16",
        "versions": {"nas": "0.1.0", "python": "3.12.1", "torch": "2.9.0"},
        **config,
    }
    session = {"begun": 1.8e9, "startup_seconds": 7.0, "search_seconds": 800.0, "training_seconds": 2900.0, "workers": 4}
    return Run(
        path=Path("results") / "resnext-cifar10",
        config=settings,
        objectives=objectives(",".join(settings["objectives"])),
        reference=tuple(settings["reference"]),
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        active=active,
        sessions=() if active else (session,),
    )


def searched_run(wanted: int = 60, seed: int = 0, *, baselines: tuple[str, ...] = ("resnet20", "resnet56"), **more: object) -> Run:
    """A done run with trials of every fate; accuracy grows with the logarithm of the multiply-adds, plus noise."""
    rng = random.Random(seed)

    def accuracy(architecture: Architecture) -> float:
        return round(0.99 - 1.2 / math.log10(cost_of(architecture).macs) ** 1.3 + rng.gauss(0, 0.008), 4)

    trials = []
    for position, name in enumerate(baselines, 1):
        architecture = zoo.get(name)
        trials.append(make_trial(-position, "complete", architecture, accuracy(architecture), label=name))
    trained = number = 0
    while trained < wanted:
        state = rng.choices(["complete", "stopped", "failed", "rejected", "duplicate"], [60, 30, 3, 5, 2])[0]
        architecture = network(rng)
        reason = "CUDA out of memory: tried to allocate 2.00 GiB" if state == "failed" else ""
        trials.append(make_trial(number, state, architecture, accuracy(architecture), reason=reason))
        trained += state in ("complete", "stopped")
        number += 1
    return make_run(trials, wanted=wanted, **more)
