"""Runs made up for the tests of reports, and a page taken apart."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from html.parser import HTMLParser
from pathlib import Path

from nas.networks import zoo
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, SHORTCUTS, STEMS
from nas.networks.build import cost_of
from nas.pareto.objectives import parse_objectives
from nas.runs.records import Repeat, State, Trial
from nas.runs.run import Run
from nas.training.comparison_records import Compared, Findings, Outcome, Point
from nas.training.gradient_flow import Layer, Moment
from nas.training.recipe import Recipe
from nas.training.records import Epoch

EPOCHS = 10


RESNET50 = (
    "3×256 (1×64d), 4×512 (1×128d), 6×1024 (1×256d), 3×2048 (1×512d); bottleneck, projection shortcut; imagenet stem 64"
)


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
        Epoch(
            k,
            2.0 / k,
            2.1 / k,
            0.1 + (accuracy - 0.1) * (1 - math.exp(-3 * k / number)) / (1 - math.exp(-3)),
            0.1,
            4.0,
            9000.0,
        )
        for k in range(1, number + 1)
    )


def make_trial(
    number: int, state: State, architecture: Architecture, accuracy: float, *, label: str = "", reason: str = ""
) -> Trial:
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


def make_run(
    trials: list[Trial], *, active: bool = False, wanted: int = 60, name: str = "resnext-cifar10", **config: object
) -> Run:
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
    session = {
        "begun": 1.8e9,
        "startup_seconds": 7.0,
        "search_seconds": 800.0,
        "training_seconds": 2900.0,
        "workers": 4,
    }
    return Run(
        path=Path("results") / "resnext-cifar10",
        config=settings,
        objectives=parse_objectives(",".join(settings["objectives"])),
        reference=tuple(settings["reference"]),
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        active=active,
        sessions=() if active else (session,),
    )


def searched_run(
    wanted: int = 60, seed: int = 0, *, baselines: tuple[str, ...] = ("resnet20", "resnet56"), **more: object
) -> Run:
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


def confirmed_run(wanted: int = 60, seed: int = 0, seeds: int = 3, **more: object) -> Run:
    """The same, confirmed: further seeds of the front and the baselines, a little worse than the search's on average."""
    run = searched_run(wanted, seed, **more)
    rng = random.Random(f"again {seed}")
    chosen = {trial.number for trial in (*run.searched_front(), *run.baselines())}

    def again(trial: Trial) -> Trial:
        accuracies = [round(trial.accuracy + rng.gauss(-0.006, 0.004), 4) for _ in range(seeds)]
        repeats = tuple(Repeat(k, "complete", accuracy, "", 40.0) for k, accuracy in enumerate(accuracies, 1))
        return dataclasses.replace(trial, repeats=repeats)

    return dataclasses.replace(run, trials=tuple(again(t) if t.number in chosen else t for t in run.trials))


class Page(HTMLParser):
    """Elements of a page with their attributes and text; fails on a tag that closes what isn't open."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts[len(self.elements) - 1] = ""
        if tag not in self.VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for index in self._open:
            self.texts[index] += data

    def find(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of all elements of this kind that have these attributes."""
        return [
            (found, self.texts[index])
            for index, (name, found) in enumerate(self.elements)
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    @property
    def words(self) -> str:
        return " ".join(text.replace("\u00a0", " ") for _, text in self.find("main"))

    def rows(self, caption: str) -> list[list[str]]:
        """The cells of the table whose caption begins with these words, its head first."""
        start = next(
            k for k, (tag, _) in enumerate(self.elements) if tag == "caption" and self.texts[k].startswith(caption)
        )
        rows: list[list[str]] = []
        for index in range(start + 1, len(self.elements)):
            tag = self.elements[index][0]
            if tag == "table":
                break
            if tag == "tr":
                rows.append([])
            elif tag in ("th", "td"):
                rows[-1].append(self.texts[index])
        return rows


def data_of(page: Page) -> list[dict]:
    return json.loads(page.find("script", id="figures")[0][1])


def hostile_run() -> Run:
    run = searched_run(20, name=HOSTILE, command=HOSTILE, sampler=HOSTILE, baselines=("resnet20",))
    data = {
        **run.config["dataset"],
        "name": HOSTILE,
        "classes": [HOSTILE] * 30,
        "fingerprint": HOSTILE,
        HOSTILE: HOSTILE,
    }
    config = {
        **run.config,
        "dataset": data,
        "space": {"name": HOSTILE, "text": HOSTILE},
        "versions": {HOSTILE: HOSTILE},
    }
    trials = [
        dataclasses.replace(t, label=HOSTILE if t.label else "", reason=HOSTILE if t.state == "failed" else "")
        for t in run.trials
    ]
    failed = make_trial(999, "failed", trials[0].architecture, 0.5, reason=HOSTILE)
    return dataclasses.replace(run, config=config, trials=(*trials, failed), path=Path("results") / "</script>\udcff")


def outcome_of(
    errors_: list[float], seed: int = 0, state: str = "complete", reason: str = "", gradients_=()
) -> Outcome:
    points = tuple(
        Point(Epoch(number, 1.0, 1.0, 1 - error - 0.01, 0.1, 2.0, 100.0), 1.0, 1 - error)
        for number, error in enumerate(errors_, 1)
    )
    layers_ = tuple(Layer(f"layer{k}", "linear", k, True) for k in (1, 2, 3)) if gradients_ else ()
    moments = tuple(Moment(epoch, 10, tuple(norms), tuple(norms)) for epoch, norms in enumerate(gradients_))
    return Outcome(seed, state, reason, points, layers_, moments)


def findings_of(*networks: tuple[Architecture, list[Outcome]], repeats: int = 1, epochs: int = 2) -> Findings:
    data = {"name": "digits", "source": "x", "train_images": 90, "measured_train_images": 90, "validation_images": 10}
    compared = tuple(Compared(network.name, network, tuple(outcomes)) for network, outcomes in networks)
    return Findings(data, Recipe.of(epochs, 16), 0, repeats, 10, "cpu", "fp32", {}, compared)
